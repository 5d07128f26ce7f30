"""Work that several processes share: a claim goes with the process that holds it, also at SIGKILL.

A claim is the lock of a file. Whether the work is done is to be seen from what it left, and is
looked at again once the claim is held: who held it before may have done it.

Locks hold for sure between processes of one kernel, containers among them. Other machines on the
same disk may not see them, or the disk may have none. So a claim that is held alone is also noted
in a file beside the lock: whose kernel holds it, and by the file's time that it is still at work. A
note of another kernel is believed, and where there are no locks so is one of the same kernel, until
it has been silent for two minutes. Only the disk's own clock is looked at.
"""

import errno
import json
import os
import platform
import secrets
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import IO

from core.storage.documents import parse_json

try:
    import fcntl
except ModuleNotFoundError:  # Windows: notes alone keep processes from doing the same work
    fcntl = None  # type: ignore[assignment]

NOTE = ".by"
"""What the name of a note ends in, after the name of the lock's file."""

_BEAT_S = 10.0
_SILENT_S = 120.0  # a process may hold the interpreter, or be stopped, for many beats
_POLL_S = 0.2


class Claim:
    """A file's lock, held until it is released or the process ends."""

    def __init__(self, file: IO[str], note: "_Note | None" = None) -> None:
        """Hold an open file that is locked already, and the note that says so."""
        self._file = file
        self._note = note

    def release(self) -> None:
        """Leave the work to others."""
        self._forget()
        self._file.close()

    def share(self) -> None:
        """Let others in who share it as well; for a moment it belongs to nobody."""
        self._forget()
        lock(self._file, shared=True)

    def alone(self) -> bool:
        """Whether nobody shares it any more. If not, it is not held from now on either."""
        return lock(self._file) is not False

    def _forget(self) -> None:
        if self._note is not None:
            self._note.remove()
            self._note = None


def claim(path: Path, *, shared: bool = False, wait: bool = False) -> Claim | None:
    """The lock of a file; None where another process holds it.

    On a file system without locks everybody gets one that is shared, and one that is not goes by
    notes alone.

    Args:
        path: the file; it is made, its folder is not.
        shared: whether others may hold it likewise at the same time.
        wait: until it is free.

    Raises:
        FileNotFoundError: the folder is not there, or not any more.
    """
    patience = _Patience()
    while True:
        file = path.open("a+", encoding="utf-8")
        held = lock(file, shared=shared, wait=wait)
        if held is False:
            file.close()
            return None
        if not _is(file, path):  # it was removed since it was opened
            file.close()
            continue
        if shared:
            return Claim(file)
        try:
            note = _Note.take(path, locked=held is True, now=_now(file), patience=patience)
        except BaseException:
            file.close()
            raise
        if note is not None:
            return Claim(file, note)
        file.close()
        if not wait:
            return None
        time.sleep(_POLL_S)


