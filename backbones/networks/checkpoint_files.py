"""Files of weights as people have them: which tensors they hold, without running code from them.

A file is known by what it holds, not by its name: torch's zip archives, its streams and tar files
from before 2020, safetensors, and folders or lists of such files in parts. Tensors are mapped from
disk, what is not asked for is never read.
"""

import mmap
import struct
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from backbones.networks.checkpoint_parts import chosen_part
from backbones.networks.pickled import printable
from backbones.networks.torch_files import open_torch_file
from core.errors import ConfigError, is_out_of_memory
from core.storage.documents import parse_json
from core.storage.sums import file_sha256
from training.checkpoint import tensors_in


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


def checkpoint_sha256(path: Path, *, digest: Callable[[Path], str] = file_sha256) -> str:
    """SHA-256 of a file of weights in hex; of one in parts, of their list with the SHA-256 of each.

    Args:
        path: as for `read_checkpoint`.
        digest: SHA-256 of a file, for whom has it already.

    Raises:
        ConfigError: as `read_checkpoint` for what is not there.
    """
    found = checkpoint_in(path) if path.is_dir() else path
    if not found.is_file():
        raise ConfigError(f"{found}: no such weights file")
    if not found.name.endswith(_INDEX):
        return digest(found)
    parts = sorted({*_weight_map(found).values()})
    lines = [f"{digest(file)}  {file.name}" for file in (found, *parts)]
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
        listed = parse_json(index.read_bytes())["weight_map"]
        names = {str(name): str(file) for name, file in listed.items()}
    except (ValueError, LookupError, TypeError, AttributeError):
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
            return _of_numbers(WeightsFile(path, tensors_in(path)))
        return _read_torch(path, data)
    except _UNREADABLE as error:
        if is_out_of_memory(error):
            raise  # no fault of the file
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"{path}: cannot be read as weights ({printable(reason, longest=200)})"
        ) from None


_UNREADABLE = (
    *(RuntimeError, ValueError, EOFError, LookupError, OSError, struct.error),
    *(tarfile.TarError, OverflowError, NotImplementedError, MemoryError),
)
"""What files raise that were cut short, are damaged, or are something else."""


def _is_safetensors(data: mmap.mmap) -> bool:
    n_header = int.from_bytes(data[:8], "little")
    return data[8:9] == b"{" and n_header <= len(data) - 8


def _read_torch(path: Path, data: mmap.mmap) -> WeightsFile:
    held = open_torch_file(path, data)
    try:
        part = chosen_part(held.value)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    if part is None:
        n = len(held.passed_over)
        unmade = f"; objects passed over: {n}, first {printable(held.passed_over[0])}" if n else ""
        raise ConfigError(f"{path}: expected a state dict of named tensors{unmade}")
    return _of_numbers(
        WeightsFile(
            path,
            {name: held.tensor(record) for name, record in part.tensors.items()},
            part=part.key,
            note=part.note,
            passed_over=held.passed_over,
            arch=part.arch,
        )
    )


_NUMBERS = (
    *(torch.float32, torch.float16, torch.bfloat16, torch.float64),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
)
"""Types of which torch can do what is asked of weights; of others not even if they are finite."""


def _of_numbers(file: WeightsFile) -> WeightsFile:
    """The file without complex, quantised or packed tensors, which count as passed over."""
    others = {n: t for n, t in file.tensors.items() if t.dtype not in _NUMBERS}
    if not others:
        return file
    kept = {name: t for name, t in file.tensors.items() if name not in others}
    told = [f"a tensor of {str(t.dtype).removeprefix('torch.')}" for t in others.values()]
    return replace(file, tensors=kept, passed_over=(*file.passed_over, *told))
