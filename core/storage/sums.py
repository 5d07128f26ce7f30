"""What a finished folder holds: sizes and SHA-256 of its files, in its `meta.json`, and the damage.

`holds` in `meta.json` lists every file as it was written. A folder in it that has a `meta.json` of
its own is listed by that alone, so that the lists of a run hang together as a tree; `seal` is the
checksum of the rest of the file. `command` is what was typed, and what makes the folder anew.

A file is hashed once a process: as long as its inode, size and times are the same, so is its sum.
Folders of earlier versions have no list; of them nothing is checked.
"""

import hashlib
import json
import os
import re
import shlex
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from core.errors import DamageError, as_typed, typed_words
from core.storage.documents import parse_json, plain_file

META = "meta.json"

HOLDS, SEAL, COMMAND = "holds", "seal", "command"

_MAKERS = {
    "corpus": "prepare SOURCE",
    "cache": "prepare SOURCE",
    "embeddings": "train-backbone",
    "backbones": "train-backbone",
    "fusion": "fuse",
    "ensembles": "ensemble --submit",
    "duplicates": "stats --duplicates",
    "reproduce": "reproduce",
}
"""What makes the folders in a folder of the workspace, where nothing says it better."""

_WITNESSES = {"corpus": "cache", "cache": "corpus", "embeddings": "backbones", "fusion": "fusion"}
"""Where else a command may be noted that made a folder whose own note is gone."""

_DEPTHS = {"corpus": 0, "duplicates": 0, "backbones": 2, "reproduce": 2}
"""How deep in a folder of the workspace the folder of a run lies, where that is not 1."""

_AT_ONCE = 2**25  # bytes from which on several threads are worth their start

_known: dict[tuple[int, ...], str] = {}  # sums by what tells that a file is the same


def file_sha256(path: Path) -> str:
    """SHA-256 of what a file holds, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sealed(meta: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a `meta.json` with their own checksum."""
    rest = {key: value for key, value in meta.items() if key != SEAL}
    return {**rest, SEAL: _seal_of(rest)}


def _seal_of(rest: Mapping[str, Any]) -> str:
    plain = parse_json(json.dumps(rest))  # as it will be read again
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def listing(folder: Path, *, but: Collection[str] = ()) -> dict[str, Any]:
    """The entries `holds` and `command` of a folder that is finished now.

    Args:
        folder: with everything that belongs to it; hidden files do not.
        but: names of files and folders in it that will not stay, or may change.
    """
    names = list(_names(folder, but=but))
    sums = zip(names, _sums([folder / name for name in names]), strict=True)
    held = {name: f"{(folder / name).stat().st_size} {digest}" for name, digest in sums}
    return {
        HOLDS: held,
        **({COMMAND: words} if (words := _without_workspace(typed_words())) else {}),
    }


def _names(folder: Path, *, but: Collection[str] = (), below: str = "") -> Iterator[str]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        name = f"{below}{entry.name}"
        if entry.name.startswith(".") or name in (META, *but):
            continue
        if not entry.is_dir():
            yield name
        elif os.path.lexists(Path(entry.path) / META):
            yield f"{name}/{META}"
        else:
            yield from _names(Path(entry.path), but=but, below=f"{name}/")


def _sums(paths: Sequence[Path]) -> list[str]:
    """Of each file, hashed on all cores where that is worth it."""
    if sum(path.stat().st_size for path in paths) < _AT_ONCE:
        return [_sum(path) for path in paths]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(_sum, paths))


def _sum(path: Path) -> str:
    found = path.stat()
    key = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    if key not in _known:
        _known[key] = file_sha256(path)
    return _known[key]


def _without_workspace(words: Sequence[str]) -> str:
    """A command without -w: the workspace may be moved."""
    kept, skip = [], False
    for word in words:
        if skip or word in ("-w", "--workspace"):
            skip = not skip
        elif not word.startswith(("--workspace=", "-w")):
            kept.append(word)
    return shlex.join(kept)


