"""Images as points: pooled features, short enough that all known images fit in memory.

The features of each network are scaled to length 1, put side by side, and projected on random
directions, which keep angles to a few hundredths (Johnson and Lindenstrauss). Nothing is fitted, so
no image has a say in how far another one lies.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

N_DIRECTIONS = 256
"""Numbers of an image: of 2,560 features the distance to the nearest images stays the same to a
tenth."""

_ROWS = 4096  # that are projected at once


def as_points(parts: Sequence[Floats]) -> Floats:
    """(N, `N_DIRECTIONS`) points of length 1, one of zeros where all features are 0.

    Args:
        parts: (N, D) features of each network; arrays mapped from disk are read block by block.
    """
    directions = [_directions(number, part.shape[1]) for number, part in enumerate(parts)]
    points = np.empty((len(parts[0]), N_DIRECTIONS), dtype=np.float32)
    for start in range(0, len(points), _ROWS):
        block = slice(start, start + _ROWS)
        points[block] = sum(
            product(_of_length_1(np.asarray(part[block], dtype=np.float32)), own)
            for part, own in zip(parts, directions, strict=True)
        )
    return _of_length_1(points)


@lru_cache(maxsize=8)  # blocks of new images ask for the same ones again and again
def _directions(number: int, n_features: int) -> npt.NDArray[np.float64]:
    drawn = np.random.default_rng(number).standard_normal((n_features, N_DIRECTIONS), np.float32)
    return drawn.astype(np.float64)


def product(rows: Floats, matrix: npt.NDArray[np.floating[Any]]) -> Floats:
    """(n, M) rows @ matrix.

    It adds up in 64 bits: in which order depends on the number of rows, and an image must lie where
    it lies whatever is asked with it.

    Args:
        rows: (n, D).
        matrix: (D, M).
    """
    wide = (np.asarray(own, dtype=np.float64) for own in (rows, matrix))
    return np.asarray(np.matmul(*wide), dtype=np.float32)


def _of_length_1(rows: Floats) -> Floats:
    length = np.sqrt(np.square(rows, dtype=np.float64).sum(axis=1, keepdims=True))
    return np.asarray(rows / np.maximum(length, np.finfo(np.float32).tiny), dtype=np.float32)
