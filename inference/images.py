"""New images wherever they lie: files, folders, patterns, zips, and tables that list them."""

import glob
import json
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from hashlib import blake2b
from pathlib import Path
from typing import overload

from core.categories import CATEGORIES, KNOWN_NAMES, UNKNOWN, category_of_name
from core.errors import ConfigError, CorpusError
from core.storage.packed import ARCHIVE, exists
from core.storage.text import whole
from corpus.dicom.files import PICTURE_ENDINGS
from corpus.dicom.headers import Headers, read_headers
from corpus.readers.files import FoundImage, files_below, image_files, name_of_image
from corpus.readers.manifest import ENDINGS, names_images
from corpus.readers.notes import Note
from corpus.readers.tables.images import read_images
from corpus.readers.tables.parquet import is_parquet

GUESSED = "guessed"
ASKED = "--category"
"""What tells a category beside manifest, folder and DICOM header."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NewImage:
    """An image to be decided.

    Attributes:
        image_id: distinct among those asked at once.
        path: absolute; it may go on below an archive.
        category: one of `CATEGORIES`, or `UNKNOWN`.
        told_by: where the category comes from: `--category`, `manifest`, `folder`, `DICOM header`.
        cells: further columns, "" where a value is missing.
    """

    image_id: str
    path: Path
    category: str = UNKNOWN
    told_by: str = ""
    cells: Mapping[str, str] = field(default_factory=dict)


_NOTHING: Mapping[str, str] = {}


class ImageList(Sequence[NewImage]):
    """Many images in little memory: what most of them have in common is there once.

    A path of 60 letters takes 130 bytes; as `NewImage` with a `Path` it would be a thousand.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._paths: list[str] = []
        self._ids: dict[int, str] = {}  # those that are not the name of the file
        self._categories = array("B")
        self._told_by = array("B")
        self._cells: dict[int, Mapping[str, str]] = {}
        self._known = {name: number for number, name in enumerate((UNKNOWN, *map(str, CATEGORIES)))}
        self._tellers = {"": 0}

    def append(self, image: NewImage) -> None:
        """One more image."""
        number = len(self._paths)
        self._paths.append(str(image.path))
        if image.image_id != _id_of(image.path.name):
            self._ids[number] = image.image_id
        if image.cells:
            self._cells[number] = image.cells
        self._categories.append(self._known[image.category])
        self._told_by.append(self._tellers.setdefault(image.told_by, len(self._tellers)))

    def __len__(self) -> int:
        return len(self._paths)

    @overload
    def __getitem__(self, number: int) -> NewImage: ...

    @overload
    def __getitem__(self, number: slice) -> list[NewImage]: ...

    def __getitem__(self, number: int | slice) -> NewImage | list[NewImage]:
        """An image, or some."""
        if isinstance(number, slice):
            return [self[n] for n in range(*number.indices(len(self)))]
        number = range(len(self))[number]
        path = Path(self._paths[number])
        return NewImage(
            image_id=self._ids.get(number) or _id_of(path.name),
            path=path,
            category=tuple(self._known)[self._categories[number]],
            told_by=tuple(self._tellers)[self._told_by[number]],
            cells=self._cells.get(number, _NOTHING),
        )

    def __iter__(self) -> Iterator[NewImage]:
        return (self[number] for number in range(len(self)))

    @property
    def columns(self) -> frozenset[str]:
        """Further columns in which an image has a value."""
        return frozenset(n for own in self._cells.values() for n, value in own.items() if value)

    def unknown(self) -> Iterator[str]:
        """Paths of the images of which no category is known."""
        pairs = zip(self._paths, self._categories, strict=True)
        return (path for path, category in pairs if category == self._known[UNKNOWN])

    def digest(self) -> str:
        """Changes with any image, its place in the list, its category or cells."""
        found = blake2b(digest_size=16)
        for number, path in enumerate(self._paths):
            own = (path, self._ids.get(number), self._categories[number], self._told_by[number])
            cells = sorted(self._cells.get(number, _NOTHING).items())
            found.update(json.dumps((*own, cells)).encode())
        return found.hexdigest()

    def make_ids_distinct(self) -> int:
        """Where a name stands twice, the whole path becomes the id; how many there are."""
        first, n_changed = dict[str, int](), 0
        for number, path in enumerate(self._paths):
            own = self._ids.get(number) or _id_of(path.rpartition(os.sep)[2])
            other = first.setdefault(own, number)
            if other != number:
                path_of_other = whole(self._paths[other])
                n_changed += 1 + (self._ids.get(other) != path_of_other)
                self._ids[number], self._ids[other] = whole(path), path_of_other
        return n_changed


@dataclass(frozen=True, kw_only=True)
class NewImages:
    """Images to be decided, and what was strange of the places that were looked at.

    Attributes:
        images: in the order of the places.
        notes: what was strange.
        told: whether a category was asked for, so that nothing else tells one.
    """

    images: ImageList
    notes: Sequence[Note]
    told: bool = False


def find_images(places: Sequence[str], *, category: str | None = None) -> NewImages:
    """The images that some words name.

    A folder and a zip stand for all images below them, a pattern (`*`, `?`, `**`) for what it
    fits, a table with a column of paths for the images it lists. The category of an image is the
    one asked for; else that of the table; else that of the nearest folder above it that is called
    by one, `DRCT`; else that of its DICOM header. An image that is named twice is taken once.

    Args:
        places: files, folders, patterns, tables, zips.
        category: of all images; None to look.

    Raises:
        ConfigError: the category has no such name.
        CorpusError: there is nothing in one of the places, or a table cannot be read.
    """
    given = _asked(category)
    images, notes, seen = ImageList(), list[Note](), set[str]()
    for place in places:
        found, noted = _images_in(place)
        notes += noted
        for image in found:
            if (path := str(image.path)) not in seen:
                seen.add(path)
                told = replace(image, category=given, told_by=ASKED) if given else image
                images.append(_by_folder(told))
    del seen
    if n := images.make_ids_distinct():
        notes.append(Note(f"{n:,} images have a name that others have too; their id is the path"))
    return NewImages(images=images, notes=notes, told=bool(given))


