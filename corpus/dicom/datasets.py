"""DICOM files as pydicom's data sets: opened silently, refused in one line that quotes no header.

pydicom is loaded by the first file that needs it: without it everything but DICOM is read.
"""

import struct
import warnings
import zlib
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, BinaryIO

from core.errors import ImageError
from corpus.dicom.growth import refuse_inflated

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

_BROKEN = (
    ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, MemoryError, OSError,
    RuntimeError, TypeError, ValueError, struct.error, zlib.error,
)  # fmt: skip

NEEDS = "DICOM is read by pydicom, which is not here: pip install 'radfuse[dicom]'"

_DEFLATED = "1.2.840.10008.1.2.1.99"

_LAST_KEPT = 0x00280004  # photometric interpretation: what follows describes pixels


@cache
def broken() -> tuple[type[Exception], ...]:
    """What pydicom and its plugins raise on files that are not whole.

    Their words may quote the header, so they are never passed on.
    """
    from pydicom.errors import BytesLengthException, InvalidDicomError

    return *_BROKEN, BytesLengthException, InvalidDicomError


def can_read() -> bool:
    """Whether pydicom is installed; says nothing of its plugins."""
    try:
        import pydicom.config
    except ImportError:
        return False
    _silence()
    # Values out of their range are common and none of ours: pydicom would warn of each.
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    return True


def _silence() -> None:
    """Keep warnings of pydicom and its plugins, which quote headers, off the terminal.

    A filter for good, not a block: files are read by threads, and blocks of threads undo each
    other's. It is looked for each time, since whoever leaves a block of their own removes it.
    """
    ours = r"(pydicom|pylibjpeg|libjpeg|openjpeg|rle)\b"
    known = (entry[3] for entry in warnings.filters)
    if not any(getattr(module, "pattern", None) == ours for module in known):
        warnings.filterwarnings("ignore", module=ours)


def open_dataset(content: bytes) -> "FileDataset":
    """A whole file as a data set, with a transfer syntax even where its header has none.

    Raises:
        ImageError: pydicom is not installed, the file is broken, or inflates too far; in words
            that quote no header.
    """
    if not can_read():
        raise ImageError(NEEDS)
    refuse_deflated(content)
    from pydicom import dcmread
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    try:
        dataset = dcmread(BytesIO(content), force=True)
        if not len(dataset):
            raise ImageError("broken DICOM: nothing after its first bytes")
        meta = getattr(dataset, "file_meta", None) or FileMetaDataset()
        if not meta.get("TransferSyntaxUID"):
            implicit, little = dataset.original_encoding
            explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
            meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
        dataset.file_meta = meta
    except broken():
        raise ImageError("broken DICOM: its header cannot be read") from None
    return dataset


def refuse_deflated(content: bytes) -> None:
    """Refuse a deflated file that would be too large; pydicom has to be there, see `can_read`.

    Where its deflated part begins, pydicom is asked, which inflates all that follows: what the
    header says of its own length need not be so, and it may be of any length.

    Raises:
        ImageError: it is.
    """
    if _DEFLATED.encode() not in content:
        return
    from pydicom.filereader import _read_file_meta_info, read_preamble

    file = BytesIO(content)
    try:
        read_preamble(file, force=True)
        syntax = _read_file_meta_info(file).get("TransferSyntaxUID")
    except broken():
        return  # whoever reads it says so
    if syntax == _DEFLATED:
        refuse_inflated(content[file.tell() :])


def _is_past(tag: int, _vr: str | None, _length: int) -> bool:
    return int.__gt__(tag, _LAST_KEPT)  # pydicom's own comparison takes ten times as long


def open_header(file: BinaryIO) -> "FileDataset | None":
    """The first groups of a file, up to what describes pixels; None where they cannot be read.

    Half a millisecond a file; pydicom has to be there, see `can_read`.
    """
    from pydicom.filereader import read_partial

    _silence()
    try:
        dataset = read_partial(file, stop_when=_is_past, force=True)
    except broken():
        return None
    return dataset if len(dataset) else None
