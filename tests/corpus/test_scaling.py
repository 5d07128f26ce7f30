"""Scaling to a square."""

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from corpus.scaling import scaled


def noise(height: int, width: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width), dtype=np.uint8)


def test_values_by_hand() -> None:
    four = np.array([[10, 20], [30, 40]], dtype=np.uint8)
    # Centres of four pixels lie at -0.25, 0.25, 0.75 and 1.25 of the way from the first of two to
    # the second; beyond either there is only the other: 10, 12.5, 17.5, 20. Halves go up: 13, 18.
    # Columns then: 10, 15, 25, 30 below 10; 13 and 33 give 18 and 28, 18 and 38 give 23 and 33.
    assert scaled(four, 4).tolist() == [
        [10, 13, 18, 20],
        [15, 18, 23, 25],
        [25, 28, 33, 35],
        [30, 33, 38, 40],
    ]
    # From four to two the triangle reaches 2 pixels either way of 1 and of 3: weights 3/4, 3/4 and
    # 1/4 of three pixels. 175 * 1/4 / (7/4) = 25 and 175 * 6/4 / (7/4) = 150.
    row = np.array([[0, 0, 175, 175]], dtype=np.uint8)
    assert scaled(row, 2).tolist() == [[25, 150]] * 2


@pytest.mark.parametrize(
    ("height", "width"),
    [(1, 1), (1, 5), (3, 2), (224, 224), (37, 300), (251, 320), (300, 345), (600, 690), (5, 2000)],
)
@pytest.mark.parametrize("size", [1, 7, 33, 224])
def test_wide_images_become_what_pillow_makes_of_them(height: int, width: int, size: int) -> None:
    pixels = noise(height, width)
    expected = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))
    # Pillow may round between the passes in the other order where an image is taller than wide.
    far = np.abs(scaled(pixels, size).astype(int) - expected).max()
    assert far <= (height > width)


@pytest.mark.parametrize(("height", "width"), [(2000, 5), (320, 251), (690, 600), (224, 3)])
def test_tall_images_differ_by_rounding_alone(height: int, width: int) -> None:
    pixels = noise(height, width)
    expected = np.asarray(Image.fromarray(pixels).resize((224, 224), Image.Resampling.BILINEAR))
    assert np.abs(scaled(pixels, 224).astype(int) - expected).max() <= 1


def test_a_view_is_scaled_as_its_copy() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    pixels.flags.writeable = False
    for channel in range(3):
        view = pixels[..., channel]
        np.testing.assert_array_equal(scaled(view, 16), scaled(view.copy(), 16))


@pytest.mark.parametrize("value", [0, 1, 128, 255])
@pytest.mark.parametrize("shape", [(1, 1), (90, 7), (225, 226), (677, 911)])
def test_an_even_image_stays_even(value: int, shape: tuple[int, int]) -> None:
    for size in (1, 50, 224):
        assert (scaled(np.full(shape, value, np.uint8), size) == value).all()


def test_mirrored_images_are_scaled_to_the_mirror_image() -> None:
    pixels = noise(50, 64)
    far = scaled(pixels[:, ::-1], 24).astype(int) - scaled(pixels, 24)[:, ::-1]
    assert np.abs(far).max() <= 1
