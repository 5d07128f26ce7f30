"""The files of a bundle: what they are called, their checksums, and that nothing else is there."""

import os
import re
import stat
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from core.errors import BundleError
from core.storage.sums import file_sha256
from core.storage.tables import write_lines

FORMAT = 4
"""Number of the layout that this version writes."""

FORMATS_READ = (1, 2, 3, FORMAT)
"""Those that it reads: 1 says nothing of the pooling of networks that give features."""

GRAPH, SUMS, CARD, LABELS, NAMES = (
    *("bundle.json", "SHA256SUMS", "README.md"),
    *("labels.txt", "names.csv"),
)
FOR_HUBS = "config.json"
"""What `export --hub` puts beside; like the card, it is not read."""
DECISION, FORECAST, STACKER, STATISTICS = (
    *("decision.json", "forecast.json", "stacker", "statistics.safetensors"),
)
TRAINING_IDS = "training_ids.txt"

KINDS = (".json", ".txt", ".csv", ".md", ".npy", ".safetensors")
"""Endings of the files in a bundle; none of them holds anything that could be run."""

MOST_BYTES = 64 * 2**20
"""Of a file that is read as text: 2,000 times what a bundle of 261 concepts has."""

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")
_OF_HUBS = (".gitattributes", ".git", ".cache")
"""What git and Hugging Face's client leave in a folder that they fetched; none of it is read."""

_DEPTH = 2  # a folder in a folder, and no further

AGAIN = "copy or make the bundle again"


def check_name(name: str, *, where: object) -> None:
    """Refuse the name of a file that cannot be one of a bundle's.

    Args:
        name: the path below the bundle, with slashes.
        where: what names it, for the message.

    Raises:
        BundleError: it leaves the folder, has strange characters, or is of another kind.
    """
    parts = name.split("/")
    if name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name) or ":" in parts[0]:
        raise BundleError(f"{where}: {_short(name)} leaves the bundle's folder; do not use it")
    if len(parts) > _DEPTH or not all(_PART.fullmatch(part) for part in parts):
        raise BundleError(f"{where}: {_short(name)} is no name of a bundle's file; {AGAIN}")
    if name != SUMS and Path(name).suffix not in KINDS:
        raise BundleError(
            f"{where}: {_short(name)} is of a kind that no bundle has (only"
            f" {', '.join(KINDS)}); do not use it"
        )


def _short(name: str) -> str:
    return ascii(name if len(name) <= 100 else f"{name[:100]}...")


def files_in(folder: Path, *, shown: Path) -> list[str]:
    """Names of all files below a folder, sorted.

    Args:
        folder: to be looked at.
        shown: what messages call it.

    Raises:
        BundleError: something in it is a link or no plain file, or has a strange name.
    """
    found = []
    for path in _walk(folder, shown):
        name = path.relative_to(folder).as_posix()
        check_name(name, where=shown)
        found.append(name)
    return sorted(found)


def _walk(folder: Path, shown: Path, depth: int = 1) -> Iterator[Path]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if depth == 1 and entry.name in _OF_HUBS:
            continue
        kind = entry.stat(follow_symlinks=False).st_mode
        own = shown / entry.name
        if stat.S_ISDIR(kind):
            if depth >= _DEPTH:
                raise BundleError(f"{own}: no part of the bundle; remove it")
            yield from _walk(Path(entry.path), own, depth + 1)
        else:
            _check_plain(kind, own)
            yield Path(entry.path)


def _check_plain(kind: int, shown: object) -> None:
    """Refuse what is no plain file: a link may lead anywhere, a pipe never ends."""
    if stat.S_ISLNK(kind):
        raise BundleError(f"{shown}: is a link; a bundle holds plain files alone: copy it whole")
    if not stat.S_ISREG(kind):
        raise BundleError(f"{shown}: is no plain file; remove it, or copy the bundle again")


def write_sums(folder: Path) -> None:
    """Write the checksums of all other files, as `sha256sum -c` reads them."""
    names = [name for name in files_in(folder, shown=folder) if name != SUMS]
    write_lines(folder / SUMS, [f"{file_sha256(folder / name)}  {name}" for name in names])


def parse_sums(data: bytes, *, where: object) -> dict[str, str]:
    """Checksum by name.

    Args:
        data: what the file holds.
        where: its path, for messages.

    Raises:
        BundleError: it is not such a list, or names what no bundle has.
    """
    try:
        lines = data.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise BundleError(f"{where}: not a list of checksums; {AGAIN}") from None
    sums: dict[str, str] = {}
    for number, line in enumerate(lines[:-1], 1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise BundleError(f"{where}: line {number} is no checksum and name; {AGAIN}")
        check_name(match[2], where=f"{where}: line {number}")
        sums[match[2]] = match[1]
    if lines[-1] or len({name.lower() for name in sums}) != len(lines) - 1 or SUMS in sums:
        raise BundleError(f"{where}: a name stands twice, or the end is missing; {AGAIN}")
    if GRAPH not in sums:
        raise BundleError(f"{where}: does not name {GRAPH}; {AGAIN}")
    return sums


def check_listed(names: Iterator[str] | list[str], sums: Mapping[str, str], *, shown: Path) -> None:
    """Refuse a file that is missing, and one too many.

    Args:
        names: of the files that are there.
        sums: of `parse_sums`.
        shown: what messages call the bundle.

    Raises:
        BundleError: see above; the first is named.
    """
    there = {*names} - {SUMS}
    if missing := sorted({*sums} - there):
        raise BundleError(f"{shown / missing[0]}: missing from the bundle; {AGAIN}")
    if strange := sorted(there - {*sums}):
        raise BundleError(f"{shown / strange[0]}: no part of the bundle; remove it")


def check_digests(folder: Path, sums: Mapping[str, str], *, shown: Path) -> None:
    """Refuse a file that is not the one that was written.

    Raises:
        BundleError: a byte of it was changed.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda name: file_sha256(folder / name), sums)
        for (name, expected), digest in zip(sums.items(), found, strict=True):
            if digest != expected:
                raise BundleError(f"{shown / name}: was changed since it was written; {AGAIN}")


def read_bytes(path: Path, *, shown: object) -> bytes:
    """What a file of text holds.

    Raises:
        BundleError: it is missing, no plain file, or far too large.
    """
    try:
        found = path.lstat()
        _check_plain(found.st_mode, shown)
        if found.st_size > MOST_BYTES:
            raise BundleError(f"{shown}: larger than {MOST_BYTES:,} bytes; {AGAIN}")
        return path.read_bytes()
    except FileNotFoundError:
        raise BundleError(f"{shown}: missing from the bundle; {AGAIN}") from None
