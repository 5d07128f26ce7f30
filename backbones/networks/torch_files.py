"""Files that torch saves, in the three forms it has had, without running code from them.

The pickle within is read by hand (`pickled`); numbers are mapped from disk where they lie. What a
file claims is held against its bytes: a tensor never reaches out of its storage, and none is larger
than the file.
"""

import mmap
import struct
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from math import prod
from pathlib import Path
from typing import BinaryIO, cast
from zipfile import ZIP_STORED

import torch
from torch import Tensor

from backbones.networks.pickled import GlobalName, StorageRecord, TensorRecord, read_pickle
from core.storage.archives import ENCRYPTED, OpenZip


@dataclass(frozen=True)
class TorchFile:
    """What a file of torch holds, before it is known which of it are weights.

    Attributes:
        value: what its pickle says, tensors described.
        passed_over: name of each object that was not made.
        data: the whole file.
        places: where in it the numbers of each storage begin, and how many bytes they are.
    """

    value: object
    passed_over: tuple[str, ...]
    data: mmap.mmap
    places: Mapping[str, tuple[int, int]]

    def tensor(self, record: TensorRecord) -> Tensor:
        """A tensor of the file's own bytes.

        Raises:
            ValueError: it reaches out of its storage, or is larger than the file.
        """
        return _mapped(record, places=self.places, data=self.data)


def open_torch_file(path: Path, data: mmap.mmap) -> TorchFile:
    """What the file holds.

    Args:
        path: of the file.
        data: the whole of it.

    Raises:
        ValueError, LookupError, tarfile.TarError, struct.error,
            NotImplementedError: it is cut short, damaged or of another kind.
    """
    passed_over: list[str] = []
    if data[:4] == b"PK\x03\x04":
        value, places = _zipped(path, data, passed_over=passed_over)
    elif data[257:262] == b"ustar":
        value, places = _tarred(data, passed_over=passed_over)
    else:
        value, places = _streamed(data, passed_over=passed_over)
    return TorchFile(value, tuple(passed_over), data, places)


_Held = tuple[object, dict[str, tuple[int, int]]]
"""What a torch file's pickle says, and the bytes of its storages: where, how many."""


def _zipped(path: Path, data: mmap.mmap, *, passed_over: list[str]) -> _Held:
    """Torch's archive since 1.6: `data.pkl` and a file a storage, side by side, not compressed."""
    with OpenZip(path) as archive:
        entries = {entry.filename: entry for entry in archive.members}
    pickles = [n for n in entries if n.rpartition("/")[2] == "data.pkl" and n.count("/") <= 1]
    if not pickles:
        arrays = any(name.endswith(".npy") for name in entries)
        raise ValueError(
            "an archive of numpy's, not of torch" if arrays else "a zip archive, not one of torch"
        )
    folder = pickles[0].removesuffix("data.pkl")
    places = {}
    for name, entry in entries.items():
        held = name.removeprefix(folder)
        if not name.startswith(folder) or not held.startswith(_ENTRIES):
            continue  # code and constants of TorchScript, versions
        if entry.flag_bits & ENCRYPTED:
            raise ValueError(f"{name} is encrypted")
        if entry.compress_type != ZIP_STORED:
            raise ValueError(f"{name} is compressed, which torch never does; save it again")
        at = entry.header_offset
        if data[at : at + 4] != b"PK\x03\x04":
            raise ValueError(f"{name} is not where its archive says")
        begin = at + 30 + sum(struct.unpack("<HH", data[at + 26 : at + 30]))
        if begin + entry.file_size > len(data):
            raise ValueError(f"{name} is cut short")
        places[held] = (begin, entry.file_size)
    order, n_order = places.get("byteorder", (0, 0))
    if data[order : order + n_order] == b"big":
        raise ValueError("its numbers have their bytes in reverse, from another kind of processor")
    begin, length = places["data.pkl"]
    value = _pickle(BytesIO(data[begin : begin + length]), passed_over=passed_over)
    stored = {n.removeprefix("data/"): p for n, p in places.items() if n.startswith("data/")}
    return value, stored


