"""Thresholds found on the sample F1 itself: one for all, one a category, one a concept.

Thresholds tuned concept by concept on each concept's own F1 ruin the mean over images. A threshold
moves only its own bits, though, so the sample F1 at all of its values is one pass over the images
sorted by probability (`ensembles.solvers.line_search`): every search here is exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from core.labels import LabelSpace
from core.metrics import EmptyTruth, Scores
from ensembles.decisions.thresholds import Level, Thresholds
from ensembles.pairs import Floats, Pairs
from ensembles.solvers.line_search import TIE, best_concept_thresholds, best_threshold

WHEN_EMPTY: dict[EmptyTruth, float] = {"left out": 0.0, "counted": 1.0}
"""F1 of an image with nothing true and nothing decided. Where such images are left out they score
0 whatever is decided, and add nothing to a gain."""


def tune_global(pairs: Pairs, *, empty_truth: EmptyTruth) -> float:
    """The one threshold with the highest sample F1, exact over all distinct probabilities."""
    nothing = np.zeros(len(pairs.n_true))
    return _search(pairs, reference=nothing, caution=0.0, empty_truth=empty_truth)[0]


def tune_by_category(
    pairs: Pairs,
    categories: Sequence[str],
    *,
    start: float,
    empty_truth: EmptyTruth,
    caution: float = 2.0,
) -> dict[str, float]:
    """Thresholds of the categories that gain by one of their own.

    Args:
        categories: N categories.
        start: the global threshold, which a category keeps unless another one pays.
        caution: standard errors taken off a gain over `start`; what is left must be above 0.
    """
    names = np.array(categories, dtype=np.str_)
    own = {}
    for name in np.unique(names):
        here = pairs.of_images(names == name)
        start_f1 = here.image_f1(
            here.probs >= np.float32(start), when_empty=WHEN_EMPTY[empty_truth]
        )
        threshold, gain = _search(
            here, reference=start_f1, caution=caution, empty_truth=empty_truth
        )
        if gain > TIE:
            own[str(name)] = threshold
    return own


def tune_by_concept(
    pairs: Pairs,
    *,
    start: Floats,
    empty_truth: EmptyTruth,
    caution: float = 2.0,
    min_true: int = 5,
    max_sweeps: int = 20,
) -> Floats:
    """Thresholds of the concepts that gain by one of their own, by coordinate ascent.

    Args:
        start: (N,) threshold of each image, which a concept keeps unless another one pays.
        caution: standard errors taken off a gain over `start`; what is left must be above 0. No
            caution climbs to a maximum of the sample F1 that does not carry over to other images.
        min_true: concepts with fewer true pairs keep `start`.
        max_sweeps: the most passes over all concepts; the first that moves none is the last.

    Returns:
        (L,) thresholds, NaN where a concept keeps `start`.
    """
    order = pairs.by_concept
    thresholds, _ = best_concept_thresholds(
        pairs.concept_starts,
        pairs.rows[order],
        pairs.probs[order],
        pairs.true[order],
        pairs.n_true,
        start,
        caution,
        min_true,
        max_sweeps,
        WHEN_EMPTY[empty_truth],
    )
    return thresholds


def _search(
    pairs: Pairs, *, reference: Scores, caution: float, empty_truth: EmptyTruth
) -> tuple[float, float]:
    order = pairs.by_prob
    return best_threshold(
        pairs.rows[order],
        pairs.probs[order],
        pairs.true[order],
        pairs.n_true,
        reference,
        caution,
        WHEN_EMPTY[empty_truth],
    )


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """How thresholds are tuned and which are kept.

    Attributes:
        empty_truth: what an image without true concepts does to the mean.
        caution: see `tune_by_concept`; for categories as well.
        min_true: see `tune_by_concept`.
        margin: standard errors of the paired difference by which a finer level must win.
        nomissing: whether an image left without a concept gets its most probable one. Where images
            without true concepts are left out of the mean this can only help.
    """

    empty_truth: EmptyTruth
    caution: float = 2.0
    min_true: int = 5
    margin: float = 0.5
    nomissing: bool = False


def tune(
    pairs: Pairs,
    categories: Sequence[str],
    labels: LabelSpace,
    *,
    levels: tuple[Level, ...],
    tuning: Tuning,
) -> Thresholds:
    """Thresholds of these levels on these images."""
    fitted = Thresholds(global_=tune_global(pairs, empty_truth=tuning.empty_truth))
    if "category" in levels:
        own = tune_by_category(
            pairs,
            categories,
            start=fitted.global_,
            empty_truth=tuning.empty_truth,
            caution=tuning.caution,
        )
        fitted = replace(fitted, by_category=own)
    if "concept" in levels:
        thresholds = tune_by_concept(
            pairs,
            start=fitted.of_images(categories),
            empty_truth=tuning.empty_truth,
            caution=tuning.caution,
            min_true=tuning.min_true,
        )
        columns = np.flatnonzero(~np.isnan(thresholds))
        own = {labels.cuis[column]: float(thresholds[column]) for column in columns}
        fitted = replace(fitted, by_concept=own)
    return fitted
