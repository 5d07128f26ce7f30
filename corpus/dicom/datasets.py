"""DICOM files as pydicom's data sets: opened silently, refused in one line that quotes no header.

pydicom is loaded by the first file that needs it: without it everything but DICOM is read.
"""

import struct
import warnings
import zlib
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any

from core.errors import ImageError
from corpus.dicom.growth import MOST_INFLATED, inflated
from corpus.images.bombs import wait_for_room

if TYPE_CHECKING:
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset

_BROKEN = (
    ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, MemoryError, OSError,
    RuntimeError, TypeError, ValueError, struct.error, zlib.error,
)  # fmt: skip

NEEDS = "DICOM is read by pydicom, which is not here: pip install 'radfuse[dicom]'"

_DEFLATED = "1.2.840.10008.1.2.1.99"

_LAST_KEPT = 0x00280004  # photometric interpretation: what follows describes pixels


_PALETTES = 0x00281100  # what follows may be long: palettes, tables, pixels
_LONGEST = 1 << 20  # bytes of an element before, which is a text or some numbers
_HEADER_INFLATED = 1 << 22  # bytes of a deflated header

_MOST_GROWN = 1032  # bytes that one of a deflated file may become

_MOST_READS = 1_000_000
_MOST_READS_OF_HEADER = 100_000


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


class _Bounded(BytesIO):
    """Bytes that are read in so many pieces at most, nested ones among them.

    An element takes one to three: four million empty ones would hold a reader for a minute.
    """

    def __init__(self, content: bytes, most_reads: int) -> None:
        super().__init__(content)
        self._n_left = most_reads

    def read(self, size: int | None = -1, /) -> bytes:
        self._n_left -= 1
        if self._n_left < 0:
            raise ImageError("DICOM of more elements than are read")
        return super().read(size)


def open_dataset(content: bytes) -> "FileDataset":
    """A whole file as a data set, with a transfer syntax even where its header has none.

    Long elements that are neither pixels nor a palette are left out of it.

    Raises:
        ImageError: pydicom is not installed, the file is broken, inflates too far, or has too many
            elements; in words that quote no header.
    """
    if not can_read():
        raise ImageError(NEEDS)
    from pydicom import dcmread
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.filereader import read_dataset
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    try:
        deflated = _deflated(content)
        if deflated is None:
            dataset = dcmread(_Bounded(content, _MOST_READS), force=True)
        else:
            known, place = deflated
            wait_for_room(2 * min(_MOST_GROWN * len(content), MOST_INFLATED))
            file = _Bounded(inflated(content[place:]), _MOST_READS)
            inner = read_dataset(file, is_implicit_VR=False, is_little_endian=True)
            dataset = FileDataset(BytesIO(), inner, file_meta=known, is_implicit_VR=False)
        if not len(dataset):
            raise ImageError("broken DICOM: nothing after its first bytes")
        _leave_out_long(dataset)
        meta = getattr(dataset, "file_meta", None) or FileMetaDataset()
        if not meta.get("TransferSyntaxUID"):
            implicit, little = dataset.original_encoding
            explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
            meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
        dataset.file_meta = meta
    except broken():
        raise ImageError("broken DICOM: its header cannot be read") from None
    return dataset


def items_of(dataset: "Dataset", keyword: str) -> "list[Dataset]":
    """The items of a sequence; none where there is no such sequence.

    Raises:
        ImageError: it has more elements than are read.
    """
    from pydicom.datadict import tag_for_keyword
    from pydicom.dataelem import DataElement, RawDataElement
    from pydicom.filereader import read_sequence

    tag = tag_for_keyword(keyword)
    assert tag is not None
    if tag not in dataset:
        return []
    found: Any = dataset.get_item(tag)
    if isinstance(found, RawDataElement) and isinstance(found.value, bytes):
        file = _Bounded(found.value, _MOST_READS)
        how = found.is_implicit_VR, found.is_little_endian
        items = read_sequence(file, *how, len(found.value), ["iso8859"])
        dataset[tag] = DataElement(tag, "SQ", items)
    value = dataset[tag].value
    return list(value) if dataset[tag].VR == "SQ" and value else []


def _leave_out_long(dataset: "Dataset") -> None:
    """A text of megabytes says nothing here, and its parts would each become an object."""
    for tag in [tag for tag in dataset.keys() if int(tag) < _PALETTES]:  # noqa: SIM118 - tags alone
        value = getattr(dataset.get_item(tag), "value", None)
        if isinstance(value, bytes) and len(value) > _LONGEST:
            del dataset[tag]


def _deflated(content: bytes) -> "tuple[FileMetaDataset, int] | None":
    """What the first group says, and where the deflated part begins; None of another file.

    Pydicom is asked, which inflates all that follows: what the header says of its own length need
    not be so, and it may be of any length.
    """
    if _DEFLATED.encode() not in content:
        return None
    from pydicom.filereader import _read_file_meta_info, read_preamble

    file = _Bounded(content, _MOST_READS)
    read_preamble(file, force=True)
    meta = _read_file_meta_info(file)
    return (meta, file.tell()) if meta.get("TransferSyntaxUID") == _DEFLATED else None


def open_header(content: bytes) -> "tuple[Dataset | None, bool]":
    """The first groups of a file, up to what describes pixels; None where they cannot be read.

    Half a millisecond a file; pydicom has to be there, see `can_read`.

    Args:
        content: the file, or its first bytes; of a deflated one no more is inflated than is needed.

    Returns:
        The groups, and whether they go on beyond the bytes.
    """
    from pydicom.filereader import read_dataset, read_partial

    _silence()
    is_all = False

    def is_past(tag: int, _vr: str | None, _length: int) -> bool:
        nonlocal is_all
        is_all = int.__gt__(tag, _LAST_KEPT)  # pydicom's own comparison takes ten times as long
        return is_all

    dataset: Dataset
    try:
        deflated = _deflated(content)
        if deflated is None:
            file = _Bounded(content, _MOST_READS_OF_HEADER)
            dataset = read_partial(file, stop_when=is_past, force=True)
        else:
            inflating = zlib.decompressobj(-zlib.MAX_WBITS)
            start = inflating.decompress(content[deflated[1] :], _HEADER_INFLATED)
            file = _Bounded(start, _MOST_READS_OF_HEADER)
            dataset = read_dataset(file, False, True, stop_when=is_past)
        _leave_out_long(dataset)
    except ImageError:  # too many elements
        return None, not is_all
    except broken():
        return None, not is_all
    return (dataset if len(dataset) else None), not is_all