_ENTRIES = ("data.pkl", "data/", "byteorder")
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def _streamed(data: mmap.mmap, *, passed_over: list[str]) -> _Held:
    """Torch's files before 1.6: pickles one after the other, then the storages."""
    for wrong, what in _OTHER_FILES.items():
        if data[: len(wrong)].lower() == wrong:
            raise ValueError(what)
    if data[:1] != b"\x80":
        raise ValueError("neither a file of torch nor safetensors")
    if _pickle(data, passed_over=[]) != _MAGIC:
        raise ValueError("a plain pickle, which torch did not save")
    if _pickle(data, passed_over=[]) != _PROTOCOL:
        raise ValueError("an unknown version of torch's files")
    _pickle(data, passed_over=[])  # of the machine that wrote it
    storages: dict[str, StorageRecord] = {}
    value = _pickle(data, passed_over=passed_over, storages=storages)
    keys = _pickle(data, passed_over=[])
    if not isinstance(keys, list):
        raise ValueError("no list of its storages")
    places = {}
    for key in map(_key, keys):
        if key not in storages:
            raise ValueError(f"storage {key} is not told of")
        places[key] = _counted(data, _item_size(storages[key].kind))
    return value, places


_OTHER_FILES = {
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself; run `git lfs pull`",
    b"<!doctype": "a web page, not the file itself; download it again",
    b"<html": "a web page, not the file itself; download it again",
    b"\x89hdf\r\n": "an HDF5 file, of Keras or another; expected a file of torch or safetensors",
    b"\x1f\x8b": "compressed by gzip; unpack it first",
    b"\x93numpy": "an array of numpy; expected a file of torch or safetensors",
}


def _tarred(data: mmap.mmap, *, passed_over: list[str]) -> _Held:
    """Torch's first form, before 0.2: a tar archive of storages, tensors and the pickle."""
    with tarfile.open(fileobj=cast(BinaryIO, data), mode="r:") as archive:
        members = {member.name: member.offset_data for member in archive if member.isfile()}
    missing = [name for name in ("storages", "tensors", "pickle") if name not in members]
    if missing:
        raise ValueError(f"a tar archive, not one of torch; unpack it first (no {missing[0]!r})")
    records: dict[str, StorageRecord] = {}
    places = {}
    data.seek(members["storages"])
    for key, _, kind in _entries(data):
        size = _item_size(kind.name)
        places[_key(key)] = _counted(data, size)
        n = places[_key(key)][1] // size
        records[_key(key)] = StorageRecord(_key(key), kind.name, n)
    for target, root, first, count in _rows(_pickle(data, passed_over=[]), 4):
        if not isinstance(first, int) or not isinstance(count, int):
            raise ValueError("views of its storages are not told of")
        records[_key(target)] = replace(records[_key(root)], first=first, count=count)
    data.seek(members["tensors"])
    tensors = {}
    for key, storage, _ in _entries(data):
        n = struct.unpack("<i", data.read(8)[:4])[0]
        numbers = struct.unpack(f"<{2 * n + 1}q", data.read(8 * (2 * n + 1)))
        tensors[_key(key)] = TensorRecord(
            records[_key(storage)], numbers[-1], numbers[:n], numbers[n : 2 * n]
        )
    data.seek(members["pickle"])
    value = read_pickle(
        cast(BinaryIO, data),
        passed_over=passed_over,
        persistent=lambda key: key[0] if isinstance(key, tuple) else tensors[_key(key)],
    )
    return value, places


def _entries(data: mmap.mmap) -> Iterator[tuple[object, object, GlobalName]]:
    """Triples that a number in front counts; the reader takes what follows each."""
    n = _pickle(data, passed_over=[])
    for _ in range(n if isinstance(n, int) else 0):
        for key, where, kind in _rows([_pickle(data, passed_over=[])], 3):
            if not isinstance(kind, GlobalName):
                raise ValueError("its storages or tensors are not told of")
            yield key, where, kind


