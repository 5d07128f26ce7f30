"""What happens far from what was learnt, tried on purpose: whole sources are left out.

The sources of an ensemble are not trained again for that. A stand-in takes their place that needs
no training: votes of the nearest images of the category, calibrated, decided by expected F1. It is
asked of every source's images without that source, as if they were new. Left out on radbench it
scores what the whole ensemble scores there, and promises what that promises
(reports/published/forecast_radbench_202611.md).

A source is what a column of the corpus names (a site, a dataset, a scanner); where there is no such
column, the images of each category are parted into clusters of their features, groups whole.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from core.editions import EmptyTruth
from core.errors import PredictionsError
from core.labels import Targets
from core.metrics import Scores, group_numbers, image_f1
from ensembles.calibration.temperature import Calibration, fit_calibration
from ensembles.decisions.expected_f1 import Expected, maximise
from ensembles.distance.features import Floats
from ensembles.distance.known import (
    KnownImages,
    Nearest,
    Parts,
    category_numbers,
    group_weights,
)
from ensembles.distance.separation import separation
from ensembles.pairs import CalibratedPairs, LabelledPairs

SOURCE_COLUMNS = ("source", "site", "dataset", "institution", "hospital", "center", "centre")
"""Columns that name where an image comes from; the first one that a corpus has counts."""

LEAST = 20
"""Images of a source and category from which on it is left out."""

_VOTERS, _TEMPERATURE = 25, 0.05
_CLUSTERS = 3  # of a category, where no column names sources
_LEAST_PROB, _MOST_PROB = 0.01, 0.995


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Images of sources that were left out, a row an image.

    Attributes:
        expected: (n,) F1 that was expected of the decided set.
        truth: (n,) F1 that it scored.
        distances: (n,) see `KnownImages.distances`.
        separations: (n,) strength by which images of its source and category can be told from the
            others of the category; 1 where there are no others.
        cells: (n,) number of the source and category of each.
        sources: by cell, number of its source.
        names: by cell, in words.
    """

    expected: Scores
    truth: Scores
    distances: Scores
    separations: Scores
    cells: npt.NDArray[np.intp]
    sources: npt.NDArray[np.intp]
    names: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class LabelledPoints:
    """N labelled images as points.

    Attributes:
        points: (N, D).
        categories, groups: N of each.
        folds: (N,).
        targets: true concepts.
        sources: (N,) number of the source of each; see `sources_of`.
        source_names: in words.
    """

    points: Floats
    categories: Sequence[str]
    groups: Sequence[str]
    folds: Parts
    targets: Targets
    sources: npt.NDArray[np.intp]
    source_names: Sequence[str]


def sources_of(
    points: Floats,
    *,
    categories: Sequence[str],
    groups: Sequence[str],
    metadata: Mapping[str, Sequence[str]],
) -> tuple[npt.NDArray[np.intp], Sequence[str]]:
    """(N,) the source of each image, and what sources are called.

    Args:
        points: (N, D).
        categories, groups: N of each.
        metadata: further columns.
    """
    for column in SOURCE_COLUMNS:
        named = np.array(metadata.get(column, ()), dtype=np.str_)
        if len(np.unique(named[named != ""])) > 1:
            names, numbers = np.unique(named, return_inverse=True)
            return numbers, [name or "not named" for name in names.tolist()]
    return _clusters(points, categories, group_numbers(groups))


