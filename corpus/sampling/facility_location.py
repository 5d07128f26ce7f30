"""Facility location: the images that together are most similar to all images.

    f(S) = sum over images i of  w_i  max over kept j of  s_ij

f is monotone and submodular, so that taking the image with the largest gain, again and again,
comes within 1 - 1/e of the best choice of as many (Nemhauser, Wolsey and Fisher 1978). An image's
gain can only fall while others are kept. A gain that was computed earlier is therefore a bound, and
only the image with the highest bound is looked at again (Minoux 1978): the sequence is the plain
greedy one.

Up to `DENSE` images all similarities are held at once. Of more, each image knows its `K` nearest
alone, and is content with what is no nearer than those: similarities count above its K-th.
"""

import heapq

import numpy as np
import numpy.typing as npt

from core.storage.caches import machine_code
from corpus.sampling.candidates import Floats, Numbers, Rows
from corpus.sampling.neighbours import nearest_rows

DENSE = 8192
"""Images whose similarities are all held: 268 MB."""

K = 64
"""Neighbours that each of more images knows: 80,000 images in 41 MB, and as much again."""

_AT_ONCE = 1024

_Bounds = npt.NDArray[np.int64]
_Columns = npt.NDArray[np.int32]


def most_similar_to_all(
    units: Floats,
    n: int,
    *,
    start: Rows,
    weights: Numbers | None = None,
    dense: int = DENSE,
    k: int = K,
) -> Rows:
    """The next n rows that the greedy choice keeps, after some that are kept already.

    Of rows with equal gains the first one is taken.

    Args:
        units: (N, D) vectors of length 1; s_ij is their product.
        n: how many; at most those that are left.
        start: rows that are kept already; may be none.
        weights: (N,) w, 0 or more; None for 1 each.
        dense: rows up to which all similarities are held.
        k: neighbours of each of more rows.

    Returns:
        (n,) rows, in the order in which they are taken.

    Raises:
        ValueError: fewer than n rows are left.
    """
    if n > len(units) - len(np.unique(start)):
        raise ValueError(f"facility location: {n} of {len(units)} rows from {len(start)}")
    w = np.ones(len(units)) if weights is None else np.ascontiguousarray(weights, dtype=np.float64)
    is_dense = len(units) <= dense
    bounds, rows, values, reached = _all(units) if is_dense else _nearest(units, k)
    left = np.ones(len(units), dtype=np.bool_)
    left[start] = False
    for row in start.tolist():
        _keep(row, bounds, rows, values, reached)
    return _greedy(bounds, rows, values, reached, w, left, n)


def _all(units: Floats) -> tuple[_Bounds, _Columns, Floats, Floats]:
    """All similarities, as lists of one length; whose they are follows from their place."""
    n = len(units)
    values = np.empty((n, n), dtype=np.float32)
    for start in range(0, n, _AT_ONCE):
        np.matmul(units[start : start + _AT_ONCE], units.T, out=values[start : start + _AT_ONCE])
    bounds = np.arange(n + 1, dtype=np.int64) * n
    return bounds, np.zeros(0, dtype=np.int32), values.reshape(-1), np.full(n, -1, np.float32)


def _nearest(units: Floats, k: int) -> tuple[_Bounds, _Columns, Floats, Floats]:
    """By row, whose near neighbour it is, itself among them; and what each is content with."""
    n = len(units)
    found, similarity = nearest_rows(units, k=k)
    known = np.arange(n, dtype=np.int32)
    own = np.einsum("ij,ij->i", units, units)
    columns = np.concatenate([known, found.reshape(-1)])
    values = np.concatenate([own, similarity.reshape(-1)])
    of = np.concatenate([known, np.repeat(known, found.shape[1])])
    order = np.lexsort((of, columns))
    bounds = np.concatenate([[0], np.cumsum(np.bincount(columns, minlength=n))]).astype(np.int64)
    reached = np.ascontiguousarray(similarity[:, -1]) if found.shape[1] else np.full_like(own, -1)
    return bounds, of[order], values[order], reached


@machine_code
def _gain(
    row: int, bounds: _Bounds, rows: _Columns, values: Floats, reached: Floats, weights: Numbers
) -> float:
    total, first = 0.0, bounds[row]
    for place in range(first, bounds[row + 1]):
        other = rows[place] if len(rows) else place - first
        more = values[place] - reached[other]
        if more > 0:
            total += weights[other] * more
    return total


@machine_code
def _keep(row: int, bounds: _Bounds, rows: _Columns, values: Floats, reached: Floats) -> None:
    first = bounds[row]
    for place in range(first, bounds[row + 1]):
        other = rows[place] if len(rows) else place - first
        reached[other] = max(reached[other], values[place])


@machine_code
def _greedy(
    bounds: _Bounds,
    rows: _Columns,
    values: Floats,
    reached: Floats,
    weights: Numbers,
    left: npt.NDArray[np.bool_],
    n: int,
) -> Rows:
    """Rows in the order of their gains; `reached` holds what each row has of those kept."""
    heap = [(0.0, 0) for _ in range(0)]
    for row in range(len(left)):
        if left[row]:
            gain = _gain(row, bounds, rows, values, reached, weights)
            heap.append((-gain, row))
    heapq.heapify(heap)
    taken = np.empty(n, dtype=np.intp)
    for number in range(n):
        while True:
            _, row = heapq.heappop(heap)
            now = (-_gain(row, bounds, rows, values, reached, weights), row)
            if not len(heap) or now <= heap[0]:
                break
            heapq.heappush(heap, now)
        taken[number] = row
        _keep(row, bounds, rows, values, reached)
    return taken
