"""Concepts that are no list in a cell: columns of 0 and 1, and rows of one concept each."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from core.errors import first_few
from corpus.readers.notes import Note, count
from corpus.readers.tables.concept_cells import CODE, tag_id
from corpus.readers.tables.sheet import Cell, Sheet

_YES = frozenset(("1", "1.0", "true", "yes"))
_NO = frozenset(("0", "0.0", "false", "no"))
_UNSURE = frozenset(("-1", "-1.0"))
_BLANK = frozenset(("", "nan"))

_FLAGS = _YES | _NO | _UNSURE | _BLANK


def joined_indicators(sheet: Sheet, *, known: Collection[str]) -> tuple[Sheet, dict[str, str]]:
    """The table with a column `concepts` made of its columns of 0 and 1, and the concepts' names.

    It is made where no column is called `concepts` and at least two others hold nothing but 0 and 1
    (True and False), -1 and blanks, with a 1 in one of them. 1 means that the image has the
    concept. 0, -1 (uncertain, in CheXpert) and a blank (not mentioned) mean that it has not; the
    last two are counted in the notes, and so are the columns that were taken.

    Args:
        sheet: the table, its columns called as `columns.MANIFEST` does.
        known: columns that are never concepts.
    """
    if "concepts" in sheet.header:
        return sheet, {}
    at = [
        place
        for place, name in enumerate(sheet.header)
        if name not in known and _holds_flags(sheet.rows, place)
    ]
    if len(at) < 2:
        return sheet, {}
    ids = {place: _id_of(sheet.header[place]) for place in at}
    cells = [
        ";".join(ids[place] for place in at if (row[place] or "").casefold() in _YES)
        for row in sheet.rows
    ]
    spoilt = _spoilt_notes(sheet, [p for p, n in enumerate(sheet.header) if n not in known], at)
    kinds = Counter((row[place] or "").casefold() for row in sheet.rows for place in at)
    kept = sheet.without(set(at))
    made = replace(
        kept,
        header=(*kept.header, "concepts"),
        rows=[[*row, cell] for row, cell in zip(kept.rows, cells, strict=True)],
        notes=(*kept.notes, *_flag_notes(sheet, at, kinds), *spoilt),
    )
    return made, {ids[p]: sheet.header[p] for p in at if ids[p] != sheet.header[p]}


def _holds_flags(rows: Sequence[Sequence[Cell]], place: int) -> bool:
    """Whether a column holds flags, and not blanks alone."""
    values: set[str] = set()
    for row in rows:
        values.add((row[place] or "").casefold())
        if len(values) > len(_FLAGS):
            return False
    return values <= _FLAGS and bool(values - _BLANK)


def _spoilt_notes(sheet: Sheet, columns: Iterable[int], taken: Collection[int]) -> list[Note]:
    """A grave note on each column that would be a concept but for a few of its cells."""
    notes = []
    for at in columns:
        cells = [] if at in taken else [row[at] or "" for row in sheet.rows]
        odd = [place for place, cell in enumerate(cells) if cell.casefold() not in _FLAGS]
        flags = {cell.casefold() for cell in cells} & _FLAGS - _BLANK
        if not odd or not flags & _YES or not flags & (_NO | _BLANK) or len(odd) * 10 > len(cells):
            continue
        first = f"{cells[odd[0]]!r} in {sheet.places[odd[0]]}"
        text = f"column {sheet.header[at]!r} holds 0 and 1 but for {count(len(odd), 'cell')}"
        notes.append(
            Note(f"{sheet.path.name}: {text}, {first}: no concept, but metadata", grave=True)
        )
    return notes


def _id_of(name: str) -> str:
    return name.upper() if CODE.fullmatch(name) else tag_id(name)


def _flag_notes(sheet: Sheet, at: Sequence[int], kinds: Mapping[str, int]) -> list[Note]:
    file = sheet.path.name
    shown = first_few([sheet.header[place] for place in at], n=20)
    text = f"{count(len(at), 'column')} of 0 and 1 taken for concepts"
    notes = [
        Note(
            f"{file}: no column 'concepts'; {text}: {shown}; if some are no concepts, write those"
            " that are into a column concepts"
        )
    ]
    for words, meaning in ((_UNSURE, "-1 (uncertain)"), (_BLANK, "blank (not mentioned)")):
        if n := sum(kinds[word] for word in words):
            text = f"{count(n, 'cell')} of them {meaning}, counted as not there"
            notes.append(Note(f"{file}: {text}"))
    return notes


def joined_rows(sheet: Sheet, ids: Sequence[str]) -> tuple[Sheet, list[int]]:
    """The table with one row an image, where it has a row for each concept of an image.

    Rows of an image are joined where they agree in path, split, category and group, and hold at
    most one concept each; any other table is given back as it is. Cells of other columns that
    differ within an image are left out.

    Args:
        sheet: a table with the columns `path` and `split`, if any, and `concepts`.
        ids: the image of each row.

    Returns:
        The table, and of each of its rows the number of the first row that it was made of.
    """
    as_it_is = sheet, list(range(len(sheet.rows)))
    rows_of: dict[str, list[int]] = defaultdict(list)
    for at, image_id in enumerate(ids):
        rows_of[image_id].append(at)
    repeated = {image_id: rows for image_id, rows in rows_of.items() if len(rows) > 1}
    if not repeated or "path" not in sheet.header:
        return as_it_is
    place_of = {name: at for at, name in enumerate(sheet.header)}
    fixed = [place_of[n] for n in ("path", "split", "category", "group") if n in place_of]
    concepts = place_of.get("concepts")
    for rows in repeated.values():
        cells = [sheet.rows[at] for at in rows]
        if any(len({row[place] for row in cells}) > 1 for place in fixed):
            return as_it_is
        listed = concepts is None or any(_many(row[concepts]) for row in cells)
        if listed and len({tuple(row) for row in cells}) > 1:
            return as_it_is
    joined: list[list[Cell]] = []
    varying: set[str] = set()
    for rows in rows_of.values():
        cells = [sheet.rows[at] for at in rows]
        merged = list(cells[0])
        for place in range(len(merged)):
            values = dict.fromkeys(row[place] for row in cells)
            if place == concepts and len(values) > 1:
                merged[place] = ";".join(value for value in values if value)
            elif len(values) > 1:
                varying.add(sheet.header[place])
                merged[place] = ""
        joined.append(merged)
    name = sheet.path.name
    text = f"{count(len(sheet.rows), 'row')} of {count(len(joined), 'image')}, joined"
    notes = [Note(f"{name}: a row for each concept of an image: {text}")]
    if varying:
        shown = first_few(sorted(varying))
        text = f"values that differ between the rows of an image, left out: {shown}"
        notes.append(Note(f"{name}: {text}"))
    kept = [rows[0] for rows in rows_of.values()]
    places = [sheet.places[at] for at in kept]
    return replace(sheet, places=places, rows=joined, notes=(*sheet.notes, *notes)), kept


def _many(cell: Cell) -> bool:
    """Whether a cell may hold more than one concept."""
    return bool(cell) and any(mark in (cell or "") for mark in ";|,[")
