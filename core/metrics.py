"""Scores of decided concept sets, with their uncertainty, and the plain decision they go by.

The task's score is the mean over images of the F1 between the true and the decided set. Everything
here works from sparse boolean matrices; nothing loops over images.

Stages that only need to know how good probabilities are (the epoch to stop at, a member of an
ensemble, a fusion strategy) share one threshold for all concepts; the ensemble's own decisions go
further.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from core.editions import EmptyTruth
from core.folds import Folds, cross_fitted, in_order
from core.images import ImageTable
from core.labels import FREQUENCIES, LabelSpace, Targets, frequency_buckets
from core.predictions import Probs

Scores = npt.NDArray[np.float64]

_BLOCK = 32  # resamples drawn at once: 12 MB for 16,000 images


def image_f1(targets: Targets, decided: csr_array, *, empty_truth: EmptyTruth) -> Scores:
    """F1 of each image between its true and its decided concepts.

        F1_i = 2 |T_i and D_i| / (|T_i| + |D_i|)

    Args:
        targets: N images; concepts outside the label space count as true and are missed.
        decided: (N, L) boolean, CSR.
        empty_truth: what an image without true concepts scores.

    Returns:
        (N,) in [0, 1], NaN for an image that is left out of the mean.

    Raises:
        ValueError: the shapes differ.
    """
    if targets.matrix.shape != decided.shape:
        raise ValueError(f"targets are {targets.matrix.shape}, decisions {decided.shape}")
    n_both = row_sums(targets.matrix.multiply(decided))
    return f1_of_counts(n_both, row_sums(decided), n_true=targets.n_true, empty_truth=empty_truth)


def f1_of_counts(
    n_both: npt.NDArray[Any],
    n_decided: npt.NDArray[Any],
    *,
    n_true: npt.NDArray[Any],
    empty_truth: EmptyTruth,
) -> Scores:
    """F1 of images from their numbers of concepts; the rule of empty truth is applied here alone.

    Args:
        n_both: (..., N) concepts that are true and decided.
        n_decided: (..., N) decided concepts.
        n_true: (N,) true concepts.
        empty_truth: what an image without true concepts scores.

    Returns:
        (..., N) in [0, 1], NaN for an image that is left out of the mean.
    """
    total = n_decided + n_true
    scores: Scores = np.where(total > 0, 2.0 * n_both / np.maximum(total, 1), 1.0)
    if empty_truth == "left out":
        scores[..., n_true == 0] = np.nan
    return scores


@dataclass(frozen=True, kw_only=True)
class ScoredImages:
    """N labelled images with the rule that scores them; every sequence has N entries in one order.

    Attributes:
        targets: their true concepts.
        labels: the L concepts, columns of `targets`.
        categories: their imaging categories, `UNKNOWN` where there is none.
        groups: images that must not be parted; an image of group "" is a group by itself.
        folds: (N,) fold of each image, as `prepare` assigned them.
        empty_truth: what an image without true concepts does to the mean.
    """

    targets: Targets
    labels: LabelSpace
    categories: Sequence[str]
    groups: Sequence[str]
    folds: Folds
    empty_truth: EmptyTruth

    @classmethod
    def of(
        cls, table: ImageTable, labels: LabelSpace, *, empty_truth: EmptyTruth
    ) -> "ScoredImages":
        """The images of a table.

        Raises:
            AlignmentError: the concepts of an image are not known.
        """
        return cls(
            targets=table.targets(labels),
            labels=labels,
            categories=table.categories,
            groups=table.groups,
            folds=table.folds,
            empty_truth=empty_truth,
        )

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, rows: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> "ScoredImages":
        """Some of the images, by number or by mask, in the order given."""
        numbers = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        return ScoredImages(
            targets=self.targets.rows(numbers),
            labels=self.labels,
            categories=[self.categories[i] for i in numbers.tolist()],
            groups=[self.groups[i] for i in numbers.tolist()],
            folds=self.folds[numbers],
            empty_truth=self.empty_truth,
        )

    def image_f1(self, decided: csr_array) -> Scores:
        """(N,) F1 of each image, NaN where it is left out of the mean.

        Args:
            decided: (N, L) boolean.
        """
        return image_f1(self.targets, decided, empty_truth=self.empty_truth)


def sample_f1(targets: Targets, decided: csr_array, *, empty_truth: EmptyTruth) -> float:
    """Mean of `image_f1` over the images that are not left out: the task's primary score.

    The sum runs in row order, as the evaluators' loops do, so rows in the order of a submission
    give the official score to the last bit. scikit-learn's `average="samples"` differs: it counts
    images without true concepts as 0.

    Raises:
        ValueError: the shapes differ, or no image is left.
    """
    return mean_in_order(image_f1(targets, decided, empty_truth=empty_truth))


def mean_in_order(scores: Scores) -> float:
    """Mean of the numbers that are not NaN, added one after the other from the first.

    Raises:
        ValueError: all are NaN, or there are none.
    """
    kept = scores[~np.isnan(scores)]
    if not len(kept):
        raise ValueError("no image with true concepts: the mean is not defined")
    return float(np.cumsum(kept)[-1] / len(kept))


def recall_by_frequency(
    targets: Targets,
    decided: csr_array,
    *,
    n_train: npt.NDArray[np.integer],
    edges: Sequence[int] = FREQUENCIES,
) -> dict[str, tuple[float, int]]:
    """Recall of the true pairs, by how often their concept occurs in training.

    Args:
        n_train: (L,) training images of each concept.
        edges: lower bounds of the buckets, ascending; the last bucket is open.

    Returns:
        Bucket name to (recall or NaN, number of true pairs). The bucket "0" holds the concepts
        never seen in training, those outside the label space included.
    """
    n_hit = column_sums(targets.matrix.multiply(decided))
    n_true = column_sums(targets.matrix)
    found = {}
    for bucket in frequency_buckets((0, *edges)):
        here = bucket.holds(n_train)
        pairs = int(n_true[here].sum()) + (int(targets.n_outside.sum()) if bucket.low == 0 else 0)
        found[bucket.name] = (float(n_hit[here].sum() / pairs) if pairs else float("nan"), pairs)
    return found


@dataclass(frozen=True)
class Interval:
    """A mean with its percentile bootstrap interval at 95 %.

    Attributes:
        value: the mean.
        low, high: bounds of the interval.
        n: number of images in the mean.
    """

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"

    def signed(self) -> str:
        """As text with signs, for differences."""
        return f"{self.value:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


def bootstrap(
    scores: Scores, *, groups: Sequence[str] | None = None, n_resamples: int = 2000, seed: int = 0
) -> Interval:
    """Mean of scores with a 95 % interval, resampling whole groups.

    Images of one patient or study are not independent; resampling images would make the interval
    too narrow. For a paired comparison pass the differences.

    Args:
        scores: (N,), NaN where an image is left out.
        groups: N group names, see `group_numbers`; None when images are independent.

    Raises:
        ValueError: every score is NaN.
    """
    kept = ~np.isnan(scores)
    value = mean_in_order(scores)
    if groups is None:
        members = np.arange(int(kept.sum()))
    else:
        members = np.unique(group_numbers(groups)[kept], return_inverse=True)[1]
    sums = np.bincount(members, weights=scores[kept])
    sizes = np.bincount(members).astype(np.float64)
    rng = np.random.default_rng(seed)
    means = np.empty(n_resamples)
    for first in range(0, n_resamples, _BLOCK):
        block = means[first : first + _BLOCK]
        drawn = rng.integers(len(sums), size=(len(block), len(sums)))
        block[:] = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(value=value, low=float(low), high=float(high), n=int(kept.sum()))


def group_numbers(groups: Sequence[str]) -> npt.NDArray[np.intp]:
    """(N,) number of each image's group, from 0 on; an image of group "" is a group by itself."""
    names = [group or f"\0{row}" for row, group in enumerate(groups)]
    return np.unique(np.array(names, dtype=np.str_), return_inverse=True)[1]