def _clusters(
    points: Floats, categories: Sequence[str], groups: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.intp], Sequence[str]]:
    """Clusters of the groups' mean points within each category."""
    from sklearn.cluster import KMeans  # half a second of every command that decides

    kinds = category_numbers(categories)
    found = np.zeros(len(points), dtype=np.intp)
    names: list[str] = []
    for kind in np.unique(kinds).tolist():
        rows = np.flatnonzero(kinds == kind)
        own, first = np.unique(groups[rows], return_index=True)
        place = np.searchsorted(own, groups[rows])
        means = np.zeros((len(own), points.shape[1]), dtype=np.float64)
        np.add.at(means, place, points[rows])
        means /= np.bincount(place)[:, None]
        n = max(1, min(_CLUSTERS, len(rows) // (2 * LEAST), len(own)))
        parts = KMeans(n, n_init=3, random_state=0).fit_predict(means)
        found[rows] = parts[place] + len(names)
        name = categories[rows[first[0]]] or "no category"
        names += [f"{name}, cluster {number + 1}" for number in range(n)]
    return found, names


def leave_out(images: LabelledPoints, *, empty_truth: EmptyTruth) -> LeftOut | None:
    """Every source left out, one after the other; None where nothing can be learnt from that.

    Args:
        images: all that the sources of the ensemble may learn from.
        empty_truth: what an image without true concepts scores.
    """
    kinds = category_numbers(images.categories)
    of_cell, cells = np.unique(np.stack([images.sources, kinds]), axis=1, return_inverse=True)
    kept = np.flatnonzero(np.bincount(cells) >= LEAST)
    if len(kept) < 2:
        return None
    known = KnownImages.of(images.points, images.categories)
    near, far = (
        known.nearest(images.points, images.categories, k=_VOTERS, parts=(parts, parts[known.rows]))
        for parts in (images.folds, images.sources)
    )
    calibration = _calibration(_votes(near, known, images.targets), images.targets)
    if calibration is None:
        return None
    votes = _votes(far, known, images.targets)
    decided = _decided(votes, calibration, empty_truth=empty_truth)
    truth = image_f1(images.targets, decided.decided, empty_truth=empty_truth)
    distances = known.with_usual(
        near, images.categories, weights=group_weights(images.groups)
    ).distances(far, images.categories)
    strengths = np.ones(len(kinds))
    for cell in kept.tolist():
        own = cells == cell
        strengths[own] = _strength(images, own, others=(kinds == of_cell[1, cell]) & ~own)
    rows = np.flatnonzero(np.isin(cells, kept) & ~np.isnan(truth) & ~np.isnan(decided.f1))
    if len(np.unique(cells[rows])) < 2:  # the others are left out of the mean
        return None
    first = [int(np.argmax(cells == cell)) for cell in kept.tolist()]
    return LeftOut(
        expected=decided.f1[rows],
        truth=truth[rows],
        distances=distances[rows],
        separations=strengths[rows],
        cells=np.searchsorted(kept, cells[rows]),
        sources=of_cell[0, kept].astype(np.intp),
        names=[
            f"{images.source_names[int(images.sources[row])]}, {images.categories[row]}"
            for row in first
        ],
    )


def _votes(nearest: Nearest, known: KnownImages, targets: Targets) -> csr_array:
    """(N, L) weighted votes of the nearest images."""
    cosines = np.nan_to_num(nearest.cosines, nan=-np.inf)
    highest = np.maximum(cosines.max(axis=1, keepdims=True), -1.0)  # there may be none at all
    weights = np.exp((cosines - highest) / _TEMPERATURE)
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
    n, k = nearest.rows.shape
    columns = np.where(nearest.rows >= 0, known.rows[nearest.rows], 0)
    shape = (n, len(targets))
    of_images = csr_array((weights.ravel(), columns.ravel(), np.arange(0, n * k + 1, k)), shape)
    found = csr_array(of_images @ targets.matrix.astype(np.float32))
    found.data[found.data < _LEAST_PROB] = 0.0
    found.eliminate_zeros()
    np.minimum(found.data, 1.0, out=found.data)
    return found.astype(np.float32)


def _calibration(votes: csr_array, targets: Targets) -> Calibration | None:
    pairs = LabelledPairs.of(votes, targets)
    try:
        return fit_calibration(np.minimum(pairs.probs, _MOST_PROB), pairs.true)
    except PredictionsError:
        return None


def _decided(votes: csr_array, calibration: Calibration, *, empty_truth: EmptyTruth) -> Expected:
    """The sets of highest expected F1."""
    rows, columns = votes.nonzero()
    ranked = CalibratedPairs(
        rows=rows.astype(np.int32),
        columns=columns.astype(np.int32),
        probs=calibration.apply(np.minimum(votes.data, _MOST_PROB)),
        shape=votes.shape,
    )
    return maximise(ranked, limit=100, empty_truth=empty_truth)


def _strength(
    images: LabelledPoints, own: npt.NDArray[np.bool_], *, others: npt.NDArray[np.bool_]
) -> float:
    """By which the images of a cell can be told from the others of its category."""
    groups = np.array(images.groups, dtype=np.str_)
    found = separation(
        images.points[others],
        images.points[own],
        groups=groups[others].tolist(),
        new_groups=groups[own].tolist(),
    )
    return 1.0 if found is None else found.strength