@contextmanager
def claimed(path: Path, *, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a file's lock for a block.

    Args:
        path: the file; it is made, its folder is not.
        waiting: called once before another process is waited for.
    """
    held = claim(path)
    if held is None:
        if waiting is not None:
            waiting()
        held = claim(path, wait=True)
    assert held is not None
    try:
        yield
    finally:
        held.release()


def keeps_others_out(path: Path) -> bool:
    """Whether a lock of a file that is there means anything on its file system."""
    with path.open("a+", encoding="utf-8") as file:
        return lock(file) is not None


def is_claimed(path: Path) -> bool:
    """Whether a process holds the lock of a file."""
    if not path.is_file():
        return False
    held = claim(path)
    if held is not None:
        held.release()
    return held is None


def lock(file: IO[str] | int, *, shared: bool = False, wait: bool = False) -> bool | None:
    """Lock an open file or folder: whether it worked, None where its file system has no locks."""
    held: bool | None = None
    if fcntl is not None:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(file, kind if wait else kind | fcntl.LOCK_NB)
            held = True
        except BlockingIOError:
            held = False
        except OSError:  # no locks on this file system
            held = None
    return held


@lru_cache
def kernel() -> str:
    """Eight hex digits that tell running kernels apart: all containers of a machine share them."""
    try:
        told = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except OSError:  # not Linux
        told = f"{uuid.getnode()} {platform.node()}"
    return sha256(told.strip().encode()).hexdigest()[:8]


def _is(file: IO[str], path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    here = os.fstat(file.fileno())
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def _now(file: IO[str]) -> float:
    """The time by the clock of the disk on which an open file lies."""
    if os.utime in os.supports_fd:
        with suppress(OSError):
            os.utime(file.fileno())
            return os.fstat(file.fileno()).st_mtime
    return time.time()


class _Patience:
    """Since when a note that is waited for has not changed, by this process' own clock."""

    def __init__(self) -> None:
        self._seen: tuple[str, float] | None = None
        self._since = 0.0

    def is_over(self, text: str, beat: float) -> bool:
        if (text, beat) != self._seen:
            self._seen, self._since = (text, beat), time.monotonic()
        return time.monotonic() - self._since > _SILENT_S


class _Note:
    """The file beside a lock that says who holds it; its time is the last sign of life."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.text = text

    @classmethod
    def take(cls, path: Path, *, locked: bool, now: float, patience: _Patience) -> "_Note | None":
        """The note of a lock, written by this process; None where another one's is believed."""
        note = cls(path.with_name(path.name + NOTE), json.dumps(_self()))
        while not note._write():
            try:
                text = note.path.read_text(encoding="utf-8", errors="replace")
                beat = note.path.stat().st_mtime
            except FileNotFoundError:
                continue
            is_silent = now - beat > _SILENT_S or patience.is_over(text, beat)
            if not is_silent and not _is_dead(text, locked=locked):
                return None
            note._put_aside(text)
        _HEARTS.add(note)
        return note

    def _write(self) -> bool:
        """Write it unless there is one."""
        try:
            with self.path.open("x", encoding="utf-8") as file:
                file.write(self.text)
        except FileExistsError:
            return False
        except OSError as error:
            raise OSError(
                error.errno or errno.EIO, error.strerror or str(error), str(self.path)
            ) from None
        return True

    def _put_aside(self, text: str) -> None:
        """Remove another one's note; of several processes that do, one comes to write its own."""
        aside = self.path.with_name(f"{self.path.name}.{secrets.token_hex(4)}")
        with suppress(FileNotFoundError):
            self.path.rename(aside)
            if aside.read_text(encoding="utf-8", errors="replace") != text:  # a newer one
                with suppress(OSError):
                    os.link(aside, self.path)
            aside.unlink()

    def beat(self) -> None:
        """Say that the work goes on."""
        with suppress(OSError):  # it is gone with its folder, or the disk is away for a moment
            os.utime(self.path)

    def remove(self) -> None:
        """The work is left to others."""
        _HEARTS.discard(self)
        with suppress(OSError):
            if self.path.read_text(encoding="utf-8", errors="replace") == self.text:
                self.path.unlink()


def _self() -> dict[str, str]:
    """Who a note says that it is."""
    return {
        "kernel": kernel(),
        "host": platform.node(),
        "processes": _processes(),
        "process": f"{os.getpid()} {_started(os.getpid())}",
        "claim": secrets.token_hex(8),
    }


def _is_dead(text: str, *, locked: bool) -> bool:
    """Whether the process of a note is known to have ended, or to hold no lock any more."""
    try:
        told = parse_json(text)
    except ValueError:  # not written to its end yet
        return False
    if not isinstance(told, dict) or told.get("kernel") != kernel():
        return False
    if locked:  # it would have kept this one out
        return True
    if not _processes() or told.get("processes") != _processes():
        return False
    number, _, started = str(told.get("process")).partition(" ")
    return not number.isdigit() or _started(int(number)) != started


def _processes() -> str:
    """Which space of process numbers this is; "" where that cannot be told."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _started(number: int) -> str:
    """When a process of this space began, in the kernel's ticks; "" where it does not run."""
    try:
        fields = Path(f"/proc/{number}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return fields.rpartition(")")[2].split()[19]


class _Hearts:
    """The notes of this process, each of which is given a sign of life now and then."""

    def __init__(self) -> None:
        self._notes: set[_Note] = set()
        self._changing = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, note: _Note) -> None:
        with self._changing:
            self._notes.add(note)
            if self._thread is None:
                self._thread = threading.Thread(target=self._beat, name="claims", daemon=True)
                self._thread.start()

    def discard(self, note: _Note) -> None:
        with self._changing:
            self._notes.discard(note)

    def _beat(self) -> None:
        while True:
            time.sleep(_BEAT_S)
            with self._changing:
                notes = tuple(self._notes)
            for note in notes:
                note.beat()

    def forked(self) -> None:
        """A process that was forked off holds no note, and has no thread yet."""
        self.__init__()  # type: ignore[misc]


_HEARTS = _Hearts()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_HEARTS.forked)
