"""Small files that would keep a decoder busy for minutes, or fill the memory: told by their heads.

What is too large by the width and height in its header is refused by `refuse_huge`, and what is
large has to wait until there is room for it beside what other threads decode. What `refuse_bombs`
refuses has a small header: layers, tiles, tags, frames and scans are counted elsewhere in a file,
and some may lie over each other.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, local

from core.errors import HugeImageError, ImageError
from corpus.dicom.growth import pixels_of_jpeg, pixels_of_jpeg_2000, refuse_scans
from corpus.images import tiff

MOST_PIXELS = 400_000_000
"""Of an image, if a pixel of it takes no more than twelve bytes on its way to grey levels."""

_MOST_BYTES = 4_800_000_000  # that one image takes while it is decoded, and all together
_WAITS = 64 << 20  # bytes from which on an image waits for its turn

_JPEG, _PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
JPEG2000 = (b"\0\0\0\x0cjP", b"\xff\x4f\xff\x51")
"""Starts of JPEG 2000, in its boxes and bare."""

_SCAN, _APP1 = 0xDA, 0xE1
_EXIF = b"Exif\0\0"
_MOST_PARTS = 10_000  # of a JPEG before its first scan; a profile of 64 MB has a thousand
_MOST_EXIF = 64  # of them; a camera writes one

_MOST_CHUNKS = 100_000  # of a PNG or WebP; usual are 8 kB and more
_OF_HEADER = struct.Struct(">IIB")  # width, height and bits of a PNG, from its byte 16 on
_MOST_GROWN = 1032  # bytes that one deflated byte becomes
_LITTLE = 1 << 20
_MOST_FRAMES = 5_000
_MOST_COMMENT = 1 << 20  # bytes of a GIF's comments, which Pillow puts together piece by piece


def refuse_bombs(content: bytes, *, most_pixels: int) -> None:
    """Refuse what takes minutes or gigabytes to decode, whatever size its header says.

    Args:
        content: of a file.
        most_pixels: of an image.

    Raises:
        HugeImageError: it has more values than so many pixels of four channels of 16 bits.
        ImageError: its parts are too many.
    """
    if content.startswith(_JPEG):
        _refuse_parts(content)
        refuse_scans(content, n_pixels=pixels_of_jpeg(content))
    elif content.startswith(_PNG):
        _refuse_chunks(content, most_pixels)
    elif content.startswith(tiff.STARTS):
        tiff.refuse_values(tiff.pages_of(content), most_pixels=most_pixels)
    elif content.startswith((b"GIF87a", b"GIF89a")):
        _refuse_frames(content)
    elif content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        _refuse_webp(content, most_pixels)
    elif content.startswith(JPEG2000) and pixels_of_jpeg_2000(content) > most_pixels:
        raise HugeImageError(f"a JPEG 2000 of more than {most_pixels:,} pixels")


def _refuse_parts(content: bytes) -> None:
    """Of a JPEG: Pillow goes from one to the next, and byte by byte where none begins."""
    place, n_parts, exif = 2, 0, list[bytes]()
    while place + 4 <= len(content):
        marker = content[place + 1] if content[place] == 0xFF else 0
        if marker == _SCAN:
            break
        n_parts += 1
        if n_parts > _MOST_PARTS or len(exif) > _MOST_EXIF:
            raise ImageError(
                f"a JPEG of more than {_MOST_PARTS:,} parts, or {_MOST_EXIF} of EXIF, before its"
                " picture"
            )
        if marker in (0, 0xFF):
            place += 1
        elif 0xD0 <= marker <= 0xD9:
            place += 2
        else:
            length = int.from_bytes(content[place + 2 : place + 4], "big")
            if marker == _APP1 and content.startswith(_EXIF, place + 4):
                exif.append(content[place + 10 : place + 2 + length])
            place += 2 + length
    if exif:
        _refuse_exif(b"".join(exif))


def _refuse_exif(block: bytes) -> None:
    try:
        tiff.pages_of(block, most_pages=1)
    except ImageError:
        raise ImageError("EXIF whose tags are too many, or lie over each other") from None
    except struct.error:  # too short to say anything
        return


def _refuse_chunks(content: bytes, most_pixels: int) -> None:
    """Of a PNG: too many, or pixels that its chunks cannot hold, which Pillow would leave black."""
    place, n_chunks, n_deflated = len(_PNG), 0, 0
    while place + 8 <= len(content):
        n_chunks += 1
        if n_chunks > _MOST_CHUNKS:
            raise ImageError(f"a PNG of more than {_MOST_CHUNKS:,} chunks")
        length = int.from_bytes(content[place : place + 4], "big")
        if content.startswith(b"eXIf", place + 4):
            _refuse_exif(content[place + 8 : place + 8 + length])
        n_deflated += length * content.startswith(b"IDAT", place + 4)
        place += 12 + length
    if len(content) > _OF_HEADER.size + 16:
        width, height, n_bits = _OF_HEADER.unpack_from(content, 16)
        n_bytes = height * -(-width * n_bits // 8)
        if n_bytes > _MOST_GROWN * n_deflated + _LITTLE and width * height <= most_pixels:
            raise ImageError("cut short: so few bytes do not hold so many pixels")


def _refuse_webp(content: bytes, most_pixels: int) -> None:
    place, n_chunks = 12, 0
    while place + 8 <= len(content):
        n_chunks += 1
        if n_chunks > _MOST_FRAMES:
            raise ImageError(f"a WebP of more than {_MOST_FRAMES:,} parts")
        name, length = (
            content[place : place + 4],
            int.from_bytes(content[place + 4 : place + 8], "little"),
        )
        if name == b"VP8X":  # the canvas is made before anything is decoded
            sides = (content[place + 12 : place + 15], content[place + 15 : place + 18])
            width, height = (1 + int.from_bytes(side, "little") for side in sides)
            refuse_huge((width, height), most_pixels, n_bytes=48)
        elif name == b"EXIF":
            _refuse_exif(content[place + 8 : place + 8 + length].removeprefix(_EXIF))
        place += 8 + length + length % 2


def _refuse_frames(content: bytes) -> None:
    """Of a GIF: Pillow goes through all of them, and byte by byte where none begins."""
    n_parts = n_frames = n_comment = 0
    place = 13 + _table(content, 10)
    while place < len(content) and (kind := content[place]) != 0x3B:
        n_parts += 1
        n_frames += kind == 0x2C
        if n_frames > _MOST_FRAMES or n_parts > 10 * _MOST_FRAMES:
            raise ImageError(f"a GIF of more than {_MOST_FRAMES:,} frames, or as many parts")
        if kind not in (0x21, 0x2C):
            place += 1
            continue
        is_comment = content[place + 1 : place + 2] == b"\xfe"
        start = place = place + (2 if kind == 0x21 else 11 + _table(content, place + 9))
        while place < len(content) and content[place]:
            place += 1 + content[place]
        n_comment += (place - start) * (kind == 0x21 and is_comment)
        if n_comment > _MOST_COMMENT:
            raise ImageError(f"a GIF with more than {_MOST_COMMENT:,} bytes of comments")
        place += 1


def _table(content: bytes, flags: int) -> int:
    """Bytes of the palette that a byte of flags announces."""
    found = content[flags] if flags < len(content) else 0
    return 3 << (found % 8 + 1) if found & 0x80 else 0


def refuse_huge(size: tuple[int, int], most_pixels: int, *, n_bytes: int = 12) -> None:
    """Refuse an image that would fill the memory; a large one waits for its turn, see `in_turn`.

    Args:
        size: width and height.
        most_pixels: that it may have.
        n_bytes: that a pixel takes, all copies together, until it is grey levels.

    Raises:
        HugeImageError: it has more pixels, or takes more memory than any image may.
    """
    most = min(most_pixels, _MOST_BYTES // n_bytes)
    n_pixels = size[0] * size[1]
    if n_pixels > most:
        raise HugeImageError(
            f"{size[0]} x {size[1]} pixels, more than {most:,}: make it smaller first"
        )
    wait_for_room(n_pixels * n_bytes)


class _Mine(local):
    """What this thread holds: how often it is within `in_turn`, and how many bytes it takes."""

    depth = 0
    n_bytes = 0


_MINE, _ROOM = _Mine(), Condition()
_TAKEN = [0]  # bytes by all threads


@contextmanager
def in_turn() -> Iterator[None]:
    """Within, what `refuse_huge` lets pass waits for room beside the images of other threads.

    However many threads there are, what they decode at once takes no more than the largest image
    may. Small images never wait.
    """
    _MINE.depth += 1
    try:
        yield
    finally:
        _MINE.depth -= 1
        if not _MINE.depth and _MINE.n_bytes:
            _give_back()


def wait_for_room(n_bytes: int) -> None:
    """Within `in_turn`, wait until what other threads decode leaves room for so many bytes."""
    if not _MINE.depth or n_bytes <= max(_MINE.n_bytes, _WAITS):
        return
    if _MINE.n_bytes:  # it turned out to take more: others go first, or two would wait for ever
        _give_back()
    with _ROOM:
        _ROOM.wait_for(lambda: not _TAKEN[0] or _TAKEN[0] + n_bytes <= _MOST_BYTES)
        _TAKEN[0] += n_bytes
        _MINE.n_bytes = n_bytes


def _give_back() -> None:
    with _ROOM:
        _TAKEN[0] -= _MINE.n_bytes
        _MINE.n_bytes = 0
        _ROOM.notify_all()
