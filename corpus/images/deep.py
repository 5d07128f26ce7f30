"""Images of more than 8 bits a channel, as the numbers that their files hold.

Pillow drops the low byte of such colours, so that 12 bits stored in 16 become black, and does not
know all the types of a TIFF. Here PNG, TIFF and JPEG 2000 are read by libpng, libtiff and OpenJPEG,
through imagecodecs; Pillow still reads the headers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from core.errors import ImageError
from core.runs.decoding import Frame, frame_index

_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG_START = b"\x89PNG\r\n\x1a\n"
_SIZ = b"\xff\x4f\xff\x51"  # start of a JPEG 2000 codestream
_JPEG2000_STARTS = (b"\0\0\0\x0cjP", _SIZ)

# Tags of a TIFF
_BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLES, _PLANAR = 258, 262, 274, 277, 284
_EXTRA, _FORMAT = 338, 339
_WIDTH, _HEIGHT = 256, 257
_MIN_IS_WHITE, _RGB, _CMYK = 0, 2, 5
_COLOURS = {_MIN_IS_WHITE: 1, 1: 1, _RGB: 3, _CMYK: 4}
"""Channels of a photometric interpretation, beside transparency."""

_TYPES = {1: "", 2: "signed ", 3: "float "}
_MOST_PAGES = 100_000

Tags = Mapping[int, Any]


@dataclass(frozen=True, kw_only=True)
class DeepImage:
    """What a file holds.

    Attributes:
        values: (H, W) or (H, W, 3), or (H, W, 4) where they are inks.
        alpha: (H, W) in [0, 1]; None where nothing is transparent.
        kind: format, colours and bits, in words.
        inverted: whether the largest value is black.
        is_cmyk: whether the values are inks.
        orientation: as in EXIF.
        n_frames: pages of the file.
    """

    values: npt.NDArray[np.generic]
    kind: str
    alpha: npt.NDArray[np.float32] | None = None
    inverted: bool = False
    is_cmyk: bool = False
    orientation: int = 1
    n_frames: int = 1


def read_deep(content: bytes, *, frame: Frame, most_pixels: int) -> DeepImage | None:
    """The values of an image that Pillow would not give whole; None of any other.

    Args:
        content: the file.
        frame: which page of a TIFF.
        most_pixels: of a larger image nothing is decoded.

    Raises:
        ImageError: the image is too large, or its kind is not read.
        RuntimeError, ValueError: the file is broken; as imagecodecs has it.
    """
    if content.startswith(_PNG_START):
        is_deep = len(content) > 25 and content[24] == 16 and content[25] in (2, 4, 6)
        return _read_png(content, most_pixels) if is_deep else None
    if content.startswith(_TIFF_STARTS):
        pages = _tiff_pages(content)
        if not pages:
            return None
        tags = pages[frame_index(frame, len(pages))]
        formats = set(_sequence(tags.get(_FORMAT, 1))) - {1}
        if formats or set(_sequence(tags.get(_BITS, 1))) & {16, 32, 64}:
            return _read_tiff(content, pages, frame=frame, most_pixels=most_pixels)
        return None
    if not content.startswith(_JPEG2000_STARTS):
        return None
    start = content.find(_SIZ)
    if start >= 0 and len(content) > start + 42:
        n_bits = (content[start + 42] & 127) + 1
        if n_bits > 8 and content[start + 40 : start + 42] > b"\0\1":
            return _read_jpeg2000(content, n_bits, most_pixels)
    return None


def _read_png(content: bytes, most_pixels: int) -> DeepImage:
    import imagecodecs

    with Image.open(BytesIO(content)) as header:
        refuse_huge(header.size, most_pixels)
        clear = header.info.get("transparency")
    values = imagecodecs.png_decode(content)
    kind = f"PNG {_colour_words(values)} 16-bit"
    if isinstance(clear, tuple):
        alpha = (values != np.array(clear, values.dtype)).any(axis=2).astype(np.float32)
        return DeepImage(values=values, alpha=alpha, kind=f"{kind}, a transparent colour")
    if values.shape[2] in (2, 4):
        colours = values[..., 0] if values.shape[2] == 2 else values[..., :3]
        return DeepImage(values=colours, alpha=_alpha(values[..., -1]), kind=kind)
    return DeepImage(values=values, kind=kind)


def _read_jpeg2000(content: bytes, n_bits: int, most_pixels: int) -> DeepImage:
    import imagecodecs

    with Image.open(BytesIO(content)) as header:
        refuse_huge(header.size, most_pixels)
    values = imagecodecs.jpeg2k_decode(content)
    kind = f"JPEG2000 {_colour_words(values)} {n_bits}-bit"
    if values.shape[-1] in (2, 4):
        colours = values[..., 0] if values.shape[2] == 2 else values[..., :3]
        alpha = values[..., -1].astype(np.float32) / ((1 << n_bits) - 1)
        return DeepImage(values=colours, alpha=alpha, kind=kind)
    return DeepImage(values=values, kind=kind)


def _tiff_pages(content: bytes) -> list[Tags]:
    """The tags of every page."""
    head = content[: 16 if content[2:4] in (b"+\0", b"\0+") else 8]
    file, directory = BytesIO(content), ImageFileDirectory_v2(head)
    pages: list[Tags] = []
    met = set()
    while (place := directory.next) and place not in met and len(pages) < _MOST_PAGES:
        met.add(place)
        file.seek(place)
        directory = ImageFileDirectory_v2(head)
        directory.load(file)
        pages.append(directory)
    return pages


def _read_tiff(
    content: bytes, pages: Sequence[Tags], *, frame: Frame, most_pixels: int
) -> DeepImage:
    import imagecodecs

    index = frame_index(frame, len(pages))
    tags = pages[index]
    refuse_huge((int(tags[_WIDTH]), int(tags[_HEIGHT])), most_pixels)
    photometric = int(tags.get(_PHOTOMETRIC, 1))
    n_samples, n_bits = int(tags.get(_SAMPLES, 1)), _sequence(tags.get(_BITS, 1))[0]
    if photometric not in _COLOURS:
        raise ImageError(f"a TIFF of {n_bits} bits with colours {photometric} is not read")
    values = imagecodecs.tiff_decode(content, index=index)
    if n_samples > 1 and tags.get(_PLANAR, 1) == 2:
        values = np.moveaxis(values, 0, -1)
    if values.dtype.kind not in "uif" or values.ndim != 2 + (n_samples > 1):
        raise ImageError(f"a TIFF with pixels of {values.dtype} and {n_samples} channels")
    sign = _TYPES.get(_sequence(tags.get(_FORMAT, 1))[0], "")
    words = {_MIN_IS_WHITE: "grey, 0 is white,", _RGB: "RGB", _CMYK: "CMYK"}
    kind = f"TIFF {words.get(photometric, 'grey')} {sign}{n_bits}-bit"
    n_colours = _COLOURS[photometric]
    alpha = None
    if n_samples > n_colours:
        extra = _sequence(tags.get(_EXTRA, 0))[0]
        if extra in (1, 2):
            alpha = _alpha(values[..., n_colours])
        colours = values[..., :n_colours]
        if alpha is not None and extra == 1:  # colours were multiplied with it
            colours = colours / np.maximum(alpha, 1e-6)[..., None] * (alpha > 0)[..., None]
        values = colours[..., 0] if n_colours == 1 else colours
    return DeepImage(
        values=values,
        alpha=alpha,
        kind=kind if alpha is None else f"{kind}, transparency",
        inverted=photometric == _MIN_IS_WHITE,
        is_cmyk=photometric == _CMYK,
        orientation=int(tags.get(_ORIENTATION, 1)),
        n_frames=len(pages),
    )


def refuse_huge(size: tuple[int, int], most_pixels: int) -> None:
    """Refuse an image that would fill the memory.

    Raises:
        ImageError: it has more pixels.
    """
    if size[0] * size[1] > most_pixels:
        raise ImageError(
            f"{size[0]} x {size[1]} pixels, more than {most_pixels:,}: make it smaller first"
        )


def _sequence(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def _alpha(values: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    if values.dtype.kind == "f":
        return np.clip(np.nan_to_num(values.astype(np.float32)), 0, 1)
    opaque = np.iinfo(values.dtype).max  # type: ignore[type-var]
    return np.clip(values.astype(np.float64) / opaque, 0, 1).astype(np.float32)


def _colour_words(values: npt.NDArray[np.generic]) -> str:
    n = values.shape[2] if values.ndim == 3 else 1
    return {1: "grey", 2: "grey with transparency", 3: "RGB", 4: "RGB with transparency"}[n]
