"""Drafts: files and folders that take their name whole, whatever ends the process that writes them.

A draft is a hidden sibling, `.NAME.KERNEL-TOKEN.tmp`, and locked by whoever writes it. One that
nobody locks was left by a killed process and goes when the next draft of the name is made. Which
process writes it cannot be told by its number: it may be in another container, or on another
machine that shares the disk. Drafts of another kernel, whose locks may not be seen here, are left
alone until they are a day old.

A folder takes the place of another in one step where the file system can exchange two names. Where
it cannot, the other one is first named `.NAME.KERNEL-TOKEN.old`; if the process is killed before
the draft has its name, the next one to look for the folder gives it back.
"""

import ctypes
import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from core.progress import say
from core.storage.claims import kernel, lock

LONGEST = len("..12345678-12345678.tmp")
"""Characters that the name of a draft has beside the name it is to take."""

_DRAFT, _BACKUP = ".tmp", ".old"
_NAME = re.compile(r"\.(?P<name>.+)\.(?P<kernel>[0-9a-f]+)-[0-9a-f]{8}(?P<kind>\.tmp|\.old)")

_OLD_S = 24 * 3600
_EMPTY_S = 60  # a draft is locked before anything is written to it, but not when it is made
_PATIENCE_S = 5  # who is then still at it finds the former one there, and begins anew
_TRIES = 100

_AT_CWD, _EXCHANGE = -100, 2
_CANNOT = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM)

_SWEPT: set[Path] = set()
"""Folders in which this process has looked for files that were left."""

_TAKEN = (errno.ENOTEMPTY, errno.EEXIST)


@contextmanager
def naming(path: Path, *, draft: Path | None = None) -> Iterator[None]:
    """Give the file's name to an error of the system that names none, or the name of its draft.

    Raises:
        OSError: as it came, with a name.
    """
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        elif draft is not None and isinstance(error.filename, str | os.PathLike):
            error.filename = os.fspath(error.filename).replace(str(draft), str(path))
        raise


@contextmanager
def draft_folder(target: Path) -> Iterator[Path]:
    """A hidden folder beside the target, removed after the block unless it was given a name.

    Raises:
        OSError: it cannot be written; the target is named.
    """
    draft = _beside(target)
    with naming(target, draft=draft):
        target.parent.mkdir(parents=True, exist_ok=True)
        restore(target)
        draft.mkdir()
        number = _locked(draft)
        try:
            _sweep(target.parent, now=draft.stat().st_mtime, name=target.name)
            yield draft
        finally:
            _remove(draft)
            if number is not None:
                os.close(number)


@contextmanager
def draft_file(path: Path, *, replaces: bool = True) -> Iterator[Path]:
    """A hidden file beside another, which takes its place when the block ends well.

    Args:
        path: the file.
        replaces: what is there by then; else that stays, and the draft goes.

    Raises:
        OSError: it cannot be written; the path is named.
    """
    draft = _beside(path)
    with naming(path, draft=draft):
        draft.touch(exist_ok=False)
        number = _locked(draft)
        try:
            _sweep_once(path.parent, draft.stat().st_mtime)
            yield draft
            if replaces:
                draft.replace(path)
            else:
                _take_name(draft, path)
        finally:
            draft.unlink(missing_ok=True)
            if number is not None:
                os.close(number)


@contextmanager
def new_files(folder: Path) -> Iterator[Path]:
    """An empty folder whose files move to another when the block ends well, each in one step.

    They move in the order in which they were last changed: a page after its figures.

    Raises:
        OSError: they cannot be written; the folder is named.
    """
    with draft_folder(folder) as draft:
        yield draft
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(draft.iterdir(), key=lambda path: path.stat().st_mtime_ns):
            path.replace(folder / path.name)


def replace_folder(target: Path, draft: Path) -> None:
    """Give the draft the target's name; what was there goes once that has worked.

    Of several processes that do so the last one wins, whole.

    Raises:
        OSError: it cannot be done; what was there stays, and is named.
    """
    if draft.parent != target.parent:  # it was made within a draft
        beside = _beside(target)
        draft.rename(beside)
        number = _locked(beside)
        try:
            replace_folder(target, beside)
        finally:
            _remove(beside)
            if number is not None:
                os.close(number)
        return
    if os.path.lexists(target):
        _bring_to_disk(draft)  # a power cut must not find the old one gone and the new one empty
    for _ in range(_TRIES):
        if not os.path.lexists(target):
            if _rename(draft, target):
                return
            continue
        exchanged = _exchange(draft, target)
        if exchanged is None:
            if _swap_by_names(draft, target):
                return
        elif exchanged:
            _remove(draft)
            return
    raise OSError(errno.EBUSY, "others put theirs in its place all the time", str(target))


def restore(target: Path) -> None:
    """Give a folder back its name, if a process was killed between taking it and giving it anew.

    A process that is at it is waited for.
    """
    if not target.parent.is_dir() or not _is_empty(target):
        return
    until = time.monotonic() + _PATIENCE_S
    while backups := [p for p in _siblings(target.parent, target.name) if p.suffix == _BACKUP]:
        if not _is_empty(target):
            return
        if time.monotonic() > until or not any(_is_live(p.with_suffix(_DRAFT)) for p in backups):
            newest = max(backups, key=lambda path: (path.stat().st_mtime_ns, path.name))
            if _rename(newest, target):
                say(
                    f"{target}: a command was killed while it put another in its place; what was"
                    " there before is back"
                )
            return
        time.sleep(0.01)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{kernel()}-{secrets.token_hex(4)}{_DRAFT}")


