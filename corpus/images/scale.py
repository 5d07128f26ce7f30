"""Grey levels scaled to a square: by Pillow's bilinear filter, compiled; by a Gaussian.

Pillow scales the rows of a grey radiograph of 320 x 251 pixels in 0.25 ms, which is what decoding
it costs; here it takes 0.07 ms, since a row is weighed as a whole with vector instructions.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from core.storage.caches import machine_code

Pixels = npt.NDArray[np.uint8]

_BITS = 22  # of a weight's fraction, as in Pillow: 8 bits of a pixel and 2 to spare fill 32


def bilinear(pixels: Pixels, size: int) -> Pixels:
    """Pixels (H, W) or (H, W, 3) scaled to (size, size, 3) by a triangle, see `scaled`."""
    return _by_channel(scaled, pixels, size)


def scaled(channel: Pixels, size: int) -> Pixels:
    """One channel (H, W) scaled to (size, size) by a triangle as wide as the larger pixel.

    Whole numbers all the way, so that every machine gets the same bytes. They are those of
    `Image.resize` with the bilinear filter, but that Pillow scales tall images in the other order
    and rounds in between: there they differ by 1 at most.
    """
    height, width = channel.shape
    columns = np.ascontiguousarray(channel.T)
    narrow = np.ascontiguousarray(_weighed(columns, *_taps(width, size)).T)
    return _weighed(narrow, *_taps(height, size))


def gaussian(pixels: Pixels, size: int) -> Pixels:
    """Pixels (H, W) or (H, W, 3) scaled to (size, size, 3) as TorchXRayVision scales its images.

    It asks scikit-image's `resize` for values from -1024 to 1024 with zero, which is mid grey,
    beyond the border: a Gaussian, then linear between the smoothed pixels.
    """
    return _by_channel(_smoothed, pixels, size)


def _by_channel(scale: Callable[[Pixels, int], Pixels], pixels: Pixels, size: int) -> Pixels:
    """Each channel scaled; grey ones once."""
    if pixels.ndim == 2:
        grey = scale(pixels, size)
        return _joined(grey, grey, grey)
    red, green, blue = (scale(pixels[..., channel], size) for channel in range(3))
    return _joined(red, green, blue)


def _smoothed(channel: Pixels, size: int) -> Pixels:
    down, across = (_smoothing(length, size) for length in channel.shape)
    mid = np.float32(127.5)
    levels = down @ (channel - mid) @ across.T + mid
    square: Pixels = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return square


@lru_cache(maxsize=64)
def _smoothing(n_from: int, n_to: int) -> npt.NDArray[np.float32]:
    """Weights (n_to, n_from) of the rows that each new row is a sum of.

    The Gaussian's standard deviation is (n_from / n_to - 1) / 2 pixels, it ends at four of them,
    and what lies beyond the border counts for nothing.
    """
    step = n_from / n_to
    places = np.clip((np.arange(n_to) + 0.5) * step - 0.5, -1, n_from)
    linear = np.maximum(1 - np.abs(places[:, None] - np.arange(n_from)), 0)
    deviation = max(0.0, (step - 1) / 2)
    reach = int(4 * deviation + 0.5)
    away = np.arange(-reach, reach + 1)
    bell = np.exp(-0.5 * (away / (deviation or 1.0)) ** 2)
    bell /= bell.sum()
    smoothed = np.apply_along_axis(np.convolve, 1, linear, bell)
    return smoothed[:, reach : reach + n_from].astype(np.float32)


@lru_cache(maxsize=4096)
def _taps(n_from: int, n_to: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int32]]:
    """First row (n_to,) and weights (n_to, K) of the rows that each new row is a mean of."""
    step = n_from / n_to
    reach = max(step, 1.0)
    centres = (np.arange(n_to) + 0.5) * step
    n_taps = min(int(np.ceil(2 * reach)), n_from)
    first = np.clip((centres - reach + 0.5).astype(np.intp), 0, n_from - n_taps)
    middles = first[:, None] + np.arange(n_taps) + 0.5
    weights = np.maximum(1 - np.abs((middles - centres[:, None]) / reach), 0)
    weights /= weights.sum(axis=1, keepdims=True)
    return first, (weights * (1 << _BITS) + 0.5).astype(np.int32)


@machine_code
def _joined(red: Pixels, green: Pixels, blue: Pixels) -> Pixels:
    """Three channels (H, W) as (H, W, 3): 4 us of 224 x 224, where numpy's copies take 44."""
    height, width = red.shape
    square = np.empty((height, width, 3), np.uint8)
    for row in range(height):
        for column in range(width):
            square[row, column, 0] = red[row, column]
            square[row, column, 1] = green[row, column]
            square[row, column, 2] = blue[row, column]
    return square


@machine_code
def _weighed(rows: Pixels, first: npt.NDArray[np.intp], weights: npt.NDArray[np.int32]) -> Pixels:
    """Rows (n, W) made into (len(first), W)."""
    n_columns = rows.shape[1]
    made = np.empty((len(first), n_columns), np.uint8)
    total = np.empty(n_columns, np.int32)
    for to in range(len(first)):
        total[:] = 1 << (_BITS - 1)  # a half, to round
        for tap in range(weights.shape[1]):
            row, weight = rows[first[to] + tap], weights[to, tap]
            for column in range(n_columns):
                total[column] += np.int32(row[column]) * weight
        for column in range(n_columns):
            made[to, column] = total[column] >> _BITS
    return made
