"""Work that several processes share: a claim goes with the process that holds it, also at SIGKILL.

A claim is the lock of a file. Whether the work is done is to be seen from what it left, and is
looked at again once the claim is held: who held it before may have done it.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

try:
    import fcntl
except ModuleNotFoundError:  # Windows: nothing keeps two processes from doing the same work
    fcntl = None  # type: ignore[assignment]


class Claim:
    """A file's lock, held until it is released or the process ends."""

    def __init__(self, file: TextIO) -> None:
        """Hold an open file that is locked already."""
        self._file = file

    def release(self) -> None:
        """Leave the work to others."""
        self._file.close()

    def share(self) -> None:
        """Let others in who share it as well; for a moment it belongs to nobody."""
        if fcntl is not None:
            with suppress(OSError):  # no locks on this file system
                fcntl.flock(self._file.fileno(), fcntl.LOCK_SH)

    def alone(self) -> bool:
        """Whether nobody shares it any more. If not, it is not held from now on either."""
        return _lock(self._file, shared=False, wait=False)


def claim(path: Path, *, shared: bool = False, wait: bool = False) -> Claim | None:
    """The lock of a file; None where another process holds it.

    On a file system without locks everybody gets it.

    Args:
        path: the file; it is made, its folder is not.
        shared: whether others may hold it likewise at the same time.
        wait: until it is free.

    Raises:
        FileNotFoundError: the folder is not there, or not any more.
    """
    while True:
        file = path.open("a+", encoding="utf-8")
        if not _lock(file, shared=shared, wait=wait):
            file.close()
            return None
        if _is(file, path):  # else it was removed since it was opened
            return Claim(file)
        file.close()


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
    if fcntl is not None:
        with path.open("a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            except OSError:
                return False
    return fcntl is not None


def is_claimed(path: Path) -> bool:
    """Whether a process holds the lock of a file."""
    if not path.is_file():
        return False
    held = claim(path)
    if held is not None:
        held.release()
    return held is None


def _lock(file: TextIO, *, shared: bool, wait: bool) -> bool:
    if fcntl is not None:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(file.fileno(), kind if wait else kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # no locks on this file system
            return True
    return True


def _is(file: TextIO, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    here = os.fstat(file.fileno())
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