def _locked(draft: Path) -> int | None:
    """Lock a draft that was just made, before anything is written to it; None without locks."""
    try:
        number = _opened(draft)
    except OSError:  # Windows has no folders that can be opened
        return None
    if lock(number, wait=True) is None:  # else at most waiting for who looks if it is locked
        os.close(number)
        return None
    return number


def _opened(draft: Path) -> int:
    return os.open(draft, os.O_RDONLY if draft.is_dir() else os.O_RDWR)


def _sweep(folder: Path, *, now: float, name: str | None = None) -> None:
    """Remove drafts that killed processes left, of a name or all files; the disk's clock says when.

    Backups stay while what they were taken from is not there.
    """
    for path in _siblings(folder, name):
        if path.suffix == _BACKUP:
            if name is not None and not _is_empty(folder / name):
                _remove(path)
        elif (name is not None or not path.is_dir()) and _was_left(path, now=now):
            _remove(path)


def _sweep_once(folder: Path, now: float) -> None:
    """Look for files that were left, once in a process: a folder may hold very many."""
    if (place := folder.absolute()) not in _SWEPT:
        _SWEPT.add(place)
        _sweep(folder, now=now)


def _siblings(folder: Path, name: str | None) -> list[Path]:
    """Drafts and backups in a folder, of a name or all."""
    found = []
    with suppress(OSError):  # one that cannot be listed holds nothing to be removed
        for entry in os.scandir(folder):
            match = _NAME.fullmatch(entry.name)
            if match is not None and name in (None, match["name"]):
                found.append(folder / entry.name)
    return found


def _was_left(draft: Path, *, now: float) -> bool:
    """Whether whoever wrote it is gone for sure, or for a day."""
    try:
        n_bytes, changed = _state(draft)
        match = _NAME.fullmatch(draft.name)
        if match is not None and match["kernel"] == kernel():
            number = _opened(draft)
            try:
                free = lock(number)
            finally:
                os.close(number)
            if free is not None:
                return free and (n_bytes > 0 or now - changed > _EMPTY_S)
    except OSError:  # it went, or is not ours to open
        return False
    return now - changed > _OLD_S


def _is_live(draft: Path) -> bool:
    if not os.path.lexists(draft):
        return False
    return not _was_left(draft, now=time.time())


def _state(draft: Path) -> tuple[int, float]:
    """Entries or bytes of a draft, and when it, or anything in it, changed last."""
    if not draft.is_dir():
        found = draft.stat()
        return found.st_size, found.st_mtime
    inside = [path.lstat().st_mtime for path in draft.rglob("*")]
    return len(inside), max([draft.stat().st_mtime, *inside])


def _is_empty(target: Path) -> bool:
    """Whether nothing is there, or a folder without anything in it."""
    try:
        with os.scandir(target) as inside:
            return next(inside, None) is None and not target.is_symlink()
    except FileNotFoundError:
        return not os.path.lexists(target)
    except OSError:  # a file, or what is not to be listed
        return False


def _rename(source: Path, target: Path) -> bool:
    """Whether it got the name; not if another folder has taken it, or the source was."""
    try:
        source.rename(target)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        raise
    return True


def _take_name(draft: Path, path: Path) -> None:
    """Give a new file its name, unless another process was first: then its file is the one."""
    try:
        os.link(draft, path)
    except FileExistsError:
        return
    except OSError:  # a file system without hard links
        if not path.exists():
            draft.rename(path)


def _swap_by_names(draft: Path, target: Path) -> bool:
    """Take the target's name away from what has it, and give it to the draft, in two steps."""
    old = draft.with_suffix(_BACKUP)
    try:
        target.rename(old)
    except FileNotFoundError:
        return False
    try:
        done = _rename(draft, target)
    except OSError:
        _rename(old, target)
        raise
    if not _is_empty(target):
        _remove(old)
    return done


@lru_cache
def _exchanging() -> Callable[[bytes, bytes], int] | None:
    """The system's call that exchanges two names; None where it has none."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
    except (OSError, TypeError):  # Windows
        return None
    if hasattr(libc, "renameat2"):  # Linux
        return lambda one, other: int(
            libc.renameat2(_AT_CWD, one, _AT_CWD, other, ctypes.c_uint(_EXCHANGE))
        )
    if hasattr(libc, "renamex_np"):  # macOS
        return lambda one, other: int(libc.renamex_np(one, other, ctypes.c_uint(_EXCHANGE)))
    return None


def _exchange(one: Path, other: Path) -> bool | None:
    """Exchange the names of two in one step; None where that is not to be had.

    Returns:
        False if one of them has gone in the meantime.
    """
    call = _exchanging()
    if call is None:
        return None
    if call(os.fsencode(one), os.fsencode(other)) == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT:
        return None
    if number == errno.ENOENT and os.path.lexists(one):
        return False
    raise OSError(number, os.strerror(number), str(other))


def _bring_to_disk(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        with suppress(OSError):  # not every file system can, and not of folders
            number = os.open(path, os.O_RDONLY)
            try:
                os.fsync(number)
            finally:
                os.close(number)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):
        path.unlink()
