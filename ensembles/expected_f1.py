"""The concept sets with the highest expected F1 under given probabilities.

With independent concepts the best set of k concepts holds the k most probable ones, and the
expected F1 of all k is found in O(n^2). With p sorted downwards, C_k(a) the probability of a hits
among the first k, and s_k(d) = E[1 / (d + number of true concepts among the rest)]:

    E[F1 of the first k] = sum_a 2 a C_k(a) s_k(k + a)
    s_{k-1}(d) = p_k s_k(d + 1) + (1 - p_k) s_k(d),    s_n(d) = 1 / d

Source: Ye, Chai, Lee, Chieu, "Optimizing F-measures: a tale of two approaches", ICML 2012.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from core.metrics import EmptyTruth
from ensembles.compiled import compiled
from ensembles.pairs import Floats, Ints, to_csr

Floats64 = npt.NDArray[np.float64]


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


def maximise(
    rows: Ints,
    columns: Ints,
    probs: Floats,
    *,
    shape: tuple[int, int],
    limit: int,
    empty_truth: EmptyTruth,
) -> Expected:
    """The sets with the highest expected F1.

    Of equal sets it is the smaller one, of equal concepts the lower column.

    Args:
        rows, columns, probs: (n,) pairs, ordered by image and then by concept, with calibrated
            probabilities; every other concept is taken to be absent.
        shape: (N, L).
        limit: the most concepts of an image.
        empty_truth: whether an image without true concepts is part of the mean. Where it is left
            out, deciding nothing can score nothing, and any possible concept is decided.
    """
    order = np.lexsort((-probs, rows))
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=shape[0]))])
    sizes, f1, none = _best_sizes(
        starts.astype(np.int64), probs[order].astype(np.float64), limit, empty_truth == "counted"
    )
    place = np.arange(len(rows)) - np.repeat(starts[:-1], np.diff(starts))
    chosen = np.empty(len(rows), dtype=np.bool_)
    chosen[order] = place < sizes[rows]
    return Expected(
        decided=to_csr(rows[chosen], columns[chosen], shape=shape),
        f1=f1,
        counts=np.ones(shape[0]) if empty_truth == "counted" else 1.0 - none,
    )


@compiled
def _best_sizes(
    starts: npt.NDArray[np.int64], probs: Floats64, limit: int, empty_counts: bool
) -> tuple[npt.NDArray[np.int64], Floats64, Floats64]:
    """Size and expected F1 of the best set of each image, and the probability of no concept."""
    n_images = len(starts) - 1
    sizes = np.zeros(n_images, dtype=np.int64)
    values = np.full(n_images, np.nan)
    none = np.ones(n_images)
    for i in range(n_images):
        p = probs[starts[i] : starts[i + 1]]
        for k in range(len(p)):
            none[i] *= 1.0 - p[k]
        expected = _expected_of_sizes(p, min(limit, len(p)))
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
    return sizes, values, none


@compiled
def _expected_of_sizes(p: Floats64, limit: int) -> Floats64:
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
    s = np.zeros(n + limit + 2)
    for d in range(1, len(s)):
        s[d] = 1.0 / d
    for k in range(n, 0, -1):
        if k <= limit:
            for a in range(1, k + 1):
                expected[k] += 2.0 * a * hits[k, a] * s[k + a]
        for d in range(1, min(2 * (k - 1), k - 1 + limit) + 1):
            s[d] = p[k - 1] * s[d + 1] + (1.0 - p[k - 1]) * s[d]
    return expected
