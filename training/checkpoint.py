"""Checkpoints of unfinished training: whole or not there, whatever ends the process.

SIGTERM and Ctrl-C wait for the end of a training step. Here too: weights on disk.
"""

import errno
import os
import pickle
import signal
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from core.errors import ConfigError, PredictionsError, excerpt
from core.storage.archives import OpenZip
from core.storage.documents import read_json
from core.storage.drafts import draft_file
from core.storage.folders import write_json
from core.storage.plain import plain_file

_FILE = "state.pt"
_LIMIT = "micro_batch.json"
_WORTH = 20
"""An epoch's end is saved where at least so many times the cost of saving was spent since: then
saving takes less than a twentieth of the time, also of heads whose epochs take milliseconds."""


class Checkpoint:
    """The last state of a training in a folder of its own.

    A state is written under a temporary name, brought to the disk and renamed: a kill or a full
    disk at any moment leaves the one before it whole.
    """

    def __init__(self, folder: Path, *, every_s: float) -> None:
        """Save to this folder, within an epoch every so many seconds."""
        self.folder = folder
        self.every_s = every_s
        self._saved = time.monotonic()
        self._cost = 0.0

    @property
    def path(self) -> Path:
        """The file of the state."""
        return self.folder / _FILE

    def is_due(self, *, epoch_ended: bool) -> bool:
        """Whether enough was done since the last one."""
        spent = time.monotonic() - self._saved
        return spent >= self.every_s or (epoch_ended and spent >= _WORTH * self._cost)

    def load(self) -> dict[str, Any] | None:
        """The last state, on the processor; None where there is none.

        Raises:
            ConfigError: the file is not a checkpoint of this version.
        """
        if not self.path.is_file():
            return None
        try:
            with OpenZip(self.path) as archive:  # torch would make room for whatever it says
                if any(member.compress_type for member in archive.members):
                    raise ValueError("it is compressed")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of sparse tensors, which no state of ours has
                state = torch.load(self.path, map_location="cpu", weights_only=True)
            if not isinstance(state, dict):
                raise ValueError("it is none")
        except _NO_STATE as error:
            is_foreign = isinstance(error, pickle.UnpicklingError)  # its own text tells to run code
            reason = "it is none" if is_foreign else excerpt(str(error).partition("\n")[0])[1:-1]
            raise ConfigError(
                f"{self.path}: cannot be read as a checkpoint ({reason or 'it is none'}); remove it"
                " to start this network anew"
            ) from None
        return state

    def limit_micro_batch(self, n_images: int) -> None:
        """Note that the next start uses the smaller micro-batch: more did not fit."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / _LIMIT, n_images)

    def micro_batch_limit(self) -> int:
        """Images at once that an earlier start left; 0 where none ran out of memory."""
        path = self.folder / _LIMIT
        limit = read_json(path, again="remove it") if path.is_file() else 0
        return limit if isinstance(limit, int) else 0

    def save(self, state: dict[str, Any]) -> None:
        """Put the state in place of the last one.

        Raises:
            OSError: it cannot be written; the last one stays.
        """
        started = time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with draft_file(self.path) as draft, draft.open("wb") as file:
                _write(state, file)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            number = error.errno or errno.EIO
            reason = f"{os.strerror(number)}; {self._kept()}"
            raise OSError(number, reason, str(self.path)) from None
        _sync_names(self.folder)
        self._saved = time.monotonic()
        self._cost = self._saved - started

    def _kept(self) -> str:
        if not self.path.is_file():
            return "no checkpoint was written yet"
        return f"the checkpoint before it is whole, {self.path}"


class _Writer:
    """A file that remembers why it could not be written: torch only says that it could not."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def _write(state: dict[str, Any], file: IO[bytes]) -> None:
    writer = _Writer(file)
    try:
        torch.save(state, writer)  # type: ignore[arg-type]  # it needs no more than these two
    except Exception:
        if writer.error is not None:
            raise writer.error from None
        raise


def _sync_names(folder: Path) -> None:
    """Bring the folder's names to the disk, so that the rename outlives a power cut."""
    number = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # not every file system can
            os.fsync(number)
    finally:
        os.close(number)


_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Pending:
    """The signal that came, if one did."""

    number: int = 0


@contextmanager
def deferred_signals() -> Iterator[Pending]:
    """Note SIGTERM and Ctrl-C for the length of a block instead of ending at once.

    Whoever holds the block looks at `Pending.number` at good moments, saves, and leaves by
    `SystemExit(128 + number)`. A second signal ends the process at once, as it would have without
    the block. Outside the main thread Python gives no signals, and nothing is deferred.
    """
    pending = Pending()
    if threading.current_thread() is not threading.main_thread():
        yield pending
        return
    former = {number: signal.getsignal(number) for number in _SIGNALS}

    def note(number: int, frame: FrameType | None) -> None:
        pending.number = number
        for each, handler in former.items():
            signal.signal(each, handler)

    for number in _SIGNALS:
        signal.signal(number, note)
    try:
        yield pending
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


WEIGHTS = "model.safetensors"
"""Name of the weights in a run folder."""


def tensors_in(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file by name, mapped from disk.

    Nothing else of ours opens such files.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is cut short, or something else; in a few words.
    """
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except OSError:
        raise
    except _NOT_TENSORS as error:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise ValueError(excerpt(reason, longest=200)[1:-1]) from None
    return tensors


_NOT_TENSORS = (
    *(SafetensorError, RuntimeError, ValueError, OverflowError, TypeError, LookupError),
    *(MemoryError, AttributeError),
)
"""What the library raises at files that are something else."""

_NO_STATE = (*_NOT_TENSORS, pickle.UnpicklingError, EOFError, OSError, AssertionError)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a run's file, as `tensors_in`.

    Raises:
        PredictionsError: it is missing, cut short, or something else.
    """
    plain_file(path, error=PredictionsError)
    try:
        return tensors_in(path)
    except FileNotFoundError:
        raise PredictionsError(f"{path}: no such file; make the run again") from None
    except (OSError, ValueError) as error:
        raise PredictionsError(
            f"{path}: cannot be read as tensors ({getattr(error, 'strerror', None) or error});"
            " make the run again"
        ) from None


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors, from wherever they are.

    Raises:
        OSError: they cannot be written; the file is named.
    """
    plain = {name: value.cpu().contiguous() for name, value in tensors.items()}
    try:
        save_file(plain, path)
    except SafetensorError as error:
        raise OSError(errno.EIO, str(error), str(path)) from None


def numbered(networks: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors of several networks as one mapping; network k's names begin with `k.`."""
    return {
        f"{number}.{name}": value
        for number, network in enumerate(networks)
        for name, value in network.items()
    }


def join_networks(path: Path, parts: list[Path]) -> None:
    """Write several networks' files as one, `numbered`."""
    save_tensors(path, numbered(map(read_tensors, parts)))


def load_network(path: Path, number: int) -> dict[str, Tensor]:
    """One network of a file of several, by its own names."""
    prefix = f"{number}."
    tensors = read_tensors(path)
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def load_networks(path: Path) -> list[dict[str, Tensor]]:
    """All networks of a file of several, in the order of their numbers, by their own names."""
    networks: dict[int, dict[str, Tensor]] = {}
    for name, tensor in read_tensors(path).items():
        number, _, own = name.partition(".")
        if not (number.isdecimal() and len(number) < 7):
            raise PredictionsError(f"{path}: {excerpt(name)} is of no network; make the run again")
        networks.setdefault(int(number), {})[own] = tensor
    return [networks[number] for number in sorted(networks)]
