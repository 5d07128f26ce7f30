"""Image files and named files below a corpus' folder."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.categories import CATEGORIES, UNKNOWN
from core.errors import CorpusError, first_few
from corpus.readers.notes import Note, count

EXTENSIONS = (".jpg", ".jpeg", ".png")
"""Endings of image files, in any case; files with another ending are counted and left out."""

_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True, kw_only=True)
class FoundImage:
    """One image file and what its place says.

    Attributes:
        image_id: name of the file without its ending.
        path: absolute.
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


def image_files(folder: Path) -> tuple[list[Path], list[Note]]:
    """All image files below a folder, and a note on other files; hidden ones are passed over."""
    images: list[Path] = []
    others: list[str] = []
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        here = Path(place).absolute()
        for name in sorted(files):
            if name.startswith("."):
                continue
            if name.lower().endswith(EXTENSIONS):
                images.append(here / name)
            else:
                others.append(name)
    if not others:
        return images, []
    text = f"{folder}: {count(len(others), 'file')} without an image's ending, left out"
    return images, [Note(f"{text}: {first_few(sorted(others, key=natural_key))}")]


def images_of_split(folder: Path, split: str) -> tuple[list[FoundImage], list[Note]]:
    """All images below one split's folder, at any depth; none where the folder is missing."""
    paths, notes = image_files(folder)
    return [FoundImage(image_id=path.stem, path=path, split=split) for path in paths], notes


def images_by_category(folder: Path, split: str) -> tuple[list[FoundImage], list[Note]]:
    """Images of a split's folder with the category that a folder on their way is named after.

    An image without such a folder keeps an unknown category and is counted: the 2019 edition has
    no categories at all.
    """
    paths, notes = image_files(folder)
    n_above = len(folder.absolute().parts)
    found = [
        FoundImage(
            image_id=path.stem,
            path=path,
            split=split,
            category=_category(path.parts[n_above:-1]),
        )
        for path in paths
    ]
    if outside := [image.image_id for image in found if image.category == UNKNOWN]:
        text = f"{split}: {count(len(outside), 'image')} in no category's folder, category unknown"
        notes.append(Note(f"{text}: {first_few(outside)}"))
    return found, notes


def _category(folders: Sequence[str]) -> str:
    named = [name.upper() for name in folders if name.upper() in CATEGORIES]
    return named[0] if named else UNKNOWN


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
