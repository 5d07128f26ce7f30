"""Images of more than 8 bits a channel, as the numbers that their files hold.

Pillow drops the low byte of such colours, so that 12 bits stored in 16 become black, and does not
know all the types of a TIFF. Here PNG, TIFF and JPEG 2000 are read by libpng, libtiff and OpenJPEG,
through imagecodecs; Pillow still reads the headers. PGM and PPM are plain numbers.
"""

import re
import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from core.errors import ImageError
from core.runs.decoding import Frame, frame_index
from corpus.images import tiff
from corpus.images.bombs import JPEG2000, refuse_huge
from corpus.images.pillow import open_image

_PNG_START = b"\x89PNG\r\n\x1a\n"
_SIZ = b"\xff\x4f\xff\x51"  # start of a JPEG 2000 codestream

_GAP = rb"(?:\s|#[^\r\n]*[\r\n])+"
_PNM = re.compile(rb"P([2356])" + (_GAP + rb"(\d{1,9})") * 3 + rb"\s")
"""Kind, width, height and largest value of a PGM or PPM."""

_MIN_IS_WHITE, _RGB, _CMYK = 0, 2, 5  # photometric interpretations
_COLOURS = {_MIN_IS_WHITE: 1, 1: 1, _RGB: 3}
"""Channels of a photometric interpretation, beside transparency."""

_CHANNELS = {2: "grey with transparency", 3: "RGB", 4: "RGB with transparency"}
_PNG_COLOURS = {2: _CHANNELS[3], 4: _CHANNELS[2], 6: _CHANNELS[4]}

_TYPES = {1: "", 2: "signed ", 3: "float "}


@dataclass(frozen=True, kw_only=True)
class DeepImage:
    """What a file holds.

    Attributes:
        values: (H, W) or (H, W, 3).
        alpha: (H, W) in [0, 1]; None where nothing is transparent.
        kind: format, colours and bits, in words.
        inverted: whether the largest value is black.
        orientation: as in EXIF.
        n_frames: pages of the file.
    """

    values: npt.NDArray[np.generic]
    kind: str
    alpha: npt.NDArray[np.float32] | None = None
    inverted: bool = False
    orientation: int = 1
    n_frames: int = 1

    @property
    def most(self) -> float:
        """A value of white: 1 of floats, else the largest of 8, 10, 12 and so on bits."""
        if self.values.dtype.kind == "f":
            return 1.0
        bits = int(self.values.max()).bit_length()
        return float((1 << max(8, bits + bits % 2)) - 1)


def deep_kind(content: bytes, *, frame: Frame = "first") -> str | None:
    """Format, colours and bits of an image that Pillow would not give whole; None of any other.

    The header is read, nothing is decoded.
    """
    if content.startswith(_PNG_START):
        is_deep = len(content) > 25 and content[24] == 16 and content[25] in _PNG_COLOURS
        return f"PNG {_PNG_COLOURS[content[25]]} 16-bit" if is_deep else None
    if content.startswith(tiff.STARTS):
        pages = tiff.pages_of(content)
        return _tiff_kind(pages[frame_index(frame, len(pages))]) if pages else None
    if (pnm := _PNM.match(content)) and int(pnm[4]) > 255:
        colours = "grey" if pnm[1] in b"25" else "RGB"
        return f"PPM {colours} {min(int(pnm[4]).bit_length(), 16)}-bit"
    if content.startswith(JPEG2000):
        start = content.find(_SIZ)
        if start >= 0 and len(content) > start + 42:
            n_channels = int.from_bytes(content[start + 40 : start + 42], "big")
            n_bits = (content[start + 42] & 127) + 1
            if n_bits > 8 and n_channels in _CHANNELS:
                return f"JPEG2000 {_CHANNELS[n_channels]} {n_bits}-bit"
    return None


def _tiff_kind(tags: tiff.Tags) -> str | None:
    photometric = tiff.first_of(tags, tiff.PHOTOMETRIC, usual=1)
    formats, bits = (tags.get(tag, (1,)) for tag in (tiff.FORMAT, tiff.BITS))
    if not (set(formats) - {1} or set(bits) & {16, 32, 64}) or photometric == _CMYK:
        return None  # of inks the upper 8 bits are enough: they are never windowed
    words = {_MIN_IS_WHITE: "grey, 0 is white,", _RGB: "RGB"}
    colours = words.get(photometric, "grey")
    clear = " with transparency" if {*tags.get(tiff.EXTRA, ())} & {1, 2} else ""
    return f"TIFF {colours}{clear} {_TYPES.get(formats[0], '')}{bits[0]}-bit"


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
    kind = deep_kind(content, frame=frame)
    if kind is None:
        return None
    if kind.startswith("TIFF"):
        return _read_tiff(content, kind, frame=frame, most_pixels=most_pixels)
    if kind.startswith("PPM"):
        return _read_numbers(content, kind, most_pixels)
    return _read_channels(content, kind, most_pixels)


def read_unknown(content: bytes, *, frame: Frame, most_pixels: int) -> DeepImage | None:
    """The values of an image that Pillow does not know at all; None where nothing here does.

    They are JPEG of 12 bits or without losses, and further types of TIFF.

    Raises:
        ImageError: the image is too large, or its kind is not read.
        RuntimeError, ValueError: the file is broken; as imagecodecs has it.
    """
    import imagecodecs

    if content.startswith(tiff.STARTS) and tiff.pages_of(content):
        return _read_tiff(content, "TIFF of its own kind", frame=frame, most_pixels=most_pixels)
    if frame_of := _jpeg_frame(content):
        n_bits, height, width = frame_of
        refuse_huge((width, height), most_pixels, n_bytes=_room(3, 16))
        values = imagecodecs.jpeg_decode(content)
        return DeepImage(values=values, kind=f"JPEG {n_bits}-bit")
    return None


