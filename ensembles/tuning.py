"""Thresholds found on the sample F1 itself: one for all, one a category, one a concept.

Thresholds tuned concept by concept on each concept's own F1 ruin the mean over images. A threshold
moves only its own bits, though, so the sample F1 at all of its values is one pass over the images
sorted by probability (`ensembles.line_search`): every search here is exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_array

from core.labels import LabelSpace, Targets
from core.metrics import EmptyTruth, Scores, mean_in_order
from ensembles.folds import Folds, held_out_images
from ensembles.line_search import TIE, best_concept_thresholds, best_threshold
from ensembles.pairs import Bools, Floats, Pairs, to_csr
from ensembles.thresholds import Level, Thresholds

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


def choose_thresholds(
    probs: Floats,
    targets: Targets,
    *,
    labels: LabelSpace,
    categories: Sequence[str],
    folds: Folds,
    tuning: Tuning,
) -> tuple[Thresholds, Scores, csr_array]:
    """Thresholds of the finest level that pays on images it was not tuned on.

    Each level is tuned on all folds but one and scored on that one. A finer level replaces a
    coarser one where it wins by the margin; what is kept is tuned once more, on all images.

    Args:
        probs: (N, L) out-of-fold probabilities; the 100 highest of an image count.
        categories: N categories.
        folds: (N,) fold of each image.

    Returns:
        The thresholds; the (N,) cross-fitted F1 of the images at the level that was kept, NaN for
        an image that is left out of the mean; and the (N, L) decisions that had it.

    Raises:
        AlignmentError: an image has no fold, or all share one.
        ValueError: shapes differ, or no image has a true concept.
    """
    pairs = Pairs.of(probs, targets)
    names = np.array(categories, dtype=np.str_)

    def cross_fitted(levels: tuple[Level, ...]) -> tuple[Scores, Bools]:
        image_f1 = np.empty(len(targets))
        all_decided = np.empty(len(pairs), dtype=np.bool_)
        for held_out in held_out_images(folds):
            fitted = _tune(
                pairs.of_images(~held_out),
                names[~held_out].tolist(),
                labels,
                levels=levels,
                tuning=tuning,
            )
            here = pairs.of_images(held_out)
            decided = fitted.decided(here, categories=names[held_out].tolist(), labels=labels)
            if tuning.nomissing:
                decided = here.completed(decided)
            image_f1[held_out] = here.image_f1(decided, when_empty=WHEN_EMPTY[tuning.empty_truth])
            all_decided[held_out[pairs.rows]] = decided
        if tuning.empty_truth == "left out":
            image_f1[targets.n_true == 0] = np.nan
        return image_f1, all_decided

    kept: tuple[Level, ...] = ("global",)
    best, decided = cross_fitted(kept)
    scores = {"global": mean_in_order(best)}
    finer: tuple[Level, ...] = ("category", "concept")
    for level in finer:
        f1, its_decided = cross_fitted((*kept, level))
        scores[level] = mean_in_order(f1)
        if wins(f1 - best, margin=tuning.margin):
            kept, best, decided = (*kept, level), f1, its_decided
    thresholds = _tune(pairs, categories, labels, levels=kept, tuning=tuning)
    sets = to_csr(pairs.rows[decided], pairs.columns[decided], shape=probs.shape)
    return replace(thresholds, scores=scores), best, sets


def _tune(
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


def wins(difference: Scores, *, margin: float) -> bool:
    """Whether the mean of paired differences exceeds `margin` of its standard errors and 0.

    Args:
        difference: (N,) F1 of the images gained, NaN where an image is left out of the mean.
    """
    kept = difference[~np.isnan(difference)]
    error = float(kept.std()) / np.sqrt(max(len(kept), 1))
    return bool(kept.sum() > 0 and kept.mean() > margin * error)