def parse_meta(folder: Path) -> dict[str, Any]:
    """What `meta.json` of a folder says.

    Raises:
        DamageError: it is missing, cannot be read, is not JSON or was changed.
    """
    path = folder / META
    try:
        meta = parse_json(plain_file(path, error=DamageError).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise damaged(folder, f"{folder}: not finished ({META} is missing)") from None
    except OSError as error:
        raise damaged(folder, f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise damaged(folder, f"{path}: not JSON ({error})") from None
    if not isinstance(meta, dict):
        raise damaged(folder, f"{path}: expected an object, found {type(meta).__name__}")
    sealed_now = _seal_of({key: value for key, value in meta.items() if key != SEAL})
    if meta.get(SEAL) != (sealed_now if SEAL in meta or HOLDS in meta else None):
        raise damaged(folder, f"{path}: was changed since it was written")
    return meta


def check_held(
    folder: Path,
    meta: Mapping[str, Any],
    *,
    only: Collection[str] | None = None,
    deep: bool = False,
) -> None:
    """Refuse a folder that does not hold what was written: sizes first, then what files hold.

    Args:
        folder: a finished folder.
        meta: of `parse_meta`.
        only: names of the files to look at; None for all.
        deep: look as well into the folders in it that have a list of their own.

    Raises:
        DamageError: a file is missing, cannot be read, or is not the one that was written.
    """
    held = {
        name: said.split()
        for name, said in meta.get(HOLDS, {}).items()
        if only is None or name in only
    }
    for name, (size, _) in held.items():
        if fault := _fault_of_size(folder / name, int(size)):
            raise damaged(folder, f"{folder / name}: {fault}")
    try:
        found = _sums([folder / name for name in held])
    except OSError as error:
        raise damaged(folder, f"{error.filename}: cannot be read ({error.strerror})") from None
    for (name, (_, digest)), own in zip(held.items(), found, strict=True):
        if own != digest:
            raise damaged(folder, f"{folder / name}: was changed since it was written")
        inner = (folder / name).parent
        if deep and name.endswith(f"/{META}"):
            check_held(inner, parse_meta(inner), deep=True)


def _fault_of_size(path: Path, size: int) -> str:
    """What is wrong with a file as far as that shows without reading it; "" for nothing."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if not stat.S_ISREG(found.st_mode):
        return "no file any more"
    if found.st_size != size:
        return f"{found.st_size:,} bytes, {size:,} were written"
    return ""


def damaged(folder: Path, what: str) -> DamageError:
    """The error of a damaged folder, with the command that makes it anew."""
    cure = _cure(folder)
    if cure:
        return DamageError(f"{what}; to make it anew: `{cure}`")
    if not (folder / META).exists():
        return DamageError(f"{what}; make it again, or name another folder")
    return DamageError(
        f"{what}; make it again, or, if that was meant, take {HOLDS!r} and {SEAL!r} out of its"
        f" {META}"
    )


def _cure(folder: Path) -> str:
    """The command that makes a folder, as it was noted or as it is made usually; "" for others."""
    places = [p for p in (folder, *folder.parents) if p.name in _MAKERS]
    if not places:
        return ""
    place = places[0]
    usual = _MAKERS[place.name]
    below = folder.relative_to(place).parts
    run = place.joinpath(*below[: _DEPTHS.get(place.name, 1)])
    inner = [path.parent for path in sorted(run.rglob(META))]
    words = _noted([folder, *(p for p in folder.parents if run in (p, *p.parents)), *inner])
    if not words and (witness := _WITNESSES.get(place.name)):
        home, named = place.parent / witness, run.name if place.name == "embeddings" else ""
        others = [path.parent for path in sorted(home.glob(f"**/{META}"))]
        words = _noted(others, starts=usual.partition(" ")[0], naming=named)
    if not words and place.name == "backbones" and len(below) > 1:
        preset = run.name.rpartition("-")[0]
        words = shlex.join(["train-backbone", "--category", run.parent.name, "--preset", preset])
    return as_typed(words or usual, workspace=place.parent)


def _noted(folders: Sequence[Path], *, starts: str = "", naming: str = "") -> str:
    """The first command that one of these folders notes; "" where none does."""
    for folder in folders:
        try:
            text = (folder / META).read_text(encoding="utf-8")
            words = parse_json(text).get(COMMAND, "")
        except (OSError, ValueError, AttributeError):
            continue
        if _is_command(words) and words.startswith(starts) and naming in text:
            return str(words)
    return ""


def _is_command(words: object) -> bool:
    """Whether it is as `_without_workspace` writes one: people paste it into a shell."""
    if not isinstance(words, str) or not words.isprintable():
        return False
    try:
        parts = shlex.split(words)
    except ValueError:
        return False
    return bool(parts) and _STAGE.fullmatch(parts[0]) is not None and shlex.join(parts) == words


_STAGE = re.compile("[a-z][a-z-]*")
