"""Concept lists: which image has which concepts, one image a line."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from core.errors import CorpusError
from core.labels import Concepts
from corpus.readers.notes import Note, count
from corpus.readers.tables.cells import is_unknown
from corpus.readers.tables.concept_cells import (
    Seen,
    Writing,
    concept_notes,
    concepts_in,
    writing_of,
)
from corpus.readers.tables.sheet import SEPARATORS, Numbered, records
from corpus.readers.tables.text import read_text


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

_NAME_HEADERS = ("CUI", "CUIS", "CONCEPT", "CONCEPTS", "CONCEPT_ID", "ID")

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
    in lower case or with blanks around it is rewritten; all three are counted in the notes. So are
    cells written in another way (a Python list, commas between codes), words for nothing (`nan`),
    which are no concept, and another separator, where every line has the same.

    Raises:
        CorpusError: the file is missing, empty or no text, a line is not in the form, or an image
            stands twice.
    """
    form, lines, notes = _lines_of(path, form)
    writing = writing_of(rest[0].strip() for _, (_, *rest) in lines if len(rest) == 1)
    concepts: dict[str, Concepts] = {}
    line_of: dict[str, int] = {}
    mended = []
    seen = Seen()
    for number, cells in lines:
        where = f"{path}: line {number}"
        image_id = cells[0].strip()
        if not line_of and image_id.lower() in _HEADERS:
            continue
        try:
            found, repairs = clean_concepts(_parts(cells, form, writing, seen))
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
    notes = [
        *notes,
        *concept_notes(path.name, seen, writing=writing),
        *mended_notes(path.name, mended),
    ]
    return ConceptList(path=path, concepts=concepts, notes=tuple(notes))


def _lines_of(path: Path, form: ListForm) -> tuple[ListForm, list[Numbered], list[Note]]:
    """The form that a list is in, its lines that are not blank, and what there is to note."""
    text, notes = read_text(path)
    if form.separator in text or form.between == form.separator:
        return form, _lines(path, text, form.separator), notes
    for other in SEPARATORS:
        lines = _lines(path, text, other) if other in text and other != form.between else []
        if lines and all(len(cells) == 2 for _, cells in lines):
            name = SEPARATORS[other]
            shown = form.shown.replace("<TAB>", other).replace(form.separator, other)
            found = ListForm(separator=other, between=form.between, shown=shown)
            return found, lines, [*notes, Note(f"{path.name}: separated by {name}")]
    return form, _lines(path, text, form.separator), notes


def _lines(path: Path, text: str, separator: str) -> list[Numbered]:
    """Number and cells of each line that is not blank."""
    # Only files with commas are CSV in the full sense; elsewhere a quote is a letter, but where
    # all lines begin with one.
    starts = [line.lstrip()[:1] for line in text.splitlines() if line.strip()]
    quoted = separator == "," or (bool(starts) and set(starts) == {'"'})
    lines = records(path, text, separator=separator, quoted=quoted)
    return [(number, cells) for number, cells in lines if any(cell.strip() for cell in cells)]


def _parts(cells: Sequence[str], form: ListForm, writing: Writing, seen: Seen) -> list[str]:
    """The concepts of a line as they are written.

    Raises:
        ValueError: the line is not in the form.
    """
    image_id, *rest = cells
    if not image_id.strip() or _FOREIGN.search(image_id.strip()):
        raise ValueError(image_id)
    if form.between == form.separator:  # the id is followed by two separators
        given = rest[1:] if rest and not rest[0] else rest
        if any(form.separator != ";" and ";" in part for part in given):
            raise ValueError(given)
        # An empty part counts as an empty concept.
        cells_of = [_one(part, writing, seen) if part else [""] for part in given]
        return [concept for one in cells_of for concept in one]
    if len(rest) > 1:
        raise ValueError(rest)
    return _one(rest[0], writing, seen) if rest and rest[0].strip() else []


def _one(cell: str, writing: Writing, seen: Seen) -> list[str]:
    """The concepts of a cell; a blank inside one betrays a wrong separator in a list of codes."""
    n_tags = len(seen.tags)
    found = concepts_in(cell, writing=writing, seen=seen)
    if len(seen.tags) > n_tags:
        raise ValueError(cell)
    return found


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
    text, notes = read_text(path)
    separator = next((s for s in ("\t", ",", ";", "|") if s in text), ",")
    if separator == "," and text.count(";") >= len(text.split("\n")) - 1 > text.count(","):
        separator = ";"
    rows = [cells for _, cells in _lines(path, text, separator)]
    names: dict[str, str] = {}
    n_left_out = 0
    for row, cells in enumerate(rows):
        cui = cells[0].strip().upper()
        if row == 0 and cui.strip('"') in _NAME_HEADERS:
            continue
        name = cells[1].strip() if len(cells) > 1 else ""
        if not name or is_unknown(name) or names.setdefault(cui, name) != name:
            n_left_out += 1
    if not n_left_out:
        return names, notes
    said = f"{count(n_left_out, 'line')} without a name or with a second one, left out"
    return names, [*notes, Note(f"{path.name}: {said}")]
