"""Directories of a TIFF, and of the EXIF blocks that are built alike: the few tags that are needed.

Read by hand, since a file of kilobytes can claim anything: tags that each stand for the whole file,
a hundred thousand pages, strips by the million. What no camera, scanner or program writes is
refused before a decoder meets it.
"""

import math
import struct
from collections.abc import Mapping

from core.errors import HugeImageError, ImageError

STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""Of a TIFF, and of a BigTIFF."""

WIDTH, HEIGHT, BITS, PHOTOMETRIC, ORIENTATION, SAMPLES = 256, 257, 258, 262, 274, 277
PLANAR, EXTRA, FORMAT = 284, 338, 339
_TILE_WIDTH, _TILE_HEIGHT, _DEPTH, _TILE_DEPTH = 322, 323, 32997, 32998

_SIDES = ((WIDTH, HEIGHT, _DEPTH), (_TILE_WIDTH, _TILE_HEIGHT, _TILE_DEPTH))
_KEPT = {
    *(WIDTH, HEIGHT, BITS, PHOTOMETRIC, ORIENTATION, SAMPLES, PLANAR, EXTRA, FORMAT),
    *(_TILE_WIDTH, _TILE_HEIGHT, _DEPTH, _TILE_DEPTH),
}
_ONE_NUMBER = _KEPT - {BITS, EXTRA, FORMAT}
_LAST_OF_PIXELS = 1000  # tags below describe pixels, and are read value by value
_MOST_VALUES = 500_000  # of one of those: strips, as an image of so many rows may have them
_MOST_KEPT = 64

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4,
          16: 8, 17: 8, 18: 8}  # fmt: skip
_WHOLE = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_TEXTS = (1, 2, 6, 7)  # types whose values stay bytes

_MOST_PAGES = 5_000
_MOST_TAGS = 100_000  # of all pages, each of which is read several times
_MOST_SHARED = 8  # times the file: what the data of all pages may come to, for some share it
_CHANNELS = 4  # of 16 bits: what a pixel may take

Tags = Mapping[int, tuple[int, ...]]
"""First values of the tags that describe pixels, where they are whole numbers."""


def pages_of(content: bytes, *, most_pages: int = _MOST_PAGES + 1) -> list[Tags]:
    """The tags of every page; of a file that is cut short, those that are there.

    Args:
        content: a TIFF, or an EXIF block without its name.
        most_pages: that are looked at.

    Raises:
        ImageError: it has more pages or tags than are read, or its tags lie over each other.
        struct.error: it is shorter than a head.
    """
    layout = _Layout(content)
    place, pages, met = layout.first, list[Tags](), set[int]()
    n_tags = n_bytes = 0
    while place and place not in met and len(pages) < most_pages:
        met.add(place)
        if len(met) > _MOST_PAGES:
            raise ImageError(f"a TIFF of more than {_MOST_PAGES:,} pages")
        entries, place = layout.entries(place, most=_MOST_TAGS + 1 - n_tags)
        tags, n_claimed = layout.tags(entries)
        n_tags, n_bytes = n_tags + len(entries), n_bytes + n_claimed
        lie_over = n_claimed > len(content) or n_bytes > _MOST_SHARED * len(content)
        if n_tags > _MOST_TAGS or lie_over:
            raise ImageError("a TIFF whose tags are too many, or lie over each other")
        pages.append(tags)
    return pages


def refuse_values(pages: list[Tags], *, most_pixels: int) -> None:
    """Refuse a TIFF of which a page, or a tile of it, would fill the memory.

    Raises:
        HugeImageError: it has more values than so many pixels of four channels of 16 bits.
    """
    for tags in pages:
        each = max(1, first_of(tags, SAMPLES, usual=1)) * max(
            1, -(-first_of(tags, BITS, usual=1) // 16)
        )
        for sides in _SIDES:
            n_values = each * math.prod(max(1, first_of(tags, side, usual=1)) for side in sides)
            if n_values > _CHANNELS * most_pixels:
                raise HugeImageError(
                    f"a TIFF of more values than {most_pixels:,} pixels have: make it smaller first"
                )


def first_of(tags: Tags, tag: int, *, usual: int) -> int:
    """The first value of a tag."""
    return tags.get(tag, (usual,))[0]


_Entry = tuple[int, int, int, int]
"""Tag, type, number of values, and where they are."""


class _Layout:
    """How numbers stand in a file."""

    def __init__(self, content: bytes) -> None:
        order = "<" if content.startswith(b"II") else ">"
        is_big = b"+" in content[2:4]
        self._content = content
        self._order = order
        self._entry = struct.Struct(f"{order}HH{'Q' if is_big else 'I'}")
        self._count = struct.Struct(f"{order}{'Q' if is_big else 'H'}")
        self._place = struct.Struct(f"{order}{'Q' if is_big else 'I'}")
        self.first: int = self._place.unpack_from(content, 8 if is_big else 4)[0]

    def entries(self, place: int, *, most: int) -> tuple[list[_Entry], int]:
        """Entries of a directory, as many as are there, and the place of the next directory."""
        found: list[_Entry] = []
        room = self._place.size
        try:
            (n_entries,) = self._count.unpack_from(self._content, place)
            place += self._count.size
            for _ in range(min(n_entries, most)):
                tag, kind, n_values = self._entry.unpack_from(self._content, place)
                place += self._entry.size
                values = place
                if n_values * _SIZES.get(kind, 0) > room:
                    (values,) = self._place.unpack_from(self._content, place)
                found.append((tag, kind, n_values, values))
                place += room
            return found, self._place.unpack_from(self._content, place)[0]
        except struct.error:  # cut short
            return found, 0

    def tags(self, entries: list[_Entry]) -> tuple[Tags, int]:
        """The tags that are needed, and how many bytes beside the directory all tags stand for."""
        tags: dict[int, tuple[int, ...]] = {}
        n_claimed = 0
        for tag, kind, n_values, place in entries:
            n_bytes = n_values * _SIZES.get(kind, 0)
            if place + n_bytes > len(self._content):
                continue  # not there: no decoder reads it
            n_claimed += n_bytes if n_bytes > self._place.size else 0
            if tag < _LAST_OF_PIXELS and kind not in _TEXTS and n_values > _MOST_VALUES:
                raise ImageError(f"a TIFF with {n_values:,} values of tag {tag}")
            if tag not in _KEPT or not n_values:
                continue
            if kind not in _WHOLE:
                if tag in _ONE_NUMBER:
                    raise ImageError("a TIFF whose size is no whole number")
                continue
            code = f"{self._order}{min(n_values, _MOST_KEPT)}{_WHOLE[kind]}"
            values = struct.unpack_from(code, self._content, place)
            if tags.setdefault(tag, values) != values:  # readers differ in which of them counts
                raise ImageError("a TIFF that says twice what its pixels are")
        return tags, n_claimed
