"""Files of weights as people have them: which tensors they hold, without running code from them.

A file is known by what it holds, not by its name: torch's zip archives, its streams and tar files
from before 2020, safetensors, and folders or lists of such files in parts. Tensors are mapped from
disk, what is not asked for is never read.
"""

import json
import mmap
import struct
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import BinaryIO, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from backbones.networks.carriers import file_sha256
from backbones.networks.checkpoint_parts import chosen_part
from backbones.networks.pickled import GlobalName, StorageRecord, TensorRecord, read_pickle
from core.errors import ConfigError


@dataclass(frozen=True)
class WeightsFile:
    """What a file of weights holds.

    Attributes:
        path: as it was given: a file, a folder or the index of files in parts.
        tensors: by the file's names; mapped from disk where that can be.
        part: the key under which they lie in it, `state_dict_ema`; "" for the whole.
        note: what there is to know of that part, `its running mean`.
        passed_over: name of each object in it that was not made.
        arch: the network, where the file says.
    """

    path: Path
    tensors: dict[str, Tensor]
    part: str = ""
    note: str = ""
    passed_over: tuple[str, ...] = ()
    arch: str = ""


def read_checkpoint(path: Path) -> WeightsFile:
    """Tensors of a file of weights, of a folder with one, or of an index of files in parts.

    Raises:
        ConfigError: it is missing, cut short, or holds something other than named tensors.
    """
    found = checkpoint_in(path) if path.is_dir() else path
    if found.name.endswith(_INDEX):
        return replace(_read_parts(found), path=path)
    return replace(_read_file(found), path=path)


def checkpoint_in(folder: Path) -> Path:
    """The file of weights that a folder holds, or the index of those in parts.

    Raises:
        ConfigError: it holds none, or several of which none has a usual name.
    """
    for name in _USUAL:
        if (folder / name).is_file():
            return folder / name
    found = sorted(p for p in folder.iterdir() if p.name.endswith(_SUFFIXES) and p.is_file())
    if not found:
        raise ConfigError(f"{folder}: no weights file lies in this folder")
    if len(found) > 1:
        names = ", ".join(p.name for p in found[:5])
        raise ConfigError(f"{folder}: {len(found)} weights files ({names}); name the one to take")
    return found[0]


def holds_checkpoint(folder: Path) -> bool:
    """Whether a file of weights lies in this folder."""
    return any(p.name.endswith(_SUFFIXES) and p.is_file() for p in folder.iterdir())


def checkpoint_sha256(path: Path) -> str:
    """SHA-256 of a file of weights in hex; of one in parts, of their list with the SHA-256 of each.

    Raises:
        ConfigError: as `read_checkpoint` for what is not there.
    """
    found = checkpoint_in(path) if path.is_dir() else path
    if not found.is_file():
        raise ConfigError(f"{found}: no such weights file")
    if not found.name.endswith(_INDEX):
        return file_sha256(found)
    parts = sorted({*_weight_map(found).values()})
    lines = [f"{file_sha256(found)}  {found.name}", *(f"{file_sha256(p)}  {p.name}" for p in parts)]
    return sha256("\n".join(lines).encode()).hexdigest()


_INDEX = ".index.json"
_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".ckpt", ".pth.tar", _INDEX)
_USUAL = tuple(
    f"{stem}{suffix}"
    for suffix in (".safetensors", f".safetensors{_INDEX}", ".bin", f".bin{_INDEX}")
    for stem in ("model", "open_clip_model", "pytorch_model", "open_clip_pytorch_model")
)


def _read_parts(index: Path) -> WeightsFile:
    places = _weight_map(index)
    tensors: dict[str, Tensor] = {}
    passed_over: list[str] = []
    for part in sorted({*places.values()}):
        held = _read_file(part)
        passed_over += held.passed_over
        for name in (name for name, place in places.items() if place == part):
            if name not in held.tensors:
                raise ConfigError(f"{part}: has no tensor {name!r}, which {index.name} expects")
            tensors[name] = held.tensors[name]
    return WeightsFile(index, tensors, passed_over=tuple(passed_over))


def _weight_map(index: Path) -> dict[str, Path]:
    """The file in which each tensor lies."""
    if not index.is_file():
        raise ConfigError(f"{index}: no such weights file")
    try:
        listed = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = {str(name): str(file) for name, file in listed.items()}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise ConfigError(
            f"{index}: cannot be read as weights (no `weight_map` of names and files)"
        ) from None
    for file in {*names.values()}:
        if Path(file).name != file or file.endswith(_INDEX):
            raise ConfigError(f"{index}: names {file!r}; expected files of its own folder")
        if not (index.parent / file).is_file():
            raise ConfigError(f"{index}: names {file}, which does not lie beside it")
    return {name: index.parent / file for name, file in names.items()}


def _read_file(path: Path) -> WeightsFile:
    if not path.is_file():
        raise ConfigError(f"{path}: no such weights file")
    try:
        if path.stat().st_size == 0:
            raise ValueError("it is empty")
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        if _is_safetensors(data):
            return WeightsFile(path, load_file(path))
        return _read_torch(path, data)
    except _UNREADABLE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"{path}: cannot be read as weights ({reason})") from None


_UNREADABLE = (
    *(SafetensorError, RuntimeError, ValueError, EOFError, LookupError, OSError, struct.error),
    *(zipfile.BadZipFile, tarfile.TarError, OverflowError, NotImplementedError, MemoryError),
)
"""What files raise that were cut short, are damaged, or are something else."""


