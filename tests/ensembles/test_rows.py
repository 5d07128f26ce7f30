import numpy as np
import pytest

from ensembles.rows import SomeRows, take_rows, with_places

MATRIX = np.arange(12, dtype=np.float32).reshape(4, 3)
MASK = np.array([True, False, True, True])


def test_some_rows_read_like_the_array_of_them() -> None:
    some, copied = take_rows(MATRIX, MASK), MATRIX[MASK]
    assert some.shape == copied.shape
    assert len(some) == 3
    np.testing.assert_array_equal(np.asarray(some), copied)
    np.testing.assert_array_equal(some[1:], copied[1:])
    np.testing.assert_array_equal(some[:, 2], copied[:, 2])
    np.testing.assert_array_equal(some[np.array([2, 0])], copied[[2, 0]])
    np.testing.assert_array_equal(some[np.ix_([2, 0], [1])], copied[np.ix_([2, 0], [1])])
    assert np.asarray(some, dtype=np.float64).dtype == np.float64


def test_some_of_some_rows_share_the_matrix() -> None:
    some = take_rows(take_rows(MATRIX, MASK), np.array([2, 1]))
    np.testing.assert_array_equal(np.asarray(some), MATRIX[[3, 2]])
    matrix, places = with_places(some)
    assert matrix is MATRIX
    assert places.tolist() == [3, 2]
    assert with_places(MATRIX)[1].tolist() == [0, 1, 2, 3]


def test_what_an_array_of_rows_cannot_give_is_refused() -> None:
    some = SomeRows(MATRIX, np.array([0], dtype=np.int32))
    with pytest.raises(IndexError, match="expected rows, or rows and columns"):
        some[..., 0]
    with pytest.raises(ValueError, match="without a copy"):
        np.asarray(some, copy=False)
