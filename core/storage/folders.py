"""Folders: written whole or not at all, one process at a time, and saying where they came from.

A folder is complete when its `meta.json` is there: that file is written last, and the folder takes
its name only then.
"""

import errno
import json
import os
import platform
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from core.errors import PredictionsError
from core.progress import say
from core.storage.claims import Claim, claim
from core.storage.documents import parse_json
from core.text import whole

META = "meta.json"

_PACKAGES = ("torch", "timm", "numpy", "scipy", "scikit-learn", "lightgbm")


@contextmanager
def new_folder(target: Path, meta: Mapping[str, Any]) -> Iterator[Path]:
    """A temporary folder that becomes `target` when the block ends well.

    `meta` and the provenance are written as `meta.json` after the block, so whoever finds that file
    finds the rest.
    An older folder of the name is replaced only then. Two processes that make the same target do
    not disturb each other: the later one wins, whole.

    Args:
        target: the folder to make; its parents are made.
        meta: what `meta.json` holds; entries added to the mapping within the block are kept.
    """
    with draft_folder(target) as draft:
        yield draft
        write_json(draft / META, {**meta, **provenance()})
        replace_folder(target, draft)


@contextmanager
def draft_folder(target: Path) -> Iterator[Path]:
    """A hidden folder beside the target, removed after the block unless it was given a name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep_drafts(target)
    draft = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    draft.mkdir()
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _sweep_drafts(target: Path) -> None:
    """Remove drafts of a folder that a killed process left."""
    for draft in target.parent.glob(f".{target.name}.*-*.*"):
        pid = draft.name.removeprefix(f".{target.name}.").partition("-")[0]
        if pid.isdigit() and not _is_running(int(pid)):
            shutil.rmtree(draft, ignore_errors=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def replace_folder(target: Path, draft: Path) -> None:
    """Give the draft the target's name; what was there goes once that has worked."""
    old = draft.with_suffix(".old")
    with suppress(FileNotFoundError):
        target.rename(old)
    try:
        draft.rename(target)
    except OSError as error:
        # Another process has put its own folder there since; both are whole.
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    shutil.rmtree(old, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON under a temporary name, then rename, so that no half-written file is ever seen."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    text = whole(json.dumps(value, indent=2, ensure_ascii=False))  # its codes are JSON's as well
    draft.write_text(f"{text}\n", encoding="utf-8")
    draft.replace(path)


def is_complete(folder: Path) -> bool:
    """Whether the folder was finished."""
    return (folder / META).is_file()


def read_meta(folder: Path, *needed: str) -> dict[str, Any]:
    """What `meta.json` of a finished folder says.

    Args:
        folder: the folder.
        needed: entries that must be there.

    Raises:
        PredictionsError: the folder is missing, was not finished, or its meta.json is not JSON or
            lacks an entry.
    """
    if not folder.is_dir():
        raise PredictionsError(f"{folder}: no such folder")
    if not is_complete(folder):
        raise PredictionsError(f"{folder}: not finished ({META} is missing); make it again")
    try:
        meta = parse_json((folder / META).read_text(encoding="utf-8"))
    except ValueError as error:
        raise PredictionsError(f"{folder / META}: not JSON ({error})") from None
    if not isinstance(meta, dict):
        raise PredictionsError(f"{folder / META}: expected an object, found {type(meta).__name__}")
    if lacking := [key for key in needed if key not in meta]:
        raise PredictionsError(
            f"{folder / META}: no {lacking[0]!r} in it, so another version made it; remove the"
            " folder and make it again"
        )
    return meta


def provenance() -> dict[str, Any]:
    """When, where and with which packages something was made; never part of a fingerprint."""
    packages = {}
    for name in _PACKAGES:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "made": now(),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "packages": packages,
    }


def mark_used(folder: Path) -> None:
    """Mark a finished run as used now: later stages take the run used last for the newest."""
    write_json(folder / META, {**read_meta(folder), "asked": now()})


def reuse(folder: Path, *, what: str) -> None:
    """Say in one line that a finished run is there already, and mark it as used now."""
    say(f"{what}, {folder}")
    mark_used(folder)


def asked(meta: Mapping[str, Any]) -> str:
    """When a run was made or last asked for, ISO 8601; later ones sort behind."""
    return str(meta.get("asked", meta["made"]))


def now() -> str:
    """This moment in ISO 8601, UTC: later ones sort behind."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


LOCK = ".lock"
"""Name of the file that is locked. Whoever finished the work for good may remove it, and its
folder."""


@contextmanager
def locked(folder: Path, *, what: str) -> Iterator[None]:
    """Hold the folder's lock for a block; where another process holds it, wait and say so.

    The lock goes with the process that holds it, also at SIGKILL, so nobody waits for the dead.
    What the other one did while this one waited must be looked at within the block. On a file
    system without locks the block runs at once.

    Args:
        folder: what is locked; it is made.
        what: what the others wait for, for the line that says so.
    """
    held = _claim(folder, waiting=f"{what}: another process is working on it; waiting")
    try:
        yield
    finally:
        held.release()


def _claim(folder: Path, waiting: str) -> Claim:
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # whoever held it has just finished and removed it all
            held = claim(folder / LOCK)
            if held is None:
                say(waiting)
                held = claim(folder / LOCK, wait=True)
            assert held is not None
            return held
