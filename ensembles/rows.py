"""Some rows of a matrix, gathered when they are asked for: folds of millions of pairs, uncopied."""

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]


class SomeRows:
    """Rows of a matrix that is shared; it reads like the array of them, and nothing writes to it.

    Attributes:
        matrix: (m, F).
        places: (n,) row of the matrix that each row is.
    """

    def __init__(self, matrix: Floats, places: Ints) -> None:
        self.matrix = matrix
        self.places = places

    @property
    def shape(self) -> tuple[int, int]:
        """(n, F)."""
        return len(self.places), self.matrix.shape[1]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, key: Any) -> Floats:
        """A copy of what `key` would take of the array: rows, or rows and columns."""
        rows, *columns = key if isinstance(key, tuple) else (key,)
        if rows is Ellipsis or len(columns) > 1:
            raise IndexError(f"expected rows, or rows and columns; found {key!r}")
        taken: Floats = self.matrix[(self.places[rows], *columns)]
        return taken

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("rows of a shared matrix cannot be one array without a copy")
        return self.matrix[self.places].astype(dtype or self.matrix.dtype, copy=False)


Rows = Floats | SomeRows
"""A matrix, or some rows of one."""


def take_rows(values: Rows, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.integer]) -> SomeRows:
    """The rows of an (n,) mask, or those of these numbers."""
    matrix, places = with_places(values)
    return SomeRows(matrix, places[chosen])


def with_places(values: Rows) -> tuple[Floats, Ints]:
    """The matrix and the (n,) places of the rows in it."""
    if isinstance(values, SomeRows):
        return values.matrix, values.places
    return values, np.arange(len(values), dtype=np.int32)
