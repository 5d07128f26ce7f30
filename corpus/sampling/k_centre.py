"""Greedy k-centre: always the image that is farthest from all that are kept so far.

Farthest-first traversal (Gonzalez 1985) leaves no image farther from a kept one than twice what the
best choice of as many would. Sener and Savarese 2018 choose images to label by it.

A plain traversal reads all features once for every image that it keeps: half of 20,000 images of
1,280 features take 62 s of a processor, and seven here. Here distances are brought up to date
lazily. What is known of an image is a bound, its similarity to the nearest image of those that it
was compared with: the nearest of all can only be nearer. So only images at the front, those that
the bounds say are farthest, are compared with what was kept since, in products of matrices, and the
traversal goes on within the front while its farthest image is farther than any bound outside. The
sequence is that of the plain traversal.
"""

import numpy as np

from core.storage.caches import machine_code
from corpus.sampling.candidates import Floats, Rows

_FRONT = 1024  # images whose distances are kept up to date together: 4 MB among themselves

_PARTS = 8  # of the front, by what they were compared with before

_AT_ONCE = 4096  # kept images that are gathered at once, 21 MB at 1,280 features


def farthest_first(units: Floats, n: int, *, start: Rows) -> Rows:
    """The next n rows of a farthest-first traversal that has already been at some rows.

    Of equally far rows the first one is taken. Distance is that of unit vectors, which grows as
    their product falls. Memory beside the vectors does not depend on N but for a few numbers a row.

    Args:
        units: (N, D) vectors of length 1.
        n: how many; at most those that are left.
        start: rows that are kept already, one at least.

    Returns:
        (n,) rows, in the order in which they are taken.

    Raises:
        ValueError: `start` is empty, or fewer than n rows are left.
    """
    if not len(start) or n > len(units) - len(np.unique(start)):
        raise ValueError(f"farthest first: {n} of {len(units)} rows from {len(start)}")
    kept = np.empty(len(start) + n, dtype=np.intp)
    kept[: len(start)] = start
    n_kept, n_all = len(start), len(kept)
    nearest = np.full(len(units), -np.inf, dtype=np.float32)  # similarity, of those compared with
    n_seen = np.zeros(len(units), dtype=np.intp)
    left = np.ones(len(units), dtype=np.bool_)
    left[start] = False
    _compare(units, np.flatnonzero(left), kept[:n_kept], nearest, n_seen)
    while n_kept < n_all:
        rows = np.flatnonzero(left)
        front, bound, bound_row = _front(rows, nearest)
        for part in np.array_split(front[np.argsort(n_seen[front], kind="stable")], _PARTS):
            _compare(units, part, kept[:n_kept], nearest, n_seen)
        among = units[front]
        own = nearest[front]
        taken = _go_on(among @ among.T, own, front, bound, bound_row, n_all - n_kept)
        nearest[front] = own
        kept[n_kept : n_kept + len(taken)] = front[taken]
        left[front[taken]] = False
        n_kept += len(taken)
        n_seen[front] = n_kept
    return kept[len(start) :]


def _front(rows: Rows, nearest: Floats) -> tuple[Rows, float, int]:
    """The rows whose bounds are farthest; the farthest bound of the others, and its row.

    Of equal bounds those of the first rows are at the front.
    """
    if len(rows) <= _FRONT:
        return rows, np.inf, -1
    bounds = nearest[rows]
    last = np.partition(bounds, _FRONT - 1)[_FRONT - 1]
    ahead, equal = rows[bounds < last], rows[bounds == last]
    n_equal = _FRONT - len(ahead)
    front = np.concatenate([ahead, equal[:n_equal]])
    if n_equal < len(equal):
        return front, float(last), int(equal[n_equal])
    bound = bounds[bounds > last].min()
    return front, float(bound), int(rows[bounds == bound][0])


def _compare(units: Floats, rows: Rows, kept: Rows, nearest: Floats, n_seen: Rows) -> None:
    """Bring rows up to date with all that is kept; those compared with least set the start."""
    if not len(rows):
        return
    for first in range(int(n_seen[rows].min()), len(kept), _AT_ONCE):
        others = units[kept[first : first + _AT_ONCE]]
        for start in range(0, len(rows), _AT_ONCE):
            here = rows[start : start + _AT_ONCE]
            highest = (units[here] @ others.T).max(axis=1)
            nearest[here] = np.maximum(nearest[here], highest)
    n_seen[rows] = len(kept)


@machine_code
def _go_on(
    among: Floats, own: Floats, front: Rows, bound: float, bound_row: int, most: int
) -> Rows:
    """Places in the front that the traversal takes before any row outside; `own` is kept up."""
    taken = np.empty(min(most, len(own)), dtype=np.intp)
    is_left = np.ones(len(own), dtype=np.bool_)
    n = 0
    while n < len(taken):
        best = -1
        for place in range(len(own)):
            if is_left[place] and (
                best < 0
                or own[place] < own[best]
                or (own[place] == own[best] and front[place] < front[best])
            ):
                best = place
        if own[best] > bound or (own[best] == bound and front[best] > bound_row):
            break
        is_left[best] = False
        taken[n] = best
        n += 1
        for place in range(len(own)):
            own[place] = max(own[place], among[best, place])
    return taken[:n]