def _is_safetensors(data: mmap.mmap) -> bool:
    return len(data) > 8 and data[8:9] == b"{" and _number(data, 0) <= len(data) - 8


def _read_torch(path: Path, data: mmap.mmap) -> WeightsFile:
    passed_over: list[str] = []
    if data[:4] == b"PK\x03\x04":
        held = _zipped(path, data, passed_over=passed_over)
    elif data[257:262] == b"ustar":
        held = _tarred(data, passed_over=passed_over)
    else:
        held = _streamed(data, passed_over=passed_over)
    try:
        part = chosen_part(held.value)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    if part is None:
        n = len(passed_over)
        unmade = f"; {n} objects were passed over, first {passed_over[0]}" if n else ""
        raise ConfigError(f"{path}: expected a state dict of named tensors{unmade}")
    return WeightsFile(
        path,
        {name: _mapped(record, held=held, data=data) for name, record in part.tensors.items()},
        part=part.key,
        note=part.note,
        passed_over=tuple(passed_over),
        arch=part.arch,
    )


@dataclass(frozen=True)
class _Held:
    """What a torch file's pickle says, and the bytes of its storages: where, how many."""

    value: object
    places: Mapping[str, tuple[int, int]]


def _zipped(path: Path, data: mmap.mmap, *, passed_over: list[str]) -> _Held:
    """Torch's archive since 1.6: `data.pkl` and a file a storage, side by side, not compressed."""
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
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
        if entry.compress_type != zipfile.ZIP_STORED:
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
    data.seek(begin)
    value = _pickle(data, passed_over=passed_over)
    if data.tell() > begin + length:
        raise ValueError("data.pkl is cut short")
    stored = {n.removeprefix("data/"): p for n, p in places.items() if n.startswith("data/")}
    return _Held(value, stored)


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
    for key in map(str, keys):
        if key not in storages:
            raise ValueError(f"storage {key} is not told of")
        places[key] = _counted(data, _item_size(storages[key].kind))
    return _Held(value, places)


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
        begin, n_bytes = places[str(key)] = _counted(data, size)
        records[str(key)] = StorageRecord(str(key), kind.name, n_bytes // size)
    for target, root, first, count in _rows(_pickle(data, passed_over=[]), 4):
        if not isinstance(first, int) or not isinstance(count, int):
            raise ValueError("views of its storages are not told of")
        records[str(target)] = replace(records[str(root)], first=first, count=count)
    data.seek(members["tensors"])
    tensors = {}
    for key, storage, _ in _entries(data):
        n = struct.unpack("<i", data.read(8)[:4])[0]
        numbers = struct.unpack(f"<{2 * n + 1}q", data.read(8 * (2 * n + 1)))
        tensors[str(key)] = TensorRecord(
            records[str(storage)], numbers[-1], numbers[:n], numbers[n : 2 * n]
        )
    data.seek(members["pickle"])
    value = read_pickle(
        cast(BinaryIO, data),
        passed_over=passed_over,
        persistent=lambda key: key[0] if isinstance(key, tuple) else tensors[str(key)],
    )
    return _Held(value, places)


def _entries(data: mmap.mmap) -> Iterator[tuple[object, object, GlobalName]]:
    """Triples that a number in front counts; the reader takes what follows each."""
    n = _pickle(data, passed_over=[])
    for _ in range(n if isinstance(n, int) else 0):
        for key, where, kind in _rows([_pickle(data, passed_over=[])], 3):
            if not isinstance(kind, GlobalName):
                raise ValueError("its storages or tensors are not told of")
            yield key, where, kind


def _rows(value: object, width: int) -> list[tuple[object, ...]]:
    rows = value if isinstance(value, list) else [value]
    if not all(isinstance(row, tuple | list) and len(row) == width for row in rows):
        raise ValueError("its storages or tensors are not told of")
    return rows


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
    data: mmap.mmap, *, passed_over: list[str], storages: dict[str, StorageRecord] | None = None
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
        record = StorageRecord(str(name), kind.name, count)
        if storages is not None:
            storages.setdefault(record.key, record)
        view = key[5] if len(key) > 5 else None
        if isinstance(view, tuple) and len(view) == 3:
            return replace(record, first=int(view[1]), count=int(view[2]))
        return record

    return read_pickle(cast(BinaryIO, data), passed_over=passed_over, persistent=persistent)


def _mapped(record: TensorRecord, *, held: _Held, data: mmap.mmap) -> Tensor:
    """A tensor of the file's own bytes.

    Raises:
        ValueError: it reaches out of its storage, or is larger than the file.
    """
    storage = record.storage
    if storage.key not in held.places:
        raise ValueError(f"storage {storage.key} is missing")
    begin, n_bytes = held.places[storage.key]
    size = _item_size(storage.kind)
    dtype = _dtype(record.kind) if record.kind else _STORED[storage.kind]
    first, count = storage.first * size, storage.count * size
    if first < 0 or count < 0 or first + count > n_bytes:
        raise ValueError(f"storage {storage.key} is shorter than it says")
    shape, strides, offset = record.shape, record.strides, record.offset
    if len(shape) > _MOST_AXES or min((offset, *shape, *strides)) < 0:
        raise ValueError("a tensor of impossible shape")
    n = prod(shape)
    if n == 0:
        return torch.empty(shape, dtype=dtype)
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
