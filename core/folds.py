"""Out of fold: a model is judged on images that it was not fitted on, one fold after the other.

The folds are those that `prepare` assigned; nothing else splits.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from core.errors import AlignmentError

Folds = npt.NDArray[np.integer]
Mask = npt.NDArray[np.bool_]

Model = TypeVar("Model")
Found = TypeVar("Found")


def held_out_images(folds: Folds) -> Iterator[Mask]:
    """(N,) mask of the images of one fold after the other.

    Raises:
        AlignmentError: an image has no fold, or all share one.
    """
    if (folds < 0).any():
        raise AlignmentError(
            f"{int((folds < 0).sum())} of {len(folds)} images have no fold; run `prepare` again"
        )
    numbers = np.unique(folds)
    if len(numbers) < 2:
        raise AlignmentError(
            f"cross-fitting needs two folds or more, {len(folds)} images have {len(numbers)}"
        )
    for number in numbers:
        yield folds == number


def cross_fitted(
    fit: Callable[[Mask], Model],
    apply: Callable[[Model, Mask], Found],
    *,
    folds: Folds,
    n_threads: int = 1,
) -> list[tuple[Mask, Found]]:
    """What models say of the images of one fold each, fitted on the images of all others.

    Nothing else in the project fits on some folds and judges on another one. Both functions take
    the images they may use as a mask, so what they look up stays theirs: rows of a matrix, pairs of
    images and concepts, tables made for all images at once.

    Args:
        fit: a model of these images, by (N,) mask: all folds but one.
        apply: what the model says of these images, by (N,) mask: the fold left out.
        folds: (N,) fold of each image.
        n_threads: folds that are done side by side; what is found does not depend on it.

    Returns:
        For each fold, in the order of their numbers, the mask of its images and what was found;
        the masks cover every image once. See `in_order`.

    Raises:
        AlignmentError: an image has no fold, or all share one.

    Example:
        >>> values, folds = np.array([1.0, 3.0, 5.0, 9.0]), np.array([0, 0, 1, 1])
        >>> found = cross_fitted(
        ...     lambda others: values[others].mean(),
        ...     lambda mean, held_out: values[held_out] - mean,
        ...     folds=folds,
        ... )
        >>> in_order(found).tolist()  # the means of the other fold are 7 and 2
        [-6.0, -4.0, 3.0, 7.0]
    """

    def work(held_out: Mask) -> tuple[Mask, Found]:
        return held_out, apply(fit(~held_out), held_out)

    masks = list(held_out_images(folds))
    if n_threads == 1:
        return [work(held_out) for held_out in masks]
    with ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(work, masks))


def fitted_without(fit: Callable[[Mask], Model], *, folds: Folds) -> list[tuple[Mask, Model]]:
    """The models of `cross_fitted` themselves, each with the mask of the fold it has not seen.

    For models that are applied more than once.
    """
    return cross_fitted(fit, lambda model, _: model, folds=folds)


def in_order(found: Sequence[tuple[Mask, npt.NDArray[Any]]]) -> npt.NDArray[Any]:
    """(N, ...) one array, in the order of the images, of an array for the images of each mask.

    Args:
        found: (N,) masks that cover everything once, each with as many rows as it has images.
    """
    whole = np.empty((len(found[0][0]), *found[0][1].shape[1:]), dtype=found[0][1].dtype)
    for mask, values in found:
        whole[mask] = values
    return whole
