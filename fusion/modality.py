"""The category as input: its column, and one-hot rows for networks."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from core.categories import CATEGORIES

_COLUMN_OF = {str(category): column for column, category in enumerate(CATEGORIES)}


def columns_of(categories: Sequence[str]) -> npt.NDArray[np.intp]:
    """(N,) place of each image's category among the seven, -1 where it is unknown."""
    return np.array([_COLUMN_OF.get(category, -1) for category in categories], dtype=np.intp)


def one_hot(categories: Sequence[str]) -> npt.NDArray[np.float32]:
    """(N, 7) with a 1 at each image's category; a row of zeros where it is unknown."""
    columns = columns_of(categories)
    rows = np.zeros((len(columns), len(CATEGORIES)), dtype=np.float32)
    known = np.flatnonzero(columns >= 0)
    rows[known, columns[known]] = 1.0
    return rows
