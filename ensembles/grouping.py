"""Pairs by group and probability: a group is counted out, then sorted by itself, on all cores."""

import numpy as np
import numpy.typing as npt

from ensembles.compiled import compiled, in_blocks


def by_group(
    groups: npt.NDArray[np.int32],
    probs: npt.NDArray[np.float32],
    *,
    starts: npt.NDArray[np.int64],
) -> npt.NDArray[np.intp]:
    """(n,) pairs of the first group from the most probable down, then of the second, ...

    Equal ones keep their order.

    Args:
        groups: (n,) group of each pair, from 0 on.
        probs: (n,).
        starts: (G + 1,) where each group begins once they stand one after the other.
    """
    order = np.empty(len(groups), dtype=np.intp)
    _gather(groups, starts[:-1].copy(), order)
    in_blocks(len(starts) - 1, lambda a, b: _sort(starts[a : b + 1], probs, order))
    return order


@compiled
def _gather(
    groups: npt.NDArray[np.int32], ends: npt.NDArray[np.int64], order: npt.NDArray[np.intp]
) -> None:
    """Write the pairs of one group after the other, each in their order; moves `ends` there."""
    for k in range(len(groups)):
        order[ends[groups[k]]] = k
        ends[groups[k]] += 1


@compiled
def _sort(
    starts: npt.NDArray[np.int64],
    probs: npt.NDArray[np.float32],
    order: npt.NDArray[np.intp],
) -> None:
    """Put the pairs of each group in order, from the most probable down."""
    for j in range(len(starts) - 1):
        own = order[starts[j] : starts[j + 1]].copy()
        order[starts[j] : starts[j + 1]] = own[np.argsort(-probs[own], kind="mergesort")]
