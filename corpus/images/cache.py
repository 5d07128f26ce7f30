"""Images decoded and scaled once into a uint8 memory map: (N, S, S, 3).

Decoding and scaling a radiograph costs milliseconds, reading it back from the map microseconds.
A cache that was interrupted goes on where it stopped; two processes that build the same one write
the same bytes.

Scaling is Pillow's bilinear filter, compiled. Pillow scales the rows of a grey radiograph of
320 x 251 pixels in 0.25 ms, which is what decoding it costs; here it takes 0.07 ms, since a row is
weighed as a whole with vector instructions.
"""

import csv
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from core.config import fingerprint
from core.errors import ImageError
from core.images import ImageTable
from core.progress import progress
from core.storage.arrays import load_array, open_map, read_lines, write_lines
from core.storage.caches import machine_code
from core.storage.folders import META, is_complete, provenance, write_json

Resample = Literal["bilinear", "nearest"]

_TODO, _DONE, _UNREADABLE = 0, 1, 2
_SHARE = 16  # images that a thread takes at a time; one each cost 4 % on two cores


@dataclass(frozen=True, kw_only=True)
class ImageCache:
    """Decoded images of a corpus.

    Attributes:
        image_ids: N ids, in table order.
        pixels: (N, S, S, 3) uint8, mapped from disk; zeros where an image cannot be decoded.
        errors: reason by id, for each image that cannot be decoded.
    """

    image_ids: tuple[str, ...]
    pixels: npt.NDArray[np.uint8]
    errors: dict[str, str]


def decode(path: Path, *, size: int, resample: Resample) -> npt.NDArray[np.uint8]:
    """An image scaled to (size, size, 3), uint8.

    Nothing is cropped: radiographs have findings at their margins. Grey images fill three equal
    channels. Images of more than 8 bits are scaled from their darkest to their brightest value.

    Raises:
        ImageError: the file is missing, not an image, or cut short; the file is named.
    """
    try:
        with Image.open(path) as image:
            if resample != "nearest":  # let the JPEG decoder scale down by 2, 4 or 8 first
                image.draft("RGB", (size, size))
            image.load()
            loaded = _grey_or_rgb(image)
            if resample == "nearest":
                nearest = loaded.resize((size, size), Image.Resampling.NEAREST)
                return np.asarray(nearest.convert("RGB"))
            return _bilinear(np.asarray(loaded), size)
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except UnidentifiedImageError:
        raise ImageError(f"{path}: not an image") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(f"{path}: cannot be decoded ({error})") from None


def _grey_or_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, dtype=np.float32)
        low, high = float(values.min()), float(values.max())
        return Image.fromarray(((values - low) * (255 / max(high - low, 1e-6))).astype(np.uint8))
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _bilinear(pixels: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """Pixels (H, W) or (H, W, 3) scaled to (size, size, 3); grey ones are scaled once."""
    square = np.empty((size, size, 3), np.uint8)
    grey = scaled(pixels, size) if pixels.ndim == 2 else None
    for channel in range(3):  # a copy a channel takes a fifth of the time of one that repeats each
        square[..., channel] = scaled(pixels[..., channel], size) if grey is None else grey
    return square


def build_cache(
    table: ImageTable,
    folder: Path,
    *,
    size: int,
    resample: Resample = "bilinear",
    strict: bool = False,
    workers: int | None = None,
) -> ImageCache:
    """The cache of a corpus at one image size, built as far as it is not there yet.

    Args:
        table: the images; files that changed since are decoded again.
        folder: where caches lie; each size and file state has a folder of its own.
        size: S, pixels.
        resample: how images are scaled.
        strict: stop at the first image that cannot be decoded.
        workers: decoding threads; None for one a core.

    Raises:
        ImageError: an image cannot be decoded, and `strict` is set.
    """
    state = fingerprint(table.image_ids, _state_of_files(table.paths))
    home = folder / f"{size}px-{resample}-{state}"
    if not is_complete(home):
        _fill(home, table, size=size, resample=resample, strict=strict, workers=workers)
    with (home / "errors.csv").open(encoding="utf-8", newline="") as file:
        errors = dict(csv.reader(file))
    if strict and errors:
        raise ImageError(next(iter(errors.values())))
    return ImageCache(
        image_ids=read_lines(home / "image_ids.txt"),
        pixels=load_array(home / "pixels.npy"),
        errors=errors,
    )


def _fill(
    home: Path,
    table: ImageTable,
    *,
    size: int,
    resample: Resample,
    strict: bool,
    workers: int | None,
) -> None:
    home.mkdir(parents=True, exist_ok=True)
    n = len(table)
    pixels = open_map(home / "pixels.npy", (n, size, size, 3), dtype=np.uint8)
    state = open_map(home / "state.npy", (n,), dtype=np.uint8)
    errors: dict[int, str] = {}

    def load(rows: npt.NDArray[np.intp]) -> int:
        for row in rows:
            try:
                pixels[row] = decode(Path(table.paths[row]), size=size, resample=resample)
                state[row] = _DONE
            except ImageError as error:
                if strict:
                    raise
                errors[int(row)] = str(error)
                state[row] = _UNREADABLE
        return len(rows)

    todo = np.flatnonzero(state != _DONE)  # unreadable ones are tried again: they may be mended
    with (
        ThreadPoolExecutor(workers or os.cpu_count()) as pool,
        progress("decoding", total=n, unit="images", done=n - len(todo)) as advance,
    ):
        for n_done in pool.map(load, _shares(todo)):  # an error cancels those that wait
            advance(n_done)
    write_lines(home / "image_ids.txt", table.image_ids)
    _write_errors(home / "errors.csv", ((table.image_ids[r], errors[r]) for r in sorted(errors)))
    write_json(home / META, {"size": size, "resample": resample, "n_images": n, **provenance()})


def _shares(rows: npt.NDArray[np.intp]) -> Iterable[npt.NDArray[np.intp]]:
    return (rows[start : start + _SHARE] for start in range(0, len(rows), _SHARE))


def _state_of_files(paths: Sequence[str]) -> list[tuple[str, int, int]]:
    """Name, size and time of change of each file; -1 for a missing one."""
    states = []
    for path in paths:
        try:
            stat = Path(path).stat()
            states.append((path, stat.st_size, stat.st_mtime_ns))
        except FileNotFoundError:
            states.append((path, -1, -1))
    return states


def _write_errors(path: Path, rows: Iterable[tuple[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


Pixels = npt.NDArray[np.uint8]

_BITS = 22  # of a weight's fraction, as in Pillow: 8 bits of a pixel and 2 to spare fill 32


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
