"""Augmentation of batches of images: (B, 3, H, W) uint8 -> the same shape."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

Transform = Callable[[Tensor, np.random.Generator], Tensor]


def keep(images: Tensor, rng: np.random.Generator) -> Tensor:
    """The images as they are."""
    return images


def random_mirror(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Each image mirrored left to right with probability 1/2."""
    chosen = torch.from_numpy(rng.random(len(images)) < 0.5)
    return torch.where(chosen.view(-1, 1, 1, 1), images.flip(3), images)


TRANSFORMS: dict[str, Transform] = {"none": keep, "hflip": random_mirror}
