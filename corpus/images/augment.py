"""Augmentation of batches of images: a pure function of the images and of uniform numbers.

Images are (B, 3, H, W) uint8 on any device, and so is what becomes of them, in the same memory
format. The numbers are (B, N_DRAWS), in [0, 1), one row an image: an image undergoes the same in
whatever batch it comes.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

Transform = Callable[[Tensor, Tensor], Tensor]

_MIRROR, _TURN, _SHIFT_X, _SHIFT_Y, _SCALE, _BRIGHTNESS, _CONTRAST = range(7)
N_DRAWS = 7

MOST_TURN = 10.0  # degrees either way
MOST_SHIFT = 0.05  # of width and height
MOST_SCALE = 0.1
MOST_LIGHT = 0.15  # of brightness and of contrast

# A few images at a time stay in a processor's caches. Batches of 64 at 224 px, one core: two at a
# time 0.7 ms an image for all of `light`, all at once over 2 ms. torchvision's v2.functional.affine
# takes one angle a call; image by image it took 1.1 ms for the geometry alone.
_AT_ONCE_ON_CPU = 2


def keep(images: Tensor, draws: Tensor) -> Tensor:
    """The images as they are."""
    return images


def random_mirror(images: Tensor, draws: Tensor) -> Tensor:
    """Each image mirrored left to right with probability 1/2."""
    # Bytes wrap around, so image + 1 * (mirror - image) is the mirror exactly. torch.where takes
    # five times as long on a processor, and picking the chosen ones makes a GPU wait.
    chosen = _is_mirrored(draws).to(torch.uint8).view(-1, 1, 1, 1)
    return images.flip(3).sub_(images).mul_(chosen).add_(images)


def light(images: Tensor, draws: Tensor) -> Tensor:
    """Each image mirrored, turned, shifted, scaled, brightened and given contrast, a little.

    What comes in from outside is black. Brightness multiplies; contrast scales the differences to
    the mean of the image.
    """
    n_at_once = _AT_ONCE_ON_CPU if images.device.type == "cpu" else max(len(images), 1)
    changed = torch.empty_like(images)
    parts = zip(*(torch.split(t, n_at_once) for t in (images, draws, changed)), strict=True)
    for few, of_few, place in parts:
        gain, offset = _lighting(few, of_few)
        moved = _moved(few, of_few)
        place.copy_(moved.mul_(gain).add_(offset).round_().clamp_(0, 255))
    return changed


def _moved(images: Tensor, draws: Tensor) -> Tensor:
    """The images as floats, mirrored, turned, scaled and shifted."""
    grid = _places(draws.double(), *images.shape[2:])
    return grid_sample(images.float(), grid, align_corners=False)


def _lighting(images: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
    """What to multiply each image with and what to add, (B, 1, 1, 1)."""
    # A sum of whole numbers is the same in whatever order the threads add; one of floats is not.
    means = images.sum(dim=(1, 2, 3), dtype=torch.int64) / images[:1].numel()
    brightness = _between(draws[:, _BRIGHTNESS], 1 - MOST_LIGHT, 1 + MOST_LIGHT)
    contrast = _between(draws[:, _CONTRAST], 1 - MOST_LIGHT, 1 + MOST_LIGHT)
    gain, offset = brightness * contrast, brightness * (1 - contrast) * means
    return gain.view(-1, 1, 1, 1), offset.view(-1, 1, 1, 1)


def _places(draws: Tensor, height: int, width: int) -> Tensor:
    """(B, H, W, 2): where in the image each pixel of the result comes from, x and y in [-1, 1]."""
    aspect = width / height
    angle = _between(draws[:, _TURN], -MOST_TURN, MOST_TURN) * (math.pi / 180)
    scale = _between(draws[:, _SCALE], 1 - MOST_SCALE, 1 + MOST_SCALE)
    side = 1 - 2 * _is_mirrored(draws).to(draws.dtype)
    cos, sin = angle.cos() / scale, angle.sin() / scale
    # A shift by the whole width is one by 2 in these coordinates.
    shift_x = _between(draws[:, _SHIFT_X], -2 * MOST_SHIFT, 2 * MOST_SHIFT)
    shift_y = _between(draws[:, _SHIFT_Y], -2 * MOST_SHIFT, 2 * MOST_SHIFT)
    # As complex numbers x + iy the grid is one sum, a third of the time of stacking x on y.
    by_column = torch.complex(side * cos, -sin * aspect)[:, None] * _centres(width, draws)
    by_row = torch.complex(side * sin / aspect, cos)[:, None] * _centres(height, draws)
    by_row += torch.complex(shift_x, shift_y)[:, None]
    total = by_row.to(torch.complex64)[:, :, None] + by_column.to(torch.complex64)[:, None, :]
    return torch.view_as_real(total)


def _centres(n: int, like: Tensor) -> Tensor:
    """(n,) middles of n pixels between -1 and 1."""
    return (torch.arange(n, device=like.device, dtype=like.dtype) * 2 + 1) / n - 1


def _is_mirrored(draws: Tensor) -> Tensor:
    return draws[:, _MIRROR] < 0.5


def _between(uniform: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * uniform


TRANSFORMS: dict[str, Transform] = {"none": keep, "hflip": random_mirror, "light": light}
"""By name in the settings."""
