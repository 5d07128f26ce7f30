"""Batches of cached images as tensors."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from core.errors import ImageError
from core.predictions import row_numbers
from corpus.cache import ImageCache
from corpus.transforms import TRANSFORMS


@dataclass(frozen=True)
class CachedImages:
    """Batches of some images of a cache, by row number: what the training loop asks for.

    Attributes:
        cache: decoded images.
        rows: (n,) row in the cache of each of the n images.
        augment: a name of `corpus.transforms.TRANSFORMS`, drawn anew for each batch.
        rng: decides the augmentation.
    """

    cache: ImageCache
    rows: npt.NDArray[np.intp]
    augment: str
    rng: np.random.Generator

    @classmethod
    def of(
        cls, cache: ImageCache, image_ids: Sequence[str], *, augment: str = "none", seed: int = 0
    ) -> "CachedImages":
        """Batches of these images.

        Raises:
            AlignmentError: an image is not in the cache.
            ImageError: an image cannot be decoded: its file went or changed since `prepare`.
        """
        if gone := [i for i in image_ids if i in cache.errors]:
            raise ImageError(
                f"{len(gone)} of {len(image_ids)} images cannot be decoded any more, first"
                f" {cache.errors[gone[0]]}; run `prepare` again"
            )
        rows = row_numbers("image cache", cache.image_ids, image_ids)
        return cls(cache=cache, rows=rows, augment=augment, rng=np.random.default_rng(seed))

    def __call__(self, rows: npt.NDArray[np.intp]) -> tuple[Tensor]:
        """(B, 3, S, S) uint8 images, channels last in memory as they lie in the cache."""
        pixels = torch.from_numpy(self.cache.pixels[self.rows[rows]])
        return (TRANSFORMS[self.augment](pixels.permute(0, 3, 1, 2), self.rng),)
