"""Which images of different splits are copies of each other: every pair is looked at, none drawn.

Three sieves, each dearer and finer than the one before. Of 10,000 pairs of different images of
radbench 9,980 fall through the first, a product of matrices; all but one of the rest through the
second, which tries seven crops of either image; and the third lays the thumbnails over each other.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from core.progress import Bar
from corpus.duplicates.align import align, start_of
from corpus.duplicates.features import WHOLE, Box, Floats, Pixels, Scale

ALIKE = 0.93
"""Similarity from which two images are reported: chosen on half of radbench."""

FLAT = 2.0
"""Standard deviation in grey levels below which a thumbnail has nothing to be recognised by."""

_FIRST, _SECOND = 0.70, 0.88  # cosines that the first two sieves let pass

_CORNERS: tuple[Box, ...] = tuple(
    (0.05 * a, 0.05 * (1 - a), 0.05 * b, 0.05 * (1 - b)) for a in (0, 1) for b in (0, 1)
)
_BOXES: tuple[Box, ...] = (WHOLE, (0.05,) * 4, (0.025,) * 4, *_CORNERS)

_ROWS, _COLUMNS = 512, 2048  # a block of the product: 16 MB, which stay in the cache

_PAIRS = 16384  # laid over each other at once: 134 MB of pixels

Rows = npt.NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Copies:
    """P pairs of images that look the same.

    Attributes:
        first, second: (P,) rows of the two, the one of the earlier split first.
        similarity: (P,) in [`ALIKE`, 1].
        mirrored: (P,) whether one is the other turned left to right.
        n_flat: images too flat to be compared.
    """

    first: Rows
    second: Rows
    similarity: Floats
    mirrored: npt.NDArray[np.bool_]
    n_flat: int

    def __len__(self) -> int:
        return len(self.first)


def find_copies(
    thumbnails: Pixels,
    parts: npt.NDArray[np.integer],
    *,
    at_least: float = ALIKE,
    advance: Bar | None = None,
) -> Copies:
    """Pairs of thumbnails of different parts that are re-encoded, scaled, cropped or mirrored.

    Memory is 2 kB an image beside the thumbnails and 0.3 GB; time goes with the pairs.

    Args:
        thumbnails: (N, 64, 64); an array mapped from disk is read in blocks.
        parts: (N,) number of the split of each; -1 for an image that is left out.
        at_least: similarity from which a pair is reported.
        advance: told how many images of the smaller splits are done.
    """
    rows = np.flatnonzero(parts >= 0)
    flat = np.zeros(len(parts), dtype=np.bool_)
    for start in range(0, len(rows), _COLUMNS):
        block = rows[start : start + _COLUMNS]
        flat[block] = thumbnails[block].std(axis=(1, 2)) < FLAT
    rows = rows[~flat[rows]]
    search = _Search(thumbnails, rows)
    of_part = [rows[parts[rows] == part] for part in range(int(parts.max(initial=-1)) + 1)]
    found = [
        pairs
        for one, other in combinations(of_part, 2)
        for pairs in search.between(one, other, at_least=at_least, advance=advance)
    ]
    both = np.concatenate([pairs for pairs, _ in found] or [np.zeros((0, 3), np.intp)])
    similarity = np.concatenate([values for _, values in found] or [np.zeros(0, np.float32)])
    order = np.lexsort((both[:, 2], both[:, 1], both[:, 0], -similarity))
    # A symmetric image is alike both ways: the likelier one is kept.
    _, kept = np.unique(both[order, :2], axis=0, return_index=True)
    order = order[np.sort(kept)]
    return Copies(
        first=both[order, 0],
        second=both[order, 1],
        similarity=similarity[order],
        mirrored=both[order, 2] == 1,
        n_flat=int(flat.sum()),
    )


def n_searched(parts: npt.NDArray[np.integer]) -> int:
    """Images that `find_copies` says it has done, all pairs of splits together."""
    sizes = np.bincount(parts[parts >= 0]).tolist()
    return sum(min(pair) for pair in combinations(sizes, 2))


class _Search:
    def __init__(self, thumbnails: Pixels, rows: Rows) -> None:
        self.thumbnails = thumbnails
        self.scale = Scale.of(thumbnails[_evenly(rows)])
        self.place = np.full(len(thumbnails), -1, dtype=np.intp)
        self.place[rows] = np.arange(len(rows))
        self.boxed = np.empty((len(_BOXES), len(rows), 64), dtype=np.float32)
        for start in range(0, len(rows), _COLUMNS):
            block = thumbnails[rows[start : start + _COLUMNS]]
            for number, box in enumerate(_BOXES):
                self.boxed[number, start : start + len(block)] = self.scale.features(block, box)

    def between(
        self, one: Rows, other: Rows, *, at_least: float, advance: Bar | None
    ) -> Iterator[tuple[Rows, Floats]]:
        """Pairs (n, 3) of row, row and mirrored with their similarity, of two splits."""
        few, many = sorted((one, other), key=len)
        turned = few is not one
        waiting: list[tuple[Rows, Rows]] = []
        n_waiting = 0
        blocks = [few[start : start + _ROWS] for start in range(0, len(few), _ROWS)]
        for number, block in enumerate(blocks):
            pairs, starts = self._sieve(block, many)
            waiting.append((pairs, starts))
            n_waiting += len(pairs)
            if n_waiting >= _PAIRS or number == len(blocks) - 1:
                all_pairs = np.concatenate([pairs for pairs, _ in waiting])
                all_starts = np.concatenate([starts for _, starts in waiting])
                waiting, n_waiting = [], 0
                for begin in range(0, len(all_pairs), _PAIRS):
                    part = slice(begin, begin + _PAIRS)
                    chosen, similarity = self._laid_over(all_pairs[part], all_starts[part])
                    kept = similarity >= at_least
                    ordered = chosen[kept][:, [1, 0, 2]] if turned else chosen[kept]
                    yield ordered, similarity[kept]
            if advance is not None:
                advance(len(block))

    def _sieve(self, few: Rows, many: Rows) -> tuple[Rows, Rows]:
        """Pairs (n, 3) of the first two sieves, and the crop (n,) at which each is most alike."""
        plain = self.boxed[:, self.place[few]]
        mirrors = self.thumbnails[few][:, :, ::-1]
        turned = np.stack([self.scale.features(mirrors, box) for box in _BOXES])
        asked = np.concatenate([plain[0], turned[0], plain[1], turned[1]])
        keys = []
        places = self.place[many]
        for start in range(0, len(many), _COLUMNS):
            here = places[start : start + _COLUMNS]
            found = [_above(asked @ self.boxed[0, here].T)]
            found.append(_above(asked[: 2 * len(few)] @ self.boxed[1, here].T))
            for queries, columns in found:
                queries %= 2 * len(few)
                keys.append(queries * len(many) + start + columns)
        cells = np.unique(np.concatenate(keys)) if keys else np.zeros(0, np.intp)
        kept_pairs, kept_starts = [], []
        ours = np.concatenate([plain, turned], axis=1)
        for begin in range(0, len(cells), _PAIRS):
            query, column = np.divmod(cells[begin : begin + _PAIRS], len(many))
            theirs = self.boxed[:, places[column]]
            mine = ours[:, query]
            alike = np.concatenate(
                [
                    np.einsum("bnd,nd->bn", mine, theirs[0]),
                    np.einsum("nd,bnd->bn", mine[0], theirs[1:]),
                ]
            )
            best = alike.argmax(axis=0)
            passed = alike.max(axis=0) > _SECOND
            mirrored, row = np.divmod(query[passed], len(few))
            kept_pairs.append(np.stack([few[row], many[column[passed]], mirrored], axis=1))
            kept_starts.append(best[passed])
        if not kept_pairs:
            return np.zeros((0, 3), np.intp), np.zeros(0, np.intp)
        return np.concatenate(kept_pairs), np.concatenate(kept_starts)

    def _laid_over(self, pairs: Rows, starts: Rows) -> tuple[Rows, Floats]:
        similarity = np.empty(len(pairs), dtype=np.float32)

        def work(begin: int) -> None:
            some = slice(begin, begin + 512)
            fixed = np.ascontiguousarray(self.thumbnails[pairs[some, 0]])
            mirrored = pairs[some, 2] == 1
            fixed[mirrored] = fixed[mirrored][:, :, ::-1]
            moving = np.ascontiguousarray(self.thumbnails[pairs[some, 1]])
            similarity[some] = align(fixed, moving, starts=_STARTS[starts[some]])

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for _ in pool.map(work, range(0, len(pairs), 512)):
                pass
        return pairs, similarity


_STARTS = np.array(
    [start_of(box, inverse=True) for box in _BOXES]
    + [start_of(box, inverse=False) for box in _BOXES[1:]]
)
"""Where each crop that the second sieve tries lays the two images over each other."""


def _above(cosines: Floats) -> tuple[Rows, Rows]:
    found = np.flatnonzero(cosines > _FIRST)
    rows, columns = np.divmod(found, cosines.shape[1])
    return rows, columns


def _evenly(rows: Rows) -> Rows:
    """At most 16,384 of the rows, evenly spaced."""
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), 16384)).astype(np.intp)]
