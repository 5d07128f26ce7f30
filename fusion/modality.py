"""The category as input: one-hot rows for networks."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from core.categories import CATEGORIES


def one_hot(categories: Sequence[str]) -> npt.NDArray[np.float32]:
    """(N, 7) with a 1 at each image's category; a row of zeros where it is unknown."""
    column_of = {str(category): column for column, category in enumerate(CATEGORIES)}
    rows = np.zeros((len(categories), len(CATEGORIES)), dtype=np.float32)
    for row, category in enumerate(categories):
        if category in column_of:
            rows[row, column_of[category]] = 1.0
    return rows
