"""Batches of cached images as tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from core.errors import ImageError
from core.predictions import row_numbers
from corpus.images.augment import N_DRAWS, TRANSFORMS
from corpus.images.cache import ImageCache


@dataclass(frozen=True)
class CachedImages:
    """Batches of some images of a cache, by row number: what the training loop asks for.

    Row n + i is the mirror of row i.

    Attributes:
        cache: decoded images.
        rows: (n,) row in the cache of each of the n images.
        augment: a name of `corpus.images.augment.TRANSFORMS`.
        seed: decides, with the epoch, what each image undergoes.
    """

    cache: ImageCache
    rows: npt.NDArray[np.intp]
    augment: str
    seed: int

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
        rows = row_numbers("image cache", cache.image_ids, wanted=image_ids)
        return cls(cache=cache, rows=rows, augment=augment, seed=seed)

    def __call__(self, rows: npt.NDArray[np.intp], epoch: int = 0) -> tuple[Tensor]:
        """(B, 3, S, S) uint8 images as they are in every epoch, channels last in memory.

        They are copied once, from the map, grey ones into three equal channels. `augmented` comes
        after they are on their device.
        """
        mirrored, of_image = np.divmod(rows, len(self.rows))
        pixels = self.cache.planes.pixels(self.rows[of_image], mirrored=mirrored != 0)
        return (torch.from_numpy(pixels).permute(0, 3, 1, 2),)

    def augmented(self, images: Tensor, rows: npt.NDArray[np.intp], *, epoch: int) -> Tensor:
        """The images of these rows as they look in this epoch, where they lie.

        A function of seed, epoch and image: training that was interrupted, or is dealt out over
        processes, sees the same pixels.

        Args:
            images: (B, 3, S, S) uint8, on any device.
            rows: (B,) which images they are.
            epoch: 0 or more.
        """
        if self.augment == "none":
            return images
        draws = self.draws(rows, epoch)
        if images.is_cuda:  # from plain memory a copy would wait for all that the device has to do
            draws = draws.pin_memory()
        return TRANSFORMS[self.augment](images, draws.to(images.device, non_blocking=True))

    def draws(self, rows: npt.NDArray[np.intp], epoch: int) -> Tensor:
        """(B, N_DRAWS) float32 in [0, 1): the numbers that decide the augmentation of each row."""
        return torch.from_numpy(_table(self.seed, epoch, len(self.rows))[rows])


@lru_cache(maxsize=2)  # the epoch that runs, and the next where batches are prepared ahead
def _table(seed: int, epoch: int, n_images: int) -> npt.NDArray[np.float32]:
    """A row of draws for each image; 5 ms for 80,000."""
    key = np.array([seed, epoch], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).random((n_images, N_DRAWS), np.float32)
