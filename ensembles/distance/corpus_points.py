"""Images of a corpus as points, and the distances that an ensemble of it goes by."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from core.editions import EmptyTruth
from core.embeddings import Embeddings
from core.images import ImageTable
from core.runs.fused import with_guesses
from core.runs.out_of_fold import names_of_fold
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import is_complete, read_meta
from ensembles.distance.features import N_DIRECTIONS, Floats, as_points
from ensembles.distance.left_out import LabelledPoints, sources_of
from ensembles.distance.model import DistanceModel, NearPoints

Mask = npt.NDArray[np.bool_]


def points_of(
    names: Sequence[str], image_ids: Sequence[str], *, workspace: Workspace
) -> tuple[Floats, Mask]:
    """(N, D) points, and (N,) whether an image has features; its point is 0 where it has none.

    Args:
        names: of the features.
        image_ids: N of them; an image that cannot be read has no features.
    """
    found = [Embeddings.load(workspace.embeddings / name) for name in names]
    row_of = [{image_id: row for row, image_id in enumerate(own.image_ids)} for own in found]
    there = np.array([all(i in rows for rows in row_of) for i in image_ids], dtype=np.bool_)
    ids = [image_id for image_id, known in zip(image_ids, there, strict=True) if known]
    points = np.zeros((len(image_ids), N_DIRECTIONS), dtype=np.float32)
    if ids:
        points[there] = as_points([own.rows(ids).values for own in found])
    return points, there


def fit_distances(
    corpus: Corpus,
    workspace: Workspace,
    *,
    folders: Sequence[Path],
    guesses: Mapping[str, str],
    empty_truth: EmptyTruth,
) -> DistanceModel | None:
    """How far images lie from those that the members of an ensemble learnt from.

    Distances are taken in the features that the first member learns from that has any. None where
    none has, or where there is too little to leave a source out.

    Args:
        corpus: the prepared corpus.
        workspace: where features lie.
        folders: of the members' runs.
        guesses: categories of images without one.
        empty_truth: what an image without true concepts scores.
    """
    names, met = _features(folders, workspace)
    if not names:
        return None
    table = with_guesses(corpus.labelled_images(corpus.learnt_from), guesses)
    table = table.take(table.folds >= 0)
    points, there = points_of(names, table.image_ids, workspace=workspace)
    table, points = table.take(there), points[there]
    if not len(table):
        return None
    sources, source_names = sources_of(
        points, categories=table.categories, groups=table.groups, metadata=table.metadata
    )
    learnt = LabelledPoints(
        points=points,
        categories=table.categories,
        groups=table.groups,
        folds=table.folds,
        targets=table.targets(corpus.labels),
        sources=sources,
        source_names=source_names,
    )
    return DistanceModel.fit(
        learnt,
        _near(corpus, workspace, table, learnt, names=names, met=met, guesses=guesses),
        features=names,
        empty_truth=empty_truth,
    )


def _features(folders: Sequence[Path], workspace: Workspace) -> tuple[tuple[str, ...], bool]:
    """Names of features, and whether their network was fitted on all folds but the first."""
    for folder in folders:
        named = tuple(read_meta(folder).get("embeddings", ())) if is_complete(folder) else ()
        names = names_of_fold(named, 0)
        if names and all(is_complete(workspace.embeddings / name) for name in names):
            return names, names != named
    return (), False


def _near(
    corpus: Corpus,
    workspace: Workspace,
    table: ImageTable,
    learnt: LabelledPoints,
    *,
    names: Sequence[str],
    met: bool,
    guesses: Mapping[str, str],
) -> NearPoints:
    """Scored images, or those of them that the network of the features has not met either."""
    if corpus.crossfit:
        own = learnt.folds == learnt.folds.min() if met else np.ones(len(table), dtype=np.bool_)
        near = table.take(own)
        return NearPoints(
            points=learnt.points[own],
            categories=near.categories,
            groups=near.groups,
            folds=near.folds,
        )
    scored = with_guesses(corpus.images(corpus.scored), guesses)
    points, there = points_of(names, scored.image_ids, workspace=workspace)
    scored = scored.take(there)
    return NearPoints(
        points=points[there], categories=scored.categories, groups=scored.groups, folds=None
    )
