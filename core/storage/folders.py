"""Folders: written whole or not at all, one process at a time, and saying where they came from.

A folder is complete when its `meta.json` is there: that file is written last, and the folder takes
its name only then (`core.storage.drafts`).
"""

import json
import os
import platform
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
from core.storage.drafts import draft_file, draft_folder, replace_folder, restore
from core.storage.text import whole

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


def write_json(path: Path, value: Any) -> None:
    """Write JSON under a temporary name, then rename, so that no half-written file is ever seen."""
    text = whole(json.dumps(value, indent=2, ensure_ascii=False))  # its codes are JSON's as well
    with draft_file(path) as draft:
        draft.write_text(f"{text}\n", encoding="utf-8")


def is_complete(folder: Path) -> bool:
    """Whether the folder was finished; one that lost its name to a killed process gets it back."""
    if not (folder / META).is_file():
        restore(folder)
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
    if not is_complete(folder):
        if not folder.is_dir():
            raise PredictionsError(f"{folder}: no such folder")
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


def metas_below(folder: Path) -> list[Path]:
    """The `meta.json` of each finished folder below another, by path, without drafts.

    Other processes may come and go there meanwhile.
    """
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if META in files:
            found.append(Path(place, META))
    return sorted(found)


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


def add_to_meta(folder: Path, entries: Mapping[str, Any]) -> None:
    """Add entries to the `meta.json` of a finished folder, one process after the other.

    Raises:
        PredictionsError: as `read_meta`.
    """
    read_meta(folder)  # else the lock would make it
    with locked(folder, what=str(folder)):
        write_json(folder / META, {**read_meta(folder), **entries})
        (folder / LOCK).unlink(missing_ok=True)


def mark_used(folder: Path, *, among: Path) -> None:
    """Mark a finished run as used now: later stages take the run used last for the newest.

    Args:
        folder: of the run.
        among: the folder of all runs of its kind; see `next_turn`.
    """
    add_to_meta(folder, {"asked": now(), TURN: next_turn(among)})


def reuse(folder: Path, *, what: str, among: Path) -> None:
    """Say in one line that a finished run is there already, and mark it as used now."""
    say(f"{what}, {folder}")
    mark_used(folder, among=among)


TURN = "turn"
"""Entry of `meta.json`: runs of a kind are counted as they are made or asked for."""


def next_turn(among: Path) -> int:
    """One more than the highest turn of the runs below a folder.

    Clocks are set back, and those of several machines differ: the turn says which run is newer.
    """
    turns = [0]
    for path in metas_below(among):
        with suppress(OSError, ValueError):  # what is wrong with it is said by whoever needs it
            meta = json.loads(path.read_text(encoding="utf-8"))
            turns.append(_turn(meta) if isinstance(meta, dict) else 0)
    return 1 + max(turns)


def asked(meta: Mapping[str, Any]) -> tuple[int, str]:
    """When a run was made or last asked for: its turn, then the time; later ones sort behind."""
    return _turn(meta), str(meta.get("asked", meta["made"]))


def _turn(meta: Mapping[str, Any]) -> int:
    turn = meta.get(TURN)
    return turn if isinstance(turn, int) else 0  # none: an earlier version made it


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


UNFINISHED = "unfinished"
"""Name of the folder in which runs are at work that take their name whole."""


@contextmanager
def locked_run(home: Path, *, what: str) -> Iterator[None]:
    """Hold the lock of a run that takes its name whole for a block; else as `locked`."""
    place = home.parent / UNFINISHED / home.name
    with locked(place, what=what):
        yield
    shutil.rmtree(place, ignore_errors=True)
    with suppress(OSError):  # others are at work
        place.parent.rmdir()


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
