"""The general F-measure maximiser: the best set under any joint distribution of the concepts.

All that the expected F1 of a set D of k concepts needs is P(y_i = 1, |y| = s):

    E[F1(D)] = sum over i in D of delta_k(i),    delta_k(i) = sum_s P(y_i = 1, |y| = s) 2 / (s + k)

so the best set of k concepts holds those of the k highest delta_k, which need not be the most
probable ones. Here the joint distribution is a head for the number of concepts
(`ensembles.decisions.concept_counts`) times independent concepts held to that number, the
conditional Bernoulli distribution: of all distributions with that number and the same odds the one
of highest entropy, which is what tilting the probabilities exponentially to a mass of s gives as
well.

    P(y_i = 1, |y| = s) = P(s) p_i PB_{-i}(s - 1) / PB(s)

Source: Dembczynski, Waegeman, Cheng, Huellermeier, "An exact algorithm for F-measure maximization",
NeurIPS 2011, algorithm 1; Waegeman et al., JMLR 15 (2014). Conditional Bernoulli: Chen, Dempster,
Liu, "Weighted finite population sampling to maximize entropy", Biometrika 81 (1994).
"""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array

from core.editions import EmptyTruth
from ensembles.compiled import compiled, in_blocks
from ensembles.decisions.concept_counts import CountHead, add_concepts, poisson_binomial
from ensembles.decisions.expected_f1 import Expected, reciprocals
from ensembles.pairs import Bools, CalibratedPairs, Counts, Floats64, Ints


def maximise_general(
    ranked: CalibratedPairs,
    *,
    head: CountHead,
    categories: Sequence[str],
    limit: int,
    empty_truth: EmptyTruth,
    missed: float = 0.0,
) -> Expected:
    """The sets with the highest expected F1 when the number of concepts follows the head.

    Args:
        ranked: the pairs of N images.
        head: with its defaults the result is that of `expected_f1.maximise`.
        categories: N categories.
        limit, empty_truth, missed: see `expected_f1.maximise`.
    """
    n_images = ranked.shape[0]
    pmf = poisson_binomial(ranked)
    tilt = tilts(pmf, head=head, categories=categories)
    none = pmf[:, 0] * tilt[:, 0] * np.exp(-missed)
    inverse = reciprocals(2 * pmf.shape[1] + 1, missed=missed)
    chosen = np.zeros(len(ranked.rows), dtype=np.bool_)
    f1 = np.full(n_images, np.nan)
    starts, probs, counted = ranked.starts, ranked.ranked_probs, empty_truth == "counted"

    def work(first: int, last: int) -> None:
        here = slice(first, last)
        _best_sets(
            starts[first : last + 1], probs, tilt[here], none[here], limit, counted, inverse,
            chosen, f1[here],
        )  # fmt: skip

    in_blocks(n_images, work)
    in_order = np.empty_like(chosen)
    in_order[ranked.order] = chosen
    counts = np.ones(n_images) if counted else 1.0 - none
    return Expected(decided=ranked.chosen(in_order), f1=f1, counts=counts)


def tilts(pmf: Floats64, *, head: CountHead, categories: Sequence[str]) -> Floats64:
    """(N, S) P(s) / PB(s): what the head makes of the weight of each number of concepts.

    Numbers less likely than 1e-12 of the likeliest are left out: they move no F1 by more.
    """
    corrected = head.distribution(pmf, categories)
    corrected[corrected < 1e-12 * corrected.max(axis=1, keepdims=True)] = 0.0
    corrected /= corrected.sum(axis=1, keepdims=True)
    return np.divide(corrected, pmf, out=np.zeros_like(pmf), where=corrected > 0)


@compiled
def _best_sets(
    starts: Counts,
    probs: Floats64,
    tilt: Floats64,
    none: Floats64,
    limit: int,
    empty_counts: bool,
    inverse: Floats64,
    chosen: Bools,
    values: Floats64,
) -> None:
    for i in range(len(starts) - 1):
        top = 0  # the highest number with any weight
        for s in range(tilt.shape[1]):
            if tilt[i, s] > 0.0:
                top = s
        here = slice(starts[i], starts[i + 1])
        joint = _joint(probs[here], tilt[i], top)
        values[i] = _best_set(joint, none[i], limit, empty_counts, inverse, chosen[here])


@compiled
def _joint(p: Floats64, tilt: Floats64, top: int) -> Floats64:
    """(n, top + 1) P(y_i = 1, |y| = s). Sums of positive terms only: exact in relative terms."""
    n = len(p)
    before = np.zeros((n + 1, top + 1))  # [i, s]: s true ones among those before i
    after = np.zeros((n + 1, top + 1))  # among i and those after it
    before[0, 0] = after[n, 0] = 1.0
    for i in range(n):
        j = n - 1 - i
        before[i + 1, 0] = before[i, 0] * (1.0 - p[i])
        after[j, 0] = after[j + 1, 0] * (1.0 - p[j])
        for s in range(1, top + 1):
            before[i + 1, s] = before[i, s] * (1.0 - p[i]) + before[i, s - 1] * p[i]
            after[j, s] = after[j + 1, s] * (1.0 - p[j]) + after[j + 1, s - 1] * p[j]
    joint = np.zeros((n, top + 1))
    for i in range(n):
        for a in range(min(i, top - 1) + 1):
            if before[i, a] > 0.0:
                for s in range(a + 1, top + 1):
                    joint[i, s] += before[i, a] * after[i + 1, s - 1 - a]
        for s in range(top + 1):
            joint[i, s] *= p[i] * tilt[s]
    return joint


