"""Real images stored in other ways give the cached bytes of the pixels that they were made from."""

import csv
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from corpus.images.decode import decode

SOURCE = Path(__file__).parents[4] / "shared" / "radbench"

pytestmark = [
    pytest.mark.radbench,
    pytest.mark.skipif(not SOURCE.is_dir(), reason=f"{SOURCE} is not here"),
]

N_GREY, N_COLOUR = 150, 50

Pixels = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def pictures() -> list[Pixels]:
    """Grey images and images in colour, whole, from all over the corpus."""
    with (SOURCE / "groups.csv").open(encoding="utf-8") as file:
        places = [(r["split"], r["category"], f"{r['image_id']}.jpg") for r in csv.DictReader(file)]
    found: dict[str, list[Pixels]] = {"L": [], "RGB": []}
    for place in places[::5]:
        if (path := SOURCE.joinpath(*place)).is_file():
            with Image.open(path) as image:
                if image.mode in found:
                    found[image.mode].append(np.asarray(image))
    chosen = []
    for mode, n in (("L", N_GREY), ("RGB", N_COLOUR)):
        assert len(found[mode]) >= n
        chosen += found[mode][:n]
    return chosen


def deep_png(pixels: Pixels, path: Path) -> None:
    path.write_bytes(imagecodecs.png_encode(pixels.astype(np.uint16) * 257, level=1))


def twelve_bits(pixels: Pixels, path: Path) -> None:
    path.write_bytes(imagecodecs.png_encode(pixels.astype(np.uint16) * 16, level=1))


def see_through(pixels: Pixels, path: Path) -> None:
    image = Image.fromarray(pixels)
    image.putalpha(255)
    image.save(path, "PNG", compress_level=1)


def lying(pixels: Pixels, path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_90).save(
        path, "PNG", exif=exif, compress_level=1
    )


def float_tiff(pixels: Pixels, path: Path) -> None:
    """Pillow writes grey ones; those in colour go into a file by hand."""
    values = (pixels / 255).astype("<f4")
    if values.ndim == 2:
        Image.fromarray(values).save(path, format="TIFF")
        return
    height, width, _ = values.shape
    numbers = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, 134), (259, 3, 1, 1), (262, 3, 1, 2),
        (273, 4, 1, 146), (277, 3, 1, 3), (278, 4, 1, height), (279, 4, 1, values.nbytes),
        (339, 3, 3, 140),
    ]  # fmt: skip
    body = struct.pack("<2sHIH", b"II", 42, 8, len(numbers))
    body += b"".join(struct.pack("<HHII", *entry) for entry in numbers) + struct.pack("<I", 0)
    path.write_bytes(body + struct.pack("<6H", 32, 32, 32, 3, 3, 3) + values.tobytes())


GUISES: dict[str, Callable[[Pixels, Path], None]] = {
    "16-bit PNG": deep_png,
    "12 bits in a 16-bit PNG": twelve_bits,
    "PNG with alpha": see_through,
    "turned, with an EXIF tag": lying,
    "float TIFF": float_tiff,
}


@pytest.mark.parametrize("guise", GUISES)
def test_another_way_to_store_an_image_changes_no_byte(
    pictures: list[Pixels], tmp_path: Path, guise: str
) -> None:
    plain, other = tmp_path / "plain.png", tmp_path / "other"
    for pixels in pictures:
        Image.fromarray(pixels).save(plain, compress_level=1)
        GUISES[guise](pixels, other)
        expected = decode(plain, size=224, resample="bilinear")
        found = decode(other, size=224, resample="bilinear")
        assert expected.remarks == ()
        np.testing.assert_array_equal(found.pixels, expected.pixels)


@pytest.mark.parametrize("n_hot", [1, 9])
def test_hot_pixels_change_little_else(pictures: list[Pixels], tmp_path: Path, n_hot: int) -> None:
    rng = np.random.default_rng(0)
    for pixels in pictures[:60]:
        values: npt.NDArray[Any] = pixels.astype(np.uint16) * 16
        values.flat[rng.choice(values.size, n_hot, replace=False)] = 65535
        (tmp_path / "hot.png").write_bytes(imagecodecs.png_encode(values, level=1))
        Image.fromarray(pixels).save(tmp_path / "plain.png", compress_level=1)
        hot = decode(tmp_path / "hot.png", size=224, resample="nearest").pixels.astype(int)
        plain = decode(tmp_path / "plain.png", size=224, resample="nearest").pixels
        assert ((hot - plain) != 0).any(axis=2).sum() <= 4 * n_hot  # one pixel may be shown twice
