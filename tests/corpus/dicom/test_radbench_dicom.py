"""Real images written as DICOM of five modalities give the bytes of their pixels, where they lie
beside the project."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from pydicom.pixels.processing import convert_color_space
from pydicom.uid import JPEG2000Lossless, RLELossless

from corpus.images.decode import decode
from tests.corpus.dicom.made_files import made, written

SOURCE = Path(__file__).parents[4] / "shared" / "radbench"

pytestmark = [
    pytest.mark.radbench,
    pytest.mark.skipif(not SOURCE.is_dir(), reason=f"{SOURCE} is not here"),
]

N_IMAGES = 100

Pixels = npt.NDArray[np.uint8]


def ct(grey: Pixels) -> bytes:
    """Hounsfield units in steps of 8 from -1024; window from -1024, black, to 1016, white.

    Centre -3.5 and width 2041 of the linear function: -3.5 - 0.5 -+ 2040 / 2.
    """
    return written(
        made(
            (grey.astype(int) * 8).astype("uint16"),
            Modality="CT",
            RescaleSlope=1,
            RescaleIntercept=-1024,
            WindowCenter=-3.5,
            WindowWidth=2041,
        )
    )


def ct_signed(grey: Pixels) -> bytes:
    """The same, signed, without a rescale, with a padding value, JPEG 2000."""
    values = grey.astype("int16") * 8 - 1024
    dataset = made(
        values, Modality="CT", WindowCenter=-3.5, WindowWidth=2041, PixelPaddingValue=-2000
    )
    dataset.compress(JPEG2000Lossless, values, generate_instance_uid=False)
    return written(dataset)


def mr(grey: Pixels) -> bytes:
    """12 bits of 16, no window: known as 8 bits times 16."""
    return written(
        made((grey.astype(int) * 16).astype("uint16"), Modality="MR", BitsStored=12, HighBit=11)
    )


def cr(grey: Pixels) -> bytes:
    """MONOCHROME1 of 12 bits; window over all of them: centre 2048, width 4096."""
    inverse = np.rint((255 - grey.astype(float)) * 4095 / 255).astype("uint16")
    return written(
        made(
            inverse,
            Modality="CR",
            PhotometricInterpretation="MONOCHROME1",
            BitsStored=12,
            HighBit=11,
            WindowCenter=2048,
            WindowWidth=4096,
        )
    )


def us(grey: Pixels) -> bytes:
    """RGB of 8 bits in planes, RLE; no window."""
    rgb = np.ascontiguousarray(np.repeat(grey[..., None], 3, axis=2))
    dataset = made(rgb, Modality="US")
    dataset.compress(RLELossless, rgb, generate_instance_uid=False)
    return written(dataset)


def us_ybr(grey: Pixels) -> bytes:
    """YBR_FULL of 8 bits; no window."""
    rgb = np.repeat(grey[..., None], 3, axis=2)
    ybr = np.ascontiguousarray(convert_color_space(rgb, "RGB", "YBR_FULL"))
    return written(made(ybr, Modality="US", PhotometricInterpretation="YBR_FULL"))


def pt(grey: Pixels) -> bytes:
    """Activities in steps of 257 times 0.37; linear exact window from 0 to 65535 times 0.37."""
    return written(
        made(
            grey.astype("uint16") * 257,
            Modality="PT",
            Units="BQML",
            RescaleSlope=0.37,
            RescaleIntercept=0,
            WindowCenter=0.37 * 65535 / 2,
            WindowWidth=0.37 * 65535,
            VOILUTFunction="LINEAR_EXACT",
        )
    )


def chosen(mode: str) -> list[Path]:
    paths = sorted(SOURCE.glob("*/*/*.jpg"))
    found: list[Path] = []
    for path in paths[:: max(len(paths) // 600, 1)]:
        with Image.open(path) as image:
            if image.mode == mode:
                found.append(path)
        if len(found) == N_IMAGES:
            break
    return found


def cached(path: Path) -> npt.NDArray[np.int64]:
    return decode(path, size=128, resample="bilinear").pixels.astype(np.int64)


@pytest.fixture(scope="module")
def greys(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Pixels, npt.NDArray[np.int64]]]:
    """Pixels of JPEG files, and what the cache holds of them."""
    plain = tmp_path_factory.mktemp("plain") / "a.png"
    found = []
    for path in chosen("L"):
        grey = np.asarray(Image.open(path))
        Image.fromarray(grey).save(plain, compress_level=1)
        found.append((grey, cached(plain)))
    return found


@pytest.mark.parametrize("write", [ct, ct_signed, mr, cr, us, us_ybr, pt])
def test_grey_images_give_the_same_bytes(
    write: Callable[[Pixels], bytes],
    greys: list[tuple[Pixels, npt.NDArray[np.int64]]],
    tmp_path: Path,
) -> None:
    assert len(greys) == N_IMAGES
    path, worst = tmp_path / "a", 0
    for grey, right in greys:
        path.write_bytes(write(grey))
        worst = max(worst, int(np.abs(cached(path) - right).max()))
    assert worst <= 1


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
def test_coloured_images_give_the_same_bytes(photometric: str, tmp_path: Path) -> None:
    """YBR of 8 bits is rounded once more: two levels at most, less than one on average."""
    paths = chosen("RGB")
    assert paths
    for path in paths:
        rgb = np.asarray(Image.open(path))
        Image.fromarray(rgb).save(tmp_path / "a.png", compress_level=1)
        values: Any = rgb if photometric == "RGB" else convert_color_space(rgb, "RGB", photometric)
        dataset = made(
            np.ascontiguousarray(values), Modality="US", PhotometricInterpretation=photometric
        )
        (tmp_path / "a").write_bytes(written(dataset))
        off = np.abs(cached(tmp_path / "a") - cached(tmp_path / "a.png"))
        assert off.max() <= (1 if photometric == "RGB" else 2)
        assert off.mean() < 0.75
