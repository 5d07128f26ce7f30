"""A picture out of whatever file it lies in: upright, opaque, 8 bits a channel.

What a file is, its content says. Plain grey and RGB images of 8 bits come out as they are; of all
others it is remarked what was done to show them.
"""

import ctypes
import logging
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError, _imaging
from PIL.TiffImagePlugin import TiffImageFile

from core.errors import ImageError
from core.runs.decoding import USUAL, Background, Decoding, Frame, frame_index
from core.storage.packed import read_bytes
from corpus.dicom.datasets import open_dataset
from corpus.dicom.files import is_dicom
from corpus.dicom.pixels import read_pixels
from corpus.images.bombs import MOST_PIXELS, in_turn, refuse_bombs, refuse_huge
from corpus.images.deep import DeepImage, deep_kind, read_deep, read_unknown
from corpus.images.pillow import (
    BROKEN,
    EVEN,
    opaque,
    open_image,
    orientation_of,
    over,
    room_of,
    upright,
)
from corpus.images.scale import bilinear, gaussian
from corpus.images.window import between, window

Pixels = npt.NDArray[np.uint8]
Resample = Literal["bilinear", "bicubic", "nearest", "gaussian"]

_MOST_DRAWN = 2_000_000_000  # pixels up to the frame of an animation that is read

_NEVER_DICOM = (b"\xff\xd8\xff", b"\x89PNG")  # nearly all images; the rest is looked at closely

_NAMED = {
    ".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".png": "PNG", ".tif": "TIFF",
    ".tiff": "TIFF", ".gif": "GIF", ".bmp": "BMP", ".webp": "WEBP", ".jp2": "JPEG2000",
    ".j2k": "JPEG2000", ".pgm": "PPM", ".ppm": "PPM", ".dcm": "DICOM",
}  # fmt: skip
"""Formats that the end of a name promises."""

_DICOM_COLOURS = (
    "MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT",
    "YBR_ICT",
)  # fmt: skip

_MODES = {
    "1": "1-bit", "L": "grey", "LA": "grey with transparency", "P": "palette",
    "PA": "palette with transparency", "RGBA": "RGB with transparency", "I;16": "grey 16-bit",
    "I": "grey 32-bit", "F": "grey float",
}  # fmt: skip

_PILLOW = re.compile(r"PIL\b")

_SINGLE, _EVEN_ALL_OVER = "a single pixel", "one colour all over"
_MISNAMED = " by its content, whatever its name says"
MISNAMED_DICOM = f"DICOM{_MISNAMED}"


@dataclass(frozen=True)
class Decoded:
    """A picture as it is meant to be seen.

    Attributes:
        pixels: (H, W) or (H, W, 3), uint8, upright.
        kind: format, colours and bits of the file, in words.
        remarks: what was done to show it, a fixed text each; what differs from image to image
            stands in brackets at its end.
    """

    pixels: Pixels
    kind: str
    remarks: tuple[str, ...] = ()


def decode(path: Path, *, size: int, resample: Resample, decoding: Decoding = USUAL) -> Decoded:
    """An image scaled to (size, size, 3), uint8.

    Nothing is cropped: radiographs have findings at their margins. Grey images fill three equal
    channels. Images of more than 8 bits are shown through `corpus.images.window`.

    Raises:
        ImageError: the file is missing, not an image, or cut short; the file is named.
    """
    draft = _draft(size, resample=resample)
    with in_turn():
        picture = read_picture(path, draft=draft, decoding=decoding)
        return _scaled(picture, size=size, resample=resample)


def decode_content(
    content: bytes,
    named: Path,
    *,
    size: int,
    resample: Resample,
    decoding: Decoding = USUAL,
    most_pixels: int = MOST_PIXELS,
) -> Decoded:
    """An image that is in memory, as `decode` gives the same bytes in a file.

    Args:
        content: the bytes of the file.
        named: what the file would be called, for messages.
        size: of the square.
        resample: how it is scaled.
        decoding: what the file leaves open.
        most_pixels: of a larger one only the header is read.

    Raises:
        ImageError: it is larger, not an image, or cut short; the name is in it.
    """
    draft = _draft(size, resample=resample)
    read = partial(_read, content, draft=draft, decoding=decoding, most_pixels=most_pixels)
    with in_turn():
        return _scaled(_named(read, named), size=size, resample=resample)


def _draft(size: int, *, resample: Resample) -> int | None:
    """To which size at least the JPEG decoder may scale down first, by halves; None for not at all.

    Its own halves are not those of a filter. Where a model asks for bicubic, to be given what its
    library would give it (cosines of features are 0.999 otherwise), the last half is the filter's.
    """
    return {"bilinear": size, "bicubic": 2 * size}.get(resample)


def _scaled(picture: Decoded, *, size: int, resample: Resample) -> Decoded:
    square = to_square(picture.pixels, size=size, resample=resample)
    return Decoded(square, picture.kind, (*picture.remarks, *_of_whole(picture.pixels, square)))


