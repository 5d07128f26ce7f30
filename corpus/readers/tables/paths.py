"""Image files as tables name them: with other separators, endings, letters or places."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath
from urllib.parse import unquote, urlsplit

from core.errors import CorpusError, first_few
from core.storage.packed import file_state
from corpus.readers.files import files_below
from corpus.readers.notes import Note, count
from corpus.readers.tables.ids import ENDING

_ADDRESS = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]+)://")

_MANY = 2_000_000
"""Files below a manifest's folder that are looked through for a name, at most."""


class ImageFinder:
    """Finds the files that a table names, below the folder of the table.

    A path is taken as it is written, else without quotes, else with `/` for a backslash, else with
    the ending or the capitals that the only file of that name has, else without the folders of
    another machine before it, else by its name alone, where one file below the folder has it. What
    was done is counted.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self._absolute = home.absolute()
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, tuple[str, Path]] = {}
        self._listings: dict[Path, dict[str, list[str]]] = {}
        self._prefixes: dict[tuple[str, ...], int | None] = {}
        self._below: dict[str, list[Path]] | None = None

    def find(self, written: str, *, where: str) -> Path | None:
        """The file, as an absolute path; None where there is none.

        Raises:
            CorpusError: the path is an address on the net, or several files could be meant; `where`
                begins the line.
        """
        if len(written) > 4096 or any(len(p.encode()) > 255 for p in Path(written).parts):
            return None  # longer than any path, or than the name of any file
        address = _ADDRESS.match(written)
        if address and address["scheme"].lower() != "file":
            raise CorpusError(
                f"{where}: path {written!r} is an address; download the images and name the files"
            )
        named = unquote(urlsplit(written).path) if address else written
        path = self._at(named)
        if _is_image(path):
            return self._said("without file://", written, path) if address else path
        if (bare := named.replace('"', "").strip("' ")) != named:
            named = bare
            if _is_image(self._at(named)):
                return self._said("without its quotes", written, self._at(named))
        if "\\" in named:
            named = PureWindowsPath(named).as_posix()
            if _is_image(self._at(named)):
                return self._said("with / for \\", written, self._at(named))
        if alike := self._alike(self._at(named), where=where):
            how = "with the ending that the file has"
            if ENDING.sub("", alike.name) != ENDING.sub("", Path(named).name):
                how = "in other letters than the file's name"
            return self._said(how, written, alike)
        if moved := self._moved(named, where=where):
            return self._said("without folders that are not here", written, moved)
        if "/" not in named and (found := self._by_name(named, where=where)):
            return self._said("by the name of the file alone", written, found)
        return None

    def tried(self, written: str) -> Path:
        """Where a path was looked for first."""
        return self._at(PureWindowsPath(written).as_posix() if "\\" in written else written)

    def notes(self, file: str) -> list[Note]:
        """One note on each way in which files were found that are not where they are named."""
        notes = []
        for how, n in self._counts.items():
            written, path = self._examples[how]
            shown = os.path.relpath(path, self.home)
            notes.append(Note(f"{file}: {count(n, 'path')} read {how}: {written!r} is {shown!r}"))
        return notes

    def _said(self, how: str, written: str, path: Path) -> Path:
        self._counts[how] += 1
        self._examples.setdefault(how, (written, path))
        return path

    def _at(self, named: str) -> Path:
        path = Path(named).expanduser() if named.startswith("~") else named
        return self._absolute / path

    def _alike(self, path: Path, *, where: str) -> Path | None:
        """The only file of the folder with that name in other letters or with another ending."""
        listing = self._listing(path.parent)
        stem = ENDING.sub("", path.name)
        for key in (_folded(path.name), f"{_folded(stem)}.*"):
            if names := listing.get(key):
                if len(names) > 1:
                    raise CorpusError(
                        f"{where}: path {path.name!r} could be {first_few(names)}; write the whole"
                        " name"
                    )
                return path.parent / names[0]
        return None

    def _listing(self, folder: Path) -> dict[str, list[str]]:
        if folder not in self._listings:
            found: dict[str, list[str]] = {}
            entries = list(os.scandir(folder)) if folder.is_dir() else []
            for name in sorted(entry.name for entry in entries if not entry.is_dir()):
                if not name.startswith("."):
                    found.setdefault(_folded(name), []).append(name)
                    if ENDING.search(name):  # what lies beside an image may have its name
                        stem = ENDING.sub("", name)
                        found.setdefault(f"{_folded(stem)}.*", []).append(name)
            self._listings[folder] = found
        return self._listings[folder]

    def _moved(self, named: str, *, where: str) -> Path | None:
        """The file without the first folders of its path, as many as the first such path has.

        The same folders are left out of every path that begins with them, so that two files of one
        name stay two. Where the first of them is here, the file is missing, not moved.
        """
        parts = tuple(part for part in Path(named).parts if part.strip("/"))
        rooted = named.startswith("/")
        if not parts or (not rooted and (self.home / parts[0]).exists()):
            return None
        for prefix in (parts[:n] for n in range(not rooted, len(parts))):
            if prefix in self._prefixes:
                return self._existing(parts[len(prefix) :], where=where)
        for n in range(not rooted, len(parts)):
            if found := self._existing(parts[n:], where=where):
                self._prefixes[parts[:n]] = n
                return found
        return None

    def _existing(self, parts: Sequence[str], *, where: str) -> Path | None:
        path = self.home.joinpath(*parts).absolute()
        return path if _is_image(path) else self._alike(path, where=where)

    def _by_name(self, name: str, *, where: str) -> Path | None:
        if self._below is None:
            self._below = {}
            for n_seen, path in enumerate(files_below(self._absolute), start=1):
                if n_seen > _MANY:  # whether a name is the only one cannot be told
                    self._below = {}
                    break
                self._below.setdefault(path.name, []).append(path)
                if ENDING.search(path.name):
                    for key in {f"{ENDING.sub('', path.name)}.*", f"{_folded(path.name)}?"}:
                        self._below.setdefault(key, []).append(path)
        found = next(
            (self._below[k] for k in (name, f"{name}.*", f"{_folded(name)}?") if k in self._below),
            [],
        )
        if len(found) > 1:
            shown = first_few(os.path.relpath(path, self.home) for path in found)
            raise CorpusError(f"{where}: path {name!r} could be {shown}; write it with its folder")
        return found[0] if found else None


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _is_image(path: Path) -> bool:
    """Whether there is a file, or one packed into another."""
    if os.path.isfile(path):  # noqa: PTH113  # no error of a name as long as a line
        return True
    if os.path.isdir(path):  # noqa: PTH112
        return False
    try:
        file_state(path)
    except (OSError, ValueError):
        return False
    return True


def same_file_notes(files: Mapping[str, tuple[Path, str]], *, file: str) -> list[Note]:
    """Notes on files that stand under two ids.

    Args:
        files: image id to its path and its split.
        file: the table, for the notes.
    """
    first: dict[tuple[int, int] | str, str] = {}
    within: list[str] = []
    across: list[str] = []
    for image_id, (path, split) in files.items():
        key: tuple[int, int] | str = str(path)
        try:
            state = path.stat()
        except OSError:  # it lies in another file
            pass
        else:
            key = (state.st_dev, state.st_ino) if state.st_ino else key
        other = first.setdefault(key, image_id)
        if other != image_id:
            crossing = files[other][1] != split
            (across if crossing else within).append(f"{other}, {image_id}")
    notes = []
    if across:
        text = f"{count(len(across), 'image')} whose file stands under another id in another split"
        notes.append(Note(f"{file}: {text}: {first_few(across)}", grave=True))
    if within:
        text = f"{count(len(within), 'image')} whose file stands under another id too"
        notes.append(Note(f"{file}: {text}: {first_few(within)}"))
    return notes
