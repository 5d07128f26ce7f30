import numpy as np

from core.categories import CATEGORIES
from fusion.modality import one_hot


def test_each_category_has_a_column_of_its_own() -> None:
    np.testing.assert_array_equal(one_hot(CATEGORIES), np.eye(7, dtype=np.float32))


def test_an_unknown_category_is_a_row_of_zeros() -> None:
    rows = one_hot(["DRXR", "", "DRAN"])
    assert rows.tolist() == [[0, 0, 0, 0, 0, 0, 1], [0] * 7, [1, 0, 0, 0, 0, 0, 0]]
    assert rows.dtype == np.float32
    assert one_hot([]).shape == (0, 7)
