"""Exact searches for the threshold with the highest sum of F1 over images.

Lowering a threshold past one pair turns one bit of one image. Walking down the sorted pairs and
keeping, for each image, how many of its concepts are decided and how many of those are true gives
the sum of F1 at every threshold for the price of one pass.

A search may be told to be cautious. It then maximises

    gain - caution * sqrt(sum of squared changes of the images' F1)

over the state without this threshold: the gain less so many of its standard errors, 0 for staying.
A threshold that helps a few images by luck does not pass; `caution=0` takes every gain.
"""

import numpy as np
import numpy.typing as npt

from ensembles.compiled import compiled
from ensembles.pairs import Bools, Floats, Ints

NEVER = 2.0
"""A threshold that no probability reaches."""

TIE = 1e-9
"""Sums of F1 this close are equal: the rounding of a million additions stays below."""

Counts = npt.NDArray[np.int64]


@compiled
def _f1(n_hit: int, n_decided: int, n_true: int, when_empty: float) -> float:
    if n_decided + n_true == 0:
        return when_empty
    return 2.0 * n_hit / (n_decided + n_true)


@compiled
def _between(prob: float, below: float) -> float:
    """A float32 threshold that takes `prob` and not the next lower probability."""
    middle = np.float32(0.5 * (prob + below))
    return float(middle) if middle > below else float(prob)


@compiled
def search_threshold(
    rows: Ints,
    probs: Floats,
    true: Bools,
    n_true: Counts,
    reference: npt.NDArray[np.float64],
    caution: float,
    when_empty: float,
) -> tuple[float, float]:
    """The one threshold for all pairs, and its objective.

    Args:
        rows, probs, true: (n,) pairs from the most probable down.
        n_true: (N,) true concepts of each image.
        reference: (N,) F1 of each image in the state that gains are counted from; zeros and no
            caution make the objective the sum of F1 itself.
        caution: standard errors taken off a gain.
        when_empty: F1 of an image without true and without decided concepts.

    Returns:
        A threshold halfway between the last pair taken and the next one, the lowest pair's own
        where all are taken, `NEVER` where none is; the highest of those that are equal.
    """
    n_hit = np.zeros(len(n_true), dtype=np.int64)
    n_decided = np.zeros(len(n_true), dtype=np.int64)
    gain = 0.0
    squares = 0.0
    for i in range(len(n_true)):
        change = _f1(0, 0, n_true[i], when_empty) - reference[i]
        gain += change
        squares += change * change
    best = gain - caution * np.sqrt(squares)
    threshold = NEVER
    k = 0
    while k < len(rows):
        prob = probs[k]
        while k < len(rows) and probs[k] == prob:
            i = rows[k]
            before = _f1(n_hit[i], n_decided[i], n_true[i], when_empty) - reference[i]
            n_decided[i] += 1
            n_hit[i] += true[k]
            after = _f1(n_hit[i], n_decided[i], n_true[i], when_empty) - reference[i]
            gain += after - before
            squares += after * after - before * before
            k += 1
        objective = gain - caution * np.sqrt(max(squares, 0.0))
        if objective > best + TIE:
            best = objective
            threshold = _between(prob, probs[k]) if k < len(rows) else prob
    return threshold, best


@compiled
def best_concept_thresholds(
    starts: Counts,
    rows: Ints,
    probs: Floats,
    true: Bools,
    n_true: Counts,
    base: Floats,
    caution: float,
    min_true: int,
    max_sweeps: int,
    when_empty: float,
) -> tuple[Floats, int]:
    """Thresholds of concepts by coordinate ascent: one exact search a concept, until none moves.

    Args:
        starts: (L + 1,) where the pairs of each concept begin.
        rows, probs, true: (n,) pairs, by concept and within it from the most probable down.
        n_true: (N,) true concepts of each image.
        base: (N,) threshold of each image for concepts without one of their own.
        caution: standard errors taken off a gain over the base.
        min_true: concepts with fewer true pairs stay at the base.
        max_sweeps: the most passes over all concepts.
        when_empty: F1 of an image without true and without decided concepts.

    Returns:
        (L,) thresholds, NaN for a concept that stays at the base, and the number of sweeps.
    """
    thresholds = np.full(len(starts) - 1, np.nan, dtype=np.float32)
    n_hit = np.zeros(len(n_true), dtype=np.int64)
    n_decided = np.zeros(len(n_true), dtype=np.int64)
    for k in range(len(rows)):
        if probs[k] >= base[rows[k]]:
            n_decided[rows[k]] += 1
            n_hit[rows[k]] += true[k]
    for sweep in range(max_sweeps):
        moved = False
        for j in range(len(starts) - 1):
            here = slice(starts[j], starts[j + 1])
            if true[here].sum() < min_true:
                continue
            old = thresholds[j]
            _turn(rows[here], probs[here], true[here], base, old, -1, n_hit, n_decided)
            new = _search_concept(
                rows[here],
                probs[here],
                true[here],
                n_true,
                base,
                n_hit,
                n_decided,
                caution,
                when_empty,
            )
            _turn(rows[here], probs[here], true[here], base, new, 1, n_hit, n_decided)
            thresholds[j] = new
            moved = moved or not (old == new or (np.isnan(old) and np.isnan(new)))
        if not moved:
            return thresholds, sweep + 1
    return thresholds, max_sweeps


@compiled
def _turn(
    rows: Ints,
    probs: Floats,
    true: Bools,
    base: Floats,
    threshold: float,
    step: int,
    n_hit: Counts,
    n_decided: Counts,
) -> None:
    """Put the bits of one concept into the counts of its images, or take them out."""
    for k in range(len(rows)):
        i = rows[k]
        if probs[k] >= (base[i] if np.isnan(threshold) else threshold):
            n_decided[i] += step
            n_hit[i] += step * true[k]


@compiled
def _search_concept(
    rows: Ints,
    probs: Floats,
    true: Bools,
    n_true: Counts,
    base: Floats,
    n_hit: Counts,
    n_decided: Counts,
    caution: float,
    when_empty: float,
) -> float:
    """The best threshold of one concept whose bits are out of the counts, NaN for the base."""
    change = np.empty(len(rows), dtype=np.float64)
    gain = 0.0  # of deciding the concept nowhere, over the base
    squares = 0.0
    for k in range(len(rows)):
        i = rows[k]
        change[k] = _f1(n_hit[i] + true[k], n_decided[i] + 1, n_true[i], when_empty) - _f1(
            n_hit[i], n_decided[i], n_true[i], when_empty
        )
        if probs[k] >= base[i]:
            gain -= change[k]
            squares += change[k] * change[k]
    best = 0.0
    threshold = np.nan
    if gain - caution * np.sqrt(squares) > best + TIE:
        best = gain - caution * np.sqrt(squares)
        threshold = NEVER
    k = 0
    while k < len(rows):
        prob = probs[k]
        while k < len(rows) and probs[k] == prob:
            gain += change[k]
            square = change[k] * change[k]
            squares += -square if prob >= base[rows[k]] else square
            k += 1
        objective = gain - caution * np.sqrt(max(squares, 0.0))
        if objective > best + TIE:
            best = objective
            threshold = _between(prob, probs[k]) if k < len(rows) else prob
    return threshold
