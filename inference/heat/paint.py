"""A heat map as a picture: a layer of colour, transparent where there is little."""

import io
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from core.errors import ConfigError

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

_ANCHORS = (
    "0d0887", "330597", "5002a2", "6a00a8", "8405a7", "9c179e", "b12a90", "c33d80",
    "d35171", "e16462", "ed7953", "f68f44", "fca636", "fec029", "f9dc24", "f0f921",
)  # fmt: skip
"""Plasma of matplotlib (S. van der Walt and N. Smith, CC0) at 16 even steps, of which lightness
rises all the way: it is told apart in every kind of colour blindness, and from grey."""

_OPACITY = 0.7  # of the highest value: the image still shows
_SHOWN_FROM = 0.1


@cache
def colours() -> Pixels:
    """(256, 4) red, green, blue and opacity of values 0 to 1; nothing shows below a tenth."""
    anchors = np.array([[*bytes.fromhex(text)] for text in _ANCHORS], dtype=np.float64)
    values, steps = np.linspace(0, 1, 256), np.linspace(0, 1, len(anchors))
    shown = np.clip((values - _SHOWN_FROM) / (1 - _SHOWN_FROM), 0, 1)
    mixed = [np.interp(values, steps, channel) for channel in anchors.T]
    # The root has weak places seen; where nothing is, nothing changes.
    table = np.stack([*mixed, 255 * _OPACITY * np.sqrt(shown)], axis=1).round().astype(np.uint8)
    table.flags.writeable = False
    return table


def colour_layer(heat: Floats, *, width: int, height: int) -> bytes:
    """A PNG with transparency to be laid over an image of this size, in pixels.

    Between the centres of places values are interpolated.

    Args:
        heat: (h, w) in [0, 1].
        width: of the picture, 1 to 16,384.
        height: of the picture, likewise.

    Raises:
        ConfigError: the map has another shape or other values, or the picture another size.
    """
    return _png(Image.fromarray(_layer(heat, width=width, height=height)))


def laid_over(pixels: Pixels, heat: Floats) -> bytes:
    """A PNG of an image with a map over it, of the size of the image.

    Args:
        pixels: (H, W) or (H, W, 3).
        heat: (h, w) in [0, 1].

    Raises:
        ConfigError: as `colour_layer`, or the image is none of uint8.
    """
    shape = pixels.shape
    if pixels.dtype != np.uint8 or not (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)):
        said = " x ".join(map(str, shape))
        raise ConfigError(f"expected H x W or H x W x 3 of uint8, found {said} of {pixels.dtype}")
    image = Image.fromarray(pixels).convert("RGBA")
    over = Image.fromarray(_layer(heat, width=image.width, height=image.height))
    return _png(Image.alpha_composite(image, over).convert("RGB"))


_MOST = 16_384


def _layer(heat: Floats, *, width: int, height: int) -> Pixels:
    """(height, width, 4)."""
    if heat.ndim != 2 or not heat.size or not (heat.min() >= 0 and heat.max() <= 1):
        raise ConfigError(f"heat: expected h x w values from 0 to 1, found shape {heat.shape}")
    if not (1 <= width <= _MOST and 1 <= height <= _MOST):
        raise ConfigError(f"expected a picture of 1 to {_MOST:,} pixels a side, {width} x {height}")
    coarse = Image.fromarray(heat.astype(np.float32))
    fine = np.asarray(coarse.resize((width, height), Image.Resampling.BILINEAR))
    found: Pixels = colours()[np.clip(255 * fine, 0, 255).round().astype(np.uint8)]
    return found


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