def row_sums(matrix: csr_array) -> npt.NDArray[np.int64]:
    """(N,) number of true entries of each row of a boolean matrix."""
    return np.asarray(matrix.sum(axis=1, dtype=np.int64)).ravel()


def column_sums(matrix: csr_array) -> npt.NDArray[np.int64]:
    """(L,) number of true entries of each column of a boolean matrix."""
    return np.asarray(matrix.sum(axis=0, dtype=np.int64)).ravel()


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
    for start in range(0, len(targets), _IMAGES_AT_ONCE):
        block = np.arange(start, min(start + _IMAGES_AT_ONCE, len(targets)))
        scores[:, block] = _f1_of_block(probs[block], targets.rows(block), empty_truth=empty_truth)
    return scores


_IMAGES_AT_ONCE = 1024
"""Images looked at together: 25 MB of bin numbers at 3,047 concepts."""


def _f1_of_block(probs: Probs, targets: Targets, *, empty_truth: EmptyTruth) -> Scores:
    n_images, n_bins = len(targets), len(THRESHOLDS) + 1
    bins = np.searchsorted(THRESHOLDS, probs, side="right").astype(np.int32)
    offset = (np.arange(n_images, dtype=np.int32) * n_bins)[:, None]
    n_decided = np.bincount((bins + offset).ravel(), minlength=n_images * n_bins)
    rows, columns = targets.matrix.nonzero()
    hits = np.bincount(rows * n_bins + bins[rows, columns], minlength=n_images * n_bins)
    return _f1_of_bins(hits, n_decided, targets.n_true, empty_truth=empty_truth)


