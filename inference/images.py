"""New images wherever they lie: files, folders, patterns, zips, and tables that list them."""

import glob
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from core.categories import CATEGORIES, KNOWN_NAMES, UNKNOWN, category_of_name
from core.errors import ConfigError, CorpusError
from core.storage.packed import ARCHIVE, exists
from corpus.dicom.headers import read_headers
from corpus.readers.files import FoundImage, image_files, name_of_image
from corpus.readers.manifest import ENDINGS, names_images
from corpus.readers.notes import Note
from corpus.readers.tables.images import read_images
from corpus.readers.tables.parquet import is_parquet

GUESSED = "guessed"


@dataclass(frozen=True, kw_only=True)
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


@dataclass(frozen=True, kw_only=True)
class NewImages:
    """Images to be decided, and what was strange of the places that were looked at."""

    images: Sequence[NewImage]
    notes: Sequence[Note]


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
    found: dict[Path, NewImage] = {}
    notes: list[Note] = []
    for place in places:
        images, noted = _images_in(place)
        notes += noted
        for image in images:
            found.setdefault(image.path, image)
    images = _distinct(list(found.values()))
    if given:
        told = [replace(i, category=given, told_by="--category") for i in images]
        return NewImages(images=told, notes=notes)
    images, noted = _by_headers([_by_folder(image) for image in images])
    return NewImages(images=images, notes=[*notes, *noted])


def _asked(category: str | None) -> str:
    if category is None:
        return UNKNOWN
    known = category_of_name(category)
    if known is None:
        raise ConfigError(f"--category {category}: expected one of {KNOWN_NAMES}")
    return known


def _images_in(place: str) -> tuple[list[NewImage], Sequence[Note]]:
    path = Path(place).absolute()
    if path.is_dir() or (path.is_file() and path.suffix.lower() == ARCHIVE):
        files, notes = image_files(path)
        if not files:
            raise CorpusError(f"{place}: no image in it")
        return [_image(file) for file in files], notes
    if path.is_file():
        return _listed(path) if _is_list(path) else ([_image(path)], ())
    if exists(path):  # in an archive
        return [_image(path)], ()
    if glob.has_magic(place):
        images: list[NewImage] = []
        notes = []
        for name in sorted(glob.glob(place, recursive=True)):  # noqa: PTH207 - takes absolute ones
            if not ("**" in place and Path(name).is_dir()):  # what lies in it fits as well
                found, noted = _images_in(name)
                images += found
                notes += noted
        if images:
            return images, notes
        raise CorpusError(f"{place}: no image fits it")
    raise CorpusError(f"{place}: no such file or folder")


def _is_list(path: Path) -> bool:
    return is_parquet(path) or (path.suffix.lower() in ENDINGS and names_images(path))


def _image(path: Path) -> NewImage:
    return NewImage(image_id=name_of_image(path.name), path=path)


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


def _distinct(images: Sequence[NewImage]) -> list[NewImage]:
    """The images with ids of their own: where a name stands twice, the whole path is the id."""
    counted = Counter(image.image_id for image in images)
    return [
        image if counted[image.image_id] == 1 else replace(image, image_id=str(image.path))
        for image in images
    ]


def _by_folder(image: NewImage) -> NewImage:
    if image.category:
        return image
    for name in reversed(image.path.parts[:-1]):
        if name.upper() in CATEGORIES:
            return replace(image, category=name.upper(), told_by="folder")
    return image


def _by_headers(images: Sequence[NewImage]) -> tuple[list[NewImage], Sequence[Note]]:
    """The images with what DICOM headers say where nothing else does."""
    found = [FoundImage(image_id=i.image_id, path=i.path, split="test") for i in images]
    headers = read_headers(found)
    if headers is None:
        return list(images), ()
    told = []
    for image in images:
        said = headers.annotations.rows.get(image.image_id, {})
        cells = {name: value for name, value in said.items() if name not in _TAKEN}
        image = replace(image, cells={**cells, **{n: v for n, v in image.cells.items() if v}})
        if not image.category and (category := said.get("category", "")):
            image = replace(image, category=category, told_by="DICOM header")
        told.append(image)
    return told, headers.notes
