"""Tables beside the images: groups, and whatever else is known of an image."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.categories import CATEGORIES, UNKNOWN
from core.errors import CorpusError, first_few
from core.runs.workspace import HALF
from corpus.readers.files import FoundImage
from corpus.readers.notes import Note, count

GROUPS_FILE = "groups.csv"

METADATA_FILE = "metadata.csv"

Row = Mapping[str, str]

# Columns with a meaning of their own; any other is metadata.
_KNOWN = ("image_id", "group", "split", "category")

# Columns that the image table keeps for itself; `prepare` makes the last two.
_TAKEN = ("path", "fold", "labelled", "concepts", "readable", HALF)


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """What a table says of images.

    Attributes:
        path: the file.
        columns: its columns, `image_id` and those with a meaning of their own left out.
        rows: image id to its row.
    """

    path: Path
    columns: tuple[str, ...]
    rows: Mapping[str, Row]

    def value(self, image_id: str, column: str) -> str:
        """The value of an image, "" where there is none."""
        return self.rows.get(image_id, {}).get(column, "")


def read_groups(*folders: Path) -> list[Annotations]:
    """What the file `groups.csv` of each folder says; nothing of a folder without it.

    The columns `image_id` and `group` are needed; images of one group (a patient, a study, a
    video) never part. `split` and `category` have to agree with the folders, and the category is
    taken where these name none; further columns become metadata.

    Raises:
        CorpusError: a needed column is missing, a line has too few or too many columns, an image
            stands twice, or a column has a name that the image table keeps for itself.
    """
    found = []
    for path in dict.fromkeys(folder / GROUPS_FILE for folder in folders):
        if path.exists():
            header, rows = read_rows(path, needed=("image_id", "group"))
            found.append(annotate(path, header=header, rows=rows, ignored=()))
    return found


def read_annotations(*folders: Path) -> list[Annotations]:
    """What `groups.csv` and `metadata.csv` of each folder say; nothing of a folder without them.

    `metadata.csv` needs the column `image_id` alone. Its further columns (age, sex, view, ...)
    become metadata, missing for an image without a row; a column of `groups.csv` means there what
    it means here, and where both files have a value that of `groups.csv` counts.

    Raises:
        CorpusError: as `read_groups`.
    """
    found = read_groups(*folders)
    for path in dict.fromkeys(folder / METADATA_FILE for folder in folders):
        if path.exists():
            header, rows = read_rows(path, needed=("image_id",))
            found.append(annotate(path, header=header, rows=rows, ignored=()))
    return found


def annotate(
    path: Path, *, header: Sequence[str], rows: Mapping[str, Row], ignored: Sequence[str]
) -> Annotations:
    """Rows by image id.

    Args:
        path: the file, for messages.
        header: its columns.
        rows: place in the file ("line 3") to row, each with an `image_id`.
        ignored: columns that are read elsewhere.

    Raises:
        CorpusError: an image stands twice, or a column has a name that the image table keeps.
    """
    columns = tuple(name for name in header if name not in (*_KNOWN, *ignored))
    if taken := [name for name in columns if name in _TAKEN]:
        raise CorpusError(f"{path}: column {taken[0]!r} is the image table's own; rename it")
    place_of: dict[str, str] = {}
    for place, row in rows.items():
        image_id = row["image_id"]
        if image_id in place_of:
            raise CorpusError(
                f"{path}: {place}: image {image_id!r} stands twice, first in {place_of[image_id]};"
                " keep one"
            )
        place_of[image_id] = place
    by_id = {row["image_id"]: row for row in rows.values()}
    return Annotations(path=path, columns=columns, rows=by_id)


def read_rows(path: Path, *, needed: Sequence[str]) -> tuple[list[str], dict[str, dict[str, str]]]:
    """Header of a comma-separated file, and its rows by place ("line 3"), values stripped.

    Raises:
        CorpusError: the file is missing or not UTF-8, a needed column is missing, a column stands
            twice, or a line has too few or too many columns.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except FileNotFoundError:
        raise CorpusError(f"{path}: no such file") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"{path}: not readable as UTF-8 text ({error})") from None
    filled = [(number, cells) for number, cells in lines if any(cells)]
    header = filled[0][1] if filled else []
    check_header(path, header, needed=needed)
    for number, cells in filled[1:]:
        if len(cells) != len(header):
            raise CorpusError(
                f"{path}: line {number}: expected {len(header)} columns, found {len(cells)}"
            )
    return header, {
        f"line {number}": dict(zip(header, cells, strict=True)) for number, cells in filled[1:]
    }


def check_header(path: Path, header: Sequence[str], *, needed: Sequence[str]) -> None:
    """Refuse a header without the needed columns.

    Raises:
        CorpusError: a needed column is missing, or one stands twice.
    """
    if missing := [name for name in needed if name not in header]:
        raise CorpusError(
            f"{path}: no column {first_few(missing)}; expected {', '.join(needed)}, separated by"
            f" commas; found {first_few(header)}"
        )
    if twice := [name for name in header if list(header).count(name) > 1]:
        raise CorpusError(f"{path}: column {twice[0]!r} stands twice; keep one")


def annotation_notes(found: Sequence[FoundImage], annotations: Annotations) -> list[Note]:
    """Images without a row and rows without an image.

    Raises:
        CorpusError: the table gives an image another split or category than its folder does, or
            a category that does not exist.
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
            if column == "category" and said and said not in CATEGORIES:
                raise CorpusError(
                    f"{annotations.path}: image {image.image_id!r} has category {said!r}; expected"
                    f" one of {', '.join(CATEGORIES)}"
                )
    ids = {image.image_id for image in found}
    without = [image.image_id for image in found if image.image_id not in rows]
    strangers = [image_id for image_id in rows if image_id not in ids]
    notes = []
    if without:
        text = f"{name}: {count(len(without), 'image')} without a row, {lacking}"
        notes.append(Note(f"{text}: {first_few(without)}"))
    if strangers:
        text = f"{name}: {count(len(strangers), 'row')} without an image, left out"
        notes.append(Note(f"{text}: {first_few(strangers)}"))
    return notes
