"""Values of more than 8 bits as grey levels: the range that an image fills becomes 0 to 255.

The range is robust: a hot pixel, or a border of -32768, does not turn the image black. It is also
honest: what lies apart from all the rest is cut off, a tail that fades out is kept. Values that are
those of an 8-bit image in a larger type (times 16, times 257, times 8 less 1024, divided by 255)
become that image again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.generic]
Mask = npt.NDArray[np.bool_]

_APART = 0.001  # of the pixels, at either end, are outliers where nothing is near them
_FEWEST_APART, _MOST_APART = 10, 0.01  # pixels; of the pixels of a small image
_GAP = 0.25  # of the range of all others: as far lies an outlier from what is nearest to it
_PADDING_LEVELS = 3  # values that stand for "no pixel here" at one end
_THINNEST = -1024  # air in Hounsfield units: scanners write -2000 or -3024 where they saw nothing
_FEWEST_LEVELS = 16  # distinct values that a picture has at least
_DARKEST = 32  # the brightest of an 8-bit image that is taken for one

_BITS = range(9, 17)
_SHIFTED = tuple(float(1 << n) for n in range(9))
_SPREAD = tuple(((1 << bits) - 1) / 255 for bits in _BITS)
"""What 8-bit values are multiplied with when they are stored in more bits: they are moved up, or
spread so that 255 becomes the largest number. The latter may lie in the upper bits of 16."""
_SHARES = ((1 / 255, 0.0), (1 / 256, 0.0), (2 / 255, -1.0), (2 / 256, -1.0))
"""Steps of floats from 0 to 1 and from -1 to 1, and what is black."""
_BLACK = (0.0, -1024.0, -32768.0)
"""Of whole numbers: air in Hounsfield units, unsigned numbers that are stored as signed ones."""
_NO_FEW_LEVELS = 32  # distinct values; pictures of fewer may have been coarse before


@dataclass(frozen=True)
class _Histogram:
    """Distinct finite values, rising, and how many pixels have each."""

    levels: npt.NDArray[np.float64]
    counts: npt.NDArray[np.intp]

    def part(self, first: int, last: int) -> "_Histogram":
        return _Histogram(self.levels[first:last], self.counts[first:last])

    def most_apart(self) -> float:
        """How many pixels at either end may be outliers."""
        n = int(self.counts.sum())
        return min(max(_APART * n, _FEWEST_APART), _MOST_APART * n)

    def core(self) -> tuple[int, int]:
        """The first and the last level that are no outliers whatever lies beside them."""
        apart, below = self.most_apart(), np.cumsum(self.counts)
        first = int(np.searchsorted(below, apart, side="right"))
        last = int(np.searchsorted(below, below[-1] - apart, side="left"))
        return first, max(last, first)


def window(
    values: Values, *, used: Mask | None = None, inverted: bool = False
) -> tuple[npt.NDArray[np.uint8], tuple[str, ...]]:
    """Grey levels of an image, 0 for the darkest and 255 for the brightest of its range.

    What is no finite number is black, and so is padding along a side. Bytes are grey levels
    already.

    Args:
        values: (H, W) or (H, W, C), whole numbers or floats; channels share a range.
        used: (H, W), the pixels that decide on the range; None for all.
        inverted: whether the largest value is black.

    Returns:
        Grey levels of the same shape, and what is to be remarked, details in brackets at the end.
    """
    if values.dtype == np.uint8:
        pixels = values.astype(np.uint8)
        return (255 - pixels if inverted else pixels), ()
    if values.dtype == np.int8:
        pixels = (values.astype(np.int16) + 128).astype(np.uint8)
        return (255 - pixels if inverted else pixels), ("signed 8-bit values, -128 is black",)
    if values.dtype == np.bool_:
        return np.where(values.astype(np.bool_) ^ inverted, np.uint8(255), np.uint8(0)), ()
    finite = np.isfinite(values) if values.dtype.kind == "f" else np.ones(values.shape, np.bool_)
    seen = values[finite if used is None else finite & _as_wide(used, values)]
    remarks = []
    if n_missing := int(finite.size - np.count_nonzero(finite)):
        remarks.append(f"NaN or infinite, painted black ({n_missing} of {finite.size} values)")
    if not seen.size:
        return np.zeros(values.shape, np.uint8), tuple(remarks)
    low, high, padding, found = _range(seen)
    pixels = between(values, low=low, high=high, inverted=inverted)
    bright = padding[(padding < low) if inverted else (padding > high)]
    if len(bright) and _fills_a_side(is_padding := _all_channels(np.isin(values, bright))):
        pixels[is_padding] = 0
    return pixels, (*remarks, *found)


def between(
    values: Values, *, low: float, high: float, inverted: bool = False
) -> npt.NDArray[np.uint8]:
    """Grey levels of values from `low`, which is 0, to `high`, which is 255.

    Values beyond are cut off. What is no finite number is 0; of an empty range all are.

    Args:
        values: of any shape, whole numbers or floats.
        low: the value of black.
        high: the value of white; at least `low`.
        inverted: black and white change places, but for what is no number.
    """
    if not high > low:
        return np.zeros(values.shape, np.uint8)
    exact = np.float32 if values.dtype.itemsize <= 2 else np.float64
    levels: npt.NDArray[Any] = values.astype(exact)
    finite = np.isfinite(levels)
    levels[~finite] = low
    levels -= exact(low)
    levels *= exact(255 / (high - low))
    np.clip(levels, 0, 255, out=levels)
    pixels = np.rint(levels).astype(np.uint8)
    if inverted:
        pixels = 255 - pixels
    return np.where(finite, pixels, np.uint8(0))


def _all_channels(marked: Mask) -> Mask:
    """(H, W) of (H, W) or (H, W, C)."""
    return marked if marked.ndim == 2 else np.asarray(marked.all(axis=2))


def _fills_a_side(marked: Mask) -> bool:
    """Whether pixels are a margin: of marks within the picture no side is full."""
    return any(bool(side.all()) for side in (marked[0], marked[-1], marked[:, 0], marked[:, -1]))


def _as_wide(used: Mask, values: Values) -> Mask:
    return used if values.ndim == 2 else np.broadcast_to(used[..., None], values.shape)


def _range(seen: Values) -> tuple[float, float, npt.NDArray[np.float64], Iterator[str]]:
    """The values of black and white, those of padding, and what is to be remarked of them."""
    bits = 8 * seen.dtype.itemsize
    kind = {"u": f"{bits}-bit", "i": f"signed {bits}-bit", "f": f"{bits}-bit float"}
    name = f"{kind[seen.dtype.kind]} values"
    whole = _histogram(seen)
    inner, padding = _without_padding(whole)
    kept = _without_outliers(inner)
    for part, left_out in ((whole, None), (kept, whole)):
        if steps := _eight_bit_steps(part, half=seen.dtype == np.float16):
            step, black = steps
            begin = f" from {black:.6g} on" if black else ""
            text = (f"{name} that are an 8-bit image's (in steps of {step:.6g}{begin})",)
            further = _left_out(part, left_out, padding)
            return black, black + 255 * step, padding, iter((*text, *further))
    low, high = float(kept.levels[0]), float(kept.levels[-1])
    low, high = _held(inner, low, high)
    text = (f"{name}, windowed (black is {low:.6g}, white is {high:.6g})",)
    return low, high, padding, iter((*text, *_left_out(_inside(whole, low, high), whole, padding)))


def _left_out(
    kept: _Histogram, whole: _Histogram | None, padding: npt.NDArray[np.float64]
) -> Iterator[str]:
    if whole is None:
        return
    is_padding = np.isin(whole.levels, padding)
    if n := int(whole.counts[is_padding].sum()):
        shown = ", ".join(f"{level:.6g}" for level in padding)
        yield f"padding left out of the window ({n} values of {shown})"
    beyond = (whole.levels < kept.levels[0]) | (whole.levels > kept.levels[-1])
    if n := int(whole.counts[beyond & ~is_padding].sum()):
        yield f"outliers cut off ({n} values)"


def _histogram(seen: Values) -> _Histogram:
    if seen.dtype.kind != "f" and seen.dtype.itemsize <= 2:  # 2 ms a megapixel, sorting takes 60
        least = int(seen.min())
        counts = np.bincount((seen.astype(np.int32) - least).ravel())
        there = np.flatnonzero(counts)
        return _Histogram((there + least).astype(np.float64), counts[there])
    levels, counts = np.unique(seen, return_counts=True)
    return _Histogram(levels.astype(np.float64), counts)


def _without_padding(whole: _Histogram) -> tuple[_Histogram, npt.NDArray[np.float64]]:
    """The values between those that stand for no pixel, and those.

    Padding is a value or two at one end, as far from all others as those reach, or a quarter of
    that where no other is less than 0, or than air.
    """
    first, last = 0, len(whole.levels)
    for n in range(_PADDING_LEVELS, 0, -1):
        if last - first - n >= _FEWEST_LEVELS and _is_far(whole, first + n, last, below=True):
            first += n
            break
    for n in range(_PADDING_LEVELS, 0, -1):
        if last - first - n >= _FEWEST_LEVELS and _is_far(whole, first, last - n, below=False):
            last -= n
            break
    return whole.part(first, last), np.concatenate([whole.levels[:first], whole.levels[last:]])


def _is_far(whole: _Histogram, first: int, last: int, *, below: bool) -> bool:
    """Whether what lies below, or above, a part is as far from it as its own core reaches.

    A few pixels are not padding but outliers.
    """
    part = whole.part(first, last)
    n_out = whole.counts[:first].sum() if below else whole.counts[last:].sum()
    if n_out <= whole.most_apart():
        return False
    begin, end = part.core()
    reach = part.levels[end] - part.levels[begin]
    levels = whole.levels
    gap = levels[first] - levels[first - 1] if below else levels[last] - levels[last - 1]
    parted = below and any(levels[first - 1] < edge <= levels[first] for edge in (0, _THINNEST))
    least = _GAP if parted else 1
    return bool(gap > least * reach > 0)


def _without_outliers(inner: _Histogram) -> _Histogram:
    """The values up to the first gap on either side of the core."""
    first, last = inner.core()
    reach = inner.levels[last] - inner.levels[first]
    if not reach > 0:  # nearly all of one value: what differs is the picture
        return inner
    gaps = np.diff(inner.levels) > _GAP * reach
    above = np.flatnonzero(gaps[last:])
    below = np.flatnonzero(gaps[:first])
    begin = int(below[-1]) + 1 if len(below) else 0
    end = last + int(above[0]) + 1 if len(above) else len(inner.levels)
    return inner.part(begin, end)


def _held(inner: _Histogram, low: float, high: float) -> tuple[float, float]:
    """The range, of which the core fills a third at least, however long its tails are."""
    first, last = inner.core()
    begin, end = float(inner.levels[first]), float(inner.levels[last])
    reach = end - begin
    return (low, high) if reach <= 0 else (max(low, begin - reach), min(high, end + reach))


def _inside(whole: _Histogram, low: float, high: float) -> _Histogram:
    first, last = np.searchsorted(whole.levels, [low, high])
    return whole.part(int(first), int(last) + 1)


def _eight_bit_steps(found: _Histogram, *, half: bool) -> tuple[float, float] | None:
    """Of values that are multiples of 0 to 255 the step, and the value of 0; None of others.

    Of several steps that fit as well the largest is taken, which makes a dark picture no brighter;
    of a picture of few levels the smallest.

    Args:
        found: values.
        half: whether they were stored in 16-bit floats, which are exact to a part in 2048.
    """
    levels = found.levels
    if not _FEWEST_LEVELS <= len(levels) <= 1024:
        return None
    is_whole = bool((levels == np.rint(levels)).all())
    fitting: list[tuple[float, float, float]] = []
    for step, black, most in _whole_steps(levels) if is_whole else _float_steps(half=half):
        numbers = np.rint((levels - black) / step)
        off = np.abs(levels - black - numbers * step) / step
        is_told = most < 0.1 or (np.diff(numbers) > 0).all()
        if off.max() <= most and is_told and _DARKEST <= numbers[-1] <= 255 and numbers[0] >= 0:
            largest_first = -step if len(levels) > _NO_FEW_LEVELS else step
            fitting.append((round(float(off.mean()), 6), largest_first, black))
    if not fitting:
        return None
    _, step, black = min(fitting)
    return abs(step), black


def _whole_steps(levels: npt.NDArray[np.float64]) -> Iterator[tuple[float, float, float]]:
    """Steps that whole numbers may have, their black, and how far off a step they may be."""
    black = next((black for black in _BLACK if levels[0] >= black - 1), None)
    if black is None or levels[-1] - black > 1 << 16:
        return
    for step in _SHIFTED:
        yield step, black, 1 / step if step >= 16 else 0.0
    common = int(np.gcd.reduce((levels - black).astype(np.int64)))
    for step, bits in zip(_SPREAD, _BITS, strict=True):
        for unit in {1, 1 << (16 - bits)}:
            if common % unit == 0:  # multiples were rounded, or cut to whole numbers
                yield step * unit, black, (1.0 if step >= 16 else 0.6) / step


def _float_steps(*, half: bool) -> Iterator[tuple[float, float, float]]:
    """The same of floats."""
    for step, black in (*_SHARES, *((step, 0.0) for step in (*_SHIFTED[1:], *_SPREAD))):
        yield step, black, 0.15 if half else 0.02
