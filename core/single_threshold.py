"""One threshold for all concepts: the plain decision that scores are compared by.

Stages that only need to know how good probabilities are (the epoch to stop at, a member of an
ensemble, a fusion strategy) share this rule; the ensemble's own decisions go further.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from core.labels import Targets
from core.metrics import EmptyTruth, Scores
from core.predictions import Probs

THRESHOLDS = np.linspace(0.02, 0.98, 49, dtype=np.float32)
"""The thresholds that are tried, 0.02 apart: the score is flat around its best one."""


def f1_by_threshold(probs: Probs, targets: Targets, *, empty_truth: EmptyTruth) -> Scores:
    """F1 of every image at every threshold, from one pass over the probabilities.

    Args:
        probs: (N, L).
        targets: the true concepts of the N images.
        empty_truth: what an image without true concepts scores.

    Returns:
        (T, N) for the T of `THRESHOLDS`, NaN where an image is left out.
    """
    scores: Scores = np.empty((len(THRESHOLDS), len(targets)))
    for start in range(0, len(targets), _BLOCK):
        block = np.arange(start, min(start + _BLOCK, len(targets)))
        scores[:, block] = _f1_of_block(probs[block], targets.rows(block))
    if empty_truth == "left out":
        scores[:, targets.n_true == 0] = np.nan
    return scores


_BLOCK = 1024
"""Images looked at together: 25 MB of bin numbers at 3,047 concepts."""


def _f1_of_block(probs: Probs, targets: Targets) -> Scores:
    n_images, n_bins = len(targets), len(THRESHOLDS) + 1
    bins = np.searchsorted(THRESHOLDS, probs, side="right").astype(np.int32)
    offset = (np.arange(n_images, dtype=np.int32) * n_bins)[:, None]
    n_decided = np.bincount((bins + offset).ravel(), minlength=n_images * n_bins)
    rows, columns = targets.matrix.nonzero()
    hits = np.bincount(rows * n_bins + bins[rows, columns], minlength=n_images * n_bins)
    return _f1_of_counts(n_decided, hits, n_true=targets.n_true)


def f1_of_pairs_by_threshold(
    rows: npt.NDArray[np.integer],
    probs: Probs,
    true: npt.NDArray[np.bool_],
    *,
    targets: Targets,
    empty_truth: EmptyTruth,
) -> Scores:
    """What `f1_by_threshold` gives of the matrix that has these pairs and 0 elsewhere.

    Args:
        rows: (n,) image of each pair.
        probs: (n,) its probability.
        true: (n,) whether its concept is true.
        targets: the true concepts of the N images, those that are no pair included.
        empty_truth: what an image without true concepts scores.

    Returns:
        (T, N) for the T of `THRESHOLDS`, NaN where an image is left out.
    """
    n_bins = len(THRESHOLDS) + 1
    places = np.searchsorted(THRESHOLDS, probs, side="right")
    places += rows.astype(np.int64) * n_bins
    n_decided = np.bincount(places, minlength=len(targets) * n_bins)
    hits = np.bincount(places[true], minlength=len(targets) * n_bins)
    scores = _f1_of_counts(n_decided, hits, n_true=targets.n_true)
    if empty_truth == "left out":
        scores[:, targets.n_true == 0] = np.nan
    return scores


def _f1_of_counts(
    n_decided: npt.NDArray[Any], hits: npt.NDArray[Any], *, n_true: npt.NDArray[Any]
) -> Scores:
    """(T, N) F1 from numbers of entries by image and bin, of all and of true ones."""
    n_bins = len(THRESHOLDS) + 1
    n_both, total = _at_least(hits, n_bins), _at_least(n_decided, n_bins) + n_true
    scores: Scores = np.where(total > 0, 2.0 * n_both / np.maximum(total, 1), 1.0)
    return scores


def _at_least(counts: npt.NDArray[Any], n_bins: int) -> npt.NDArray[Any]:
    """(T, N) numbers of entries at or above each threshold from counts by image and bin."""
    by_image = counts.reshape(-1, n_bins)
    return np.cumsum(by_image[:, ::-1], axis=1)[:, ::-1][:, 1:].T


def best_threshold(scores: Scores) -> int:
    """Index of the best threshold by the mean over images; the lower one of equals.

    Args:
        scores: (T, N) of `f1_by_threshold`.

    Raises:
        ValueError: every image is left out.
    """
    kept = scores[:, ~np.isnan(scores[0])]
    if not kept.shape[1]:
        raise ValueError("no image with true concepts: no threshold is better than another")
    return int(np.argmax(kept.mean(axis=1)))


def decided_at(probs: Probs, threshold: float, *, nomissing: bool = False) -> csr_array:
    """(N, L) boolean: the concepts of at least this probability.

    Args:
        probs: (N, L).
        threshold: above 0.
        nomissing: whether an image left without a concept gets its most probable one.
    """
    decided = probs >= np.float32(threshold)
    if nomissing and decided.shape[1]:
        without = np.flatnonzero(~decided.any(axis=1))
        decided[without, probs[without].argmax(axis=1)] = True
    return csr_array(decided)


def cross_fitted_f1(
    probs: Probs, targets: Targets, folds: npt.NDArray[np.integer], *, empty_truth: EmptyTruth
) -> Scores:
    """F1 of each image at the threshold that is best on the other folds.

    Args:
        probs: (N, L).
        targets: the true concepts of the N images.
        folds: (N,) fold of each image.
        empty_truth: what an image without true concepts scores.

    Returns:
        (N,) scores, NaN where an image is left out.
    """
    return at_threshold_of_others(f1_by_threshold(probs, targets, empty_truth=empty_truth), folds)


def at_threshold_of_others(scores: Scores, folds: npt.NDArray[np.integer]) -> Scores:
    """(N,) score of each image at the threshold that is best on the other folds.

    Args:
        scores: (T, N) of `f1_by_threshold` or `f1_of_pairs_by_threshold`.
        folds: (N,) fold of each image.
    """
    chosen: Scores = np.empty(len(folds))
    for fold in np.unique(folds):
        here = folds == fold
        chosen[here] = scores[best_threshold(scores[:, ~here]), here]
    return chosen


def cross_fitted_decisions(
    probs: Probs, targets: Targets, folds: npt.NDArray[np.integer], *, empty_truth: EmptyTruth
) -> csr_array:
    """(N, L) boolean: each image at the threshold that is best on the other folds.

    Their `image_f1` is `cross_fitted_f1`.
    """
    scores = f1_by_threshold(probs, targets, empty_truth=empty_truth)
    thresholds = np.empty((len(targets), 1), dtype=np.float32)
    for fold in np.unique(folds):
        here = folds == fold
        thresholds[here] = THRESHOLDS[best_threshold(scores[:, ~here])]
    return csr_array(probs >= thresholds)
