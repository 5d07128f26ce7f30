"""The concept sets with the highest expected F1 under given probabilities.

With independent concepts the best set of k concepts holds the k most probable ones, and the
expected F1 of all k is found in O(n^2). With p sorted downwards, C_k(a) the probability of a hits
among the first k, and s_k(d) = E[1 / (d + number of true concepts among the rest)]:

    E[F1 of the first k] = sum_a 2 a C_k(a) s_k(k + a)
    s_{k-1}(d) = p_k s_k(d + 1) + (1 - p_k) s_k(d),    s_n(d) = E[1 / (d + missed)]

`missed` is the number of true concepts of an image that are not among its pairs, Poisson with the
same mean for all images: 0 makes s_n(d) = 1 / d.

Source: Ye, Chai, Lee, Chieu, "Optimizing F-measures: a tale of two approaches", ICML 2012.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.special import gammaln, pdtr, pdtrik, xlogy

from core.editions import EmptyTruth
from ensembles.compiled import compiled, in_blocks
from ensembles.pairs import CalibratedPairs, Counts, Floats64


@dataclass(frozen=True)
class Expected:
    """Decisions and what they are expected to score.

    Attributes:
        decided: (N, L) boolean.
        f1: (N,) expected F1 of each image; where images without true concepts are left out of
            the mean, given that the image has one, and NaN for an image that cannot have one.
        counts: (N,) probability that the image is part of the mean.
    """

    decided: csr_array
    f1: Floats64
    counts: Floats64

    @property
    def forecast(self) -> float:
        """The sample F1 to be expected, without any labels; NaN if no image counts."""
        total = self.counts.sum()
        return float(np.nansum(self.f1 * self.counts) / total) if total > 0 else float("nan")


def reciprocals(n: int, *, missed: float) -> Floats64:
    """(n,) E[1 / (d + m)] for d = 0, 1, ..., with m Poisson of this mean; 0 for d = 0.

    Exact to 1e-12: the tail of m beyond is left out.
    """
    values = np.zeros(n)
    chance = _poisson(missed)
    m = np.arange(len(chance))
    values[1:] = (chance / (np.arange(1, n)[:, None] + m)).sum(axis=1)
    return values


def _poisson(mean: float) -> Floats64:
    """Chances of 0, 1, ... as far as all but 1e-13 of them lie.

    To the last bit those of `scipy.stats.poisson`, whose import would take half a second of every
    command that decides.
    """
    last = 0.0
    if mean > 0:
        nearly = 1.0 - 1e-13
        last = np.ceil(pdtrik(nearly, mean))
        before = max(last - 1.0, 0.0)
        last = before if pdtr(before, mean) >= nearly else last
    m = np.arange(int(last) + 1)
    chances: Floats64 = np.exp(xlogy(m, mean) - gammaln(m + 1) - mean)
    return chances


def maximise(
    ranked: CalibratedPairs, *, limit: int, empty_truth: EmptyTruth, missed: float = 0.0
) -> Expected:
    """The sets with the highest expected F1.

    Of equal sets it is the smaller one, of equal concepts the lower column.

    Args:
        ranked: the pairs of N images, with calibrated probabilities.
        limit: the most concepts of an image.
        empty_truth: whether an image without true concepts is part of the mean. Where it is left
            out, deciding nothing can score nothing, and any possible concept is decided.
        missed: mean number of true concepts of an image beside its pairs.
    """
    shape, starts, p = ranked.shape, ranked.starts, ranked.ranked_probs
    widest = int(np.diff(starts).max(initial=0))
    inverse = reciprocals(widest + limit + 2, missed=missed)
    sizes, f1, none = np.zeros(shape[0], np.int64), np.full(shape[0], np.nan), np.ones(shape[0])

    def work(first: int, last: int) -> None:
        _best_sizes(
            starts[first : last + 1],
            p,
            limit,
            empty_truth == "counted",
            inverse,
            np.exp(-missed),
            sizes[first:last],
            f1[first:last],
            none[first:last],
        )

    in_blocks(shape[0], work)
    return Expected(
        decided=ranked.first(sizes),
        f1=f1,
        counts=np.ones(shape[0]) if empty_truth == "counted" else 1.0 - none,
    )


@compiled
def _best_sizes(
    starts: Counts,
    probs: Floats64,
    limit: int,
    empty_counts: bool,
    inverse: Floats64,
    none_missed: float,
    sizes: Counts,
    values: Floats64,
    none: Floats64,
) -> None:
    """Fill in size and expected F1 of the best set of each image, and the chance of no concept."""
    for i in range(len(starts) - 1):
        p = probs[starts[i] : starts[i + 1]]
        none[i] = none_missed
        for k in range(len(p)):
            none[i] *= 1.0 - p[k]
        expected = _expected_of_sizes(p, min(limit, len(p)), inverse)
        if empty_counts:
            expected[0] = none[i]
        elif none[i] == 1.0:
            continue
        best = 0
        for k in range(1, len(expected)):
            if expected[k] > expected[best] * (1.0 + 1e-12):
                best = k
        sizes[i] = best
        values[i] = expected[best] if empty_counts else expected[best] / (1.0 - none[i])


@compiled
def _expected_of_sizes(p: Floats64, limit: int, inverse: Floats64) -> Floats64:
    """(limit + 1,) expected F1 of the first k concepts, 0 for none; p sorted downwards."""
    n = len(p)
    hits = np.zeros((limit + 1, limit + 1))  # hits[k, a]: probability of a hits among the first k
    hits[0, 0] = 1.0
    for k in range(1, limit + 1):
        for a in range(k + 1):
            hits[k, a] = hits[k - 1, a] * (1.0 - p[k - 1])
            if a > 0:
                hits[k, a] += hits[k - 1, a - 1] * p[k - 1]
    expected = np.zeros(limit + 1)
    s = inverse[: n + limit + 2].copy()
    for k in range(n, 0, -1):
        if k <= limit:
            for a in range(1, k + 1):
                expected[k] += 2.0 * a * hits[k, a] * s[k + a]
        for d in range(1, min(2 * (k - 1), k - 1 + limit) + 1):
            s[d] = p[k - 1] * s[d + 1] + (1.0 - p[k - 1]) * s[d]
    return expected