def _jpeg_frame(content: bytes) -> tuple[int, int, int] | None:
    """Bits, height and width of a JPEG, of the kinds that Pillow does not know."""
    place = 2
    while content.startswith(b"\xff\xd8") and place + 9 <= len(content):
        if content[place] != 0xFF:
            return None
        marker = content[place + 1]
        length = int.from_bytes(content[place + 2 : place + 4], "big")
        if marker in (0xC0, 0xC1, 0xC2, 0xC3):
            bits, height, width = struct.unpack_from(">BHH", content, place + 4)
            return (bits, height, width) if bits != 8 or marker == 0xC3 else None
        place += 2 + length
    return None


def _read_channels(content: bytes, kind: str, most_pixels: int) -> DeepImage:
    """A PNG or JPEG 2000, whose last channel of two or four is its transparency.

    A transparent colour of a PNG comes as such a channel.
    """
    import imagecodecs

    is_png = kind.startswith("PNG")
    n_channels = next(n for n in (4, 3, 2) if f" {_CHANNELS[n]} " in kind)
    with open_image(content) as header:
        refuse_huge(header.size, most_pixels, n_bytes=_room(n_channels, 16 if is_png else 32))
    values = imagecodecs.png_decode(content) if is_png else imagecodecs.jpeg2k_decode(content)
    n_channels = values.shape[2] if values.ndim == 3 else 1
    if n_channels not in (2, 4):
        return DeepImage(values=values, kind=kind)
    n_bits = int(kind.rpartition(" ")[2].removesuffix("-bit"))
    colours = values[..., 0] if n_channels == 2 else values[..., :3]
    alpha = _share(values[..., -1], (1 << n_bits) - 1)
    return DeepImage(values=colours, alpha=alpha, kind=kind)


def _read_numbers(content: bytes, kind: str, most_pixels: int) -> DeepImage:
    """A PGM or PPM of more than 8 bits, in bytes or written out."""
    pnm = _PNM.match(content)
    assert pnm is not None
    width, height = int(pnm[2]), int(pnm[3])
    is_grey = pnm[1] in b"25"
    refuse_huge((width, height), most_pixels, n_bytes=_room(1 if is_grey else 3, 16))
    shape = (height, width) if is_grey else (height, width, 3)
    n_values = int(np.prod(shape))
    if pnm[1] in b"56":
        n_there = min((len(content) - pnm.end()) // 2, n_values)
        values = np.frombuffer(content, ">u2", n_there, pnm.end()).astype(np.uint16)
    else:
        values = np.array(content[pnm.end() :].split(None, n_values)[:n_values], np.uint16)
    if len(values) < n_values:
        raise ImageError(f"cut short: {len(values):,} of {n_values:,} values")
    return DeepImage(values=values.reshape(shape), kind=kind)


def _read_tiff(content: bytes, kind: str, *, frame: Frame, most_pixels: int) -> DeepImage:
    import imagecodecs

    pages = tiff.pages_of(content)
    index = frame_index(frame, len(pages))
    tags = pages[index]
    photometric = tiff.first_of(tags, tiff.PHOTOMETRIC, usual=1)
    n_samples, n_bits = (tiff.first_of(tags, tag, usual=1) for tag in (tiff.SAMPLES, tiff.BITS))
    size = tags[tiff.WIDTH][0], tags[tiff.HEIGHT][0]
    refuse_huge(size, most_pixels, n_bytes=_room(n_samples, n_bits))
    if photometric not in _COLOURS:
        raise ImageError(f"a TIFF of {n_bits} bits with colours {photometric} is not read")
    values = imagecodecs.tiff_decode(content, index=index)
    if n_samples > 1 and tiff.first_of(tags, tiff.PLANAR, usual=1) == 2:
        values = np.moveaxis(values, 0, -1)
    if values.dtype.kind not in "uif" or values.ndim != 2 + (n_samples > 1):
        raise ImageError(f"a TIFF with pixels of {values.dtype} and {n_samples} channels")
    n_colours = _COLOURS[photometric]
    alpha = None
    if n_samples > n_colours:
        extra = tiff.first_of(tags, tiff.EXTRA, usual=0)
        if extra in (1, 2):
            most = 1 if values.dtype.kind == "f" else np.iinfo(values.dtype).max
            alpha = _share(values[..., n_colours], most)
        colours = values[..., :n_colours]
        if alpha is not None and extra == 1:  # colours were multiplied with it
            colours = colours / np.maximum(alpha, 1e-6)[..., None] * (alpha > 0)[..., None]
        values = colours[..., 0] if n_colours == 1 else colours
    return DeepImage(
        values=values,
        alpha=alpha,
        kind=kind,
        inverted=photometric == _MIN_IS_WHITE,
        orientation=tiff.first_of(tags, tiff.ORIENTATION, usual=1),
        n_frames=len(pages),
    )


def _room(n_channels: int, n_bits: int) -> int:
    """Bytes that a pixel takes until it is grey levels: measured, of 16 to 64 bits."""
    return max(n_channels, 1) * (12 + n_bits // 2)


def _share(values: npt.NDArray[np.generic], most: int) -> npt.NDArray[np.float32]:
    """Values as shares of the largest, from 0 to 1."""
    return np.clip(np.nan_to_num(values.astype(np.float64) / most), 0, 1).astype(np.float32)
