"""Tables beside the images: groups, and whatever else is known of an image."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from core.categories import KNOWN_NAMES, UNKNOWN, category_of_name
from core.errors import CorpusError, first_few
from core.images import TAUGHT
from core.runs.workspace import HALF
from corpus.readers.files import FoundImage
from corpus.readers.notes import Note, count

GROUPS_FILE = "groups.csv"

METADATA_FILE = "metadata.csv"

Row = Mapping[str, str]

# Columns with a meaning of their own; any other is metadata.
_KNOWN = ("image_id", "group", "split", "category")

# Columns that the image table keeps for itself; `prepare` makes the last two.
_TAKEN = ("path", "fold", "labelled", "concepts", TAUGHT, "readable", HALF)


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


def without_split(said: Annotations) -> Annotations:
    """What a table says but for the split, which is to be dealt anew."""
    rows = {i: {k: v for k, v in row.items() if k != "split"} for i, row in said.rows.items()}
    return replace(said, rows=rows)


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
        CorpusError: an image stands twice, a category has a name that is not known, or a column
            has a name that the image table keeps.
    """
    columns = tuple(name for name in header if name not in (*_KNOWN, *ignored))
    if taken := [name for name in columns if name in _TAKEN]:
        raise CorpusError(f"{path}: column {taken[0]!r} is the image table's own; rename it")
    place_of: dict[str, str] = {}
    by_id: dict[str, Row] = {}
    renamed: Counter[tuple[str, str]] = Counter()
    for place, row in rows.items():
        image_id = row["image_id"]
        if image_id in place_of:
            raise CorpusError(
                f"{path}: {place}: image {image_id!r} stands twice, first in {place_of[image_id]};"
                " keep one"
            )
        place_of[image_id] = place
        name = row.get("category", "")
        category = category_at(f"{path}: {place}", name)
        renamed[name, category] += name != category
        by_id[image_id] = {**row, "category": category} if name != category else row
    return Annotations(path=path, columns=columns, rows=by_id, notes=_renamed(path, +renamed))


def category_at(where: str, name: str) -> str:
    """The category that a cell names; `UNKNOWN` for an empty one.

    Raises:
        CorpusError: no category has that name; `where` says in which file and line.
    """
    if not name.strip():
        return UNKNOWN
    if category := category_of_name(name):
        return category
    raise CorpusError(f"{where}: category {name!r}; expected nothing or one of {KNOWN_NAMES}")


def _renamed(path: Path, renamed: Counter[tuple[str, str]]) -> tuple[Note, ...]:
    """A note on categories that go by another name than that of their folder."""
    if not renamed:
        return ()
    names = [f"{name!r} is {category} ({n})" for (name, category), n in renamed.most_common(9)]
    more = f" and {count(len(renamed) - 9, 'other name')}" if len(renamed) > 9 else ""
    return (Note(f"{path.name}: categories by plain names: {', '.join(names)}{more}"),)


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
