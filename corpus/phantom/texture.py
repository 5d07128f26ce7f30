"""Blending, noise, blur and letters: what is done to whole images."""

from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage

Grey = npt.NDArray[np.floating[Any]]
"""(H, W) brightness, attenuation or a mask; (H, W, 3) where it is coloured. float32 as a rule."""


def blend(image: Grey, value: float | Grey, mask: Grey) -> Grey:
    """The image, with the value where the mask is 1."""
    blended: Grey = image + (value - image) * mask
    return blended


def union(*shapes: Grey) -> Grey:
    """The largest value at each pixel: shapes, given as masks or depths, taken together."""
    largest: Grey = reduce(np.maximum, shapes)
    return largest


def cloud(rng: np.random.Generator, shape: tuple[int, int], *, cells: float) -> Grey:
    """Smooth noise of about unit spread; images of one aspect and other sizes get the same bumps.

    Args:
        rng: where the noise comes from.
        shape: height and width in pixels.
        cells: bumps along the longer side.
    """
    height, width = shape
    n = int(cells) + 3
    small = rng.standard_normal((n, n), dtype=np.float32)
    step = max(shape) / cells
    large = Image.fromarray(small).resize(
        (width, height), Image.Resampling.BICUBIC, box=(1, 1, 1 + width / step, 1 + height / step)
    )
    # Bicubic weights average neighbours: 1.4 gives the spread back.
    return np.float32(1.4) * np.asarray(large, dtype=np.float32)


def grain(rng: np.random.Generator, shape: tuple[int, int], *, size: float) -> Grey:
    """Noise of unit spread whose grains are about `size` pixels wide; 0 for independent pixels."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    if size > 0:
        noise = blur(noise, size)
        noise /= max(float(noise.std()), 1e-6)
    return noise


def blur(image: Grey, sigma: float) -> Grey:
    """The image through a Gaussian of that many pixels."""
    blurred: Grey = ndimage.gaussian_filter(image, sigma, truncate=3.0)
    return blurred


def letters(
    image: Grey, text: str, place: tuple[float, float], *, value: float = 1.0, size: int = 14
) -> Grey:
    """The image with text written at a place given in parts of its width and height."""
    height, width = image.shape
    sheet = Image.new("L", (width, height))
    ImageDraw.Draw(sheet).text(
        (place[0] * width, place[1] * height), text, fill=255, font_size=size
    )
    return blend(image, value, np.asarray(sheet, dtype=np.float32) / np.float32(255))
