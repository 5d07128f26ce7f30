"""What a compressed DICOM file would grow to: told before anything of it is decoded.

The size of a frame in the header need not be that in the compressed frame itself, and a few
kilobytes can hold gigabytes of one colour.
"""

import re
import struct
import zlib

from core.errors import HugeImageError, ImageError

MOST_INFLATED = 1 << 29
"""Bytes that a deflated file may become."""
_MOST_FRAGMENTS = 200_000  # of all frames

_SIZ = b"\xff\x4f\xff\x51"  # start of a JPEG 2000 codestream, which may lie in boxes
_STREAMS = 64
"""Such starts in a frame; one is usual, and a preview or chance can bring another."""

_COLOURS = 4
"""Colours that a pixel may have; a frame of more is as one of so many times more pixels."""

_FRAMES = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0), 0xF7)
"""Markers of a JPEG, or a JPEG-LS, that begin a frame's description."""
_SCAN = 0xDA
_SCAN_HEAD = re.compile(rb"\xff\xda\x00(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")
_FEW_SCANS = 64  # those of some encoders, whatever the size
_MOST_SCANNED = 640_000_000  # pixels times scans, of which each takes up to 10 ns
_BARE = (0x00, 0x01, *range(0xD0, 0xD9))  # markers without a length

_RLE_HEADER = 64
_RLE_MOST = 64  # bytes that one byte of packed bits can become


def inflated(deflated: bytes, *, most_bytes: int = MOST_INFLATED) -> bytes:
    """What a stream without a head, as it stands in a file, inflates to; as far as it is whole.

    Raises:
        ImageError: more than so many bytes would come out.
        zlib.error: it is broken.
    """
    content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(deflated, most_bytes + 1)
    if len(content) > most_bytes:
        raise ImageError(f"a deflated DICOM file of more than {most_bytes:,} bytes")
    return content


def refuse_fragments(encapsulated: bytes) -> None:
    """Refuse compressed pixels in more pieces than anybody writes.

    Raises:
        ImageError: they are too many.
    """
    place = 0
    for _ in range(_MOST_FRAGMENTS + 1):
        if place + 8 > len(encapsulated):
            return
        place += 8 + int.from_bytes(encapsulated[place + 4 : place + 8], "little")
    raise ImageError(f"DICOM of more than {_MOST_FRAGMENTS:,} compressed pieces")


def refuse_grown(
    frame: bytes, *, n_bytes: int, most_pixels: int, most_bytes: int = MOST_INFLATED
) -> None:
    """Refuse a compressed frame that is larger than its header may say.

    Args:
        frame: JPEG, JPEG-LS, JPEG 2000, or packed bits (RLE).
        n_bytes: of the decoded frame, by the header.
        most_pixels: of a frame.
        most_bytes: of packed bits that are not looked through.

    Raises:
        ImageError: it is.
    """
    if frame[1:4] == bytes(3) and frame[0]:  # RLE begins with the number of its segments
        may_be_large = len(frame) * _RLE_MOST > most_bytes
        if may_be_large and _unpacked(frame) > 2 * n_bytes:
            raise ImageError("DICOM whose frame is larger than its header says")
        return
    if frame.startswith(b"\xff\xd8"):
        n_pixels = pixels_of_jpeg(frame)
        refuse_scans(frame, n_pixels=n_pixels)
    else:
        n_pixels = pixels_of_jpeg_2000(frame)
    if n_pixels > most_pixels:
        raise HugeImageError(
            f"DICOM whose frame cannot be decoded: it has more than {most_pixels:,} pixels"
        )


def pixels_of_jpeg_2000(frame: bytes) -> int:
    """Pixels by the largest of all descriptions, wherever they stand; 0 where there is none.

    Raises:
        ImageError: there are more of them than any encoder writes.
    """
    start, most = frame.find(_SIZ), 0
    for _ in range(_STREAMS):
        if start < 0 or len(frame) < start + 42:
            return most
        right, bottom, left, top = struct.unpack_from(">4I", frame, start + 8)
        (n_colours,) = struct.unpack_from(">H", frame, start + 40)
        n_pixels = max(right - left, 0) * max(bottom - top, 0)
        most = max(most, n_pixels * -(-n_colours // _COLOURS))
        start = frame.find(_SIZ, start + 4)
    raise ImageError("JPEG 2000 that cannot be decoded: it holds many pictures")


def refuse_scans(jpeg: bytes, *, n_pixels: int) -> None:
    """Refuse a JPEG whose scans go over its pixels for minutes; progressive ones have about ten.

    Raises:
        ImageError: they are too many.
    """
    if jpeg.count(b"\xff\xda") <= _FEW_SCANS:
        return
    n_scans = len(_SCAN_HEAD.findall(jpeg))
    if n_scans > _FEW_SCANS and n_scans * n_pixels > _MOST_SCANNED:
        raise ImageError(f"a JPEG of {n_scans:,} scans")


def pixels_of_jpeg(frame: bytes) -> int:
    """Pixels by the largest description before the first scan; 0 where there is none."""
    place, most = 2, 0
    while 0 <= place <= len(frame) - 10:
        if frame[place] != 0xFF:  # decoders pass over bytes between segments
            place = frame.find(b"\xff", place)
            continue
        marker = frame[place + 1]
        if marker == _SCAN:
            break
        if marker == 0xFF or marker in _BARE:  # a byte that fills up, or a bare marker
            place += 1 if marker == 0xFF else 2
            continue
        if marker in _FRAMES:
            height, width, n_colours = struct.unpack_from(">2HB", frame, place + 5)
            most = max(most, height * width * -(-n_colours // _COLOURS))
        place += 2 + struct.unpack_from(">H", frame, place + 2)[0]
    return most


def _unpacked(frame: bytes) -> int:
    """Bytes that packed bits become, the segments' headers not told apart."""
    place, n_bytes = _RLE_HEADER, 0
    while place < len(frame):
        code = frame[place]
        if code < 128:
            n_bytes, place = n_bytes + code + 1, place + code + 2
        elif code > 128:
            n_bytes, place = n_bytes + 257 - code, place + 2
        else:
            place += 1
    return n_bytes
