"""One picture in every kind of file: it looks the same out of each, or the file is named."""

import struct
import subprocess
import sys
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from core.errors import ConfigError, ImageError
from core.runs.decoding import USUAL, Decoding, Frame, frame_index, parse_frame
from corpus.images.decode import (
    Decoded,
    changes_pixels,
    decode,
    kind_of,
    read_picture,
    remark_kind,
    to_square,
)

Pixels = npt.NDArray[np.uint8]
ROOT = Path(__file__).parents[3]
HEIGHT, WIDTH = 48, 80


def drawn() -> Pixels:
    """A picture that no turn and no mirror maps onto itself."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    picture = np.rint(8 + 140 * x / WIDTH + 60 * (y / HEIGHT) ** 2)
    picture[5:15, 10:30] = 230
    picture[30:44, 60:72] = 0
    return np.asarray(picture, np.uint8)


def read(path: Path, *, decoding: Decoding = USUAL) -> Decoded:
    return read_picture(path, decoding=decoding)


def grey(picture: Decoded) -> npt.NDArray[np.int64]:
    """(H, W) of a picture whose channels are equal."""
    pixels = picture.pixels.astype(np.int64)
    if pixels.ndim == 3:
        assert (pixels == pixels[..., :1]).all()
        return pixels[..., 0]
    return pixels


def tiff(
    values: npt.NDArray[Any],
    *,
    order: str = "<",
    photometric: int = 1,
    tags: dict[int, int] | None = None,
    tile: bool = False,
) -> bytes:
    """A TIFF of one strip, or of one tile, uncompressed."""
    height, width = values.shape[:2]
    n_samples = values.shape[2] if values.ndim == 3 else 1
    stored = values
    if tile:  # sides are multiples of 16
        stored = np.zeros((-(-height // 16) * 16, -(-width // 16) * 16), values.dtype)
        stored[:height, :width] = values
    data = stored.astype(stored.dtype.newbyteorder(order)).tobytes()  # type: ignore[arg-type]
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    entries = {
        256: width, 257: height, 258: 8 * values.dtype.itemsize, 259: 1, 262: photometric,
        277: n_samples, 339: kind, **(tags or {}),
    }  # fmt: skip
    if tile:
        entries |= {322: stored.shape[1], 323: stored.shape[0], 324: 0, 325: len(data)}
    else:
        entries |= {273: 0, 278: height, 279: len(data)}
    begin = 8 + 2 + 12 * len(entries) + 4
    several = {}  # values of one a sample, stored behind the directory
    for tag in (258, 339):
        if n_samples > 2:
            several[tag] = begin
            begin += 2 * n_samples
    if 273 in entries:
        entries[273] = begin
    if 324 in entries:
        entries[324] = begin
    body = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8)
    body += struct.pack(f"{order}H", len(entries))
    for tag, value in sorted(entries.items()):
        if tag in several:
            body += struct.pack(f"{order}HHII", tag, 3, n_samples, several[tag])
        elif tag in (258, 339) and n_samples == 2:
            body += struct.pack(f"{order}HHIHH", tag, 3, 2, value, value)
        else:
            body += struct.pack(f"{order}HHII", tag, 4, 1, value)
    body += struct.pack(f"{order}I", 0)
    for tag in several:
        body += struct.pack(f"{order}{n_samples}H", *[entries[tag]] * n_samples)
    return body + data


def with_exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


STORED = {  # how a picture lies in the file, for each orientation that puts it upright again
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "tif", "webp", "deep.png", "deep.tif"])
def test_the_orientation_tag_turns_every_format_upright(
    tmp_path: Path, kind: str, orientation: int
) -> None:
    image, path = Image.fromarray(drawn()), tmp_path / f"image.{kind}"
    turn = STORED[orientation]
    lying = image if turn is None else image.transpose(turn)
    deep = np.asarray(lying).astype(np.uint16) * 257
    if kind == "deep.png":
        colours = np.repeat(deep[..., None], 3, axis=2)
        plain = imagecodecs.png_encode(np.ascontiguousarray(colours))
        exif = with_exif(orientation).tobytes().removeprefix(b"Exif\0\0")
        chunk = struct.pack(">I4s", len(exif), b"eXIf") + exif
        chunk += struct.pack(">I", zlib.crc32(chunk[4:]))
        path.write_bytes(plain[:33] + chunk + plain[33:])
    elif kind == "deep.tif":
        path.write_bytes(tiff(deep, tags={274: orientation}))
    else:
        ways: dict[str, dict[str, Any]] = {"jpg": {"quality": 100}, "webp": {"lossless": True}}
        options = ways.get(kind, {})
        lying.save(path, exif=with_exif(orientation), **options)
    picture = read(path)
    assert picture.pixels.shape[:2] == (HEIGHT, WIDTH)
    assert np.abs(
        picture.pixels.astype(int).reshape(HEIGHT, WIDTH, -1)[..., 0] - drawn()
    ).max() <= (3 if kind == "jpg" else 0)
    assert ("turned upright by the EXIF tag" in picture.remarks) == (orientation != 1)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(tmp_path: Path, orientation: int) -> None:
    Image.fromarray(drawn()).save(tmp_path / "odd.png", exif=with_exif(orientation))
    picture = read(tmp_path / "odd.png")
    np.testing.assert_array_equal(picture.pixels, drawn())
    assert picture.remarks == ()


DEEP: dict[str, npt.NDArray[Any]] = {
    "uint16": drawn().astype(np.uint16) * 257,
    "12 bits": drawn().astype(np.uint16) * 16,
    "uint32": drawn().astype(np.uint32) * 257,
    "int32": drawn().astype(np.int32) * 16,
    "int16": drawn().astype(np.int16) * 16,
    "float16": (drawn() / 255).astype(np.float16),
    "float32": (drawn() / 255).astype(np.float32),
    "float64": drawn() / 255,
}


@pytest.mark.parametrize("name", DEEP)
@pytest.mark.parametrize("form", ["little", "big", "tile"])
def test_a_tiff_of_any_type_shows_the_picture(tmp_path: Path, name: str, form: str) -> None:
    order = ">" if form == "big" else "<"
    (tmp_path / "a.tif").write_bytes(tiff(DEEP[name], order=order, tile=form == "tile"))
    picture = read(tmp_path / "a.tif")
    np.testing.assert_array_equal(picture.pixels, drawn())
    assert picture.kind.startswith("TIFF grey ")
    assert picture.kind == kind_of(tmp_path / "a.tif")


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("values", [DEEP["uint16"], DEEP["float32"], drawn()], ids=str)
def test_a_compressed_tiff_shows_the_picture(
    tmp_path: Path, compression: str, values: npt.NDArray[Any]
) -> None:
    Image.fromarray(values).save(tmp_path / "a.tif", compression=compression)
    np.testing.assert_array_equal(read(tmp_path / "a.tif").pixels, drawn())


@pytest.mark.parametrize("name", ["uint16", "12 bits", "float32", "uint8"])
def test_white_is_zero_where_a_tiff_says_so(tmp_path: Path, name: str) -> None:
    values: npt.NDArray[Any] = drawn() if name == "uint8" else DEEP[name]
    low, high = int(drawn().min()), int(drawn().max())
    turned = (values.max() - values + values.min()).astype(values.dtype)
    (tmp_path / "a.tif").write_bytes(tiff(turned, photometric=0))
    found = read(tmp_path / "a.tif").pixels.astype(int)
    assert found.std() > 30
    assert np.corrcoef(found.ravel(), drawn().ravel())[0, 1] > 0.9999
    assert (low, high) == (0, 230)


def test_negative_values_are_shown(tmp_path: Path) -> None:
    values = drawn().astype(np.int16) * 8 - 1024
    (tmp_path / "a.tif").write_bytes(tiff(values))
    picture = read(tmp_path / "a.tif")
    text = "signed 16-bit values that are an 8-bit image's (in steps of 8 from -1024 on)"
    np.testing.assert_array_equal(picture.pixels, drawn())
    assert picture.remarks == (text,)
    (tmp_path / "a.tif").write_bytes(tiff(values + 25))
    picture = read(tmp_path / "a.tif")
    # (v + 999) * 255 / (230 * 8)
    np.testing.assert_array_equal(picture.pixels, np.rint(drawn() * (255 / 230)))
    assert picture.remarks == ("signed 16-bit values, windowed (black is -999, white is 841)",)


@pytest.mark.parametrize("times", [16, 257])
def test_colours_of_16_bits_keep_their_low_byte(tmp_path: Path, times: int) -> None:
    colours = np.stack([drawn(), drawn() // 2, 255 - drawn()], axis=2)
    deep = colours.astype(np.uint16) * times
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(deep))
    (tmp_path / "a.tif").write_bytes(tiff(deep, photometric=2))
    (tmp_path / "a.jp2").write_bytes(imagecodecs.jpeg2k_encode(deep, level=0))
    for name in ("a.png", "a.tif", "a.jp2"):
        picture = read(tmp_path / name)
        np.testing.assert_array_equal(picture.pixels, colours)
        assert "RGB 16-bit" in picture.kind


@pytest.mark.parametrize("opacity", ["opaque", "half"])
@pytest.mark.parametrize("n_colours", [1, 3])
@pytest.mark.parametrize("kind", ["png", "tif"])
def test_transparency_of_16_bits_is_put_on_the_background(
    tmp_path: Path, kind: str, n_colours: int, opacity: str
) -> None:
    colours = np.repeat(drawn().astype(np.uint16)[..., None] * 16, n_colours, axis=2)
    alpha = np.full((HEIGHT, WIDTH, 1), 65535, np.uint16)
    if opacity == "half":
        alpha[:, : WIDTH // 2] = 0
    values = np.ascontiguousarray(np.concatenate([colours, alpha], axis=2))
    if kind == "png":
        (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(values))
    else:
        photometric = 2 if n_colours == 3 else 1
        (tmp_path / "a.tif").write_bytes(tiff(values, photometric=photometric, tags={338: 2}))
    black = grey(read(tmp_path / f"a.{kind}"))
    white = grey(read(tmp_path / f"a.{kind}", decoding=Decoding(background="white")))
    if opacity == "opaque":
        np.testing.assert_array_equal(black, drawn())
        np.testing.assert_array_equal(white, drawn())
    else:
        np.testing.assert_array_equal(black[:, WIDTH // 2 :], drawn()[:, WIDTH // 2 :])
        assert not black[:, : WIDTH // 2].any()
        assert (white[:, : WIDTH // 2] == 255).all()


def test_half_transparent_pixels_are_mixed_with_the_background(tmp_path: Path) -> None:
    # Value 200 at alpha 51, a fifth: 40 on black, 40 + 0.8 * 255 = 244 on white; 100 is opaque.
    values = np.array([[[200, 51], [100, 255]]], np.uint8)
    Image.fromarray(values, "LA").save(tmp_path / "a.png")
    picture = read(tmp_path / "a.png")
    assert picture.pixels.tolist() == [[40, 100]]
    assert picture.remarks == ("transparent pixels put on black",)
    picture = read(tmp_path / "a.png", decoding=Decoding(background="white"))
    assert picture.pixels.tolist() == [[244, 100]]
    assert picture.remarks == ("transparent pixels put on white",)


@pytest.mark.parametrize("background", ["black", "white"])
@pytest.mark.parametrize(("ink", "shown_on"), [(0, "white"), (255, "black")])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_a_picture_in_its_transparency_alone_is_put_where_it_shows(
    tmp_path: Path, mode: str, ink: int, shown_on: str, background: str
) -> None:
    alpha = 255 - drawn() if ink == 0 else drawn()
    image = Image.new(mode[:-1], (WIDTH, HEIGHT), (ink,) * 3 if mode == "RGBA" else ink)
    image.putalpha(Image.fromarray(alpha))
    image.save(tmp_path / "a.png")
    picture = read(tmp_path / "a.png", decoding=Decoding(background=background))  # type: ignore[arg-type]
    np.testing.assert_array_equal(grey(picture), drawn())
    assert picture.remarks == (f"a picture in its transparency alone, put on {shown_on}",)


@pytest.mark.parametrize(("ink", "shown_on"), [(0, "white"), (4095, "black"), (65535, "black")])
@pytest.mark.parametrize("n_colours", [1, 3])
def test_a_picture_in_16_bits_of_transparency_alone_is_put_where_it_shows(
    tmp_path: Path, n_colours: int, ink: int, shown_on: str
) -> None:
    share = drawn() if ink else 255 - drawn()
    values = np.full((HEIGHT, WIDTH, n_colours + 1), ink, np.uint16)
    values[..., -1] = share.astype(np.uint16) * 257
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(values))
    picture = read(tmp_path / "a.png")
    np.testing.assert_array_equal(grey(picture), drawn())
    assert picture.remarks == (f"a picture in its transparency alone, put on {shown_on}",)


@pytest.mark.parametrize("opacity", [1023, 30_000])
def test_what_is_as_transparent_everywhere_is_shown_as_if_it_were_not(
    tmp_path: Path, opacity: int
) -> None:
    values = np.repeat(drawn().astype(np.uint16)[..., None] * 4, 2, axis=2)
    values[..., 1] = opacity
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(values))
    picture = read(tmp_path / "a.png")
    np.testing.assert_array_equal(picture.pixels, drawn())
    assert picture.remarks[-1] == "as transparent everywhere: shown as if it were not"


def pnm(kind: int, most: int) -> bytes:
    """A PGM (2 in words, 5 in bytes) or PPM (3, 6) of 12 bits with a comment in its header."""
    values = drawn().astype(np.uint16) * 16
    if kind in (3, 6):
        values = np.repeat(values[..., None], 3, axis=2)
    head = f"P{kind}\n# 12 bits\n{WIDTH} {HEIGHT}\n{most}\n".encode()
    if kind in (2, 3):
        return head + " ".join(map(str, values.ravel())).encode()
    return head + values.astype(">u2").tobytes()


@pytest.mark.parametrize("most", [4095, 65535])
@pytest.mark.parametrize("kind", [2, 3, 5, 6])
def test_pgm_and_ppm_of_16_bits_keep_their_low_byte(tmp_path: Path, kind: int, most: int) -> None:
    path = tmp_path / "a.ppm"
    path.write_bytes(pnm(kind, most))
    picture = read(path)
    np.testing.assert_array_equal(grey(picture), drawn())
    assert picture.kind == kind_of(path)
    assert picture.kind.startswith("PPM grey" if kind in (2, 5) else "PPM RGB")
    path.write_bytes(pnm(kind, most)[:1000])
    with pytest.raises(ImageError, match=r"a\.ppm: cut short: \d+ of [\d,]+ values"):
        read(path)


@pytest.mark.parametrize(
    ("compression", "fault"),
    [
        *((c, b"\0") for c in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")),
        *((c, b"\xff\0") for c in ("tiff_lzw", "tiff_adobe_deflate")),
    ],
)
def test_a_damaged_tiff_is_named_and_nothing_else_is_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], compression: str, fault: bytes
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.tif", compression=compression)
    whole = (tmp_path / "whole.tif").read_bytes()
    with Image.open(tmp_path / "whole.tif") as image:
        (begin,), (length,) = image.tag_v2[273], image.tag_v2[279]  # type: ignore[attr-defined]
    kept = 0 if fault == b"\0" else length // 3
    data = (whole[begin : begin + kept] + fault * length)[:length]
    (tmp_path / "a.tif").write_bytes(whole[:begin] + data + whole[begin + length :])
    with pytest.raises(ImageError) as refused:
        read(tmp_path / "a.tif")
    assert str(refused.value) == f"{tmp_path / 'a.tif'}: cannot be decoded (damaged, or cut short)"
    assert capfd.readouterr() == ("", "")


def test_a_broken_header_is_named_in_words(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(drawn())[:8] + bytes(400))
    with pytest.raises(ImageError, match=r"a\.tif: cannot be decoded \(its header is broken\)"):
        read(tmp_path / "a.tif")


def test_what_is_transparent_everywhere_is_shown_as_if_it_were_not(tmp_path: Path) -> None:
    image = Image.fromarray(drawn())
    image.putalpha(0)
    image.save(tmp_path / "a.png")
    picture = read(tmp_path / "a.png")
    np.testing.assert_array_equal(picture.pixels, drawn())
    assert picture.remarks == ("transparent everywhere: shown as if it were not",)


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "1", "I;16"])
def test_a_transparent_colour_is_put_on_the_background(tmp_path: Path, mode: str) -> None:
    halves = np.full((4, 4), 255, np.uint8)
    halves[:2, 2:] = 0 if mode == "1" else 120
    halves[2:, 2:] = 0
    image: Image.Image = Image.fromarray(halves)
    clear: Any = 255
    if mode == "I;16":
        image, clear = Image.fromarray(halves.astype(np.uint16) * 16), 255 * 16
    elif mode == "P":
        image, clear = image.convert("P"), bytes([255] * 255 + [0])
    else:
        image, clear = image.convert(mode), (255,) * 3 if mode == "RGB" else 255
    image.save(tmp_path / "a.png", transparency=clear)
    pixels = grey(read(tmp_path / "a.png"))
    remark = read(tmp_path / "a.png").remarks[-1]
    if mode == "1":  # black ink and nothing else
        assert (pixels == halves).all()
        assert remark == "a picture in its transparency alone, put on white"
    else:  # white became transparent, and black shows through
        assert not pixels[:, :2].any()
        assert (pixels[:2, 2:] >= 120).all()  # of 16 bits, the brightest that is seen
        assert not pixels[2:, 2:].any()
        assert remark == "transparent pixels put on black"


def test_a_transparent_colour_of_16_bits_is_put_on_the_background(tmp_path: Path) -> None:
    colours = np.repeat(drawn().astype(np.uint16)[..., None] * 16, 3, axis=2)
    plain = imagecodecs.png_encode(colours)
    clear = struct.pack(">3H", *[230 * 16] * 3)  # the value of one rectangle
    chunk = struct.pack(">I4s", len(clear), b"tRNS") + clear
    chunk += struct.pack(">I", zlib.crc32(chunk[4:]))
    (tmp_path / "a.png").write_bytes(plain[:33] + chunk + plain[33:])
    pixels = grey(read(tmp_path / "a.png"))
    assert not pixels[5:15, 10:30].any()
    np.testing.assert_array_equal(pixels[15:], drawn()[15:])


@pytest.mark.parametrize("kind", ["gif", "png", "webp"])
def test_transparency_of_an_animation_is_put_on_the_background(tmp_path: Path, kind: str) -> None:
    clear = np.dstack([*[np.full((8, 8), 90, np.uint8)] * 3, np.full((8, 8), 255, np.uint8)])
    clear[:4, :, 3] = 0
    clear[6:, :, :3] = 200
    frames = [Image.fromarray(clear), Image.fromarray(clear[::-1].copy())]
    options: dict[str, Any] = {"lossless": True} if kind == "webp" else {}
    frames[0].save(
        tmp_path / f"a.{kind}",
        save_all=True,
        append_images=frames[1:],
        **options,
    )
    pixels = grey(read(tmp_path / f"a.{kind}"))
    assert not pixels[:4].any()
    assert np.abs(pixels[4:6] - 90).max() <= 2
    assert np.abs(pixels[6:] - 200).max() <= 2


def frames_of(n: int) -> list[Image.Image]:
    """Frames of 10, 20, 30 and so on, with a corner that is always 200."""
    values = []
    for number in range(n):
        values.append(np.full((16, 16), 10 * (number + 1), np.uint8))
        values[-1][:4, :4] = 200
    return [Image.fromarray(v) for v in values]


@pytest.mark.parametrize("kind", ["gif", "webp", "png", "tif", "deep.tif"])
@pytest.mark.parametrize(
    ("frame", "level"), [(None, 10), ("first", 10), ("middle", 30), ("last", 40), (2, 20), (9, 40)]
)
def test_the_page_or_frame_that_is_asked_for_is_read(
    tmp_path: Path, kind: str, frame: Frame | None, level: int
) -> None:
    path, frames = tmp_path / f"a.{kind}", frames_of(4)
    if kind == "deep.tif":
        frames = [Image.fromarray(np.asarray(f).astype(np.uint16) * 257) for f in frames]
    options: dict[str, Any] = {"lossless": True} if kind == "webp" else {}
    frames[0].save(
        path,
        save_all=True,
        append_images=frames[1:],
        **options,
    )
    picture = read(path, decoding=Decoding(frame=frame))
    found = int(picture.pixels.reshape(16, 16, -1)[8, 8, 0])
    if kind != "deep.tif":
        assert abs(found - level) <= 1
    else:  # windowed: of five levels none looks like an 8-bit image's
        assert found == 0
        assert f"black is {level * 257}," in picture.remarks[1]
    said = f"{frame or 'first'} page or frame of several (of 4)"
    if isinstance(frame, int):
        said = f"page or frame {frame} of several, or the last (of 4)"
    assert picture.remarks[0] == said


@pytest.mark.parametrize("inks", ["CMYK", "YCCK"])
def test_inks_become_the_colours_that_they_print(tmp_path: Path, inks: str) -> None:
    colours = np.stack([drawn(), drawn() // 2, 255 - drawn()], axis=2)
    if inks == "CMYK":
        Image.fromarray(colours).convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    else:  # Adobe's form: stored inverted, as YCbCr of inverted inks, and said in a marker
        values = np.dstack([colours, np.full((HEIGHT, WIDTH), 255, np.uint8)])
        content = imagecodecs.jpeg8_encode(
            np.ascontiguousarray(values), level=100, colorspace="CMYK", outcolorspace="YCCK"
        )
        (tmp_path / "a.jpg").write_bytes(content)
    picture = read(tmp_path / "a.jpg")
    assert picture.kind == "JPEG CMYK"
    assert np.abs(picture.pixels.astype(int) - colours).mean() < 6
    Image.fromarray(colours).convert("CMYK").save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read(tmp_path / "a.tif").pixels, colours)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_levels_of_few_bits_reach_from_black_to_white(tmp_path: Path, bits: int) -> None:
    levels = np.arange(2**bits, dtype=np.uint8).repeat(8)
    packed = np.packbits(np.unpackbits(levels[:, None], axis=1)[:, -bits:].ravel())
    header = struct.pack(">IIBBBBB", len(levels), 1, bits, 0, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" + packed.tobytes())), (b"IEND", b"")]
    content = b"\x89PNG\r\n\x1a\n"
    for name, data in parts:
        content += struct.pack(">I", len(data)) + name + data
        content += struct.pack(">I", zlib.crc32(name + data))
    (tmp_path / "a.png").write_bytes(content)
    pixels = grey(read(tmp_path / "a.png"))[0]
    assert pixels.tolist() == (levels.astype(int) * 255 // (2**bits - 1)).tolist()


@pytest.mark.parametrize("ending", ["png", "tif", "bmp", "gif"])
@pytest.mark.parametrize("light", [0.5, 0.8, 1.0])
def test_scattered_dots_are_smoothed_to_the_greys_that_they_stand_for(
    tmp_path: Path, ending: str, light: float
) -> None:
    picture = Image.fromarray(np.rint(drawn() * light).astype(np.uint8)).resize((320, 192))
    picture.convert("1").save(tmp_path / f"a.{ending}")
    seen = read(tmp_path / f"a.{ending}")
    assert seen.remarks == ("dots smoothed to greys",)
    assert np.corrcoef(seen.pixels.ravel(), np.asarray(picture).ravel())[0, 1] > 0.95
    assert abs(float(seen.pixels.mean()) - float(np.asarray(picture).mean())) < 1


@pytest.mark.parametrize("ending", ["png", "tif", "gif"])
@pytest.mark.parametrize("level", [30, 100, 200])
def test_black_and_white_areas_stay_as_they_are(tmp_path: Path, ending: str, level: int) -> None:
    areas = np.where(drawn() > level, 255, 0).astype(np.uint8)
    Image.fromarray(areas).convert("1", dither=Image.Dither.NONE).save(tmp_path / f"a.{ending}")
    picture = read(tmp_path / f"a.{ending}")
    np.testing.assert_array_equal(picture.pixels, areas)
    assert picture.remarks == ()


@pytest.mark.parametrize("colours", [2, 16, 256])
def test_a_palette_is_looked_up(tmp_path: Path, colours: int) -> None:
    step = np.linspace(0, 255, colours).astype(np.uint8)
    image = Image.fromarray(np.arange(colours, dtype=np.uint8)[None].repeat(3, 0), "P")
    image.putpalette(np.stack([step, 255 - step, step], axis=1).tobytes())
    for name in ("a.png", "a.gif", "a.bmp", "a.tif"):
        image.save(tmp_path / name)
        pixels = read(tmp_path / name).pixels
        assert pixels[0].tolist() == np.stack([step, 255 - step, step], axis=1).tolist()


@pytest.mark.parametrize("bits", [12, 16])
def test_a_jpeg_that_pillow_does_not_know_is_read(tmp_path: Path, bits: int) -> None:
    values = drawn().astype(np.uint16) * 16
    content = (
        imagecodecs.jpeg8_encode(values, bitspersample=12, level=100)
        if bits == 12
        else imagecodecs.ljpeg_encode(values, bitspersample=16)
    )
    (tmp_path / "a.jpg").write_bytes(content)
    found = read(tmp_path / "a.jpg").pixels.astype(float)
    assert np.corrcoef(found.ravel(), drawn().ravel())[0, 1] > 0.999


def test_two_channels_of_8_bits_show_the_first(tmp_path: Path) -> None:
    values = np.ascontiguousarray(np.stack([drawn(), 255 - drawn()], axis=2))
    (tmp_path / "a.tif").write_bytes(tiff(values, tags={338: 0}))
    np.testing.assert_array_equal(grey(read(tmp_path / "a.tif")), drawn())


@pytest.mark.parametrize(
    ("name", "content", "remarks"),
    [
        ("a.jpg", "PNG", ("PNG by its content, whatever its name says",)),
        ("A.PNG", "PNG", ()),
        ("a.tif", "BMP", ("BMP by its content, whatever its name says",)),
        ("a", "PNG", ()),
    ],
)
def test_the_content_counts_and_not_the_name(
    tmp_path: Path, name: str, content: str, remarks: tuple[str, ...]
) -> None:
    Image.fromarray(drawn()).save(tmp_path / name, format=content)
    picture = read(tmp_path / name)
    np.testing.assert_array_equal(picture.pixels, drawn())
    assert picture.remarks == remarks


def test_one_colour_and_a_single_pixel_are_remarked(tmp_path: Path) -> None:
    Image.new("L", (1, 1), 100).save(tmp_path / "one.png")
    Image.new("RGB", (30, 20), (9, 8, 7)).save(tmp_path / "even.png")
    Image.fromarray(drawn()).save(tmp_path / "plain.png")
    found = {
        path.stem: decode(path, size=16, resample="bilinear").remarks for path in tmp_path.iterdir()
    }
    assert found == {"one": ("a single pixel",), "even": ("one colour all over",), "plain": ()}
    assert not any(
        map(
            changes_pixels,
            (*found["one"], *found["even"], "PNG by its content, whatever its name says"),
        )
    )
    assert changes_pixels("outliers cut off (3 values)")
    assert remark_kind("outliers cut off (3 values)") == "outliers cut off"


def test_a_huge_image_is_read_and_a_larger_one_named(tmp_path: Path) -> None:
    Image.new("1", (13_500, 13_500), 1).save(tmp_path / "a.png")  # more than Pillow opens
    program = (
        "import sys; from pathlib import Path; from corpus.images.decode import decode;"
        "print(decode(Path(sys.argv[1]), size=8, resample='nearest').pixels.min())"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "a.png")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == ("255\n", "")
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[16:24] = struct.pack(">II", 30_000, 30_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "b.png").write_bytes(content)
    with pytest.raises(ImageError, match=r"b\.png: 30000 x 30000 pixels, more than 400,000,000"):
        read(tmp_path / "b.png")


@pytest.mark.parametrize(
    "values", [DEEP["uint16"], DEEP["float16"], np.dstack([DEEP["uint16"]] * 3)], ids=str
)
def test_a_deep_image_cut_short_is_named_and_says_nothing_else(
    tmp_path: Path, values: npt.NDArray[Any], capfd: pytest.CaptureFixture[str]
) -> None:
    files: list[tuple[str, bytes | bytearray]] = [
        ("a.tif", tiff(values, photometric=2 if values.ndim == 3 else 1))
    ]
    if values.dtype == np.uint16:
        files.append(("a.png", imagecodecs.png_encode(np.ascontiguousarray(values))))
    for name, content in files:
        for share in (0.02, 0.3, 0.9):
            (tmp_path / name).write_bytes(content[: int(len(content) * share)])
            with pytest.raises(ImageError, match=rf"{name}: .*") as raised:
                read(tmp_path / name)
            assert "\n" not in str(raised.value)
    assert capfd.readouterr() == ("", "")


def test_a_tiff_of_complex_numbers_is_named(tmp_path: Path) -> None:
    content = tiff(DEEP["float64"], tags={339: 6})
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.tif: "):
        read(tmp_path / "a.tif")


def test_kinds_are_told_by_the_header(tmp_path: Path) -> None:
    image = Image.fromarray(drawn())
    image.save(tmp_path / "a.jpg")
    image.convert("1").save(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(imagecodecs.png_encode(np.dstack([DEEP["uint16"]] * 3)))
    (tmp_path / "d.tif").write_bytes(tiff(DEEP["float64"], photometric=0))
    (tmp_path / "e.jpg").write_text("no image")
    found = [kind_of(tmp_path / n) for n in ("a.jpg", "b.png", "c.png", "d.tif", "e.jpg", "gone")]
    assert found == [
        "JPEG grey",
        "PNG 1-bit",
        "PNG RGB 16-bit",
        "TIFF grey, 0 is white, float 64-bit",
        "unknown",
        "missing",
    ]


def test_broken_exif_turns_nothing(tmp_path: Path) -> None:
    buffer = BytesIO()
    Image.fromarray(drawn()).save(buffer, "JPEG", quality=100, exif=with_exif(6))
    content = buffer.getvalue()
    (tmp_path / "a.jpg").write_bytes(content.replace(b"MM\0*", b"MM\0\xff"))
    assert read(tmp_path / "a.jpg").pixels.shape == (HEIGHT, WIDTH)


def test_frames_as_they_are_typed() -> None:
    typed = ("usual", "first", "middle", "last", "7")
    assert [parse_frame(text) for text in typed] == [None, "first", "middle", "last", 7]
    assert frame_index(7, 3) == 2
    for text in ("0", "-1", "none", "", "1.5"):
        with pytest.raises(ConfigError, match="expected usual, first, middle, last or a number"):
            parse_frame(text)


def test_a_background_is_black_or_white() -> None:
    with pytest.raises(ConfigError, match="background: expected black or white, found 'red'"):
        Decoding(background="red")  # type: ignore[arg-type]
    assert USUAL.changes == {}
    assert Decoding(background="white", frame=2).changes == {"background": "white", "frame": 2}


@pytest.mark.parametrize("shape", [(320, 251), (90, 150), (64, 64), (201, 130, 3)])
def test_the_gaussian_filter_is_that_of_scikit_image(shape: tuple[int, ...]) -> None:
    """As TorchXRayVision calls it: values to +-1024, zero beyond the border."""
    resize = pytest.importorskip("skimage.transform").resize
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    values = (pixels / 255 * 2 - 1) * 1024
    theirs = resize(values, (64, 64, *shape[2:]), mode="constant", preserve_range=True)
    expected = np.atleast_3d((theirs / 1024 + 1) / 2 * 255)
    ours = to_square(pixels, size=64, resample="gaussian")
    assert ours.shape == (64, 64, 3)
    assert np.abs(ours - expected).max() <= 0.5001  # rounded to whole levels
