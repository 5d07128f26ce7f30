import numpy as np
import pytest

from core.errors import AlignmentError
from core.folds import held_out_images


def test_each_fold_is_held_out_once() -> None:
    masks = list(held_out_images(np.array([2, 0, 2, 5])))
    assert [mask.tolist() for mask in masks] == [
        [False, True, False, False],
        [True, False, True, False],
        [False, False, False, True],
    ]


def test_images_without_a_fold_are_refused() -> None:
    with pytest.raises(AlignmentError, match="2 of 3 images have no fold; run `prepare` again"):
        list(held_out_images(np.array([-1, 0, -1])))


def test_a_single_fold_cannot_be_cross_fitted() -> None:
    with pytest.raises(AlignmentError, match="two folds or more, 3 images have 1"):
        list(held_out_images(np.zeros(3, dtype=np.int16)))
