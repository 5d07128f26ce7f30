"""Small files that would keep a decoder busy for minutes, or fill the memory: told by their heads.

Decoders refuse what is too large by the width and height in its header. What is refused here has a
small one: layers, tiles, tags and scans are counted elsewhere in a file, and some may lie over each
other.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from core.errors import HugeImageError, ImageError
from corpus.dicom.growth import pixels_of_jpeg, refuse_scans

_POSTSCRIPT = (b"%!PS", b"\xc5\xd0\xd3\xc6")

_JPEG, _PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
_SCAN = 0xDA
_MOST_PARTS = (
    10_000  # of a JPEG before its first scan; a profile or comment of 64 MB has a thousand
)
_MOST_CHUNKS = 100_000  # of a PNG; usual are 8 kB and more

_TIFF = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}
_MOST_PAGES = 5_000
_MOST_TAGS = 100_000  # of all pages, each of which is read several times
_CHANNELS = 4  # of 16 bits: what a pixel may take
_WIDTH, _HEIGHT, _BITS, _SAMPLES, _DEPTH = 256, 257, 258, 277, 32997
_TILE_WIDTH, _TILE_HEIGHT, _TILE_DEPTH = 322, 323, 32998
_LOOKED_AT = (
    *(_WIDTH, _HEIGHT, _BITS, _SAMPLES, _DEPTH),
    *(_TILE_WIDTH, _TILE_HEIGHT, _TILE_DEPTH),
)
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_SIZES |= {16: 8, 17: 8, 18: 8}
_WHOLE = (1, 3, 4, 6, 8, 9, 13, 16, 17, 18)  # types of whole numbers


def refuse_bombs(content: bytes, *, most_pixels: int) -> None:
    """Refuse what takes minutes, gigabytes or another program to decode.

    Args:
        content: of a file.
        most_pixels: of an image.

    Raises:
        HugeImageError: it has more values than so many pixels of four channels of 16 bits.
        ImageError: nothing is there, or its parts are too many.
    """
    if not content:
        raise ImageError("an empty file")
    if content.startswith(_POSTSCRIPT):  # Pillow has Ghostscript draw it, by files on the disk
        raise ImageError("PostScript is not read")
    if content.startswith(_JPEG):
        _refuse_parts(content)
        refuse_scans(content, n_pixels=pixels_of_jpeg(content))
    elif content.startswith(_PNG):
        _refuse_chunks(content)
    elif content[:4] in _TIFF:
        _refuse_tiff(content, most_pixels)


def _refuse_parts(content: bytes) -> None:
    """Of a JPEG: Pillow goes from one to the next, and byte by byte where none begins."""
    place, n_parts = 2, 0
    while place + 4 <= len(content):
        marker = content[place + 1] if content[place] == 0xFF else 0
        if marker == _SCAN:
            return
        n_parts += 1
        if n_parts > _MOST_PARTS:
            raise ImageError(f"a JPEG of more than {_MOST_PARTS:,} parts before its picture")
        if marker in (0, 0xFF):
            place += 1
        elif 0xD0 <= marker <= 0xD9:
            place += 2
        else:
            place += 2 + int.from_bytes(content[place + 2 : place + 4], "big")


def _refuse_chunks(content: bytes) -> None:
    place, n_chunks = len(_PNG), 0
    while place + 8 <= len(content):
        n_chunks += 1
        if n_chunks > _MOST_CHUNKS:
            raise ImageError(f"a PNG of more than {_MOST_CHUNKS:,} chunks")
        place += 12 + int.from_bytes(content[place : place + 4], "big")


@dataclass(frozen=True, kw_only=True)
class _Tag:
    """An entry of a TIFF's directory; `value` is 0 where nobody looks at it."""

    number: int
    n_bytes: int
    value: int


def _refuse_tiff(content: bytes, most_pixels: int) -> None:
    most_values = _CHANNELS * most_pixels
    n_tags = n_bytes = 0
    for page in _pages(content):
        found: dict[int, int] = {}
        for tag in page:
            n_tags, n_bytes = n_tags + 1, n_bytes + tag.n_bytes
            if n_tags > _MOST_TAGS or n_bytes > 2 * len(content):
                raise ImageError("a TIFF whose tags are too many, or lie over each other")
            # Of a tag that stands there twice some readers take the first, others the last.
            found[tag.number] = max(tag.value, found.get(tag.number, 0))
        each = max(1, found.get(_SAMPLES, 1)) * max(1, -(-found.get(_BITS, 1) // 16))
        for sides in (
            (_WIDTH, _HEIGHT, _DEPTH),
            (_TILE_WIDTH, _TILE_HEIGHT, _TILE_DEPTH),
        ):
            n_values = each
            for side in sides:
                n_values *= max(1, found.get(side, 1))
            if n_values > most_values:
                raise HugeImageError(
                    f"a TIFF of more values than {most_pixels:,} pixels have: make it smaller first"
                )


def _pages(content: bytes) -> Iterator[Iterator[_Tag]]:
    """The directories of a TIFF, each an iterator that is to be used up before the next."""
    order = _TIFF[content[:4]]
    is_big = b"+" in content[2:4]
    number, count, n_entry = ("Q", "Q", 20) if is_big else ("I", "H", 12)
    n_count = struct.calcsize(order + count)
    met = set[int]()
    place = _number(content, 8 if is_big else 4, order + number)
    while place and place not in met:
        met.add(place)
        if len(met) > _MOST_PAGES:
            raise ImageError(f"a TIFF of more than {_MOST_PAGES:,} pages")
        n_there = (len(content) - place - n_count) // n_entry
        n_tags = min(_number(content, place, order + count), max(0, n_there))
        start = place + n_count
        yield (
            _tag(content, start + n_entry * index, order, number=number) for index in range(n_tags)
        )
        place = _number(content, start + n_entry * n_tags, order + number)


def _tag(content: bytes, place: int, order: str, *, number: str) -> _Tag:
    which, kind, n = struct.unpack_from(f"{order}HH{number}", content, place)
    room = struct.calcsize(order + number)
    here = place + 4 + room
    size = _SIZES.get(kind, 1)
    n_bytes = n * size
    value = 0
    if which in _LOOKED_AT:
        if kind not in _WHOLE:
            raise ImageError("a TIFF whose size is no whole number")
        letter = {1: "B", 2: "H", 4: "I", 8: "Q"}[size]
        value = _number(
            content,
            here if n_bytes <= room else _number(content, here, order + number),
            order + letter,
        )
    return _Tag(number=which, n_bytes=n_bytes if n_bytes > room else 0, value=value)


def _number(content: bytes, place: int, form: str) -> int:
    """The number at a place; 0 beyond the end."""
    if place + struct.calcsize(form) > len(content):
        return 0
    (found,) = struct.unpack_from(form, content, place)
    return int(found)
