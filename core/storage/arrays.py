"""Plain files: text with an entry a line, rows of cells, arrays mapped from disk."""

import csv
import errno
import mmap
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from core.errors import PredictionsError


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write one entry a line."""
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def read_lines(path: Path) -> tuple[str, ...]:
    """Read one entry a line.

    Raises:
        PredictionsError: the file is missing or not UTF-8.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # splitlines() splits at more
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


class SharedRows:
    """An (N, L) array whose rows lie in other arrays; it reads like one, and nothing is copied.

    So predictions that lie a fold a file are one value without being read, and those of a prior,
    which are equal for all images of a category, are as many rows as there are categories.

    Attributes:
        arrays: (n, L) each, of one dtype.
        which: (N,) the array that each row lies in.
        places: (N,) its row there.
    """

    def __init__(
        self,
        arrays: Sequence[npt.NDArray[Any]],
        *,
        which: npt.NDArray[np.integer],
        places: npt.NDArray[np.integer],
    ) -> None:
        self.arrays, self.which, self.places = tuple(arrays), which, places
        self.shape = (len(which), arrays[0].shape[1])
        self.dtype = arrays[0].dtype

    @classmethod
    def joined(cls, arrays: "Sequence[npt.NDArray[Any] | SharedRows]") -> "SharedRows":
        """The rows of one array after the other, some of which may be shared themselves."""
        parts = [a if isinstance(a, SharedRows) else cls.of(a, np.arange(len(a))) for a in arrays]
        first = np.cumsum([0, *(len(part.arrays) for part in parts)])
        return cls(
            [array for part in parts for array in part.arrays],
            which=np.concatenate([p.which + n for p, n in zip(parts, first[:-1], strict=True)]),
            places=np.concatenate([part.places for part in parts]),
        )

    @classmethod
    def of(cls, array: npt.NDArray[Any], places: npt.NDArray[np.integer]) -> "SharedRows":
        """Rows of one array, any of them as often as wanted."""
        return cls([array], which=np.zeros(len(places), dtype=np.intp), places=places)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> int:
        """N L."""
        return self.shape[0] * self.shape[1]

    def min(self) -> float:
        """Lowest value, of rows that stand nowhere as well; NaN if one is."""
        return float(np.min([array.min() for array in self.arrays if array.size]))

    def max(self) -> float:
        """Highest value, as `min` has it."""
        return float(np.max([array.max() for array in self.arrays if array.size]))

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        """A copy of what `key` would take of the array: rows, or rows and columns as `np.ix_`."""
        rows, columns = key if isinstance(key, tuple) else (key, slice(None))
        rows, columns = (k if isinstance(k, slice) else _flat(k) for k in (rows, columns))
        which, places = self.which[rows], self.places[rows]
        width = len(np.empty(self.shape[1])[columns])
        found = np.empty((len(which), width), dtype=self.dtype)
        for number in np.unique(which):
            here = which == number
            found[here] = self.arrays[number][places[here]][:, columns]
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("rows of shared arrays cannot be one array without a copy")
        return self[:].astype(dtype or self.dtype, copy=False)


def _flat(index: Any) -> npt.NDArray[Any]:
    flat = np.ravel(index)
    return flat if len(flat) else flat.astype(np.intp)  # nothing at all has no type of its own


def release(array: npt.NDArray[Any] | SharedRows) -> None:
    """Give back the memory that a mapped array's pages take; what they hold stays on disk.

    Who goes once through a large file would else be seen to hold all of it.
    """
    if isinstance(array, SharedRows):
        for part in array.arrays:
            release(part)
        return
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
