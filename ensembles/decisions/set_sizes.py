"""Two plain rules for how many of its most probable concepts an image gets.

The plug-in ratio puts the expectation into numerator and denominator of F1 apart:

    max over k of 2 (p_1 + ... + p_k) / (k + m),    m = p_1 + ... + p_n + missed

Its maximum F* is the fixed point of "decide where p > F* / 2" (Dinkelbach's iteration on a ratio;
Ye et al., ICML 2012, and Lipton et al., "Optimal thresholding of classifiers to maximize F1
measure", ECML-PKDD 2014, theorem 1, for the threshold of half the optimum). Top-k decides the
expected number of concepts, times a fitted factor.
"""

import numpy as np
import numpy.typing as npt

from core.editions import EmptyTruth
from core.metrics import Scores
from ensembles.compiled import compiled, in_blocks
from ensembles.pairs import Bools, CalibratedPairs, Counts, Floats64

FACTORS = np.round(np.arange(0.3, 2.0001, 0.05), 2)
"""Factors that are tried for top-k."""


def ratio_sizes(
    ranked: CalibratedPairs, *, limit: int, empty_truth: EmptyTruth, missed: float = 0.0
) -> Counts:
    """(N,) number of most probable concepts with the highest plug-in ratio.

    Where images without true concepts are left out of the mean, expectations are given that the
    image has one, which divides p and m by that chance. Where they count, nothing is decided if
    that is expected to score more than the ratio.

    Args:
        ranked: pairs of N images with calibrated probabilities.
        limit: the most concepts of an image.
        empty_truth: what an image without true concepts does to the mean.
        missed: mean number of true concepts of an image beside its pairs.
    """
    sizes = np.zeros(ranked.shape[0], dtype=np.int64)
    starts, p = ranked.starts, ranked.ranked_probs
    counted = empty_truth == "counted"
    in_blocks(
        len(sizes),
        lambda a, b: _ratio_sizes(starts[a : b + 1], p, limit, counted, missed, sizes[a:b]),
    )
    return sizes


@compiled
def _ratio_sizes(
    starts: Counts, probs: Floats64, limit: int, empty_counts: bool, missed: float, sizes: Counts
) -> None:
    for i in range(len(starts) - 1):
        p = probs[starts[i] : starts[i + 1]]
        none = np.exp(-missed)
        for k in range(len(p)):
            none *= 1.0 - p[k]
        if none == 1.0:
            continue
        some = 1.0 if empty_counts else 1.0 - none
        mass = (p.sum() + missed) / some
        best = none if empty_counts else 0.0
        hits = 0.0
        for k in range(1, min(limit, len(p)) + 1):
            hits += p[k - 1] / some
            if 2.0 * hits / (k + mass) > best * (1.0 + 1e-12):
                best = 2.0 * hits / (k + mass)
                sizes[i] = k


def top_sizes(ranked: CalibratedPairs, *, factor: float, limit: int, missed: float = 0.0) -> Counts:
    """(N,) the expected number of concepts times a factor, rounded half up.

    Certain concepts are decided whatever the number.

    Args:
        ranked: pairs of N images with calibrated probabilities.
        factor: above 0; below 1 for fewer concepts than expected, which F1 mostly asks for.
        limit: the most concepts of an image.
        missed: mean number of true concepts of an image beside its pairs.
    """
    certain = np.bincount(ranked.rows[ranked.probs >= 1.0], minlength=ranked.shape[0])
    wanted = np.floor(factor * (ranked.mass + missed) + 0.5).astype(np.int64)
    return np.minimum(np.maximum(wanted, certain), np.minimum(np.diff(ranked.starts), limit))


def fit_factor(
    ranked: CalibratedPairs,
    true: Bools,
    *,
    n_true: npt.NDArray[np.integer],
    limit: int,
    empty_truth: EmptyTruth,
    missed: float = 0.0,
) -> float:
    """The factor of `FACTORS` with the highest sample F1; the one nearest 1 of equal ones.

    Args:
        ranked: pairs of N images with calibrated probabilities.
        true: (n,) whether each pair is true.
        n_true: (N,) true concepts of each image.
        limit, empty_truth, missed: see `top_sizes` and `ratio_sizes`.
    """
    hits = np.concatenate([[0], np.cumsum(true[ranked.order])])

    def image_f1(factor: float) -> Scores:
        sizes = top_sizes(ranked, factor=factor, limit=limit, missed=missed)
        n_hit = hits[ranked.starts[:-1] + sizes] - hits[ranked.starts[:-1]]
        total = sizes + n_true
        f1 = np.where(total > 0, 2.0 * n_hit / np.maximum(total, 1), 1.0)
        return f1 if empty_truth == "counted" else f1[n_true > 0]

    nearest = FACTORS[np.argsort(np.abs(FACTORS - 1.0), kind="stable")].tolist()
    sums = [float(image_f1(factor).sum()) for factor in nearest]
    return float(nearest[int(np.argmax(sums))])
