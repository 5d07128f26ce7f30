"""Image files wherever they lie: as files of their own, in a zip, or in rows of a parquet file.

A path may go on below a zip (`train_images.zip/train/a.jpg`) or a parquet file
(`train-0.parquet/17`, the image of row 17, counted from 0): such an image is read in place.

The directory of a zip is read once an archive and process; 60,000 members take half a second and
are then read as fast as files. Members may be read from many threads at once.
"""

import os
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from zipfile import ZipInfo

from core.errors import CorpusError, ImageError
from core.storage.archives import ENCRYPTED, BrokenZipError, LockedZipError, OpenZip, is_link
from core.storage.documents import plain_file
from core.storage.shards import read_row

ARCHIVE = ".zip"
SHARD = ".parquet"

_MOST_BYTES = 4 << 30  # of an image file
_MOST_UNPACKED = 1 << 30  # bytes of a member of a zip, which may take a thousandth of them there
_KEPT = 64  # directories of archives


def read_bytes(path: Path, *, n_first: int = -1) -> bytes:
    """The content of an image file.

    Args:
        path: the file, or its place in an archive or table.
        n_first: so many bytes at least from its start, where it has as many; -1 for all.

    Raises:
        FileNotFoundError: there is no such file, member or row.
        CorpusError: the archive or table that should hold it cannot be read, or needs a package
            that is not installed.
        ImageError: it is a pipe or a device, or far too large; the member is encrypted or damaged.
    """
    try:
        plain_file(path, error=ImageError, most_bytes=_MOST_BYTES if n_first < 0 else None)
        with path.open("rb", buffering=0) as file:
            return file.read(n_first)
    except (FileNotFoundError, NotADirectoryError):
        holder = holder_of(path)
    if holder is None:
        raise FileNotFoundError(str(path))
    inner = path.relative_to(holder).as_posix()
    if holder.suffix.lower() == ARCHIVE:
        return _read_member(holder, inner, n_first)
    if not inner.isdecimal():
        raise FileNotFoundError(str(path))
    return read_row(holder, int(inner))


def file_state(path: Path) -> os.stat_result:
    """Size and time of change of an image file.

    Of a member of a zip it is the member's size and the archive's time, of a row of a parquet file
    that of the file.

    Raises:
        FileNotFoundError: there is no such file or member.
        CorpusError: the archive that should hold it cannot be read.
    """
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        holder = holder_of(path)
    if holder is None:
        raise FileNotFoundError(str(path))
    state = holder.stat()
    if holder.suffix.lower() != ARCHIVE:
        return state
    _, members = _opened(holder)
    member = members.get(path.relative_to(holder).as_posix())
    if member is None:
        raise FileNotFoundError(str(path))
    times = {"st_mtime_ns": state.st_mtime_ns, "st_ctime_ns": state.st_ctime_ns}
    return os.stat_result((*state[:6], member.file_size, *state[7:10]), times)


def exists(path: Path) -> bool:
    """Whether there is a file, a member of an archive, or a table that could hold the row."""
    try:
        file_state(path)
    except FileNotFoundError:
        return False
    return True


def holder_of(path: Path) -> Path | None:
    """The zip or parquet file that a path goes on below; None of an ordinary path."""
    return _holder(path.parent)


@lru_cache(maxsize=1024)
def _holder(folder: Path) -> Path | None:
    for place in (folder, *folder.parents):
        if place.suffix.lower() in (ARCHIVE, SHARD) and place.is_file():
            return place
    return None


def members(archive: Path) -> tuple[str, ...]:
    """Names of the files in a zip, with their folders, `/` between them.

    Names that lead out of the archive (`../a`) and links are left out.

    Raises:
        CorpusError: the file is no whole zip, or its members are encrypted.
    """
    _, found = _opened(archive)
    if locked := [name for name, member in found.items() if member.flag_bits & ENCRYPTED]:
        raise CorpusError(
            f"{archive}: encrypted ({locked[0]} and others need a password); unpack it first"
        )
    return tuple(found)


def reading_order(paths: Iterable[Path]) -> list[int]:
    """Numbers of the paths in the order in which they are best read.

    That is the order given, but that the rows of a parquet file come in their own: going back in
    one means to read its rows again from the start of their group.
    """
    paths = list(paths)
    places = [(number, path.name) for number, path in enumerate(paths) if _is_row(path)]
    first: dict[Path, int] = {}
    for number, _ in places:
        first.setdefault(paths[number].parent, number)
    keys: list[tuple[int, int]] = [(number, 0) for number in range(len(paths))]
    for number, name in places:
        keys[number] = (first[paths[number].parent], int(name))
    return sorted(range(len(paths)), key=keys.__getitem__)


def _is_row(path: Path) -> bool:
    return path.name.isdecimal() and path.parent.suffix.lower() == SHARD


def _read_member(archive: Path, name: str, n_first: int) -> bytes:
    opened, found = _opened(archive)
    member = found.get(name)
    if member is None:
        raise FileNotFoundError(str(archive / name))
    try:
        if n_first >= 0:
            return opened.first(member, n_first)
        return opened.read(member, most=_MOST_UNPACKED)
    except LockedZipError as error:
        raise ImageError(f"{archive / name}: {error}; unpack the archive first") from None
    except BrokenZipError as error:
        raise ImageError(f"{archive / name}: damaged in its archive ({error})") from None


def _opened(archive: Path) -> tuple[OpenZip, Mapping[str, ZipInfo]]:
    """An archive with its directory, opened once while it does not change."""
    state = archive.stat()
    return _open(archive, state.st_mtime_ns, state.st_size, os.getpid())


@lru_cache(maxsize=_KEPT)
def _open(
    archive: Path, changed_ns: int, size: int, process: int
) -> tuple[OpenZip, Mapping[str, ZipInfo]]:
    """The process is named since a forked one would share its parent's place in the file."""
    del changed_ns, size, process
    try:
        opened = OpenZip(archive)
    except BrokenZipError as error:
        raise CorpusError(f"{archive}: not a whole zip ({error}); download it again") from None
    found = {}
    for member in opened.members:
        name = member.filename.replace("\\", "/")  # some programs on Windows write those
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if not name.endswith("/") and parts and ".." not in parts and not is_link(member):
            found["/".join(parts)] = member
    return opened, found