def _rows(value: object, width: int) -> list[tuple[object, ...]]:
    rows = [row for row in value if isinstance(row, tuple)] if isinstance(value, list) else []
    if not isinstance(value, list) or [len(row) for row in rows] != [width] * len(value):
        raise ValueError("its storages or tensors are not told of")
    return rows


def _key(value: object) -> str:
    if not isinstance(value, str | int):  # a list's text may be as long as it is nested
        raise ValueError("a storage or tensor without a name")
    return str(value)


def _counted(data: mmap.mmap, size: int) -> tuple[int, int]:
    """Where numbers of a size lie that their count stands before; the stream goes on behind."""
    n_bytes = _number(data, data.tell()) * size
    begin = data.tell() + 8
    if n_bytes < 0 or begin + n_bytes > len(data):
        raise ValueError("a storage is cut short")
    data.seek(begin + n_bytes)
    return begin, n_bytes


def _number(data: mmap.mmap, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little", signed=True)


def _pickle(
    stream: mmap.mmap | BytesIO,
    *,
    passed_over: list[str],
    storages: dict[str, StorageRecord] | None = None,
) -> object:
    """The pickle that starts here; storages by their keys are told to whom gives a dict."""

    def persistent(key: object) -> object:
        if isinstance(key, tuple) and len(key) >= 2 and key[0] == "module":
            return key[1]  # a class whose source text lies beside it
        if not isinstance(key, tuple) or len(key) < 5 or key[0] != "storage":
            raise ValueError("it keeps objects elsewhere")
        kind, name, _, count = key[1:5]
        if not isinstance(kind, GlobalName) or not isinstance(count, int):
            raise ValueError("a storage of no known type")
        record = StorageRecord(_key(name), kind.name, count)
        if storages is not None:
            storages.setdefault(record.key, record)
        view = key[5] if len(key) > 5 else None
        if isinstance(view, tuple) and len(view) == 3:
            return replace(record, first=int(view[1]), count=int(view[2]))
        return record

    return read_pickle(cast(BinaryIO, stream), passed_over=passed_over, persistent=persistent)


def _mapped(
    record: TensorRecord, *, places: Mapping[str, tuple[int, int]], data: mmap.mmap
) -> Tensor:
    storage = record.storage
    if storage.key not in places:
        raise ValueError(f"storage {storage.key} is missing")
    begin, n_bytes = places[storage.key]
    size = _item_size(storage.kind)
    dtype = _dtype(record.kind) if record.kind else _STORED[storage.kind]
    first, count = storage.first * size, storage.count * size
    if first < 0 or count < 0 or first + count > n_bytes:
        raise ValueError(f"storage {storage.key} is shorter than it says")
    shape, strides, offset = record.shape, record.strides, record.offset
    if len(shape) > _MOST_AXES or min((offset, *shape, *strides)) < 0:
        raise ValueError("a tensor of impossible shape")
    n = prod(shape)
    if max(shape, default=0) > len(data):
        raise ValueError("a tensor is larger than its storage")
    if n == 0:
        return torch.empty(shape, dtype=dtype)
    strides = tuple(step if length > 1 else 1 for length, step in zip(shape, strides, strict=True))
    span = 1 + sum((length - 1) * step for length, step in zip(shape, strides, strict=True))
    if (offset + span) * dtype.itemsize > count or n * dtype.itemsize > len(data):
        raise ValueError("a tensor is larger than its storage")
    at = begin + first + offset * dtype.itemsize
    if at % dtype.itemsize:  # torch reads numbers at their multiples alone
        flat = torch.frombuffer(bytearray(data[at : at + span * dtype.itemsize]), dtype=dtype)
    else:
        flat = torch.frombuffer(data, dtype=dtype, count=span, offset=at)
    return flat.as_strided(shape, strides)


_MOST_AXES = 16


def _item_size(kind: str) -> int:
    if kind not in _STORED:
        raise ValueError(f"numbers of an unknown type, {kind[:40]}")
    return _STORED[kind].itemsize


def _dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name, None) if name.isidentifier() else None
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"numbers of an unknown type, {name[:40]}")
    return dtype


_STORED = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
}
"""Types of numbers by torch's name of their storages."""
