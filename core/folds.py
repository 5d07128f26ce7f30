"""The folds that `prepare` assigned, one held out after the other."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from core.errors import AlignmentError

Folds = npt.NDArray[np.integer]


def held_out_images(folds: Folds) -> Iterator[npt.NDArray[np.bool_]]:
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
