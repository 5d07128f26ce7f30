"""The sample F1 of every next pick of a greedy selection, in one pass over the pairs."""

import numpy as np
import numpy.typing as npt

from ensembles.compiled import compiled
from ensembles.pairs import Bools, Floats

Floats64 = npt.NDArray[np.float64]

LOWEST, STEP, N_THRESHOLDS = -4.8, 0.2, 49
"""Log odds that are tried as the one threshold: -4.8, -4.6, ..., 4.8 (0.8 to 99.2 %)."""

_BY_STEP, _SHIFT = np.float32(1.0 / STEP), np.float32(1.0 - LOWEST / STEP)
_LAST = np.float32(N_THRESHOLDS)


@compiled
def add_pick(logits: Floats, member: int, total: Floats, n_covering: Floats) -> None:
    """Pick a member: its log odds join the total where it covers."""
    for k in range(len(logits)):
        if not np.isnan(logits[k, member]):
            total[k] += logits[k, member]
            n_covering[k] += np.float32(1.0)


@compiled
def score_picks(
    starts: npt.NDArray[np.int64],
    logits: Floats,
    true: Bools,
    rest: Floats,
    n_true: npt.NDArray[np.integer],
    weights: Floats64,
    total: Floats,
    n_covering: Floats,
) -> Floats64:
    """(M,) sample F1 at the best one threshold with each member added to those picked.

    One pass over the pairs for all members: the counts of an image by threshold are sums of the
    counts of its pairs by bin, so nothing is sorted. Members are side by side in every inner loop,
    which a processor does several at a time.

    Args:
        starts, logits, true, rest, n_true, weights: as `_Bag` has them.
        total: (n,) sum of the picked members' log odds where they cover.
        n_covering: (n,) picks that cover each pair.
    """
    n_members = logits.shape[1]
    sums = np.zeros((N_THRESHOLDS, n_members))
    counts = np.zeros((N_THRESHOLDS + 1) * n_members, dtype=np.int32)  # decided, and true in 2^16s
    longest = 0
    for i in range(len(starts) - 1):
        longest = max(longest, starts[i + 1] - starts[i])
    bins = np.empty((longest, n_members), dtype=np.uint32)
    n_decided, n_hit = np.empty(n_members), np.empty(n_members)
    for i in range(len(starts) - 1):
        here = slice(starts[i], starts[i + 1])
        _fill_bins(logits[here], rest[here], total[here], n_covering[here], bins)
        counts[:] = 0
        for k in range(starts[i], starts[i + 1]):
            pair = np.int32(65537) if true[k] else np.int32(1)
            for m in range(n_members):
                counts[bins[k - starts[i], m]] += pair
        n_decided[:] = n_true[i]
        n_hit[:] = 0.0
        twice = 2.0 * weights[i]
        for t in range(N_THRESHOLDS, 0, -1):
            for m in range(n_members):
                count = counts[t * n_members + m]
                n_decided[m] += count & 65535
                n_hit[m] += count >> 16
                sums[t - 1, m] += twice * n_hit[m] / n_decided[m]
    best = np.empty(n_members)
    for m in range(n_members):
        best[m] = sums[:, m].max() / weights.sum()
    return best


@compiled
def _fill_bins(
    logits: Floats, rest: Floats, total: Floats, n_covering: Floats, bins: npt.NDArray[np.uint32]
) -> None:
    """Write where each pair counts with each member added: thresholds reached x M + member."""
    n_members = np.uint32(logits.shape[1])
    zero, one = np.float32(0.0), np.float32(1.0)
    for k in range(len(logits)):
        n_after = n_covering[k] + one
        without = total[k] / n_covering[k] if n_covering[k] > zero else rest[k]
        without = without * _BY_STEP + _SHIFT
        scale = _BY_STEP / n_after
        own_total = total[k]
        for m in range(n_members):  # without a branch, so that several are done at once
            z = logits[k, m]
            place = (own_total + z) * scale + _SHIFT
            place = without if np.isnan(z) else place
            place = place if place > zero else zero
            place = place if place < _LAST else _LAST
            bins[k, m] = np.uint32(np.int32(place)) * n_members + np.uint32(m)
