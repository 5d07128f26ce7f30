"""Images of a fixed list of formats, and small files that ask for more than they are."""

import io
import os
import struct
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from core.errors import HugeImageError, ImageError
from core.runs.decoding import USUAL, Decoding
from corpus.images import bombs, tiff
from corpus.images.bombs import in_turn, refuse_bombs, refuse_huge, wait_for_room
from corpus.images.decode import Decoded, decode, decode_content, kind_of
from tests.robustness.fuzz_images import Base, bases, damaged


def saved(kind: str, image: Image.Image | None = None, **how: object) -> bytes:
    file = io.BytesIO()
    (image or Image.new("L", (8, 8), 90)).save(file, kind, **how)
    return file.getvalue()


def read(content: bytes, *, decoding: Decoding = USUAL) -> Decoded:
    named = Path("a.png")
    return decode_content(content, named, size=32, resample="bilinear", decoding=decoding)


def test_postscript_starts_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow would look for Ghostscript on the PATH and have it draw the file."""
    ghost = tmp_path / "bin" / "gs"
    ghost.parent.mkdir()
    ghost.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    ghost.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ghost.parent}{os.pathsep}{os.environ['PATH']}")
    image = tmp_path / "a.png"
    image.write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    )
    with pytest.raises(ImageError, match=r"a\.png: not an image$"):
        decode(image, size=32, resample="bilinear")
    assert kind_of(image) == "unknown"
    assert not (tmp_path / "started").exists()


OTHERS: dict[str, bytes] = {
    **{kind: saved(kind, Image.new("RGB", (8, 8))) for kind in ("DDS", "PCX", "SGI", "ICO")},
    "IM": b"Image type: Greyscale image\r\nFile size (x*y): 8*8\r\n".ljust(511, b"\0") + b"\x1a",
    "BLP": b"BLP2" + struct.pack("<I4B2I", 1, 1, 8, 8, 0, 8, 8) + bytes(1200),
    "SPIDER": struct.pack(">27f", 1, 8, 9, 0, 1, *(0.0,) * 6, 8, 32, *(0.0,) * 14) + bytes(2000),
    "MSP": b"DanM" + struct.pack("<14H", 8, 8, *(0,) * 12) + bytes(8),
    "PSD": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 8, 8, 8, 3) + bytes(206),
    "FITS": b"SIMPLE  =                    T".ljust(80) + b"END".ljust(2800) + bytes(2880),
    "WMF": b"\xd7\xcd\xc6\x9a\0\0" + struct.pack("<4hHIH", 0, 0, 99, 99, 99, 0, 0) + bytes(99),
    "XV thumbnail": b"P7 332\n#END_OF_COMMENTS\n8 8 255\n" + bytes(64),
    "MIC": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(4096),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_formats_are_no_images_whatever_they_are_called(tmp_path: Path, kind: str) -> None:
    image = tmp_path / "a.png"
    for content in (OTHERS[kind], OTHERS[kind][: len(OTHERS[kind]) // 2]):
        image.write_bytes(content)
        with pytest.raises(ImageError, match=r"a\.png: not an image$"):
            decode(image, size=32, resample="bilinear")
        assert kind_of(image) == "unknown"


def test_formats_whose_endings_are_known_are_read() -> None:
    colours = Image.new("RGB", (8, 8), (200, 10, 10))
    for kind in ("BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP"):
        assert read(saved(kind, colours)).pixels.shape == (32, 32, 3)


def gif(n_frames: int, comment: bytes = b"") -> bytes:
    frame = b"\x2c" + struct.pack("<4HB", 0, 0, 1, 1, 0) + b"\2\2\x44\1\0"
    said = b"".join(bytes([len(part)]) + part for part in [comment[:200]] * (len(comment) // 200))
    head = b"GIF89a" + struct.pack("<2H3B", 8, 8, 0x80, 0, 0) + bytes(6)
    return head + b"\x21\xfe" + said + b"\0" + frame * n_frames + b";"


def chunk(kind: bytes, content: bytes) -> bytes:
    end = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + end


def exif(n_tags: int, n_bytes: int) -> bytes:
    """A block whose tags all stand for the same bytes."""
    place = 14 + 12 * n_tags
    tags = b"".join(struct.pack("<HHII", 1000 + n, 7, n_bytes, place) for n in range(n_tags))
    head = b"II*\0" + struct.pack("<IH", 8, n_tags)
    return head + tags + bytes(4) + bytes(n_bytes)


def with_exif(block: bytes) -> bytes:
    content = saved("JPEG")
    part = b"\xff\xe1" + struct.pack(">H", len(block) + 8) + b"Exif\0\0" + block
    return content[:2] + part + content[2:]


def strips(n: int) -> bytes:
    entries = [(256, 4, 1, 8), (257, 4, 1, 8), (273, 4, n, 62), (279, 4, n, 62)]
    tags = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + tags + bytes(4) + bytes(4 * n)


def canvas() -> bytes:
    frames = [Image.new("RGBA", (8, 8), (n, 0, 0, 99)) for n in range(3)]
    content = bytearray(saved("WEBP", frames[0], save_all=True, append_images=frames[1:]))
    place = content.index(b"VP8X") + 12
    content[place : place + 6] = (16_382).to_bytes(3, "little") * 2
    return bytes(content)


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "frames": (lambda: gif(5_001), "a GIF of more than 5,000 frames"),
    "comment": (lambda: gif(1, bytes(2 << 20)), "a GIF with more than 1,048,576 bytes of comments"),
    "junk": (lambda: gif(1)[:-1] + bytes(60_000), "a GIF of more than 5,000 frames, or as many"),
    "EXIF": (lambda: with_exif(exif(2000, 30_000)), "EXIF whose tags are too many, or lie over"),
    "EXIF of PNG": (
        lambda: saved("PNG")[:33] + chunk(b"eXIf", exif(2000, 30_000)) + saved("PNG")[33:],
        "EXIF whose tags are too many, or lie over",
    ),
    "many EXIFs": (
        lambda: saved("JPEG")[:2] + b"\xff\xe1\0\x08Exif\0\0" * 66 + saved("JPEG")[2:],
        "a JPEG of more than 10,000 parts, or 64 of EXIF, before its picture",
    ),
    "few bytes": (
        lambda: (
            saved("PNG")[:16]
            + struct.pack(">2I5B", 9, 1 << 24, 16, 0, 0, 0, 0)
            + bytes(4)
            + saved("PNG")[33:]
        ),
        "cut short: so few bytes do not hold so many pixels",
    ),
    "strips": (lambda: strips(500_001), "a TIFF with 500,001 values of tag 273"),
    "canvas": (canvas, "16383 x 16383 pixels, more than 100,000,000"),
    "JPEG 2000": (
        lambda: saved("JPEG2000", no_jp2=True).replace(
            struct.pack(">2I", 8, 8), struct.pack(">2I", 60_000, 60_000)
        ),
        "a JPEG 2000 of more than 400,000,000 pixels",
    ),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_bombs_are_refused_by_their_heads(kind: str) -> None:
    make, reason = BOMBS[kind]
    content, start = make(), time.monotonic()
    with pytest.raises(ImageError, match=reason):
        read(content)
    assert time.monotonic() - start < 5


def test_what_programs_write_is_no_bomb() -> None:
    frames = [Image.new("RGB", (8, 8), (n, 0, 0)) for n in range(60)]
    for kind in ("GIF", "TIFF", "WEBP", "PNG"):
        content = saved(kind, frames[0], save_all=True, append_images=[f.copy() for f in frames])
        refuse_bombs(content, most_pixels=64)
    told = Image.Exif()
    told[274], told[270] = 6, "x" * 30_000
    for kind in ("JPEG", "PNG", "WEBP"):
        content = saved(kind, exif=told)
        refuse_bombs(content, most_pixels=64)
        assert read(content).remarks[-2:] == (
            "turned upright by the EXIF tag",
            "one colour all over",
        )


def test_frames_that_take_too_long_to_reach_are_refused() -> None:
    frames = [Image.new("RGB", (8, 8), (n, 0, 0)) for n in range(3)]
    content = bytearray(saved("PNG", frames[0], save_all=True, append_images=frames[1:]))
    place = content.index(b"acTL") + 4
    struct.pack_into(">I", content, place, 1 << 30)
    struct.pack_into(">I", content, place + 8, zlib.crc32(content[place - 4 : place + 8]))
    assert read(bytes(content)).kind == "PNG RGB"
    with pytest.raises(ImageError, match="pixels are to be drawn up to its last frame"):
        read(bytes(content), decoding=Decoding(frame="last"))


def test_an_image_may_have_as_many_pixels_as_fit_the_memory() -> None:
    refuse_huge((20_000, 20_000), 400_000_000)
    for n_bytes, most in ((12, "400,000,000"), (24, "200,000,000"), (48, "100,000,000")):
        with pytest.raises(HugeImageError, match=f"20000 x 20001 pixels, more than {most}"):
            refuse_huge((20_000, 20_001), 400_000_000, n_bytes=n_bytes)


def test_large_images_wait_for_each_other_and_small_ones_do_not() -> None:
    entered, leave = threading.Event(), threading.Event()
    order: list[str] = []

    def hold() -> None:
        with in_turn():
            wait_for_room(3_000_000_000)
            entered.set()
            leave.wait(10)
            order.append("first")

    def follow() -> None:
        with in_turn():
            wait_for_room(2_000_000_000)
            order.append("second")

    first, second = threading.Thread(target=hold), threading.Thread(target=follow)
    first.start()
    assert entered.wait(10)
    with in_turn():
        wait_for_room(1 << 20)
        wait_for_room(1_000_000_000)  # as much is left
        with in_turn():
            wait_for_room(900_000_000)  # less than this thread has
        assert bombs._TAKEN[0] == 4_000_000_000
    second.start()
    time.sleep(0.05)
    assert order == []
    leave.set()
    first.join()
    second.join()
    assert order == ["first", "second"]
    assert bombs._TAKEN[0] == 0
    wait_for_room(99_000_000_000)  # outside nobody waits


def test_tags_of_a_page_are_read_as_pillow_reads_them() -> None:
    pages = [Image.new("RGB", (8 + n, 9), (n, 0, 0)) for n in range(3)]
    for big in (False, True):
        content = saved("TIFF", pages[0], save_all=True, append_images=pages[1:], big_tiff=big)
        found = tiff.pages_of(content)
        assert [tiff.first_of(tags, tiff.WIDTH, usual=0) for tags in found] == [8, 9, 10]
        assert all(tags[tiff.BITS] == (8, 8, 8) for tags in found)
        assert tiff.first_of(found[0], tiff.ORIENTATION, usual=1) == 1
        assert len(tiff.pages_of(content, most_pages=2)) == 2
        for length in range(8 if not big else 16, len(content), 7):
            assert len(tiff.pages_of(content[:length])) <= 3


@pytest.fixture(scope="module")
def files() -> list[Base]:
    pytest.importorskip("pydicom")
    return bases()


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(number=st.integers(0, 1 << 40))
def test_damaged_images_are_read_or_refused_in_one_line(
    files: list[Base], caplog: pytest.LogCaptureFixture, number: int
) -> None:
    _, content = damaged(files, seed=19, number=number)
    try:
        assert read(content).pixels.dtype == np.uint8
    except ImageError as error:
        assert str(error).startswith("a.png: ")  # noqa: PT017
        assert str(error).isprintable()  # noqa: PT017
        assert len(str(error)) < 300  # noqa: PT017
    said = [record.name for record in caplog.records]  # pydicom's words reach no terminal
    assert not [name for name in said if name.startswith(("PIL", "imagecodecs"))]
