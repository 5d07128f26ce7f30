"""One process at a time: a lock that ends with its holder, however that ends."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from core.progress import say

try:
    import fcntl
except ModuleNotFoundError:  # Windows: nothing keeps two processes from doing the same work
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
"""Name of the file that is locked. Whoever finished the work for good may remove it, and its
folder."""


@contextmanager
def alone(folder: Path, *, what: str) -> Iterator[None]:
    """Hold the folder's lock for a block; where another process holds it, wait and say so.

    The lock goes with the process that holds it, also at SIGKILL, so nobody waits for the dead.
    What the other one did while this one waited must be looked at within the block. On a file
    system without locks the block runs at once.

    Args:
        folder: what is locked; it is made.
        what: what the others wait for, for the line that says so.
    """
    with _open(folder) as file:
        if fcntl is not None:
            with suppress(OSError):  # no locks on this file system
                _take(file.fileno(), f"{what}: another process is at it; waiting for its end")
        yield


def _open(folder: Path) -> TextIO:
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # whoever held it has just finished and removed it all
            return (folder / LOCK).open("a", encoding="utf-8")


def _take(number: int, waiting: str) -> None:
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say(waiting)
        fcntl.flock(number, fcntl.LOCK_EX)