def to_square(pixels: Pixels, *, size: int, resample: Resample) -> Pixels:
    """Pixels (H, W) or (H, W, 3) scaled to (size, size, 3)."""
    if resample == "bilinear":
        return bilinear(pixels, size)
    if resample == "gaussian":
        return gaussian(pixels, size)
    filters = {"nearest": Image.Resampling.NEAREST, "bicubic": Image.Resampling.BICUBIC}
    scaled = Image.fromarray(pixels).resize((size, size), filters[resample])
    return np.asarray(scaled.convert("RGB"))


def pixels_of(image: Image.Image, *, decoding: Decoding = USUAL) -> Pixels:
    """An image that Pillow holds, as its file would be read: (H, W) or (H, W, 3), upright.

    Of several frames it is the one that Pillow stands at. A JPEG is decoded in full, where its file
    is scaled down on the way if the square is much smaller.

    Raises:
        ImageError: it cannot be decoded, or is huge; no name is in the text.
    """
    _silence()
    try:
        with in_turn():
            refuse_huge(image.size, MOST_PIXELS, n_bytes=room_of(image))
            image.load()
            pixels, _ = opaque(image, decoding.background)
            return upright(pixels, orientation_of(image))
    except ImageError:
        raise
    except BROKEN as error:
        raise ImageError(f"cannot be decoded ({_reason(error)})") from None


def read_picture(path: Path, *, draft: int | None = None, decoding: Decoding = USUAL) -> Decoded:
    """An image in its own size, or in one near to it.

    Args:
        path: the file, or its place in an archive.
        draft: side of the square it will be scaled to, so that a JPEG need not be decoded in full.
        decoding: what the file leaves open.

    Raises:
        ImageError: the file is missing, not an image, or cut short; the file is named.
    """
    with in_turn():
        return _named(lambda: _read(read_bytes(path), draft=draft, decoding=decoding), path)


