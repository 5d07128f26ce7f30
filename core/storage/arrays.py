"""Plain files: text with an entry a line, rows of cells, arrays mapped from disk."""

import csv
import errno
import mmap
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from core.errors import PredictionsError
from core.storage.plain import plain_file


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write one entry a line."""
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def read_lines(path: Path) -> tuple[str, ...]:
    """Read one entry a line.

    Raises:
        PredictionsError: the file is missing or not UTF-8.
    """
    try:
        text = plain_file(path, error=PredictionsError).read_text(encoding="utf-8")
        lines = text.split("\n")  # splitlines() splits at more
    except FileNotFoundError:
        raise PredictionsError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise PredictionsError(f"{path}: not UTF-8 ({error.reason})") from None
    return tuple(lines[:-1] if lines[-1] == "" else lines)


def write_rows(
    path: Path, rows: Iterable[Iterable[object]], *, mode: Literal["w", "a"] = "w"
) -> None:
    """Write a csv with one row a line, or add to it."""
    with path.open(mode, encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def load_array(path: Path) -> npt.NDArray[Any]:
    """Map a .npy file into memory, read-only.

    Raises:
        PredictionsError: the file is missing, cut short or not an array of plain numbers.
    """
    try:
        plain_file(path, error=PredictionsError)
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise PredictionsError(f"{path}: cannot be read as an array ({error})") from None
    if not isinstance(array, np.ndarray):  # an archive of several
        raise PredictionsError(f"{path}: cannot be read as an array (it is an .npz archive)")
    return array


def save_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Write a .npy file.

    Raises:
        OSError: it cannot be written; the file is named.
    """
    try:
        np.save(path, array)
    except OSError as error:
        raise _named(error, path) from None


def open_map(
    path: Path, shape: tuple[int, ...], *, dtype: npt.DTypeLike, reserve: bool = True
) -> npt.NDArray[Any]:
    """A writable array mapped from disk, zeros where the file is new.

    A file that is there is opened as it is, also when another process is filling it.

    Args:
        path: the file.
        shape: of a new one.
        dtype: of a new one.
        reserve: take the room of a new file at once; without, it is a file of holes, and whoever
            writes through the map of a full disk is ended by a signal.

    Raises:
        OSError: the file cannot be made, or the disk has no room for all of it; it is named.
    """
    if not path.exists():
        draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            np.lib.format.open_memmap(draft, mode="w+", dtype=dtype, shape=shape)
            if reserve:
                _reserve(draft)
            _take_name(draft, path)
        except OSError as error:
            raise _named(error, path) from None
        finally:
            draft.unlink(missing_ok=True)
    return np.lib.format.open_memmap(path, mode="r+")


def release(array: npt.NDArray[Any]) -> None:
    """Give back the memory that a mapped array's pages take; what they hold stays on disk.

    Who goes once through a large file would else be seen to hold all of it.
    """
    mapping = getattr(array, "_mmap", None)
    if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):  # not on every system
        mapping.madvise(mmap.MADV_DONTNEED)


def _take_name(draft: Path, path: Path) -> None:
    """Give a new file its name, unless another process was first: then its file is the one."""
    try:
        os.link(draft, path)
    except FileExistsError:
        return
    except OSError:  # a file system without hard links
        if not path.exists():
            draft.rename(path)


def _reserve(path: Path) -> None:
    """Take the room that a file of holes will need.

    Without it a write to the map of a full disk ends the process by a signal, without a word.
    """
    if not hasattr(os, "posix_fallocate"):  # macOS
        return
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # cannot reserve at all
                raise


def _named(error: OSError, path: Path) -> OSError:
    """The error with the file's name; numpy gives no reason where a write stops short."""
    reason = error.errno or errno.ENOSPC
    return OSError(reason, os.strerror(reason), str(path))
