"""Values of more than 8 bits as grey levels: ranges worked out by hand, outliers, padding."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from corpus.images.window import between, window


def smooth(height: int = 60, width: int = 80) -> npt.NDArray[np.uint8]:
    """A picture whose 8-bit values reach from 3 to 230, each on several pixels."""
    y, x = np.mgrid[:height, :width]
    levels = 3 + 227 * (x / (width - 1) + y / (height - 1)) / 2
    return np.asarray(np.rint(levels), np.uint8)


def test_the_range_of_the_image_becomes_0_to_255() -> None:
    # (v - 1000) * 255 / 500 = 0, 102, 204, 255
    pixels, remarks = window(np.array([[1000, 1200], [1400, 1500]], dtype=np.uint16))
    assert pixels.tolist() == [[0, 102], [204, 255]]
    assert remarks == ("16-bit values, windowed (black is 1000, white is 1500)",)


def test_the_largest_value_is_black_where_the_file_says_so() -> None:
    pixels, _ = window(np.array([[1000, 1200], [1400, 1500]], dtype=np.uint16), inverted=True)
    assert pixels.tolist() == [[255, 153], [51, 0]]


def test_bytes_and_marks_are_grey_levels_already() -> None:
    assert window(np.array([[3, 200]], dtype=np.uint8))[0].tolist() == [[3, 200]]
    assert window(np.array([[3, 200]], dtype=np.uint8), inverted=True)[0].tolist() == [[252, 55]]
    assert window(np.array([[True, False]]))[0].tolist() == [[255, 0]]


@pytest.mark.parametrize(
    ("times", "dtype"),
    [
        *((step, np.uint16) for step in (1, 2, 4, 8, 16, 32, 64, 128, 256, 257)),
        *(((2**bits - 1) / 255, np.uint16) for bits in range(9, 16)),
        *((step, dtype) for step in (1, 16, 257) for dtype in (np.int32, np.uint32, np.float32)),
        *((1 / 255, dtype) for dtype in (np.float16, np.float32, np.float64)),
        *((1 / 256, dtype) for dtype in (np.float16, np.float32, np.float64)),
        (16, np.int16),
        (1, np.float16),
    ],
)
def test_values_of_8_bits_in_a_larger_type_come_back_as_they_were(
    times: float, dtype: type
) -> None:
    picture = smooth()
    wide = picture * np.float64(times)
    stored: npt.NDArray[Any] = (
        wide.astype(dtype) if np.issubdtype(dtype, np.floating) else np.rint(wide).astype(dtype)
    )
    pixels, (remark,) = window(stored)
    np.testing.assert_array_equal(pixels, picture)
    assert "an 8-bit image's" in remark


def test_values_cut_to_whole_numbers_are_recognised_too() -> None:
    picture = smooth()
    pixels, _ = window((picture / 255 * 65535).astype(np.uint16))
    np.testing.assert_array_equal(pixels, picture)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_numbers_in_the_upper_bits_of_16_are_recognised_too(bits: int) -> None:
    numbers = np.rint(smooth() * ((2**bits - 1) / 255)).astype(np.uint16)
    pixels, (remark,) = window(numbers << (16 - bits))
    np.testing.assert_array_equal(pixels, smooth())
    assert "an 8-bit image's" in remark


@pytest.mark.parametrize(
    ("step", "black", "dtype"),
    [
        (8, -1024, np.int16),
        (4, -1024, np.int32),
        (16, -1024, np.float32),
        (256, -32768, np.int16),
        (257, -32768, np.int32),
        (2 / 255, -1, np.float32),
        (2 / 255, -1, np.float16),
        (2 / 256, -1, np.float64),
    ],
)
def test_8_bits_above_a_black_that_is_not_0_come_back_as_they_were(
    step: float, black: float, dtype: type
) -> None:
    pixels, (remark,) = window((smooth() * np.float64(step) + black).astype(dtype))
    np.testing.assert_array_equal(pixels, smooth())
    assert remark.endswith(f"an 8-bit image's (in steps of {step:.6g} from {black} on)")


@pytest.mark.parametrize("times", [1, 16, 257])
def test_a_dark_picture_stays_dark(times: int) -> None:
    dark = smooth() // 4  # 0 to 57: as 8-bit values times 16 they could also be others times 64
    np.testing.assert_array_equal(window(dark.astype(np.uint16) * times)[0], dark)


def test_a_picture_of_few_levels_may_have_been_coarse_before() -> None:
    coarse = smooth() >> 3 << 3
    np.testing.assert_array_equal(window(coarse.astype(np.uint16) * 16)[0], coarse)


def test_dense_values_are_no_8_bit_image() -> None:
    values = np.arange(500, dtype=np.uint16).reshape(20, 25) + 3
    assert window(values)[1] == ("16-bit values, windowed (black is 3, white is 502)",)
    pixels, _ = window(values.astype(np.int16) * 3 - 1024)
    np.testing.assert_array_equal(pixels, window(values)[0])


def test_signed_bytes_are_grey_levels_already() -> None:
    pixels, remarks = window(np.array([[-128, -28, 127]], dtype=np.int8))
    assert pixels.tolist() == [[0, 100, 255]]
    assert remarks == ("signed 8-bit values, -128 is black",)
    inverted, _ = window(np.array([[-128, 127]], dtype=np.int8), inverted=True)
    assert inverted.tolist() == [[255, 0]]


@pytest.mark.parametrize("n_hot", [1, 9])
@pytest.mark.parametrize("times", [1, 16, 50])
def test_hot_pixels_change_no_other(n_hot: int, times: int) -> None:
    values = smooth().astype(np.uint16) * times
    hot = values.copy()
    hot[0, :n_hot] = 65535
    (calm, _), (pixels, remarks) = window(values[1:]), window(hot)
    assert np.abs(pixels[1:].astype(int) - calm).max() <= 1 + (times == 50)
    assert (pixels[0, :n_hot] == 255).all()
    assert remarks[-1] == f"outliers cut off ({n_hot} values)"


def test_a_tail_that_fades_out_is_kept() -> None:
    # 4,800 values of which a hundred lie beyond the rest, each 20 further than the one before.
    values = np.concatenate([np.arange(4_700) % 1000, 1000 + 5 * np.arange(100)]).astype(np.uint16)
    pixels, (remark,) = window(values.reshape(60, 80))
    assert remark == "16-bit values, windowed (black is 0, white is 1495)"
    assert pixels.ravel()[-1] == 255
    assert len(np.unique(pixels.ravel()[-100:])) > 80  # none is cut off


def test_a_few_pixels_far_beyond_take_two_thirds_of_the_range_at_most() -> None:
    values = np.concatenate([np.arange(99_950) % 1000, 1000 + 200 * np.arange(50)])
    pixels, remarks = window(values.astype(np.uint16).reshape(1000, 100))
    # The core is 0 to 998 or so; white is twice that, and what lies beyond is cut off.
    assert remarks[0].startswith("16-bit values, windowed (black is 0, white is 199")
    assert remarks[1].startswith("outliers cut off (4")
    assert 120 <= pixels.ravel()[999] <= 130


@pytest.mark.parametrize("padding", [-32768, -9999])
def test_padding_is_left_out_of_the_window(padding: int) -> None:
    values = smooth().astype(np.int16) * 8 - 1024
    padded = values.copy()
    padded[:10] = padding
    pixels, remarks = window(padded)
    np.testing.assert_array_equal(pixels[10:], window(values[10:])[0])
    assert not pixels[:10].any()
    assert remarks[1] == f"padding left out of the window (800 values of {padding})"


@pytest.mark.parametrize("padding", [-1500, -2000, -3024])
@pytest.mark.parametrize("step", [8, 9])
def test_values_below_that_of_air_are_padding(padding: int, step: int) -> None:
    # Those of the picture reach over 1816 and 2043: the padding lies less far from them.
    values = smooth().astype(np.int16) * step - 1000
    padded = values.copy()
    padded[:10] = padding
    pixels, remarks = window(padded)
    np.testing.assert_array_equal(pixels[10:], window(values[10:])[0])
    assert not pixels[:10].any()
    assert remarks[1] == f"padding left out of the window (800 values of {padding})"


def test_a_negative_value_under_no_other_is_padding() -> None:
    values = np.linspace(0, 1, 4800, dtype=np.float32).reshape(60, 80)
    padded = np.concatenate([np.full((5, 80), -1, np.float32), values])
    pixels, remarks = window(padded)
    np.testing.assert_array_equal(pixels[5:], window(values)[0])
    assert remarks[1] == "padding left out of the window (400 values of -1)"


@pytest.mark.parametrize("colours", [False, True])
def test_a_bright_margin_is_black_and_bright_letters_are_not(colours: bool) -> None:
    values = smooth().astype(np.uint16) * 16
    values[20:30, 20:25] = 65535  # letters
    values = np.repeat(values[..., None], 3, axis=2) if colours else values
    pixels, remarks = window(values)
    assert (pixels[20:30, 20:25] == 255).all()
    assert remarks[1].startswith("padding left out of the window")
    values[:, -4:] = 65535
    margin, _ = window(values)
    assert not margin[:, -4:].any()
    np.testing.assert_array_equal(margin[30:, :-4], pixels[30:, :-4])


def test_padding_is_black_where_the_largest_value_is_black_too() -> None:
    values = smooth().astype(np.int16) * 8 - 1000
    values[:10] = -32768
    pixels, _ = window(values, inverted=True)
    assert not pixels[:10].any()
    np.testing.assert_array_equal(pixels[10:], window(values[10:], inverted=True)[0])


def test_a_dark_ground_is_no_padding() -> None:
    values = smooth().astype(np.uint16) * 50 + 2000
    values[:30] = 0  # 2150 below the rest, which reaches over 11350
    assert window(values)[1] == ("16-bit values, windowed (black is 0, white is 13500)",)


def test_what_is_no_number_is_black_and_counted() -> None:
    values = smooth().astype(np.float32) / 255
    values[0, :3] = np.nan, np.inf, -np.inf
    pixels, remarks = window(values)
    np.testing.assert_array_equal(pixels[1:], smooth()[1:])
    assert pixels[0, :3].tolist() == [0, 0, 0]
    assert remarks[0] == "NaN or infinite, painted black (3 of 4800 values)"
    turned, _ = window(values, inverted=True)
    assert turned[0, :3].tolist() == [0, 0, 0]


def test_nothing_but_nan_is_black() -> None:
    pixels, remarks = window(np.full((4, 5), np.nan, np.float32))
    assert not pixels.any()
    assert remarks == ("NaN or infinite, painted black (20 of 20 values)",)


@pytest.mark.parametrize("value", [-5, 0, 30_000])
def test_one_value_is_black(value: int) -> None:
    assert not window(np.full((4, 4), value, np.int32))[0].any()


def test_a_few_points_on_an_even_ground_are_the_picture() -> None:
    values = np.full((100, 100), 7, np.uint16)
    values[50, 50:54] = 1000, 2000, 3000, 4007
    pixels, _ = window(values)
    # (v - 7) * 255 / 4000: 63.3, 127.1, 190.8 and 255
    assert pixels[50, 49:54].tolist() == [0, 63, 127, 191, 255]


def test_channels_share_a_range_and_some_pixels_decide_on_it() -> None:
    values = np.zeros((2, 2, 3), np.uint16)
    values[0, 0], values[0, 1], values[1, 0] = (100, 300, 500), (200, 400, 600), 60_000
    pixels, _ = window(values, used=np.array([[True, True], [False, False]]))
    assert pixels[0].tolist() == [[0, 102, 204], [51, 153, 255]]
    assert pixels[1].tolist() == [[255] * 3, [0] * 3]


def test_large_numbers_keep_their_differences() -> None:
    values = 2**40 + np.arange(256, dtype=np.int64).reshape(16, 16) * 1000
    np.testing.assert_array_equal(window(values)[0].ravel(), np.arange(256))


def test_between_cuts_off_and_is_black_where_the_range_is_empty() -> None:
    values = np.array([-5.0, 0.0, 40.0, 100.0, 200.0, np.nan])
    assert between(values, low=0, high=100).tolist() == [0, 0, 102, 255, 255, 0]
    assert between(values, low=0, high=100, inverted=True).tolist() == [255, 255, 153, 0, 0, 0]
    assert between(values, low=7, high=7).tolist() == [0] * 6
