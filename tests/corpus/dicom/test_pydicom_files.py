"""The files that pydicom carries for its own tests: each is the right picture, or is named.

They are compared with pydicom's own processing, and those that hold one picture in several codings
with each other.
"""

import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import pixel_array

from core.errors import ImageError
from corpus.dicom.files import is_dicom
from corpus.dicom.pixels import read_pixels

DATA = Path(pydicom.__path__[0]) / "data"

FOLDER = DATA / "test_files"

FILES = sorted(path for path in DATA.rglob("*") if path.is_file())

CONTENTS = {path: path.read_bytes() for path in FILES}

DICOM = [path for path in FILES if is_dicom(CONTENTS[path])]

CANNOT = {
    "JPEG-lossy.dcm": "cannot be decoded",  # a scan that the standard of JPEG forbids
    "JPEG2000-embedded-sequence-delimiter.dcm": "cannot be decoded",
    "MR_truncated.dcm": "cannot be decoded, or are cut short",
    "badVR.dcm": "do not fit",
    "meta_missing_tsyntax.dcm": "do not fit",
    "nested_priv_SQ.dcm": "do not fit",
}
"""Files with pixels that nothing reads, and a part of what is said of them."""


def dataset_of(path: Path) -> pydicom.FileDataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(path, force=True)


def has_pixels(path: Path) -> bool:
    dataset = dataset_of(path)
    return any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"))


READ = [path for path in DICOM if has_pixels(path) and path.name not in CANNOT]


def read(name: str | Path) -> npt.NDArray[np.int64]:
    return read_pixels(CONTENTS[FOLDER / name])[0].astype(np.int64)


def test_there_is_a_good_number_of_each() -> None:
    assert len(DICOM) > 160
    assert len(READ) > 90


def test_what_is_no_dicom_is_not_taken_for_it() -> None:
    others = {path.name for path in FILES} - {path.name for path in DICOM}
    endings = {Path(name).suffix for name in others}
    # no_meta.dcm begins with a byte that belongs to nothing.
    assert endings - {".py", ".pyc", ".json", ".txt", ".md", ".gz", ".dump", ".icc", ""} == {".dcm"}
    assert {name for name in others if name.endswith(".dcm")} == {"no_meta.dcm"}


@pytest.mark.parametrize("path", DICOM, ids=lambda path: path.name)
def test_a_file_without_pixels_or_with_broken_ones_is_named(path: Path) -> None:
    if path in READ:
        pixels, _ = read_pixels(CONTENTS[path])
        assert pixels.dtype == np.uint8
        assert pixels.max() > pixels.min()
        return
    with pytest.raises(ImageError, match=CANNOT.get(path.name, "DICOM without pixels")) as caught:
        read_pixels(CONTENTS[path])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", READ, ids=lambda path: path.name)
def test_a_file_is_what_pydicom_makes_of_it(path: Path) -> None:
    """By the window or table of the header; where it has none, in the same order of greys."""
    dataset = dataset_of(path)
    found, remarks = read_pixels(CONTENTS[path])
    n_frames = int(dataset.get("NumberOfFrames") or 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stored = pixel_array(dataset, index=n_frames // 2 if n_frames > 1 else 0)
        photometric = dataset.PhotometricInterpretation
        if photometric == "PALETTE COLOR":
            right = apply_color_lut(stored, dataset)
            assert (found == right >> (8 if right.dtype == np.uint16 else 0)).all()
            return
        if stored.ndim == 3:
            scaled = stored / (np.iinfo(stored.dtype).max / 255)
            assert np.abs(found - scaled).max() <= 1
            return
        values = apply_modality_lut(stored, dataset)
        toned = apply_voi_lut(values, dataset).astype(float)
    if any("header" in remark and "through" in remark for remark in remarks):
        low, high = ends(dataset)
        levels = (toned - low) / (high - low) * 255
        levels = 255 - levels if photometric == "MONOCHROME1" else levels
        padding = stored == dataset.get("PixelPaddingValue", np.nan)
        assert np.abs(found - np.where(padding, 0, levels)).max() <= 0.51
    else:  # never a brighter value darker
        order = np.argsort(values.ravel(), kind="stable")
        assert (np.diff(found.ravel()[order].astype(int)) >= 0).all()


def ends(dataset: pydicom.Dataset) -> tuple[float, float]:
    """What pydicom scales black and white to: the ends of the stored bits, rescaled."""
    n_levels = 1 << int(dataset.BitsStored)
    low = -n_levels // 2 if dataset.PixelRepresentation else 0
    slope = float(dataset.get("RescaleSlope", 1))
    intercept = float(dataset.get("RescaleIntercept", 0))
    return low * slope + intercept, (low + n_levels - 1) * slope + intercept


@pytest.mark.parametrize(
    ("one", "other", "most"),
    [
        *((name, "MR_small.dcm", 0) for name in (
            "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_expb.dcm",
            "MR_small_implicit.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm",
            "MR_small_padded.dcm",
        )),
        ("SC_rgb_jpeg_gdcm.dcm", "SC_rgb_rle.dcm", 0),  # lossless JPEG beside RLE
        ("SC_rgb_rle_16bit.dcm", "SC_rgb_rle.dcm", 1),
        ("SC_rgb_rle_32bit.dcm", "SC_rgb_rle.dcm", 1),
        ("SC_rgb_small_odd_big_endian.dcm", "SC_rgb_small_odd.dcm", 0),
        ("SC_rgb_jpeg.dcm", "SC_rgb_jpeg_dcmd.dcm", 4),
        ("SC_jpeg_no_color_transform_2.dcm", "SC_rgb_jpeg_app14_dcmd.dcm", 0),
        ("rtdose_rle_1frame.dcm", "rtdose_1frame.dcm", 0),
        ("rtdose_expb.dcm", "rtdose.dcm", 0),
        ("rtdose_rle.dcm", "rtdose.dcm", 0),
        ("liver_expb_1frame.dcm", "liver_1frame.dcm", 0),
    ],
)  # fmt: skip
def test_one_picture_in_two_codings_is_one_picture(one: str, other: str, most: int) -> None:
    assert np.abs(read(one) - read(other)).max() <= most


@pytest.mark.parametrize(
    "name",
    [path.name for path in FOLDER.glob("SC_rgb_*") if "+eb" in path.name or "gdcm" in path.name]
    + ["SC_ybr_full_422_uncompressed.dcm", "SC_rgb_jls_lossy_line.dcm"],
)
def test_the_colour_bars_are_red_green_and_blue(name: str) -> None:
    found, bars = read(name), read("SC_rgb_rle.dcm")
    assert np.abs(found - bars).mean() < 6


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.8, 0.97])
def test_files_cut_short_are_refused_in_one_line(keep: float) -> None:
    messages = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for path in DICOM:
            content = CONTENTS[path]
            if len(content) < 100_000:
                try:
                    read_pixels(content[: int(keep * len(content))])
                except ImageError as error:
                    messages[path.name] = str(error)
    assert len(messages) > 100
    assert not [name for name, text in messages.items() if "\n" in text or "DICOM" not in text]
