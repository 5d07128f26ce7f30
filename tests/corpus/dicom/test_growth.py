"""Compressed DICOM that would grow beyond what its header says is refused before it is decoded."""

import struct
import zlib
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from core.errors import ImageError
from corpus.dicom import datasets
from corpus.dicom.growth import inflated, refuse_fragments, refuse_grown
from corpus.dicom.headers import header_of
from corpus.dicom.pixels import read_pixels
from tests.corpus.dicom.made_files import content_of, made, ramp, written

pydicom = pytest.importorskip("pydicom")

PLAIN, DEFLATED = b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99"


def deflated(rest: bytes = b"") -> bytes:
    """A file whose data set is deflated, with further bytes in it."""
    content = content_of(ramp().astype(np.uint8), Modality="CT")
    (length,) = struct.unpack_from("<I", content, 140)
    head, data = content[: 144 + length], content[144 + length :]
    place = head.index(PLAIN)
    head = head[: place - 2] + struct.pack("<H", 22) + DEFLATED + head[place + len(PLAIN) :]
    head = head[:140] + struct.pack("<I", length + 2) + head[144:]
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return head + packer.compress(data + rest) + packer.flush()


def test_a_deflated_file_is_read_up_to_a_size() -> None:
    levels, _ = read_pixels(deflated())
    np.testing.assert_array_equal(levels, ramp())
    assert header_of(deflated())["category"] == "DRCT"
    bomb = deflated(bytes(1 << 24))
    assert len(bomb) < 40_000
    packed = bomb[bomb.index(DEFLATED) + len(DEFLATED) :]
    (start,) = (n for n in range(200) if inflates(packed[n:]))
    with pytest.raises(ImageError, match="a deflated DICOM file of more than 8,388,608 bytes"):
        inflated(packed[start:], most_bytes=1 << 23)
    assert len(inflated(packed[start:], most_bytes=1 << 25)) > 1 << 24


def inflates(packed: bytes) -> bool:
    try:
        return len(zlib.decompress(packed, -15)) > 1 << 24
    except zlib.error:
        return False


def with_wrong_length(content: bytes) -> bytes:
    """A file whose header says that it is shorter than it is."""
    return content[:140] + struct.pack("<I", 7) + content[144:]


def with_long_header(content: bytes) -> bytes:
    """A file whose header has a long element before the one that says that it is deflated."""
    short = struct.pack("<HH2sHI", 2, 1, b"OB", 0, 2) + b"\0\1"
    assert content.count(short) == 1
    return content.replace(short, struct.pack("<HH2sHI", 2, 1, b"OB", 0, 9000) + bytes(9000))