def f1_of_pairs_by_threshold(
    rows: npt.NDArray[np.integer],
    probs: Probs,
    *,
    true: npt.NDArray[np.bool_],
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
    return _f1_of_bins(hits, n_decided, targets.n_true, empty_truth=empty_truth)


def _f1_of_bins(
    hits: npt.NDArray[Any],
    n_decided: npt.NDArray[Any],
    n_true: npt.NDArray[Any],
    *,
    empty_truth: EmptyTruth,
) -> Scores:
    """(T, N) F1 from numbers of entries by image and bin, of true ones and of all."""
    n_bins = len(THRESHOLDS) + 1
    return f1_of_counts(
        _at_least(hits, n_bins),
        _at_least(n_decided, n_bins),
        n_true=n_true,
        empty_truth=empty_truth,
    )


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
    probs: Probs, targets: Targets, *, folds: Folds, empty_truth: EmptyTruth
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


def at_threshold_of_others(scores: Scores, folds: Folds) -> Scores:
    """(N,) score of each image at the threshold that is best on the other folds.

    Args:
        scores: (T, N) of `f1_by_threshold` or `f1_of_pairs_by_threshold`.
        folds: (N,) fold of each image.

    Raises:
        AlignmentError: an image has no fold, or all share one.
    """
    found = cross_fitted(
        lambda others: best_threshold(scores[:, others]),
        lambda best, held_out: scores[best, held_out],
        folds=folds,
    )
    return in_order(found)


def cross_fitted_decisions(
    probs: Probs, targets: Targets, *, folds: Folds, empty_truth: EmptyTruth
) -> csr_array:
    """(N, L) boolean: each image at the threshold that is best on the other folds.

    Their `image_f1` is `cross_fitted_f1`.
    """
    scores = f1_by_threshold(probs, targets, empty_truth=empty_truth)
    found = cross_fitted(
        lambda others: THRESHOLDS[best_threshold(scores[:, others])],
        lambda threshold, held_out: probs[held_out] >= threshold,
        folds=folds,
    )
    return csr_array(in_order(found))


def beats_by_margin(difference: Scores, *, margin: float) -> bool:
    """Whether the mean of paired differences exceeds `margin` of its standard errors and 0.

    Args:
        difference: (N,) F1 of the images gained, NaN where an image is left out of the mean.
    """
    kept = difference[~np.isnan(difference)]
    if not kept.sum() > 0:  # none are kept, also
        return False
    error = float(kept.std()) / np.sqrt(len(kept))
    return bool(kept.mean() > margin * error)
