"""Tables beside the images: groups, and whatever else is known of an image."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from core.categories import UNKNOWN
from core.errors import CorpusError, first_few
from core.images import TAUGHT, TAUGHT_CAPTION
from core.runs.workspace import HALF
from corpus.readers.files import FoundImage
from corpus.readers.notes import Note, count
from corpus.readers.tables.cells import (
    category_at,
    is_gap,
    is_number,
    is_unknown,
    renamed_note,
    split_of,
    words_in,
)
from corpus.readers.tables.columns import ANNOTATIONS, known_names, plain
from corpus.readers.tables.sheet import read_table

GROUPS_FILE = "groups.csv"

METADATA_FILE = "metadata.csv"

Row = Mapping[str, str]

# Columns with a meaning of their own; any other is metadata.
_KNOWN = ("image_id", "group", "split", "category", "caption")

# Names of a column of captions, which is read once and is never metadata.
_CAPTIONS = known_names({"caption": ANNOTATIONS["caption"]})

_NUMBER = re.compile(r"\d+(\.0)?")

# Columns that the image table keeps for itself; `prepare` makes the last two.
_TAKEN = ("path", "fold", "labelled", "concepts", TAUGHT, TAUGHT_CAPTION, "readable", HALF)


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """What a table says of images.

    Attributes:
        path: the file.
        columns: its columns, `image_id` and those with a meaning of their own left out.
        rows: image id to its row; a category is one of `CATEGORIES`, by whatever name it goes in
            the file.
        notes: which names of categories were taken for which.
    """

    path: Path
    columns: tuple[str, ...]
    rows: Mapping[str, Row]
    notes: tuple[Note, ...] = ()

    def value(self, image_id: str, column: str) -> str:
        """The value of an image, "" where there is none."""
        return self.rows.get(image_id, {}).get(column, "")

    @property
    def captions(self) -> Mapping[str, str]:
        """Image id to what a column `caption` says; it is never metadata."""
        cells = {image_id: row.get("caption", "") for image_id, row in self.rows.items()}
        return {image_id: cell for image_id, cell in cells.items() if cell}


def read_groups(*folders: Path) -> list[Annotations]:
    """What the file `groups.csv` of each folder says; nothing of a folder without it.

    The columns `image_id` and `group` are needed; images of one group (a patient, a study, a
    video) never part. `split` and `category` have to agree with the folders, and the category, by
    any name that `category_of_name` takes, counts where these name none; further columns become
    metadata.

    Raises:
        CorpusError: a needed column is missing, a line has too few or too many columns, an image
            stands twice, a category has a name that is not known, or a column has a name that the
            image table keeps for itself.
    """
    paths = dict.fromkeys(folder / GROUPS_FILE for folder in folders)
    return [_annotations(p, needed=("image_id", "group")) for p in paths if p.exists()]


def read_annotations(*folders: Path) -> list[Annotations]:
    """What `groups.csv` and `metadata.csv` of each folder say; nothing of a folder without them.

    `metadata.csv` needs the column `image_id` alone. Its further columns (age, sex, view, ...)
    become metadata, missing for an image without a row; a column of `groups.csv` means there what
    it means here, and where both files have a value that of `groups.csv` counts.

    Raises:
        CorpusError: as `read_groups`.
    """
    paths = dict.fromkeys(folder / METADATA_FILE for folder in folders)
    further = [_annotations(p, needed=("image_id",)) for p in paths if p.exists()]
    return [*read_groups(*folders), *further]


def _annotations(path: Path, *, needed: Sequence[str]) -> Annotations:
    sheet = read_table(path, meanings=ANNOTATIONS, needed=needed)
    rows = {
        place: {column: cell or "" for column, cell in row.items()}
        for place, row in sheet.dicts().items()
    }
    said = annotate(path, header=sheet.header, rows=rows, ignored=())
    return replace(said, notes=(*sheet.notes, *said.notes))


def without_split(said: Annotations) -> Annotations:
    """What a table says but for the split, which is to be dealt anew."""
    rows = {i: {k: v for k, v in row.items() if k != "split"} for i, row in said.rows.items()}
    return replace(said, rows=rows)


def annotate(
    path: Path, *, header: Sequence[str], rows: Mapping[str, Row], ignored: Sequence[str]
) -> Annotations:
    """Rows by image id, words for a missing value left out and splits by their usual names.

    Args:
        path: the file, for messages.
        header: its columns.
        rows: place in the file ("line 3") to row, each with an `image_id`.
        ignored: columns that are read elsewhere.

    Raises:
        CorpusError: an image stands twice, a category has a name that is not known, or a column
            has a name that the image table keeps.
    """
    columns = tuple(name for name in header if name not in (*_KNOWN, *ignored))
    captions = [name for name in columns if plain(name) in _CAPTIONS]
    columns = tuple(name for name in columns if name not in captions)
    if taken := [name for name in columns if name in _TAKEN]:
        raise CorpusError(f"{path}: column {taken[0]!r} is the image table's own; rename it")
    place_of: dict[str, str] = {}
    by_id: dict[str, Row] = {}
    splits, categories = [], []
    for place, row in rows.items():
        image_id = row["image_id"]
        if image_id in place_of:
            raise CorpusError(
                f"{path}: {place}: image {image_id!r} stands twice, first in {place_of[image_id]};"
                " keep one"
            )
        place_of[image_id] = place
        where, told = f"{path}: {place}", dict(row)
        if name := row.get("split", ""):
            told["split"] = split_of(name, where=where)
            splits.append((name, told["split"]))
        if name := row.get("category", ""):
            told["category"] = category_at(where, name)
            categories.append((name, told["category"]))
        by_id[image_id] = told
    categories = [pair for pair in categories if pair[1]]
    notes = [
        *renamed_note(splits, file=path.name, what="splits by other names"),
        *renamed_note(categories, file=path.name, what="categories by plain names"),
    ]
    notes += [Note(f"{path.name}: column {name!r} not read beside 'caption'") for name in captions]
    rows_here, noted = _without_gaps(path, ("group", "category", *columns), rows=by_id, given=rows)
    return Annotations(path=path, columns=columns, rows=rows_here, notes=(*notes, *noted))


def _without_gaps(
    path: Path, columns: Sequence[str], *, rows: dict[str, Row], given: Mapping[str, Row]
) -> tuple[dict[str, Row], list[Note]]:
    """The rows without words for a missing value, and with one spelling of a group's number.

    A word is missing in every column if only programs write it (nan, NULL, NA); among numbers
    `unknown` is missing too, among words it is one of them.
    """
    changed: dict[str, dict[str, str]] = {}
    words: dict[str, list[str]] = {}
    for column in columns:
        cells = {i: cell for i, row in rows.items() if (cell := row.get(column, ""))}
        if column == "category":
            gone = [cell for row in given.values() if is_unknown(cell := row.get(column, ""))]
            words[column] = gone
            continue
        if column == "group":
            missing = [i for i, cell in cells.items() if is_unknown(cell)]
        else:
            odd = {cell for cell in cells.values() if not is_number(cell)}
            numbers = len(odd) < len(set(cells.values())) and all(map(is_unknown, odd))
            gaps = {cell for cell in odd if is_gap(cell, numbers=numbers)}
            missing = [i for i, cell in cells.items() if cell in gaps]
        words[column] = [cells[i] for i in missing]
        for image_id in missing:
            changed.setdefault(image_id, {})[column] = ""
    spelt = _one_spelling(rows)
    for image_id, group in spelt.items():
        changed.setdefault(image_id, {})["group"] = group
    notes = []
    for column, gone in words.items():
        if gone:
            text = f"{count(len(gone), 'cell')} of {column} read as missing: {words_in(gone)}"
            notes.append(Note(f"{path.name}: {text}"))
    if spelt:
        text = f"{count(len(spelt), 'group')} written as 1.0 where others are written as 1"
        notes.append(Note(f"{path.name}: {text}, taken for the same"))
    return {i: {**row, **changed[i]} if i in changed else row for i, row in rows.items()}, notes


def _one_spelling(rows: Mapping[str, Row]) -> dict[str, str]:
    """Image id to its group without the `.0` that pandas adds, where other groups have none."""
    groups = {group for row in rows.values() if (group := row.get("group", ""))}
    if not all(_NUMBER.fullmatch(group) or is_unknown(group) for group in groups):
        return {}
    if all("." in group for group in groups if _NUMBER.fullmatch(group)):
        return {}
    return {
        image_id: group.partition(".")[0]
        for image_id, row in rows.items()
        if (group := row.get("group", "")).endswith(".0")
    }


def annotation_notes(found: Sequence[FoundImage], annotations: Annotations) -> list[Note]:
    """Images without a row and rows without an image.

    Raises:
        CorpusError: the table gives an image another split or category than its folder does.
    """
    name, rows = annotations.path.name, annotations.rows
    lacking = "ungrouped" if name == GROUPS_FILE else "values missing"
    for column in ("split", "category"):
        for image in found:
            said, seen = annotations.value(image.image_id, column), getattr(image, column)
            if said and seen != UNKNOWN and said != seen:
                raise CorpusError(
                    f"{annotations.path}: image {image.image_id!r} has {column} {said!r}, but its"
                    f" folder says {seen!r}; mend the file or move the image"
                )
    ids = {image.image_id for image in found}
    without = [image.image_id for image in found if image.image_id not in rows]
    strangers = [image_id for image_id in rows if image_id not in ids]
    notes = [*annotations.notes]
    if without:
        text = f"{name}: {count(len(without), 'image')} without a row, {lacking}"
        notes.append(Note(f"{text}: {first_few(without)}"))
    if strangers:
        text = f"{name}: {count(len(strangers), 'row')} without an image, left out"
        notes.append(Note(f"{text}: {first_few(strangers)}"))
    return notes
