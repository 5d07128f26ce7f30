"""Pixels of DICOM files, by hand and against pydicom's own processing."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels.processing import (
    convert_color_space,
)
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from core.errors import ImageError
from corpus.dicom.pixels import read_pixels
from tests.corpus.dicom.made_files import SECRETS, content_of, made, ramp, written


def shown(values: npt.NDArray[Any], **elements: Any) -> npt.NDArray[np.uint8]:
    return read_pixels(content_of(values, **elements))[0]


def remarks(values: npt.NDArray[Any], **elements: Any) -> str:
    return "; ".join(read_pixels(content_of(values, **elements))[1])


def row(*values: int, dtype: str = "int16") -> npt.NDArray[Any]:
    """Values of one row, twice, so that the number of bytes is even."""
    return np.array([values, values], dtype)


def table(descriptor: list[int], entries: list[int]) -> Dataset:
    item = Dataset()
    item.LUTDescriptor = descriptor
    item.add_new("LUTData", "US", entries)
    return item


def test_a_linear_window_is_that_of_the_standard() -> None:
    # Stored 0 to 400 in steps of 100 are -1000 to 600 by 4 x - 1000. Window 40/400: from
    # 40 - 0.5 - 399 / 2 = -160 to 239; 200 is ((200 - 39.5) / 399 + 0.5) 255 = 230.08.
    values = row(0, 100, 210, 250, 300, 400)
    found = shown(
        values, RescaleSlope=4, RescaleIntercept=-1000, WindowCenter=40, WindowWidth=400
    )  # -1000, -600, -160, 0, 200, 600
    assert found[0].tolist() == [0, 0, 0, 102, 230, 255]  # 0: ((0 - 39.5) / 399 + 0.5) 255 = 102.26


def test_linear_exact_has_no_half_pixel() -> None:
    # ((x - 50) / 100 + 0.5) 255: 25 is 63.75, 50 is 127.5, to the even 128.
    found = shown(
        row(-10, 0, 25, 50, 100, 130),
        WindowCenter=50,
        WindowWidth=100,
        VOILUTFunction="LINEAR_EXACT",
    )
    assert found[0].tolist() == [0, 0, 64, 128, 255, 255]


def test_a_sigmoid_is_half_at_its_centre() -> None:
    # 255 / (1 + exp(-4 (x - 100) / 200)): at 200, 255 / (1 + exp(-2)) = 224.6.
    found = shown(
        row(-3000, 0, 100, 200, 3000, 3000),
        WindowCenter=100,
        WindowWidth=200,
        VOILUTFunction="SIGMOID",
    )
    assert found[0].tolist() == [0, 30, 128, 225, 255, 255]


def test_of_several_windows_the_first_counts() -> None:
    values = row(0, 50, 100, 1000)
    several = shown(values, WindowCenter=[50, 500], WindowWidth=[101, 1001])
    assert several[0].tolist() == shown(values, WindowCenter=50, WindowWidth=101)[0].tolist()


def test_a_table_for_the_values_of_interest_counts_before_a_window() -> None:
    item = table([4, 10, 8], [0, 20, 200, 255])
    values = row(0, 10, 11, 12, 13, 99)
    found, (said,) = read_pixels(
        content_of(values, VOILUTSequence=Sequence([item]), WindowCenter=5, WindowWidth=3)
    )
    assert found[0].tolist() == [0, 0, 20, 200, 255, 255]
    assert said == "DICOM: through the table of its header"


def test_a_table_of_12_bits_that_says_16_still_reaches_white() -> None:
    item = table([2, 0, 16], [0, 4095])
    assert shown(row(0, 1), VOILUTSequence=Sequence([item]))[0].tolist() == [0, 255]


def test_a_modality_table_is_applied_before_the_window() -> None:
    item = table([3, 0, 16], [0, 1000, 3000])
    item.ModalityLUTType = "US"
    found = shown(
        row(0, 1, 2, 3, dtype="uint16"),
        ModalityLUTSequence=Sequence([item]),
        WindowCenter=2000.5,
        WindowWidth=4001,  # 0 is black, 4000 is white; 1000 is 63.75, 3000 is 191.25
    )
    assert found[0].tolist() == [0, 64, 191, 191]


@pytest.mark.parametrize("width", [0, -5])
def test_a_window_without_meaning_is_not_believed(width: int) -> None:
    said = remarks(ramp().astype("int16") * 16, WindowCenter=100, WindowWidth=width)
    assert "window of its header shows nothing" in said


def test_a_window_in_another_unit_is_not_believed() -> None:
    found, said = read_pixels(
        content_of(ramp().astype("uint16") * 16, WindowCenter=-60_000, WindowWidth=100)
    )
    assert "DICOM: the window of its header shows nothing" in said
    assert found.min() == 0
    assert found.max() == 255


def test_monochrome1_is_turned_over_with_and_without_a_window() -> None:
    grey = ramp().astype("uint8")
    assert (shown(255 - grey, PhotometricInterpretation="MONOCHROME1") == grey).all()
    values = (255 - grey).astype("uint16")
    elements = {"PhotometricInterpretation": "MONOCHROME1", "WindowCenter": 128, "WindowWidth": 256}
    assert (shown(values, **elements) == grey).all()
    assert "turned over" in remarks(values, **elements)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_left_out_of_the_window_and_black(photometric: str) -> None:
    values = ramp().astype("int16") * 16
    values[:4] = -32768
    found = shown(values, PixelPaddingValue=-32768, PhotometricInterpretation=photometric)
    assert (found[:4] == 0).all()
    right = ramp()[4:] if photometric == "MONOCHROME2" else 255 - ramp()[4:]
    assert np.abs(found[4:].astype(int) - right).max() <= 1


def test_a_range_of_padding_is_left_out() -> None:
    values = ramp().astype("int16") * 16
    values[:2], values[2:4] = -2000, -1990
    found = shown(values, PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1980)
    assert (found[:4] == 0).all()
    assert found[4:].max() == 255


def test_padding_outside_the_stored_bits_is_still_padding() -> None:
    values = ramp().astype("int16") * 8 - 1024
    values[:4] = -32768  # all but the sign bit are 0: in 12 bits that is 0
    found = shown(values, BitsStored=12, HighBit=11, PixelPaddingValue=-32768)
    assert (found[:4] == 0).all()
    assert np.abs(found[4:].astype(int) - ramp()[4:]).max() <= 1


def test_bits_beside_the_stored_ones_are_no_part_of_a_value() -> None:
    values = (ramp() * 16).astype("uint16")
    overlay = values | np.uint16(0x8000)
    assert (shown(overlay, BitsStored=12, HighBit=11) == shown(values)).all()


def test_stored_bits_may_be_the_high_ones() -> None:
    values = (ramp() * 16).astype("uint16")
    high = shown(values << np.uint16(4), BitsStored=12, HighBit=15)
    assert (high == shown(values, BitsStored=12, HighBit=11)).all()


def test_a_sign_of_fewer_bits_than_allocated_is_a_sign() -> None:
    # 0xFFF in 12 signed bits is -1, wherever the four bits above are not filled.
    found = shown(
        row(0xFFF, 0, 1, 0x800, dtype="uint16").view("int16"),
        BitsStored=12,
        HighBit=11,
        WindowCenter=0.5,
        WindowWidth=3,
    )  # from -1, black, to 1, white; -2048 is black
    assert found[0].tolist() == [0, 128, 255, 0]


def test_8_bits_without_a_window_are_shown_as_they_are() -> None:
    dark = (ramp() // 4).astype("uint8")
    assert (shown(dark) == dark).all()
    assert (shown(dark.astype("uint16"), BitsStored=8, HighBit=7) == dark).all()
    assert (shown(dark, RescaleSlope=3, RescaleIntercept=-9) == dark).all()
    assert remarks(dark) == ""


def test_a_falling_rescale_turns_the_picture_over() -> None:
    grey = ramp().astype("uint8")
    assert (shown(grey, RescaleSlope=-1, RescaleIntercept=0) == 255 - grey).all()
    wide = grey.astype("uint16") * 16
    assert (shown(wide, RescaleSlope=-1, RescaleIntercept=0) == 255 - grey).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_floating_pixels_are_windowed_and_what_is_no_number_is_black(dtype: str) -> None:
    values = (ramp() / 255).astype(dtype)
    values[0, 0], values[0, -1] = np.inf, np.nan
    found = shown(values)
    assert found[0, 0] == found[0, -1] == 0
    assert np.abs(found[1:].astype(int) - ramp()[1:]).max() <= 1


def test_32_bits_are_windowed() -> None:
    values = ramp().astype("uint32") * 1_000_000
    assert np.abs(shown(values).astype(int) - ramp()).max() <= 1


def frames(n: int) -> npt.NDArray[np.uint8]:
    return np.stack([np.full((2, 2), 10 * k, np.uint8) for k in range(1, n + 1)])


@pytest.mark.parametrize(
    ("frame", "level"),
    [("first", 10), ("middle", 30), ("last", 50), (1, 10), (4, 40), (5, 50), (99, 50)],
)
def test_of_several_frames_the_one_asked_for(frame: Any, level: int) -> None:
    found, said = read_pixels(content_of(frames(5), n_frames=5), frame=frame)
    assert (found == level).all()
    assert "of several" in said[0]


def test_the_middle_frame_is_the_default_and_one_frame_is_not_remarked() -> None:
    assert (shown(frames(4), n_frames=4) == 30).all()
    assert remarks(frames(1)[0], NumberOfFrames=1) == ""


def test_a_frame_has_its_own_window_in_enhanced_files() -> None:
    values = np.stack([row(0, 100, 200, 300)] * 2)

    def group(slope: float, centre: float) -> Dataset:
        transformation, interest, found = Dataset(), Dataset(), Dataset()
        transformation.RescaleSlope, transformation.RescaleIntercept = slope, 0
        interest.WindowCenter, interest.WindowWidth = centre, 201
        found.PixelValueTransformationSequence = Sequence([transformation])
        found.FrameVOILUTSequence = Sequence([interest])
        return found

    content = content_of(
        values,
        n_frames=2,
        PerFrameFunctionalGroupsSequence=Sequence([group(1, 100.5), group(2, 200.5)]),
    )
    # First: black 0, white 200. Second: 0, 200, 400, 600 by slope 2, black 100, white 300.
    assert read_pixels(content, frame=1)[0][0].tolist() == [0, 128, 255, 255]
    assert read_pixels(content, frame=2)[0][0].tolist() == [0, 128, 255, 255]
    assert (read_pixels(content, frame=1)[0] == read_pixels(content, frame=2)[0]).all()


def coloured() -> npt.NDArray[np.uint8]:
    grey = ramp().astype(np.uint8)
    return np.stack([grey, 255 - grey, np.full_like(grey, 90)], axis=-1)


def test_planes_of_colours_are_read_as_pixels_of_colours() -> None:
    rgb = coloured()
    planes = made(rgb, PlanarConfiguration=1)
    planes.PixelData = np.ascontiguousarray(rgb.transpose(2, 0, 1)).tobytes()
    assert (read_pixels(written(planes))[0] == rgb).all()
    assert (shown(rgb) == rgb).all()


def test_ybr_becomes_rgb() -> None:
    ybr = convert_color_space(coloured(), "RGB", "YBR_FULL")
    found = shown(ybr, PhotometricInterpretation="YBR_FULL")
    assert np.abs(found.astype(int) - coloured()).max() <= 2


def test_ybr_with_halved_colours_becomes_rgb() -> None:
    flat = np.full((4, 8, 3), (200, 40, 90), np.uint8)
    ybr = convert_color_space(flat, "RGB", "YBR_FULL")
    dataset = made(ybr, PhotometricInterpretation="YBR_FULL_422")
    y, b, r = (ybr[..., channel].ravel() for channel in range(3))
    packed = np.stack([y[::2], y[1::2], b[::2], r[::2]], axis=-1)
    dataset.PixelData = packed.tobytes()
    assert np.abs(read_pixels(written(dataset))[0].astype(int) - flat).max() <= 2


@pytest.mark.parametrize("bits", [8, 16])
def test_a_palette_becomes_rgb(bits: int) -> None:
    entries = {"Red": [0, 255, 10], "Green": [0, 0, 20], "Blue": [0, 128, 30]}
    scale = 257 if bits == 16 else 1
    elements: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, values in entries.items():
        table = np.array([*values, 0], f"uint{bits}") * scale
        elements[f"{name}PaletteColorLookupTableDescriptor"] = [4, 0, bits]
        elements[f"{name}PaletteColorLookupTableData"] = table.tobytes()
    found, said = read_pixels(content_of(row(0, 1, 2, 1, dtype="uint8"), **elements))
    assert found[0].tolist() == [[0, 0, 0], [255, 0, 128], [10, 20, 30], [255, 0, 128]]
    assert said == ("DICOM: palette",)


def test_colours_of_16_bits_become_8() -> None:
    wide = coloured().astype("uint16") * 257
    assert np.abs(shown(wide).astype(int) - coloured()).max() <= 1


def test_overlays_are_not_burnt_in() -> None:
    grey = ramp().astype("uint8")
    dataset = made(grey)
    group = 0x6000
    dataset.add_new((group, 0x0010), "US", 32)
    dataset.add_new((group, 0x0011), "US", 32)
    dataset.add_new((group, 0x0040), "CS", "G")
    dataset.add_new((group, 0x0050), "SS", [1, 1])
    dataset.add_new((group, 0x0100), "US", 1)
    dataset.add_new((group, 0x0102), "US", 0)
    dataset.add_new((group, 0x3000), "OW", b"\xff" * 128)
    assert (read_pixels(written(dataset))[0] == grey).all()


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_byte_orders_and_implicit_files_are_one_picture(syntax: str) -> None:
    values = (ramp() * 16 - 1000).astype("int16")
    elements = {"WindowCenter": 1000, "WindowWidth": 4000, "PixelPaddingValue": -1000}
    assert (shown(values, syntax=syntax, **elements) == shown(values, **elements)).all()


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_compressed_files_are_the_picture_that_went_in(syntax: str, dtype: str) -> None:
    values = ramp().astype(dtype)
    dataset = made(values, WindowCenter=100, WindowWidth=90)
    right = read_pixels(written(dataset))[0]
    dataset.compress(syntax, values, generate_instance_uid=False)
    assert (read_pixels(written(dataset))[0] == right).all()


def test_a_deflated_file_is_read() -> None:
    grey = ramp().astype("uint8")
    assert (shown(grey, syntax=DeflatedExplicitVRLittleEndian) == grey).all()


def test_a_file_without_preamble_and_meta_is_read() -> None:
    dataset = made(ramp().astype("uint8"), Modality="CT")
    whole = written(dataset)
    at = whole.index(b"\x08\x00\x16\x00UI")  # SOP class: the first element after the meta group
    assert (read_pixels(whole[at:])[0] == ramp()).all()


def test_what_has_no_pixels_is_named_without_its_header() -> None:
    report = made(ramp().astype("uint8"), Modality="SR", **SECRETS)
    del report.PixelData
    with pytest.raises(ImageError, match=r"^DICOM without pixels: a structured report$"):
        read_pixels(written(report))


def test_colours_that_are_not_known_are_refused() -> None:
    with pytest.raises(ImageError, match="colours that are not read"):
        shown(coloured(), PhotometricInterpretation="HSV")
    with pytest.raises(ImageError, match="without three values a pixel"):
        shown(ramp().astype("uint8"), PhotometricInterpretation="RGB")


def test_a_transfer_syntax_that_nobody_knows_is_refused_without_naming_it() -> None:
    dataset = made(ramp().astype("uint8"))
    content = written(dataset).replace(b"1.2.840.10008.1.2.1\0", b"1.2.999.10008.1.2.1\0")
    with pytest.raises(ImageError, match="coded as an unknown transfer syntax, which is not read"):
        read_pixels(content)


def test_a_frame_too_large_is_refused() -> None:
    with pytest.raises(ImageError, match="more than 120,000,000 pixels"):
        shown(ramp().astype("uint8"), Rows=60_000, Columns=60_000)


def test_the_broken_files_of_layouts_are_refused_in_one_line() -> None:
    with pytest.raises(ImageError, match=r"^[^\n]*DICOM[^\n]*$"):
        read_pixels(bytes(128) + b"DICM" + b"\2\0\0\0UL\4\0")
