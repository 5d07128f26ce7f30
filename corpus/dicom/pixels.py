"""Levels of a DICOM file as they are meant to be seen: 0 black, 255 white.

Stored values are made into quantities by the modality's rescale or table, these into grey levels
by the table or the window for the values of interest (`corpus.dicom.tones`), and MONOCHROME1 is
turned over. Overlays are not burnt in. Every picture with colours ends as RGB.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from core.errors import HugeImageError, ImageError
from core.runs.decoding import Frame, frame_index
from corpus.dicom.datasets import broken, open_dataset
from corpus.dicom.growth import refuse_fragments, refuse_grown
from corpus.dicom.tones import Levels, Mask, Stored, Tones
from corpus.images.bombs import wait_for_room
from corpus.images.window import window

if TYPE_CHECKING:
    from pydicom.dataset import Dataset, FileDataset
    from pydicom.uid import UID

_LARGEST = 120_000_000  # pixels of a frame
_BYTES = 40  # that a pixel takes until it is a grey level, all copies together

_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")  # the last two as RGB decoded
_PALETTE = "PALETTE COLOR"

_KINDS = {
    "SR": "a structured report", "DOC": "a document", "PR": "a presentation state",
    "KO": "a selection of images", "REG": "a registration", "RTPLAN": "a treatment plan",
    "RTSTRUCT": "outlines for a treatment", "ECG": "a curve", "HD": "a curve", "AU": "a sound",
}  # fmt: skip


def read_pixels(
    content: bytes, *, frame: Frame = "middle", most_pixels: int = _LARGEST
) -> tuple[Levels, tuple[str, ...]]:
    """One frame of a DICOM file, and in fixed words what was done to show it.

    Args:
        content: the whole file.
        frame: which one of several.
        most_pixels: of a larger frame nothing is decoded; those above 120,000,000 never are.

    Returns:
        (H, W) or (H, W, 3), uint8, 0 to 255; and a remark for each thing done.

    Raises:
        ImageError: pydicom is missing, the file has no pixels, is cut short, or is coded in a way
            that nothing here decodes. No value of the header is in the message.
    """
    dataset = open_dataset(content)
    try:
        _check(dataset, min(most_pixels, _LARGEST))
        index, remarks = _chosen(dataset, frame)
        _refuse_grown(dataset, index, most_pixels=min(most_pixels, _LARGEST))
        if _photometric(dataset) in _GREY:
            pixels, further = _grey(dataset, index)
        else:
            pixels, further = _coloured(dataset, index)
    except broken():
        raise ImageError("broken DICOM: its pixels do not fit their description") from None
    return np.ascontiguousarray(pixels), (*remarks, *further)


def _photometric(dataset: "Dataset") -> str:
    return str(dataset.get("PhotometricInterpretation") or "").strip().upper()


def _check(dataset: "FileDataset", most_pixels: int) -> None:
    """Refuse what is no picture, or none that can be shown right."""
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        if "DirectoryRecordSequence" in dataset:
            kind = "an index of files (DICOMDIR)"
        elif "EncapsulatedDocument" in dataset:
            kind = "a document"
        else:
            kind = _KINDS.get(str(dataset.get("Modality")), "no picture, or cut short before it")
        raise ImageError(f"DICOM without pixels: {kind}")
    n_pixels = int(dataset.Rows) * int(dataset.Columns)
    if n_pixels > most_pixels:
        raise HugeImageError(f"a DICOM frame of more than {most_pixels:,} pixels")
    wait_for_room(n_pixels * _BYTES)
    if _photometric(dataset) not in (*_GREY, *_COLOURS, _PALETTE):
        raise ImageError("DICOM with colours that are not read (photometric interpretation)")


def _refuse_grown(dataset: "FileDataset", index: int, *, most_pixels: int) -> None:
    """Refuse a compressed frame that is larger than the header says, or than may be."""
    from pydicom.encaps import get_frame

    try:
        if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
            return
        n_frames = int(dataset.get("NumberOfFrames") or 1)
        n_values = int(dataset.Rows) * int(dataset.Columns) * int(dataset.SamplesPerPixel)
        refuse_fragments(dataset.PixelData)
        frame = get_frame(dataset.PixelData, index, number_of_frames=n_frames)
        n_bytes = n_values * (int(dataset.BitsAllocated) // 8)
    except broken():
        return  # whoever decodes it says so
    refuse_grown(frame, n_bytes=n_bytes, most_pixels=most_pixels)


def _chosen(dataset: "Dataset", frame: Frame) -> tuple[int, tuple[str, ...]]:
    """Index of the frame, counted from 0."""
    n_frames = int(dataset.get("NumberOfFrames") or 1)
    if n_frames < 2:
        return 0, ()
    which = f"frame {frame}, or the last," if isinstance(frame, int) else f"{frame} frame"
    return frame_index(frame, n_frames), (f"DICOM: {which} of several (of {n_frames})",)


def _decoded(dataset: "FileDataset", index: int) -> Stored:
    """Stored values of a frame, in the byte order of this machine; YBR already RGB.

    Raises:
        ImageError: nothing here decodes them.
    """
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.utils import pixel_array
    from pydicom.uid import RLELossless

    syntax: UID = dataset.file_meta.TransferSyntaxUID
    known = syntax.name != str(syntax) and not syntax.is_private
    name = syntax.name if known else "an unknown transfer syntax"
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise ImageError(f"DICOM coded as {name}, which is not read") from None
    if not decoder.is_available:
        raise ImageError(f"DICOM coded as {name}: pip install 'radfuse[dicom]'")
    how: dict[str, Any] = {} if syntax.is_encapsulated else {"correct_unused_bits": False}
    if syntax == RLELossless:  # the compiled plugin panics on broken files, with a stack of its own
        how["decoding_plugin"] = "pydicom"
    try:
        values = pixel_array(dataset, index=index, **how)
    except broken():
        raise ImageError(
            f"DICOM whose pixels cannot be decoded, or are cut short ({name})"
        ) from None
    return np.asarray(values, dtype=values.dtype.newbyteorder("="))


def _grey(dataset: "FileDataset", index: int) -> tuple[Levels, tuple[str, ...]]:
    raw = _decoded(dataset, index)
    if raw.ndim != 2:
        raise ImageError("DICOM that is grey by its header and has several values a pixel")
    stored = _used_bits(raw, dataset)
    left_out = _is_padding(raw, dataset) | _is_padding(stored, dataset)
    if stored.dtype.kind == "f":
        left_out |= ~np.isfinite(stored)
    shown, remarks = Tones.of(dataset, index).levels(stored, left_out=left_out)
    if _photometric(dataset) == "MONOCHROME1":
        shown = 255 - shown
        remarks = (*remarks, "DICOM: MONOCHROME1, turned over")
    if left_out.any():
        shown[left_out] = 0
        remarks = (*remarks, "DICOM: pixel padding painted black")
    return shown, remarks


def _used_bits(raw: Stored, dataset: "FileDataset") -> Stored:
    """Values without the bits around them that are not theirs, in which old files keep overlays.

    What was compressed has none.
    """
    if raw.dtype.kind not in "iu" or dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return raw
    allocated = 8 * raw.dtype.itemsize
    stored = int(dataset.BitsStored)
    high = int(dataset.get("HighBit") or stored - 1)
    if not (1 <= stored <= high + 1 <= allocated):
        return raw
    return np.asarray(np.left_shift(raw, allocated - 1 - high) >> (allocated - stored))


def _is_padding(values: Stored, dataset: "Dataset") -> Mask:
    """(H, W) whether a value stands for no measurement (PS3.3, C.7.5.1.1.2).

    A value written with the wrong sign is taken for its bits: -2000 is 63536 in 16 of them.
    """
    if values.dtype.kind == "f":
        names = "FloatPixelPaddingValue", "DoubleFloatPixelPaddingValue"
        told = [float(dataset[name].value) for name in names if dataset.get(name) is not None]
        return np.isin(values, told)
    first = dataset.get("PixelPaddingValue")
    if first is None:
        return np.zeros(values.shape, np.bool_)
    last = dataset.get("PixelPaddingRangeLimit")
    ends = [_wrapped(end, values.dtype) for end in (first, first if last is None else last)]
    return np.asarray((values >= min(ends)) & (values <= max(ends)))


def _wrapped(value: object, dtype: np.dtype[Any]) -> int:
    """A value of the header as pixels of that type write it."""
    number = int.from_bytes(value, "little") if isinstance(value, bytes) else int(value)  # type: ignore[call-overload]
    bits, info = 8 * dtype.itemsize, np.iinfo(dtype)
    number %= 1 << bits
    return number - (1 << bits) if number > info.max else number


def _coloured(dataset: "FileDataset", index: int) -> tuple[Levels, tuple[str, ...]]:
    """RGB of 8 bits, of a palette, of YBR or of RGB itself."""
    values = _decoded(dataset, index)
    remarks: tuple[str, ...] = ()
    if _photometric(dataset) == _PALETTE:
        from pydicom.pixels.processing import apply_color_lut

        values, remarks = apply_color_lut(values, dataset)[..., :3], ("DICOM: palette",)
        if values.dtype == np.uint16:  # some write 8 bits into 16
            return (values >> (8 if values.max() > 255 else 0)).astype(np.uint8), remarks
    if values.ndim != 3 or values.shape[2] != 3:
        raise ImageError("DICOM in colours by its header without three values a pixel")
    if values.dtype == np.uint8 and int(dataset.BitsStored) == 8:
        return values, remarks
    shown, further = window(values)
    return shown, (*remarks, *further)