@compiled
def _best_set(
    joint: Floats64,
    none: float,
    limit: int,
    empty_counts: bool,
    inverse: Floats64,
    chosen: Bools,
) -> float:
    """Fill in the best set and give its value. `none` is the chance of no concept at all."""
    n = len(joint)
    if not empty_counts and none >= 1.0:
        return np.nan
    best = none if empty_counts else 0.0
    delta = np.zeros(n)
    for k in range(1, min(limit, n) + 1):
        for i in range(n):
            delta[i] = 0.0
            for s in range(1, joint.shape[1]):
                delta[i] += joint[i, s] * 2.0 * inverse[s + k]
        if delta.sum() <= best:  # no larger set can do better: delta falls as k rises
            break
        order = np.argsort(-delta, kind="mergesort")
        value = 0.0
        for place in range(k):
            value += delta[order[place]]
        if value > best * (1.0 + 1e-12):
            best = value
            chosen[:] = False
            for place in range(k):
                chosen[order[place]] = True
    return best if empty_counts else best / (1.0 - none)


def expected_of(
    ranked: CalibratedPairs,
    decided: Bools,
    *,
    head: CountHead,
    categories: Sequence[str],
    empty_truth: EmptyTruth,
    missed: float = 0.0,
) -> Expected:
    """Expected F1 of given sets of N images, exact under the distribution above.

    Args:
        ranked: the pairs of the images, all decided ones among them.
        decided: (n,) which of them are decided.
        head: with its defaults all concepts are independent.
        categories: N categories.
        empty_truth: whether an image without true concepts is part of the mean.
        missed: mean number of true concepts of an image beside its pairs.
    """
    n_images = ranked.shape[0]
    pmf = poisson_binomial(ranked)
    tilt = tilts(pmf, head=head, categories=categories)
    none = pmf[:, 0] * tilt[:, 0] * np.exp(-missed)
    inverse = reciprocals(2 * pmf.shape[1] + 1, missed=missed)
    f1 = np.full(n_images, np.nan)
    starts, probs = ranked.starts, ranked.ranked_probs
    flags = decided[ranked.order]
    counted = empty_truth == "counted"

    def work(first: int, last: int) -> None:
        here = slice(first, last)
        _values(
            starts[first : last + 1], probs, flags, tilt[here], none[here], counted, inverse,
            f1[here],
        )  # fmt: skip

    in_blocks(n_images, work)
    counts = np.ones(n_images) if counted else 1.0 - none
    return Expected(decided=ranked.chosen(decided), f1=f1, counts=counts)


def with_decided(rows: Ints, columns: Ints, *, decided: csr_array) -> tuple[Ints, Ints, Bools]:
    """The pairs and the decided ones together, ordered, and (n,) which of them are decided."""
    width = decided.shape[1]
    its_rows = np.repeat(np.arange(decided.shape[0]), np.diff(decided.indptr))
    wanted = its_rows * width + decided.indices
    keys = np.union1d(rows.astype(np.int64) * width + columns, wanted)
    all_rows, all_columns = (keys // width).astype(np.int32), (keys % width).astype(np.int32)
    return all_rows, all_columns, np.isin(keys, wanted)


@compiled
def _values(
    starts: Counts,
    probs: Floats64,
    decided: Bools,
    tilt: Floats64,
    none: Floats64,
    empty_counts: bool,
    inverse: Floats64,
    values: Floats64,
) -> None:
    for i in range(len(starts) - 1):
        p, flags = probs[starts[i] : starts[i + 1]], decided[starts[i] : starts[i + 1]]
        hits, rest = _pmf(p[flags]), _pmf(p[~flags])
        k = len(hits) - 1
        if k == 0:
            values[i] = none[i] if empty_counts else (0.0 if none[i] < 1.0 else np.nan)
            continue
        total = 0.0
        for a in range(1, k + 1):
            for b in range(len(rest)):
                if tilt[i, a + b] > 0.0:
                    total += hits[a] * rest[b] * tilt[i, a + b] * 2.0 * a * inverse[k + a + b]
        if empty_counts:
            values[i] = total
        elif none[i] < 1.0:
            values[i] = total / (1.0 - none[i])


@compiled
def _pmf(p: Floats64) -> Floats64:
    """(n + 1,) distribution of the number of true ones among independent ones."""
    pmf = np.zeros(len(p) + 1)
    add_concepts(p, pmf)
    return pmf
