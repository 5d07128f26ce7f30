import numpy as np
import pytest

from core.errors import AlignmentError
from core.folds import Mask, cross_fitted, fitted_without, held_out_images, in_order


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


FOLDS = np.array([1, 0, 1, 3, 0])


def test_no_model_has_seen_what_it_is_applied_to() -> None:
    seen_and_judged: list[tuple[list[int], list[int]]] = []

    def fit(images: Mask) -> list[int]:
        return np.flatnonzero(images).tolist()

    def apply(seen: list[int], images: Mask) -> None:
        seen_and_judged.append((seen, np.flatnonzero(images).tolist()))

    cross_fitted(fit, apply, folds=FOLDS)
    # folds 0, 1 and 3: images 1 and 4, images 0 and 2, image 3
    assert seen_and_judged == [([0, 2, 3], [1, 4]), ([1, 3, 4], [0, 2]), ([0, 1, 2, 4], [3])]


@pytest.mark.parametrize("n_threads", [1, 2])
def test_each_image_is_judged_by_the_mean_of_the_other_folds(n_threads: int) -> None:
    values = np.array([2.0, 4.0, 6.0, 1.0, 8.0])
    found = cross_fitted(
        lambda images: float(values[images].mean()),
        lambda mean, images: values[images] - mean,
        folds=FOLDS,
        n_threads=n_threads,
    )
    # means without fold 0: 9 / 3; without 1: 13 / 3; without 3: 20 / 4
    expected = [2 - 13 / 3, 4 - 3, 6 - 13 / 3, 1 - 5, 8 - 3]
    np.testing.assert_allclose(in_order(found), expected)


def test_models_come_with_the_fold_that_they_have_not_seen() -> None:
    found = fitted_without(lambda images: int(images.sum()), folds=FOLDS)
    assert [(mask.tolist(), n_seen) for mask, n_seen in found] == [
        ([False, True, False, False, True], 3),
        ([True, False, True, False, False], 3),
        ([False, False, False, True, False], 4),
    ]


def test_rows_of_several_folds_stand_in_the_order_of_the_images() -> None:
    masks = list(held_out_images(FOLDS))
    found = [(mask, np.column_stack([np.flatnonzero(mask)] * 2)) for mask in masks]
    whole = in_order(found)
    assert whole.tolist() == [[0, 0], [1, 1], [2, 2], [3, 3], [4, 4]]
    assert whole.dtype == found[0][1].dtype


@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_mistake_of_one_fold_is_told(n_threads: int) -> None:
    def fit(images: Mask) -> None:
        if not images[3]:
            raise ValueError("nothing to learn from")

    with pytest.raises(ValueError, match="nothing to learn"):
        cross_fitted(fit, lambda model, images: model, folds=FOLDS, n_threads=n_threads)
