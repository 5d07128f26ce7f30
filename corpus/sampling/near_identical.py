"""Removal of near-identical images: of the two that are most similar one goes, and again.

Every image that is dropped leaves one beside it that was kept at that time.
"""

import heapq

import numpy as np
import numpy.typing as npt

from corpus.sampling.candidates import Floats, Mask, Rows
from corpus.sampling.neighbours import nearest_rows

_K = 64  # neighbours that are known of an image; once all are dropped, they are looked up anew


def without_near_identical(
    units: Floats, n: int, *, strata: npt.NDArray[np.integer], protected: Mask
) -> Rows:
    """Rows that are dropped until n are left, in the order in which they go.

    Of the most similar pair of a stratum the later row goes, or the earlier one where the later is
    protected; of two protected rows none does. Of equally similar pairs the first comes first.

    Args:
        units: (N, D) vectors of length 1.
        n: rows that are left; more where more are protected, or alone in their stratum.
        strata: (N,) number of each row's stratum.
        protected: (N,) rows that are never dropped.

    Returns:
        The rows that are dropped.
    """
    pairs = _Pairs(units, strata, protected)
    dropped: list[int] = []
    while len(dropped) < len(units) - n and (gone := pairs.drop()) >= 0:
        dropped.append(gone)
    return np.array(dropped, dtype=np.intp)


class _Pairs:
    """Each row that is left with the most similar one of its stratum that may go or stay for it."""

    def __init__(self, units: Floats, strata: npt.NDArray[np.integer], protected: Mask) -> None:
        self.units, self.strata, self.protected = units, strata, protected
        self.left = np.ones(len(units), dtype=np.bool_)
        self.known: list[list[tuple[float, int]]] = [[] for _ in range(len(units))]
        for stratum in np.unique(strata):
            rows = np.flatnonzero(strata == stratum)
            found, similarity = nearest_rows(units, k=_K, rows=rows)
            for row, others, values in zip(rows.tolist(), found, similarity, strict=True):
                self.known[row] = self._listed(row, others, values)
        self.heap: list[tuple[float, int, int]] = []
        for row in range(len(units)):
            self._push(row)

    def drop(self) -> int:
        """The next row that goes; -1 where none may."""
        while self.heap:
            _, first, second = heapq.heappop(self.heap)
            if self.left[first] and self.left[second]:
                gone, stays = (first, second) if self.protected[second] else (second, first)
                self.left[gone] = False
                self._push(stays)
                return gone
            if self.left[first] or self.left[second]:
                self._push(first if self.left[first] else second)
        return -1

    def _push(self, row: int) -> None:
        """Put a row's next pair on the heap, if it has one."""
        known = self.known[row]
        while known and not self.left[known[-1][1]]:
            known.pop()
        if not known:
            known += self._looked_up(row)
        if known:
            similarity, other = known[-1]
            heapq.heappush(self.heap, (-similarity, min(row, other), max(row, other)))

    def _looked_up(self, row: int) -> list[tuple[float, int]]:
        """The nearest of the rows that are left in its stratum."""
        others = np.flatnonzero(self.left & (self.strata == self.strata[row]))
        others = others[others != row]
        values = self.units[others] @ self.units[row]
        nearest = np.lexsort((others, -values))[:_K]
        return self._listed(row, others[nearest], values[nearest])

    def _listed(
        self, row: int, others: npt.NDArray[np.integer], values: Floats
    ) -> list[tuple[float, int]]:
        """Pairs of which one may go, the most similar last."""
        may_go = ~self.protected[others] | ~self.protected[row]
        pairs = zip(values[may_go].tolist(), others[may_go].tolist(), strict=True)
        return list(pairs)[::-1]
