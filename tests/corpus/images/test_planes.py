"""One plane of a grey image, three of another, read as three channels."""

from pathlib import Path

import numpy as np
import pytest

from core.storage.arrays import load_array
from corpus.images.planes import GREY, Pixels, Planes, split


def drawn(n: int, side: int, *, colour: tuple[int, ...] = ()) -> Pixels:
    """(n, side, side, 3) images of which these are not grey."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (n, side, side, 1), dtype=np.uint8).repeat(3, axis=3)
    for row in colour:
        pixels[row] = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
    return pixels


@pytest.mark.parametrize("colour", [(), (2,), (0, 3, 4), (0, 1, 2, 3, 4)])
@pytest.mark.parametrize("side", [1, 7, 33, 224])
def test_what_is_read_is_what_was_kept(side: int, colour: tuple[int, ...]) -> None:
    pixels = drawn(5, side, colour=colour)
    planes = Planes.of(pixels)
    assert len(planes) == 5
    assert len(planes.further) == len(colour) if side > 1 else len(planes.further) <= len(colour)
    rows = np.array([4, 0, 0, 3, 2, 1])
    mirrored = np.array([True, False, True, False, True, False])
    np.testing.assert_array_equal(planes.pixels(rows), pixels[rows])
    expected = pixels[rows]
    expected[mirrored] = expected[mirrored][:, :, ::-1]
    found = planes.pixels(rows, mirrored=mirrored)
    np.testing.assert_array_equal(found, expected)
    assert found.flags.c_contiguous
    assert found.flags.writeable


def test_a_single_odd_pixel_makes_a_colour_image() -> None:
    pixels = drawn(1, 20)[0]
    planes, is_grey = split(pixels)
    assert is_grey
    np.testing.assert_array_equal(planes, pixels.transpose(2, 0, 1))
    for channel in range(3):
        odd = pixels.copy()
        odd[19, 19, channel] ^= 1
        planes, is_grey = split(odd)
        assert not is_grey
        np.testing.assert_array_equal(planes, odd.transpose(2, 0, 1))


def test_an_image_that_lies_otherwise_in_memory_is_split_as_its_copy() -> None:
    pixels = drawn(1, 20, colour=(0,))[0]
    for view in (pixels[::-1], pixels.transpose(1, 0, 2), np.asfortranarray(pixels)):
        view.flags.writeable = False
        np.testing.assert_array_equal(split(view)[0], split(view.copy())[0])


def test_planes_mapped_from_disk_are_read_and_let_go(tmp_path: Path) -> None:
    pixels = drawn(5, 16, colour=(1, 2))
    kept = Planes.of(pixels)
    np.save(tmp_path / "first.npy", kept.first)
    np.save(tmp_path / "further.npy", kept.further)
    mapped = Planes(
        first=load_array(tmp_path / "first.npy"),
        further=load_array(tmp_path / "further.npy"),
        places=kept.places,
    )
    for _ in range(2):
        np.testing.assert_array_equal(mapped.pixels(np.arange(5)), pixels)
        mapped.release()


def test_there_are_no_images_beyond_the_last() -> None:
    planes = Planes.of(drawn(5, 4))
    with pytest.raises(IndexError, match="index 5 is out of bounds"):
        planes.pixels(np.array([0, 5]))
    assert planes.pixels(np.arange(0)).shape == (0, 4, 4, 3)


def test_arrays_of_other_images_are_refused() -> None:
    first, further = np.zeros((3, 4, 4), np.uint8), np.zeros((1, 2, 4, 4), np.uint8)
    Planes(first=first, further=further, places=np.array([GREY, 0, GREY]))
    for wrong in (
        {"places": np.array([GREY, 0])},
        {"further": np.zeros((1, 2, 4, 5), np.uint8)},
    ):
        arrays = {"first": first, "further": further, "places": np.full(3, GREY), **wrong}
        with pytest.raises(ValueError, match="planes and places of other images"):
            Planes(**arrays)
    for place in (-2, 1):
        with pytest.raises(ValueError, match="places: expected -1 to 0"):
            Planes(first=first, further=further, places=np.array([GREY, place, 0]))
