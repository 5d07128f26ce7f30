"""Which files are DICOM, told by their content."""

import struct
from pathlib import Path

from core.errors import ImageError
from core.storage.packed import read_bytes

ENDINGS = (".dcm", ".dicom", ".dic", ".ima")
"""Endings of DICOM files, in any case; many have none, or end in a part of a UID."""

HEAD = 512
"""Bytes from the start of a file by which `is_dicom` tells."""

_PREAMBLE = 128

# Files beside images that are never DICOM and may be many: they are not opened.
_OTHER = (
    ".csv", ".tsv", ".txt", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml", ".md", ".html",
    ".htm", ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".zip", ".gz", ".tgz", ".tar", ".bz2",
    ".xz", ".7z", ".rar", ".parquet", ".npy", ".npz", ".nii", ".h5", ".hdf5", ".py", ".ipynb",
    ".log", ".db", ".ini", ".sh", ".dump", ".icc", ".svg", ".mp4", ".avi", ".mov",
)  # fmt: skip

PICTURE_ENDINGS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff",
    ".jp2", ".j2k", ".jpx", ".jpf", ".j2c", ".jpc", ".ppm", ".pgm", ".pbm", ".pnm", ".tga",
)  # fmt: skip
"""Endings of other image files, in any case; what is inside may be DICOM all the same."""

# Names of value representations (PS3.5, 6.2), as explicit files write them after each tag.
_VR = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR"
    b" US UT UV".split()
)
_LONG_VR = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_FIRST_GROUPS = (0x0002, 0x0008)
_LAST_GROUP = 0x0040
_ENOUGH = 3  # elements in a row that make sense: no other format begins so


def is_dicom(content: bytes) -> bool:
    """Whether a file is DICOM, by its first `HEAD` bytes; more do no harm.

    The letters DICM after a preamble of 128 bytes say so. Files without both are taken where they
    begin with elements of the groups 2 or 8 in rising order, as files of before 1993 and data sets
    taken off the network do.

    Example:
        >>> is_dicom(bytes(128) + b"DICM"), is_dicom(b"not this")
        (True, False)
    """
    if content[_PREAMBLE : _PREAMBLE + 4] == b"DICM":
        return True
    return any(
        _begins_with_elements(content[:HEAD], order=order, explicit=explicit)
        for order, explicit in (("<", True), ("<", False), (">", True))
    )


def _begins_with_elements(head: bytes, *, order: str, explicit: bool) -> bool:
    """Whether the bytes are elements with rising tags; the last one may go on beyond them."""
    place, last, n_read = 0, (-1, -1), 0
    while place + 8 <= len(head):
        tag = struct.unpack_from(f"{order}HH", head, place)
        if tag <= last or (n_read == 0 and tag[0] not in _FIRST_GROUPS) or tag[0] > _LAST_GROUP:
            return False
        if explicit:
            name = head[place + 4 : place + 6]
            if name not in _VR:
                return False
            wide = name in _LONG_VR  # two empty bytes, then a length of four
            place += 12 if wide else 8
            if place > len(head):
                return False
            code, size = ("I", 4) if wide else ("H", 2)
            (length,) = struct.unpack_from(f"{order}{code}", head, place - size)
        else:
            place += 8
            (length,) = struct.unpack_from(f"{order}I", head, place - 4)
        last, n_read, place = tag, n_read + 1, place + length
        if n_read >= _ENOUGH:
            return True
    return False


def looks_like_dicom(path: Path) -> bool:
    """Whether a file without a picture's ending is to be read as DICOM.

    One of `ENDINGS` is enough. A file with no ending or an unknown one (names that are UIDs end in
    digits) is opened for its first `HEAD` bytes; one that ends as a picture, a text or an archive
    does is not. A DICOMDIR is an index of files and no image.
    """
    name = path.name.lower()
    if name.endswith(ENDINGS):
        return True
    if name == "dicomdir" or name.endswith(_OTHER + PICTURE_ENDINGS):
        return False
    return is_dicom(first_bytes(path, HEAD))


def first_bytes(path: Path, n_bytes: int) -> bytes:
    """So many first bytes of a file at least, or all of -1; of one that cannot be read none."""
    try:
        return read_bytes(path, n_first=n_bytes)
    except (OSError, ImageError):
        return b""