def _named(read: Callable[[], Decoded], path: Path) -> Decoded:
    """What is read, or an error in one line that begins with the name of the file."""
    _silence()
    try:
        with np.errstate(all="ignore"):  # floats of a file may be any
            picture = read()
    except ImageError as error:
        raise type(error)(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except UnidentifiedImageError:
        raise ImageError(f"{path}: not an image") from None
    except BROKEN as error:
        raise ImageError(f"{path}: cannot be decoded ({_reason(error)})") from None
    found, promised = picture.kind.split(" ", 1)[0], _NAMED.get(path.suffix.lower())
    if promised and found != promised and (found, promised) != ("MPO", "JPEG"):
        remark = f"{found}{_MISNAMED}"
        return Decoded(picture.pixels, picture.kind, (remark, *picture.remarks))
    return picture


def _reason(error: Exception) -> str:
    """What a decoder says; where it says a number, what that means."""
    text = " ".join(str(error).split())
    if isinstance(error, LookupError):
        return "its header is broken"
    if text.startswith("image file is truncated"):
        return "cut short"
    return "damaged, or cut short" if not text or text.startswith("decoder error") else text


def _silence() -> None:
    """Keep what decoders warn of off the terminal: what matters is remarked or refused here.

    For good, not for a block: blocks of several threads undo each other's.
    """
    _silence_libtiff()
    for library in ("PIL", "imagecodecs"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    Image.MAX_IMAGE_PIXELS = None  # `refuse_huge` says the same in a line that names the file
    if not any(f[0] == "ignore" and f[3] == _PILLOW for f in warnings.filters):
        warnings.filterwarnings("ignore", module=_PILLOW.pattern)


@cache
def _silence_libtiff() -> None:
    """Take from Pillow's libtiff the handler that prints errors: Pillow raises them as well.

    Where libtiff is a part of Pillow's own library, as on Windows, its functions are not found.
    """
    try:
        set_handler = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
    except (OSError, AttributeError):
        return
    set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
    set_handler(None)


def _read(
    content: bytes, *, draft: int | None, decoding: Decoding, most_pixels: int = MOST_PIXELS
) -> Decoded:
    if not content.startswith(_NEVER_DICOM) and is_dicom(content):
        frame = decoding.frame or "middle"
        pixels, remarks = read_pixels(content, frame=frame, most_pixels=most_pixels)
        return Decoded(pixels, "DICOM grey" if pixels.ndim == 2 else "DICOM RGB", remarks)
    page: Frame = decoding.frame or "first"
    refuse_bombs(content, most_pixels=most_pixels)
    if deep := read_deep(content, frame=page, most_pixels=most_pixels):
        return _shown(deep, content, page, background=decoding.background)
    try:
        image = open_image(content)
    except UnidentifiedImageError:
        unknown = read_unknown(content, frame=page, most_pixels=most_pixels)
        if unknown is None:
            raise
        return _shown(unknown, content, page, background=decoding.background)
    with image:
        refuse_huge(image.size, most_pixels, n_bytes=room_of(image))
        if draft is not None:
            image.draft("RGB", (draft, draft))
        remarks = _to_frame(image, page)
        kind = _kind(image, content)
        orientation = orientation_of(image) if image.format == "TIFF" else 1  # Pillow will turn it
        image.load()
        if orientation == 1:
            orientation = orientation_of(image)
            pixels, further = opaque(image, decoding.background)
            pixels = upright(pixels, orientation)
        else:
            pixels, further = opaque(image, decoding.background)
    turned = _turn_remarks(orientation)
    return Decoded(pixels, kind, (*remarks, *turned, *further))


def _kind(image: Image.Image, content: bytes) -> str:
    words = _MODES.get(image.mode, image.mode)
    if image.format == "PNG" and image.mode in ("L", "P") and content[24] < 8:
        words += f" {content[24]}-bit"
    if isinstance(image, TiffImageFile) and image.tag_v2.get(262) == 0 and image.mode != "1":
        words += ", 0 is white"
    if "transparency" in image.info:
        words += ", a transparent colour"
    return f"{image.format} {words}"


def kind_of(path: Path) -> str:
    """Format, colours and bits of a file in words, by its header alone where that tells them."""
    _silence()
    try:
        content = read_bytes(path)
        refuse_bombs(content, most_pixels=MOST_PIXELS)
        if not content.startswith(_NEVER_DICOM) and is_dicom(content):
            return _dicom_kind(content)
        if (deep := deep_kind(content)) is not None:
            return deep
        with open_image(content) as image:
            return _kind(image, content)
    except ImageError:
        return "damaged"
    except FileNotFoundError:
        return "missing"
    except BROKEN:  # of them is what Pillow does not know
        return "unknown"


def _dicom_kind(content: bytes) -> str:
    """What is known of its pixels; nothing else of the header is looked at."""
    try:
        header = open_dataset(content)
    except ImageError:
        return "DICOM"
    words = str(header.get("PhotometricInterpretation") or "").strip().upper()
    bits = header.get("BitsStored")
    known = words if words in _DICOM_COLOURS else "of unknown colours"
    return f"DICOM {known} {bits}-bit" if isinstance(bits, int) else "DICOM without pixels"


def _to_frame(image: Image.Image, frame: Frame) -> tuple[str, ...]:
    """Go to the frame that is asked for."""
    if image.format == "JPEG":
        return ()
    n_frames = getattr(image, "n_frames", 1)
    if n_frames < 2:
        return ()
    if (
        index := frame_index(frame, n_frames)
    ) and image.format != "TIFF":  # each before it is drawn
        n_drawn = (index + 1) * image.width * image.height
        if n_drawn > _MOST_DRAWN:
            raise ImageError(f"{n_drawn:,} pixels are to be drawn up to its {frame} frame")
    image.seek(index)
    return (_frame_remark(frame, n_frames),)


def _frame_remark(frame: Frame, n_frames: int) -> str:
    if isinstance(frame, int):
        return f"page or frame {frame} of several, or the last (of {n_frames})"
    return f"{frame} page or frame of several (of {n_frames})"


def _turn_remarks(orientation: int) -> tuple[str, ...]:
    return () if orientation == 1 else ("turned upright by the EXIF tag",)


def _shown(deep: DeepImage, content: bytes, frame: Frame, *, background: Background) -> Decoded:
    """The picture of a file whose values have more than 8 bits."""
    remarks = () if deep.n_frames < 2 else (_frame_remark(frame, deep.n_frames),)
    seen = None if deep.alpha is None or not deep.alpha.any() else deep.alpha > 0
    pixels, further = window(deep.values, used=seen, inverted=deep.inverted)
    if _is_even(deep):
        pixels, further = between(deep.values, low=0, high=deep.most, inverted=deep.inverted), ()
    if deep.alpha is not None:
        pixels, composed = over(pixels, deep.alpha, background=background)
        further = (*further, *composed)
    orientation = deep.orientation
    if any(tag in content for tag in (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")):
        with open_image(content) as header:
            orientation = orientation_of(header)
    if orientation not in range(1, 9):
        orientation = 1
    pixels = upright(pixels, orientation)
    return Decoded(pixels, deep.kind, (*remarks, *_turn_remarks(orientation), *further))


def _is_even(deep: DeepImage) -> bool:
    """Whether all that can be seen of an image has one colour: what it shows is in its alpha."""
    if deep.alpha is None or np.ptp(deep.alpha) == 0:
        return False
    seen = deep.values[deep.alpha > 0].astype(np.float64)
    return bool(np.all(np.ptp(seen, axis=0) <= EVEN / 255 * np.abs(seen).max()))


def remark_kind(remark: str) -> str:
    """What a remark has in common with those of other images.

    Example:
        >>> remark_kind("outliers cut off (9 values)")
        'outliers cut off'
    """
    return remark.partition(" (")[0]


def changes_pixels(remark: str) -> bool:
    """Whether a remark tells of more than the bare bytes of the file."""
    return remark not in (_SINGLE, _EVEN_ALL_OVER) and not remark.endswith(_MISNAMED)


def _of_whole(pixels: Pixels, square: Pixels) -> tuple[str, ...]:
    """What is strange of a picture as a whole."""
    if pixels.shape[0] * pixels.shape[1] == 1:
        return (_SINGLE,)
    middle = square[len(square) // 2]
    if (
        middle[0, 0] != square[0, 0, 0]
        or (middle != middle[0]).any()
        or (square != middle[0]).any()
    ):
        return ()
    return (_EVEN_ALL_OVER,)