def _asked(category: str | None) -> str:
    if category is None:
        return UNKNOWN
    known = category_of_name(category)
    if known is None:
        raise ConfigError(f"--category {category}: expected one of {KNOWN_NAMES}")
    return known


def _images_in(place: str, *, named: bool = True) -> tuple[Iterable[NewImage], Sequence[Note]]:
    path = Path(place).absolute()
    if path.is_dir() or (path.is_file() and path.suffix.lower() == ARCHIVE):
        files, notes = image_files(path)
        if not files:
            raise CorpusError(f"{place}: no image in it")
        return _each(files), notes
    if path.is_file():
        return _listed(path) if _is_list(path, named=named) else ([_image(path)], ())
    if exists(path):  # in an archive
        return [_image(path)], ()
    if glob.has_magic(place):
        images: list[NewImage] = []
        odd = list[Note]()
        for name in _fitting(place):
            found, noted = _images_in(name, named=False)
            images += found
            odd += noted
        if images:
            return images, odd
        raise CorpusError(f"{place}: no image fits it")
    raise CorpusError(f"{place}: no such file or folder")


def _fitting(pattern: str) -> list[str]:
    """What fits a pattern; where it goes down to any depth, the files alone.

    Below `**` each real folder is visited once, for links that lead upwards have no end, and no
    hidden one.
    """
    parts = Path(pattern).parts
    if "**" not in parts:
        return sorted(glob.glob(pattern))  # noqa: PTH207 - takes absolute ones
    n_plain = next(n for n, part in enumerate(parts) if glob.has_magic(part))
    home, wanted = Path(*parts[:n_plain]), parts[n_plain:]
    if not home.is_dir():
        return []
    below = (path for path in files_below(home) if _fits(path.relative_to(home).parts, wanted))
    return sorted(map(str, below))


def _fits(names: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether folders and a file are those of a pattern, in which `**` is any number of folders.

    Example:
        >>> _fits(["a", "b", "x.png"], ["**", "*.png"]), _fits(["a", "x.png"], ["*.png"])
        (True, False)
    """
    places = _on(0, wanted)
    for name in names:
        reached: set[int] = set()
        for place in places - {len(wanted)}:
            if wanted[place] == "**":
                reached |= _on(place, wanted)
            elif fnmatchcase(name, wanted[place]):
                reached |= _on(place + 1, wanted)
        places = reached
    return len(wanted) in places


def _on(place: int, wanted: Sequence[str]) -> set[int]:
    """The place in a pattern and those behind it that are reached without a name."""
    end = next((n for n in range(place, len(wanted)) if wanted[n] != "**"), len(wanted))
    return {*range(place, end + 1)}


def _is_list(path: Path, *, named: bool) -> bool:
    """Whether a file is a table; among what fits a pattern there may be texts that are none."""
    return is_parquet(path) or (path.suffix.lower() in ENDINGS and (named or names_images(path)))


def _each(files: list[Path]) -> Iterator[NewImage]:
    """The images of a list that is used up: a million paths are not kept beside the images."""
    files.reverse()
    while files:
        yield _image(files.pop())


def _image(path: Path) -> NewImage:
    return NewImage(image_id=_id_of(path.name), path=path)


def _id_of(name: str) -> str:
    return whole(name_of_image(name))


def _listed(path: Path) -> tuple[list[NewImage], Sequence[Note]]:
    """The images of a table, with their further cells."""
    table = read_images(path, split="test")
    images = []
    for row in table.rows:
        category = row.image.category
        cells = {name: value or "" for name, value in row.cells.items()}
        images.append(
            NewImage(
                image_id=row.image.image_id,
                path=row.image.path,
                category=category,
                told_by="manifest" if category else "",
                cells={n: v for n, v in cells.items() if n not in _TAKEN},
            )
        )
    return images, [note for note in table.notes if "column 'split' not read" not in note.text]


_TAKEN = ("image_id", "path", "category", "split", "group", "concepts", "concept_names")


def _by_folder(image: NewImage) -> NewImage:
    if image.category:
        return image
    for name in reversed(image.path.parts[:-1]):
        if name.upper() in CATEGORIES:
            return replace(image, category=name.upper(), told_by="folder")
    return image


def may_have_header(path: str) -> bool:
    """Whether a file could be DICOM by its name."""
    return not path.lower().endswith(PICTURE_ENDINGS)


def with_headers(images: Sequence[NewImage]) -> tuple[list[NewImage], Headers | None]:
    """The images with what DICOM headers say where nothing else does; None where none has one."""
    found = [FoundImage(image_id=i.image_id, path=i.path, split="test") for i in images]
    headers = read_headers(found, shown=False)
    if headers is None:
        return list(images), None
    told = []
    for image in images:
        said = headers.annotations.rows.get(image.image_id, {})
        cells = {name: value for name, value in said.items() if name not in _TAKEN}
        image = replace(image, cells={**cells, **{n: v for n, v in image.cells.items() if v}})
        if not image.category and (category := said.get("category", "")):
            image = replace(image, category=category, told_by="DICOM header")
        told.append(image)
    return told, headers
