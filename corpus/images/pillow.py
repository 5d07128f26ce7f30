"""Pixels of an image that Pillow holds: upright, opaque, 8 bits a channel."""

import struct
import zlib
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import (
    Image,
    ImageFilter,
)
from PIL.ImageFile import ImageFile

from core.runs.decoding import Background
from corpus.images.window import window

Pixels = npt.NDArray[np.uint8]

BROKEN = (
    OSError, SyntaxError, ValueError, RuntimeError, LookupError, ArithmeticError, EOFError,
    TypeError, AttributeError, MemoryError, struct.error, zlib.error,
)  # fmt: skip
"""What decoders raise on broken files."""

FORMATS = ("BMP", "DIB", "GIF", "JPEG", "PPM", "PNG", "JPEG2000", "TIFF", "WEBP", "TGA")
"""Formats that Pillow reads here, as it calls them. A file is what its content says; Targa, which
begins with nothing of its own, comes last."""

_ROWS = 1 << 22  # pixels that are put on a background at a time

_TAGGED = {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"}
"""Where Pillow finds the orientation."""

_FAINT = 64  # grey levels between a colour and a background on which it can hardly be seen
EVEN = 8  # grey levels within which a picture has one colour

_SCATTERED = 0.4  # of the ends that dots have in their rows where none touches another
_LEVELS = {"black": 0, "white": 255}


def open_image(content: bytes) -> ImageFile:
    """An image of one of `FORMATS`, by its content; only its header is read.

    Pillow knows forty more. Some start programs of the machine, some end in errors of all kinds
    where a file is damaged, and none is a format that radiographs are kept in.

    Raises:
        UnidentifiedImageError: it is something else.
    """
    return Image.open(BytesIO(content), formats=FORMATS)


def orientation_of(image: Image.Image) -> int:
    """As in EXIF, 1 for upright."""
    if image.format != "TIFF" and not _TAGGED & image.info.keys():
        return 1
    try:
        found = image.getexif().get(274, 1)
    except BROKEN:
        return 1
    return found if found in range(1, 9) else 1


def room_of(image: Image.Image) -> int:
    """Bytes that a pixel takes until it is grey levels or RGB, all copies together; measured."""
    if image.format == "JPEG2000":
        return 16 * len(image.getbands())
    if image.mode.startswith("I;16"):
        return 24
    is_clear = "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La")
    return 48 if is_clear or image.mode in ("I", "F") else 12


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Pixels (H, W) or (H, W, 3), turned and mirrored as EXIF asks for."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def opaque(image: Image.Image, background: Background) -> tuple[Pixels, tuple[str, ...]]:
    """The pixels of a loaded image, (H, W) where it is grey and (H, W, 3) where not."""
    clear = image.info.get("transparency")
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image)
        if not isinstance(clear, int):
            return window(values)
        seen = values != clear
        pixels, remarks = window(values, used=seen)
        on, further = over(pixels, seen.astype(np.float32), background=background)
        return on, (*remarks, *further)
    if image.mode in ("RGBa", "La"):
        image = image.convert(image.mode.upper())
    if (clear is not None and image.mode not in ("RGBA", "LA")) or image.mode == "PA":
        image = image.convert("RGBA")
    if image.mode in ("RGBA", "LA"):
        bands = np.asarray(image)
        colours = bands[..., 0] if image.mode == "LA" else bands[..., :3]
        if bands[..., -1].min() == 255:
            return np.ascontiguousarray(colours), ()
        alpha = bands[..., -1].astype(np.float32) / np.float32(255)
        return over(colours, alpha, background=background)
    if image.mode == "1" or (image.mode == "L" and image.format == "GIF"):
        return _undithered(image.convert("L"))
    return np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB")), ()


def _undithered(image: Image.Image) -> tuple[Pixels, tuple[str, ...]]:
    """The greys that scattered black and white dots stand for; any other image as it is."""
    pixels = np.asarray(image)
    white = pixels == 255
    n_of_one = min(np.count_nonzero(white), np.count_nonzero(pixels == 0))
    n_changes = np.count_nonzero(white[:, 1:] != white[:, :-1])
    if n_changes < _SCATTERED * 2 * n_of_one or not n_changes or np.any(~white & (pixels != 0)):
        return pixels, ()
    return np.asarray(image.filter(ImageFilter.GaussianBlur(1))), ("dots smoothed to greys",)


def over(
    colours: Pixels, alpha: npt.NDArray[np.float32], *, background: Background
) -> tuple[Pixels, tuple[str, ...]]:
    """Colours on a background; where that would hide a picture, on the other one."""
    if float(alpha.min()) == 1:
        return colours, ()
    if float(alpha.max()) == 0:
        return colours, ("transparent everywhere: shown as if it were not",)
    if float(alpha.min()) == float(alpha.max()):
        return colours, ("as transparent everywhere: shown as if it were not",)
    seen = colours[alpha > 0]
    darkest, brightest = seen.min(axis=0), seen.max(axis=0)
    text = f"transparent pixels put on {background}"
    if np.all(brightest.astype(int) - darkest <= EVEN):  # all that can be seen is in the alpha
        level = float(np.mean(seen))
        if abs(level - _LEVELS[background]) < _FAINT:
            background = "white" if background == "black" else "black"
        text = f"a picture in its transparency alone, put on {background}"
    mixed = np.empty(colours.shape, np.uint8)
    n_rows = max(1, _ROWS // colours.shape[1])
    for start in range(0, len(colours), n_rows):
        rows = slice(start, start + n_rows)
        share = alpha[rows] if colours.ndim == 2 else alpha[rows, :, None]
        mixed[rows] = np.rint(colours[rows] * share + _LEVELS[background] * (1 - share))
    return mixed, (text,)
