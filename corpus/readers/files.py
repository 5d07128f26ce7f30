"""Image files and named files below a corpus' folder or in an archive."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from core.categories import CATEGORIES, UNKNOWN
from core.errors import CorpusError, first_few
from core.storage.packed import ARCHIVE, members
from corpus.dicom.files import ENDINGS, PICTURE_ENDINGS, looks_like_dicom
from corpus.readers.notes import Note, count

EXTENSIONS = (*PICTURE_ENDINGS, *ENDINGS)
"""Endings of image files, in any case; a DICOM file is known by its content too. Files with
another ending are counted and left out."""

SPLIT_WORDS: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "valid": ("valid", "validation", "val", "dev"),
    "test": ("test", "testing"),
}
"""What folders and files call the splits; tables have further words, see `tables.cells`."""

# What systems and unpackers leave behind: no part of anybody's corpus.
_LEFTOVERS = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}
_LEFTOVER_FOLDERS = {"__macosx", "@eadir", "$recycle.bin", "system volume information"}

_LONGEST = 4096  # bytes of a path that systems take at most

_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True, kw_only=True)
class FoundImage:
    """One image file and what its place says.

    Attributes:
        image_id: name of the file without its ending.
        path: absolute; it may go on below an archive (`core.storage.packed`).
        split: one of `core.images.SPLITS`.
        category: one of `CATEGORIES`, or `UNKNOWN`.
    """

    image_id: str
    path: Path
    split: str
    category: str = UNKNOWN


def natural_key(name: str) -> tuple[list[str | int], str]:
    """A key that sorts names as people number them: 2 before 10.

    Example:
        >>> sorted(["img10", "img9", "img09"], key=natural_key)
        ['img09', 'img9', 'img10']
    """
    # re.split with a group gives text and digits in turn, so that positions compare like with like.
    return [int(p) if i % 2 else p for i, p in enumerate(_DIGITS.split(name))], name


def name_of_image(name: str) -> str:
    """The name of an image file without its ending; a name without an image's ending stays whole.

    Example:
        >>> name_of_image("a.b.JPG"), name_of_image("1.2.840.113"), name_of_image("x")
        ('a.b', '1.2.840.113', 'x')
    """
    stem, dot, ending = name.rpartition(".")
    return stem if stem and (dot + ending).lower() in EXTENSIONS else name


@dataclass
class _Walk:
    """What was found below a folder."""

    images: list[Path] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    visited_before: list[str] = field(default_factory=list)
    special: list[str] = field(default_factory=list)
    too_deep: list[str] = field(default_factory=list)

    def take(self, path: Path) -> None:
        """A file, as an image or as something else."""
        if is_leftover(path.name):
            return
        if path.name.lower().endswith(EXTENSIONS) or looks_like_dicom(path):
            self.images.append(path)
        else:
            self.others.append(path.name)

    def notes(self, where: Path) -> list[Note]:
        """What is to be said of it."""
        notes = []
        if self.others:
            text = f"{count(len(self.others), 'file')} without an image's ending, left out"
            shown = first_few(sorted(self.others, key=natural_key))
            notes.append(Note(f"{where}: {text}: {shown}"))
        if self.broken:
            text = f"{where}: {count(len(self.broken), 'link')} to a file that is not there"
            notes.append(Note(f"{text}, left out: {first_few(self.broken)}", grave=True))
        if self.special:
            text = f"{where}: {count(len(self.special), 'entry')} other than a file"
            text += f" (a pipe, a socket, a device), not opened: {first_few(self.special)}"
            notes.append(Note(text, grave=True))
        if self.too_deep:
            text = f"{where}: {count(len(self.too_deep), 'path')} of more than {_LONGEST:,} bytes"
            notes.append(Note(f"{text}, left out: {first_few(self.too_deep)}", grave=True))
        if self.visited_before:
            text = f"{count(len(self.visited_before), 'link')} to a folder that was read already"
            shown = first_few(self.visited_before)
            notes.append(Note(f"{where}: {text}, not followed: {shown}"))
        return notes


def is_leftover(name: str) -> bool:
    """Whether a file or folder is hidden, or something that a system or an unpacker left there."""
    lower = name.lower()
    return lower.startswith(".") or lower in _LEFTOVERS or lower in _LEFTOVER_FOLDERS


def image_files(place: Path) -> tuple[list[Path], list[Note]]:
    """All image files below a folder or in a zip, and notes on other files.

    Hidden files and what systems leave behind (`__MACOSX`, `Thumbs.db`, ...) are passed over. A
    link to a folder is followed unless that folder, or one above, is read anyway: each real folder
    is visited once. Links to files that are not there are counted.

    Raises:
        CorpusError: the zip is damaged or encrypted.
    """
    walk = _Walk()
    if place.suffix.lower() == ARCHIVE and place.is_file():
        _walk_archive(place.absolute(), walk)
    elif place.is_dir():
        for path in _files_below(place.absolute(), walk):
            walk.take(path)
    return walk.images, walk.notes(place)


def _walk_archive(archive: Path, walk: _Walk) -> None:
    for name in sorted(members(archive)):
        if not any(is_leftover(folder) for folder in name.split("/")[:-1]):
            walk.take(archive / name)


def files_below(folder: Path) -> Iterator[Path]:
    """All files below a folder but hidden ones, each real folder visited once, in no order.

    Pipes, sockets and devices are none.

    Raises:
        CorpusError: a folder may not be read.
    """
    return (path for path in _files_below(folder, _Walk()) if not is_leftover(path.name))


def _files_below(folder: Path, walk: _Walk) -> Iterator[Path]:
    real = os.path.realpath(folder)
    seen = {real, *map(str, Path(real).parents)}
    places, links = [(str(folder), real)], list[str]()
    while places or links:  # real folders first: an image belongs to the one that it lies in
        if places:
            here, real = places.pop()
        else:
            here = links.pop(0)
            real = os.path.realpath(here)
            if real in seen:
                walk.visited_before.append(os.path.relpath(here, folder))
                continue
            seen.add(real)
        for entry in _entries(here):
            path = os.path.join(here, entry.name)  # noqa: PTH118 - a path of 2,000 folders is long
            if len(os.fsencode(path)) >= _LONGEST:
                if not is_leftover(entry.name):
                    walk.too_deep.append(entry.name)
            elif entry.is_symlink() and not os.path.exists(path):  # noqa: PTH110 - gone, or a circle
                if not is_leftover(entry.name):
                    walk.broken.append(entry.name)
            elif entry.is_file():
                yield Path(path)
            elif is_leftover(entry.name):
                continue
            elif not entry.is_dir():
                walk.special.append(entry.name)
            elif entry.is_symlink():
                links.append(path)
            elif (target := os.path.join(real, entry.name)) in seen:  # noqa: PTH118
                walk.visited_before.append(os.path.relpath(path, folder))
            else:
                places.append((path, target))
                seen.add(target)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        return sorted(os.scandir(folder), key=lambda entry: entry.name)
    except PermissionError:
        raise CorpusError(f"{folder}: may not be read; change its permissions") from None


def images_of_split(
    places: Path | Iterable[Path], split: str
) -> tuple[list[FoundImage], list[Note]]:
    """All images below one split's folders or archives, at any depth; none where none is there.

    Raises:
        CorpusError: a zip is damaged or encrypted.
    """
    found: list[FoundImage] = []
    notes: list[Note] = []
    for place in [places] if isinstance(places, Path) else places:
        paths, noted = image_files(place)
        found += [
            FoundImage(image_id=name_of_image(path.name), path=path, split=split) for path in paths
        ]
        notes += noted
    return found, notes


def images_by_category(
    places: Path | Iterable[Path], split: str
) -> tuple[list[FoundImage], list[Note]]:
    """Images of a split's folders with the category that a folder on their way is named after.

    An image without such a folder keeps an unknown category: the 2019 edition has no categories at
    all, and tables or headers may tell them.

    Raises:
        CorpusError: folders of two categories are on the way to an image, or a zip is damaged or
            encrypted.
    """
    found: list[FoundImage] = []
    notes: list[Note] = []
    twice = Counter[str]()
    for place in [places] if isinstance(places, Path) else places:
        paths, noted = image_files(place)
        notes += noted
        n_above = len(place.absolute().parts)
        for path in paths:
            named = _categories(path.parts[n_above:-1])
            if len(set(named)) > 1:
                raise CorpusError(
                    f"{path}: folders of two categories on its way, {named[0]} and {named[1]};"
                    " move the images out of the inner one"
                )
            category = named[0] if named else UNKNOWN
            twice[category] += len(named) > 1
            name = name_of_image(path.name)
            found.append(FoundImage(image_id=name, path=path, split=split, category=category))
    if doubled := +twice:
        names = ", ".join(f"{category}/{category} ({n})" for category, n in sorted(doubled.items()))
        notes.append(Note(f"{split}: a category's folder inside itself, taken once: {names}"))
    return found, notes


def _categories(folders: Sequence[str]) -> list[str]:
    return [name.upper() for name in folders if name.upper() in CATEGORIES]


def find_file(folder: Path, *endings: str) -> Path | None:
    """The file of a folder whose name ends so, in any case; None where there is none.

    The task's archives put the edition or an upload number before the name.

    Raises:
        CorpusError: several files end so.
    """
    if not folder.is_dir():
        return None
    wanted = tuple(ending.lower() for ending in endings)
    names = [path for path in folder.iterdir() if not path.name.startswith(".")]
    fitting = sorted(path for path in names if path.name.lower().endswith(wanted))
    if len(fitting) > 1:
        raise CorpusError(
            f"{folder}: {len(fitting)} files could be {endings[0]}:"
            f" {first_few(path.name for path in fitting)}; keep one"
        )
    return fitting[0] if fitting else None


def require_file(folder: Path, *endings: str) -> Path:
    """The file of a folder whose name ends so, in any case.

    Raises:
        CorpusError: there is none, or there are several.
    """
    path = find_file(folder, *endings)
    if path is None:
        raise CorpusError(f"{folder}: no file {' or '.join(endings)}; put it there")
    return path
