"""Arrays as plain files, mapped from disk."""

import ast
import errno
import math
import mmap
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt

from core.errors import PredictionsError, excerpt
from core.storage.drafts import draft_file
from core.storage.plain import plain_file


def load_array(path: Path) -> npt.NDArray[Any]:
    """Map a .npy file into memory, read-only.

    Raises:
        PredictionsError: the file is missing, cut short or not an array of plain numbers.
    """
    return _mapped(path, "r")


def _mapped(path: Path, mode: Literal["r", "r+"]) -> npt.NDArray[Any]:
    plain_file(path, error=PredictionsError)
    try:
        with path.open("rb") as file:
            dtype, shape, order = _header(file)
            start = file.tell()
            there = os.fstat(file.fileno()).st_size
        if start + math.prod(shape) * dtype.itemsize > there:
            raise ValueError("it is cut short")
        return np.memmap(path, dtype, mode, start, shape, order)
    except OSError as error:
        raise PredictionsError(
            f"{path}: cannot be read as an array ({error.strerror or error})"
        ) from None
    except ValueError as error:
        raise PredictionsError(f"{path}: cannot be read as an array ({error})") from None


_NUMBERS = re.compile(r"[<>|=]?[biuf]\d{1,2}")
_LONG = re.compile(r"(\d+)L\b")  # whole numbers of Python 2
_LONGEST_HEADER = 10_000
_MOST_AXES = 32


def _header(file: IO[bytes]) -> tuple[np.dtype[Any], tuple[int, ...], Literal["C", "F"]]:
    """What a .npy file says of its numbers, which begin where the file is left.

    numpy's own reader hands what stands there to Python's parsers, which raise whatever they like.

    Raises:
        ValueError: it is no such file, or of something else than plain numbers.
    """
    start = file.read(8)
    if start[:6] != b"\x93NUMPY":
        raise ValueError("it is an archive" if start[:4] == b"PK\3\4" else "not a .npy file")
    size = {1: 2, 2: 4, 3: 4}.get(start[6]) if len(start) == 8 else None
    n_header = int.from_bytes(file.read(size), "little") if size else _LONGEST_HEADER + 1
    if n_header > _LONGEST_HEADER:
        raise ValueError("its header is of no known version, or too long")
    try:
        said = ast.literal_eval(_LONG.sub(r"\1", file.read(n_header).decode("latin1")).strip())
        kind, is_fortran, shape = said["descr"], said["fortran_order"], said["shape"]
    except (SyntaxError, ValueError, LookupError, TypeError, MemoryError, RecursionError):
        raise ValueError("its header cannot be read") from None
    if not isinstance(kind, str) or not _NUMBERS.fullmatch(kind):
        raise ValueError(f"of {excerpt(kind, longest=40)}, not of plain numbers")
    if not isinstance(shape, tuple) or len(shape) > _MOST_AXES or not all(map(_is_length, shape)):
        raise ValueError(f"of the impossible shape {excerpt(shape, longest=40)}")
    try:
        return np.dtype(kind), shape, "F" if is_fortran is True else "C"
    except TypeError:
        raise ValueError(f"of {kind!r}, which is no type of numbers") from None


def _is_length(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**48


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
        PredictionsError: the file that is there is damaged, or of another shape or type.
    """
    if not path.exists():
        try:
            with draft_file(path, replaces=False) as draft:
                np.lib.format.open_memmap(draft, mode="w+", dtype=dtype, shape=shape)
                if reserve:
                    _reserve(draft)
        except OSError as error:
            raise _named(error, path) from None
    found = _mapped(path, "r+")
    if found.shape != shape or found.dtype != np.dtype(dtype):
        raise PredictionsError(
            f"{path}: of shape {found.shape}, {found.dtype}; expected {shape}, {np.dtype(dtype)};"
            " remove it, and the same command makes it again"
        )
    return found


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
        self._plain = [np.asarray(array) for array in arrays]  # mapped ones are slow to take from
        self.shape: tuple[int, int] = (len(which), int(arrays[0].shape[1]))
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
        whole = isinstance(columns, slice) and columns == slice(None)
        width = self.shape[1] if whole else len(np.empty(self.shape[1])[columns])
        found = np.empty((len(which), width), dtype=self.dtype)
        for number in np.flatnonzero(np.bincount(which)).tolist():
            here = which == number
            rows_there = self._plain[number][places[here]]
            found[here] = rows_there if whole else rows_there[:, columns]
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("rows of shared arrays cannot be one array without a copy")
        return self[:].astype(dtype or self.dtype, copy=False)


_WORTH_IT = 4 << 20
"""Bytes of an array among several; a hundred smaller ones, of twenty members, stay below 400 MB."""


def _flat(index: Any) -> npt.NDArray[Any]:
    flat = np.ravel(index)
    return flat if len(flat) else flat.astype(np.intp)  # nothing at all has no type of its own


def release(array: npt.NDArray[Any] | SharedRows) -> None:
    """Give back the memory that a mapped array's pages take; what they hold stays on disk.

    Who goes once through a large file would else be seen to hold all of it.
    """
    if isinstance(array, SharedRows):
        for part in array.arrays:
            if part.nbytes >= _WORTH_IT:  # asking takes as long as reading a small one again
                release(part)
        return
    mapping = getattr(array, "_mmap", None)
    if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):  # not on every system
        mapping.madvise(mmap.MADV_DONTNEED)


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
