"""Concept lists: which image has which concepts, one image a line."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from core.errors import CorpusError
from core.labels import Concepts
from corpus.readers.notes import Note, count


@dataclass(frozen=True, kw_only=True)
class ListForm:
    """How a line of a concept list is written.

    Attributes:
        separator: between the id and the concepts.
        between: between two concepts.
        shown: an example for error messages.
    """

    separator: str
    between: str
    shown: str


TAB_LIST = ListForm(separator="\t", between=";", shown="ID<TAB>CUI;CUI")
COMMA_LIST = ListForm(separator=",", between=";", shown="ID,CUI;CUI")
ROCO_LIST = ListForm(separator="\t", between="\t", shown="ID<TAB><TAB>CUI<TAB>CUI")

_HEADERS = ("id", "image_id", "image")

# What no submission file could carry inside a concept, and what betrays a wrong separator.
_FOREIGN = re.compile(r"[\s,;|]")


class Mended(NamedTuple):
    """How many concepts stood twice for an image, were empty, or had to be rewritten."""

    n_twice: int = 0
    n_empty: int = 0
    n_rewritten: int = 0


@dataclass(frozen=True, kw_only=True)
class ConceptList:
    """The concepts of images, as one file gives them.

    Attributes:
        path: the file.
        concepts: image id to its concepts, () where it is known to have none.
        notes: what was mended.
    """

    path: Path
    concepts: Mapping[str, Concepts]
    notes: tuple[Note, ...] = ()


def read_concept_list(path: Path, form: ListForm) -> ConceptList:
    """The concepts of every image of a list, in the order of the file.

    A line that holds nothing but an id, and an id with nothing after the separator, both mean an
    image without concepts. A header, blank lines, a byte order mark and any line end are passed
    over. A concept that stands twice is kept once, an empty one (a trailing `;`) is dropped, one
    in lower case or with blanks around it is rewritten; all three are counted in the notes.

    Raises:
        CorpusError: the file is missing, empty or not UTF-8, a line is not in the form, or an
            image stands twice.
    """
    concepts: dict[str, Concepts] = {}
    line_of: dict[str, int] = {}
    mended = []
    for number, cells in _lines(path, form.separator):
        where = f"{path}: line {number}"
        image_id = cells[0].strip()
        if not line_of and image_id.lower() in _HEADERS:
            continue
        try:
            found, repairs = clean_concepts(_parts(cells, form))
        except ValueError:
            text = form.separator.join(cells)
            shown = text if len(text) <= 60 else f"{text[:60]}..."
            raise CorpusError(f"{where}: expected {form.shown}, found {shown!r}") from None
        if image_id in line_of:
            raise CorpusError(
                f"{where}: image {image_id!r} stands twice, first in line {line_of[image_id]};"
                " keep one of the lines"
            )
        line_of[image_id] = number
        concepts[image_id] = found
        n_padded = int(image_id != cells[0])
        mended.append(repairs._replace(n_rewritten=repairs.n_rewritten + n_padded))
    if not concepts:
        raise CorpusError(f"{path}: no image in it; expected lines {form.shown}")
    return ConceptList(path=path, concepts=concepts, notes=mended_notes(path.name, mended))


def _lines(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Number and cells of each line that is not blank."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            # Only files with commas are CSV in the full sense; elsewhere a quote is a letter.
            if separator == ",":
                reader = csv.reader(file)
            else:
                reader = csv.reader(file, delimiter=separator, quoting=csv.QUOTE_NONE)
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield reader.line_num, cells
    except FileNotFoundError:
        raise CorpusError(f"{path}: no such file") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"{path}: not readable as UTF-8 text ({error})") from None


def _parts(cells: Sequence[str], form: ListForm) -> list[str]:
    """The concepts of a line as they are written.

    Raises:
        ValueError: the line is not in the form.
    """
    image_id, *rest = cells
    if not image_id.strip() or _FOREIGN.search(image_id.strip()):
        raise ValueError(image_id)
    if form.between == form.separator:
        return rest[1:] if rest and not rest[0] else rest  # the id is followed by two separators
    if len(rest) > 1:
        raise ValueError(rest)
    return rest[0].split(form.between) if rest and rest[0].strip() else []


def clean_concepts(parts: Sequence[str]) -> tuple[Concepts, Mended]:
    """Distinct concepts in their order, stripped and in capitals, and how much that changed.

    Raises:
        ValueError: a concept has a blank, a comma, a semicolon or a bar inside.

    Example:
        >>> clean_concepts(["C2", " c1", "C2", ""])
        (('C2', 'C1'), Mended(n_twice=1, n_empty=1, n_rewritten=1))
    """
    stripped = [part.strip().upper() for part in parts]
    written = [concept for concept in stripped if concept]
    distinct = tuple(dict.fromkeys(written))
    if strange := [concept for concept in distinct if _FOREIGN.search(concept)]:
        raise ValueError(strange[0])
    n_same = sum(new == old for new, old in zip(stripped, parts, strict=True) if new)
    return distinct, Mended(
        n_twice=len(written) - len(distinct),
        n_empty=len(parts) - len(written),
        n_rewritten=len(written) - n_same,
    )


def mended_notes(where: str, mended: Sequence[Mended]) -> tuple[Note, ...]:
    """One note for each kind of repair that a file needed; `where` names the file."""
    n_twice, n_empty, n_rewritten = (sum(column) for column in zip(Mended(), *mended, strict=True))
    texts = {
        f"{count(n_twice, 'concept')} repeated for an image, kept once": n_twice,
        f"{count(n_empty, 'empty concept')} (a stray separator), dropped": n_empty,
        f"{count(n_rewritten, 'entry')} in lower case or with blanks, rewritten": n_rewritten,
    }
    return tuple(Note(f"{where}: {text}") for text, n in texts.items() if n)


def read_names(path: Path | None) -> tuple[dict[str, str], list[Note]]:
    """CUI to preferred name; none without a file.

    The columns are separated by TABs or, where the file has none, by commas; a header is passed
    over. Of two names of a concept the first is kept; lines without a name are counted.

    Raises:
        CorpusError: the file is not UTF-8.
    """
    if path is None:
        return {}, []
    rows = [cells for _, cells in _lines(path, "\t")]
    if not any(len(cells) > 1 for cells in rows):
        rows = [cells for _, cells in _lines(path, ",")]
    names: dict[str, str] = {}
    n_left_out = 0
    for row, cells in enumerate(rows):
        cui = cells[0].strip().upper()
        if row == 0 and cui in ("CUI", "CONCEPT"):
            continue
        name = cells[1].strip() if len(cells) > 1 else ""
        if not name or names.setdefault(cui, name) != name:
            n_left_out += 1
    if not n_left_out:
        return names, []
    text = f"{count(n_left_out, 'line')} without a name or with a second one, left out"
    return names, [Note(f"{path.name}: {text}")]
