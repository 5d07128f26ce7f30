"""The (image, concept) pairs that a stacker looks at, with features from every source."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from core.errors import PredictionsError, first_few
from core.labels import Targets
from ensembles.background import Background
from ensembles.calibrate import logit
from ensembles.compiled import compiled
from ensembles.pairs import Bools, Floats, Ints, are_true
from ensembles.sources import Source, find_candidates


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """n pairs of an image and a concept, ordered by image and then by concept.

    Every other pair is decided absent. Of 252 concepts 42 an image stayed, with 96 % of the true
    ones, for six sources at the default floor; a larger label space leaves a smaller share.

    Attributes:
        rows: (n,) image.
        columns: (n,) concept.
        n_images, n_concepts: N and L.
        features: (n, F) float32, NaN where a source does not cover the pair.
        feature_names: F names: `logit <source>` and `rank <source>` of each source, then the same
            ones whatever the sources.
    """

    rows: Ints
    columns: Ints
    n_images: int
    n_concepts: int
    features: Floats
    feature_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def feature(self, name: str) -> Floats:
        """(n,) one feature."""
        return self.features[:, self.feature_names.index(name)]

    def true(self, targets: Targets) -> Bools:
        """(n,) whether the concept of each pair is true of its image."""
        return are_true(targets, rows=self.rows, columns=self.columns)

    def take(self, chosen: Bools) -> "Candidates":
        """Some of the pairs, by (n,) mask; images and concepts keep their numbers."""
        return replace(
            self,
            rows=self.rows[chosen],
            columns=self.columns[chosen],
            features=self.features[chosen],
        )

    def to_dense(self, values: Floats) -> Floats:
        """(N, L) float32: a value for each pair, 0 elsewhere."""
        dense = np.zeros((self.n_images, self.n_concepts), dtype=np.float32)
        dense[self.rows, self.columns] = values
        return dense


SHARED_FEATURES = (
    "mean logit",
    "max logit",
    "min logit",
    "deviation",
    "sources",
    "prior logit",
    "log frequency",
    "mass",
    "support",
)


def make_candidates(
    sources: Sequence[Source],
    *,
    background: Background,
    category_weights: Floats,
    floor: float = 0.02,
    top: int = 30,
) -> Candidates:
    """Candidate pairs of N images with their features.

    A pair is a candidate if any source gives it `floor` or more, or if it is among the `top` of
    its image by the mean of the sources that cover it.

    Features of a pair: each source's log odds, and log of its rank among the image's candidates;
    mean, maximum, minimum and standard deviation of these log odds over the sources that cover
    the pair, and their number; log odds of the concept in the image's category; log of its number
    of training images; sum of the image's mean probabilities, which is the number of concepts to
    be expected; and its support: P(concept | c'), averaged over the image's other candidates c'
    in proportion to their mean probability.

    Args:
        sources: at least one, for the same N images and L concepts.
        background: what the training labels say.
        category_weights: (N, C) certainty of each image's category, see `Background`; a posterior
            where the category is not known.

    Raises:
        PredictionsError: there is no source, or two have the same name.
    """
    given = [source.name for source in sources]
    if not given or len(set(given)) < len(given):
        raise PredictionsError(
            f"expected sources of distinct names; found {first_few(sorted(given), n=20)}"
        )
    n_images, n_concepts = len(category_weights), len(background.rate)
    rows, columns = find_candidates(
        sources, n_images=n_images, n_concepts=n_concepts, floor=floor, top=top
    )
    starts = np.searchsorted(rows, np.arange(n_images + 1))
    names = (
        *(f"logit {name}" for name in given),
        *(f"rank {name}" for name in given),
        *SHARED_FEATURES,
    )
    features = np.empty((len(rows), len(names)), dtype=np.float32)
    logits = features[:, : len(sources)]
    for m, source in enumerate(sources):
        logits[:, m] = logit(source.at(rows, columns))
        features[:, len(sources) + m] = _log_ranks(starts, np.ascontiguousarray(logits[:, m]))
    shared = features[:, 2 * len(sources) :]
    shared[:, :5] = _summaries(logits)
    prior = np.zeros(len(rows), dtype=np.float32)
    for category, in_category in enumerate(background.prior):
        prior += category_weights[rows, category] * in_category[columns]
    shared[:, 5] = logit(prior)
    shared[:, 6] = np.log1p(background.n_train[columns])
    probs = expit(shared[:, 0])
    shared[:, 7] = np.bincount(rows, weights=probs, minlength=n_images)[rows]
    shared[:, 8] = _support(starts, columns, probs, background.given, background.rate)
    return Candidates(
        rows=rows,
        columns=columns,
        n_images=n_images,
        n_concepts=n_concepts,
        features=features,
        feature_names=names,
    )


def _summaries(logits: Floats) -> Floats:
    """(n, 5) the first five of `SHARED_FEATURES`; every pair is covered by a source or more."""
    n_covering = np.count_nonzero(~np.isnan(logits), axis=1).astype(np.float32)
    mean = np.nansum(logits, axis=1) / n_covering
    variance = np.nansum((logits - mean[:, None]) ** 2, axis=1) / n_covering
    highest, lowest = np.fmax.reduce(logits, axis=1), np.fmin.reduce(logits, axis=1)
    return np.column_stack([mean, highest, lowest, np.sqrt(variance), n_covering])


@compiled
def _log_ranks(starts: npt.NDArray[np.int64], values: Floats) -> Floats:
    """(n,) log of 1 + the number of higher values of the same image, NaN where the value is."""
    ranks = np.full(len(values), np.nan, dtype=np.float32)
    for i in range(len(starts) - 1):
        for k in range(starts[i], starts[i + 1]):
            n_higher = 0
            for other in range(starts[i], starts[i + 1]):
                n_higher += values[other] > values[k]  # no comparison with NaN holds
            if not np.isnan(values[k]):
                ranks[k] = np.log1p(n_higher)
    return ranks


@compiled
def _support(
    starts: npt.NDArray[np.int64], columns: Ints, probs: Floats, given: Floats, rate: Floats
) -> Floats:
    """(n,) P(concept | other concept) averaged over the other candidates, weighted by probs."""
    support = np.empty(len(columns), dtype=np.float32)
    for i in range(len(starts) - 1):
        for k in range(starts[i], starts[i + 1]):
            total = 1e-3 * rate[columns[k]]  # an image of no other candidate says nothing
            weight = 1e-3
            for other in range(starts[i], starts[i + 1]):
                if other != k:
                    total += probs[other] * given[columns[other], columns[k]]
                    weight += probs[other]
            support[k] = total / weight
    return support