@pytest.mark.parametrize("altered", [bytes, with_wrong_length, with_long_header])
def test_a_deflated_file_is_refused_whatever_its_header_says_of_itself(
    altered: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    np.testing.assert_array_equal(read_pixels(altered(deflated()))[0], ramp())
    monkeypatch.setattr(datasets, "inflated", partial(inflated, most_bytes=1 << 23))
    bomb = altered(deflated(bytes(1 << 24)))
    with pytest.raises(ImageError, match="a deflated DICOM file of more than 8,388,608 bytes"):
        read_pixels(bomb)
    assert header_of(bomb) == header_of(deflated())  # of which no more is inflated than it needs


def siz(width: int, height: int, n_colours: int = 1) -> bytes:
    """Start of a JPEG 2000 codestream."""
    sizes = (width, height, 0, 0, width, height, 0, 0)
    return b"\xff\x4f\xff\x51" + struct.pack(">HH8IH", 41, 0, *sizes, n_colours)


def boxed(width: int, height: int) -> bytes:
    """The same behind a long box, in which a small one lies."""
    return b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(5000) + siz(9, 9) + bytes(5000) + siz(width, height)


def coloured(width: int, height: int) -> bytes:
    """The same of more colours than a pixel has."""
    return siz(width, height // 10, 40)


def sof(width: int, height: int, between: bytes = b"") -> bytes:
    """Start of a JPEG, with a byte that fills up and a segment before its frame."""
    segments = b"\xff\xff\xe0\0\4ab" + between
    segments += b"\xff\xc0" + struct.pack(">HBHHB", 11, 8, height, width, 1)
    return b"\xff\xd8" + segments + b"\1\x11\0" + b"\xff\xda\0\2" + b"\xff\xc0" + b"\xff" * 20


def littered(width: int, height: int) -> bytes:
    """The same with bytes between segments, which decoders pass over."""
    return sof(width, height, b"ab\xff\0c")


@pytest.mark.parametrize("start", [siz, boxed, coloured, sof, littered])
def test_a_frame_larger_inside_than_its_header_says_is_refused(start: "object") -> None:
    assert callable(start)
    refuse_grown(start(1000, 1000), n_bytes=9, most_pixels=1_000_000)
    with pytest.raises(ImageError, match="it has more than 1,000,000 pixels"):
        refuse_grown(start(1000, 1010), n_bytes=9, most_pixels=1_000_000)


def test_a_frame_of_many_pictures_is_refused() -> None:
    refuse_grown(siz(9, 9) * 63, n_bytes=9, most_pixels=81)
    with pytest.raises(ImageError, match="it holds many pictures"):
        refuse_grown(siz(9, 9) * 65, n_bytes=9, most_pixels=81)


def test_packed_bits_that_unpack_too_far_are_refused() -> None:
    run = b"\1" + bytes(63) + b"\x81\0" * 1000  # 128 bytes each
    refuse_grown(run, n_bytes=64_000, most_pixels=9, most_bytes=1000)
    with pytest.raises(ImageError, match="larger than its header says"):
        refuse_grown(run, n_bytes=63_999, most_pixels=9, most_bytes=1000)
    literal = b"\1" + bytes(63) + (b"\x7f" + bytes(128)) * 10 + b"\x80"
    refuse_grown(literal, n_bytes=640, most_pixels=9, most_bytes=1000)


def test_a_whole_file_is_refused_by_what_is_inside() -> None:
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEG2000Lossless

    dataset = made(ramp().astype(np.uint8))
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.PixelData = encapsulate([siz(60_000, 60_000) + bytes(99)])
    with pytest.raises(ImageError, match="cannot be decoded: it has more than 2,000 pixels"):
        read_pixels(written(dataset), most_pixels=2_000)
    with pytest.raises(ImageError, match="a DICOM frame of more than 1,000 pixels"):
        read_pixels(content_of(ramp(40).astype(np.uint8)), most_pixels=1_000)


def empty(n: int) -> bytes:
    """Elements without a value, in the header of a file."""
    return b"".join(struct.pack("<HH2sH", 0x0009, 0x1000 + k % 0xE000, b"LO", 0) for k in range(n))


def with_elements(extra: bytes, before: bytes = b"\x10\0\x20\0LO") -> bytes:
    content = content_of(ramp().astype(np.uint8), Modality="CT", PatientID="7")
    place = content.index(before)
    return content[:place] + extra + content[place:]


def items(n: int) -> bytes:
    """A sequence of empty items that ends with a mark."""
    start = struct.pack("<HH2sHI", 0x0009, 0x1001, b"SQ", 0, 0xFFFFFFFF)
    end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return start + struct.pack("<HHI", 0xFFFE, 0xE000, 0) * n + end


def frames(n: int) -> bytes:
    """As many descriptions of frames, in a sequence that says how long it is."""
    inside = struct.pack("<HHI", 0xFFFE, 0xE000, 0) * n
    return struct.pack("<HH2sHI", 0x5200, 0x9230, b"SQ", 0, len(inside)) + inside


@pytest.mark.parametrize(
    "content",
    [with_elements(empty(3000)), with_elements(items(3000)),
     with_elements(frames(3000), b"\xe0\x7f\x10\0")],
    ids=["elements", "items", "frames"],
)  # fmt: skip
def test_elements_are_counted_while_they_are_read(
    content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.testing.assert_array_equal(read_pixels(content)[0], ramp())
    assert header_of(content)["category"] == "DRCT"
    monkeypatch.setattr(datasets, "_MOST_READS", 2000)
    monkeypatch.setattr(datasets, "_MOST_READS_OF_HEADER", 2000)
    with pytest.raises(ImageError, match="DICOM of more elements than are read"):
        read_pixels(content)
    is_late = struct.pack("<HH", 0x5200, 0x9230) in content
    assert header_of(content).get("category", "") == ("DRCT" if is_late else "")


def test_no_more_of_a_deflated_file_is_inflated_than_its_header_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(datasets, "_HEADER_INFLATED", 1000)
    assert header_of(deflated(bytes(1 << 24))) == header_of(deflated())
    cut = deflated(bytes(1 << 20))
    assert header_of(cut[: len(cut) // 2])["category"] == "DRCT"


def test_long_texts_of_a_header_are_left_out() -> None:
    text = b"CT\\" * 500_000
    long = struct.pack("<HH2sHI", 0x0018, 0x0015, b"UN", 0, len(text)) + text
    content = with_elements(long, b"\x28\0\x02\0US")
    np.testing.assert_array_equal(read_pixels(content)[0], ramp())
    assert header_of(content)["body_part"] == ""
    assert header_of(content)["category"] == "DRCT"


def test_compressed_pieces_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    piece = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
    refuse_fragments(piece * 200_000)
    with pytest.raises(ImageError, match="DICOM of more than 200,000 compressed pieces"):
        refuse_fragments(piece * 200_001)
