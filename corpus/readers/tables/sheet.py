"""A table as it is written: rows of text with a header, whatever program made the file."""

import csv
import io
import operator
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from core.errors import CorpusError, first_few
from core.storage.text import brief, unwritable
from corpus.readers.notes import Note, count
from corpus.readers.tables.columns import known_names, plain, rename
from corpus.readers.tables.text import read_text

Cell = str | None
"""The text of a cell, stripped; None where a table tells null from empty, as parquet does."""

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "TABs", "|": "bars"}

_SEP_LINE = re.compile(r'"?sep=(?P<separator>.)"?[,;\s]*', re.IGNORECASE)

_UNNAMED = re.compile(r"(unnamed: ?\d+(\.\d+)?|\.\.\.\d+)?", re.IGNORECASE)
"""A column that nobody named: pandas calls it `Unnamed: 0` when it reads it, R's readr `...1`."""

_LONGEST = 1 << 27  # characters of a cell; csv's own limit of 131,072 is met by long lists

_FORMULA = re.compile(r'^="([^"]*)"$')

_IN_QUOTES = re.compile("'[^']*'")

Numbered = tuple[int, list[str]]
"""The line on which a row begins, and its cells."""


class _Dialect(NamedTuple):
    """How a text is written: the separator, quotes, and lines above the header."""

    separator: str
    quote: str | None = '"'
    n_above: int = 0


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A table of text.

    Attributes:
        path: its file.
        header: names of its columns.
        places: where each row stands, as messages name it ("line 3").
        rows: cells, as many as the header has.
        notes: what was passed over or mended.
    """

    path: Path
    header: tuple[str, ...]
    places: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: tuple[Note, ...] = ()

    def column(self, name: str) -> list[Cell]:
        """The cells of a column; none where there is no such column."""
        if name not in self.header:
            return []
        at = self.header.index(name)
        return [row[at] for row in self.rows]

    def without(self, columns: Collection[int], *notes: Note) -> "Sheet":
        """The table with some columns left out, by their number."""
        kept = [at for at in range(len(self.header)) if at not in columns]
        return replace(
            self,
            header=tuple(self.header[at] for at in kept),
            rows=[[row[at] for at in kept] for row in self.rows],
            notes=(*self.notes, *notes),
        )

    def dicts(self) -> dict[str, dict[str, Cell]]:
        """Each row by its place, with the names of the columns."""
        rows = (dict(zip(self.header, row, strict=True)) for row in self.rows)
        return dict(zip(self.places, rows, strict=True))


def read_sheet(path: Path, *, known: Collection[str]) -> Sheet:
    """The rows of a text file with a header.

    Separators are commas, semicolons, TABs or bars, told by the header or by a line `sep=;` above
    it; lines that begin with `#` above the header are passed over. Any encoding of `read_text`, any
    line end and any quoting of `csv` will do. Left out and noted are an unnamed first column
    of numbers and unnamed columns without a value.

    Args:
        path: the file.
        known: names with a meaning, as `columns.plain` writes them; the separator is the one that
            shows most of them in the header.

    Raises:
        CorpusError: the file is no text, a quote is never closed, a line has too few or too many
            cells, or a column has values and no name.
    """
    text, notes = read_text(path)
    dialect, noted = _dialect(path, text, known)
    filled: list[Numbered] = []
    n_padded = n_formulas = 0
    for number, cells in _records(path, text, dialect):
        stripped = [cell.strip() for cell in cells]
        if any(stripped):
            n_padded += sum(map(operator.ne, stripped, cells))
            if any(cell.startswith('="') for cell in stripped):
                plain_cells = [_FORMULA.sub(r"\1", cell) for cell in stripped]
                n_formulas += sum(map(operator.ne, stripped, plain_cells))
                stripped = plain_cells
            filled.append((number, stripped))
    if n_padded:
        text = f"{count(n_padded, 'cell')} with blanks around, stripped"
        noted = [*noted, Note(f"{path.name}: {text}")]
    if n_formulas:
        text = f'{count(n_formulas, "cell")} written as ="..." to keep their zeros (Excel)'
        noted = [*noted, Note(f"{path.name}: {text}, read without that")]
    header = filled[0][1] if filled else []
    if header and header[0].startswith("#"):
        header[0] = header[0].lstrip("# ")
    header, rows, mended = _even(path, header, filled[1:])
    sheet = Sheet(
        path=path,
        header=tuple(header),
        places=[f"line {number}" for number, _ in filled[1:]],
        rows=rows,
        notes=(*notes, *noted, *mended),
    )
    refuse_unwritable(sheet)
    return _named(sheet)


def refuse_unwritable(sheet: Sheet) -> None:
    """Refuse cells that no table can hold so that others read it again.

    Raises:
        CorpusError: there is one; its file, row and column are named.
    """
    for place, row in (("header", sheet.header), *zip(sheet.places, sheet.rows, strict=True)):
        for name, cell in zip(sheet.header, row, strict=True):
            if cell and (reason := unwritable(cell)):
                column = f"column {brief(name, longest=60)!r}"
                raise CorpusError(
                    f"{sheet.path}: {place}: {column}: {reason}; shorten or remove it"
                )


def read_table(
    path: Path, *, meanings: Mapping[str, Sequence[str]], needed: Sequence[str]
) -> Sheet:
    """The rows of a text file, its columns called as `meanings` calls them.

    Args:
        path: the file.
        meanings: columns with a meaning, and other names of each.
        needed: those of them that have to be there.

    Raises:
        CorpusError: as `read_sheet`; or a needed column is missing, or two could be the same.
    """
    sheet = read_sheet(path, known=known_names(meanings))
    header, notes = rename(sheet.header, meanings, file=str(path))
    if missing := [name for name in needed if name not in header]:
        raise CorpusError(
            f"{path}: no column {first_few(missing)}; expected {', '.join(needed)}, separated by"
            f" commas; found {first_few(header, n=12)}"
        )
    return replace(sheet, header=header, notes=(*sheet.notes, *notes))


def read_header(path: Path, *, known: Collection[str]) -> tuple[str, ...]:
    """The names in the first line of a text file, () of an empty one.

    Raises:
        CorpusError: the file is no text, or its first line no row.
    """
    text, _ = read_text(path)
    dialect, _ = _dialect(path, text, known)
    for _, cells in _records(path, text, dialect):
        if any(cell.strip() for cell in cells):
            return tuple(cell.strip().lstrip("# ") for cell in cells)
    return ()


def records(path: Path, text: str, *, separator: str, quoted: bool = True) -> Iterator[Numbered]:
    """The rows of a text, blank ones among them.

    Raises:
        CorpusError: a quote is never closed, or stands inside a quoted cell undoubled.
    """
    return _records(path, text, _Dialect(separator, quote='"' if quoted else None))


def _records(path: Path, text: str, dialect: _Dialect) -> Iterator[Numbered]:
    """The rows below the lines that stand above the header."""
    usual = csv.field_size_limit(_LONGEST)  # it is the whole process'; evaluators go by the usual
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=dialect.separator,
        quotechar=dialect.quote,
        quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
        strict=True,
    )
    first = 1
    rows: list[Numbered] = []
    try:
        for cells in reader:
            if first > dialect.n_above:
                rows.append((first, cells))
            first = reader.line_num + 1
    except csv.Error as error:
        reason = str(error)
        if "end of data" in reason or "field larger" in reason:
            reason = "a quote is opened and never closed"
        elif "expected after" in reason:
            reason = "a quote inside a quoted cell; write it twice"
        raise CorpusError(f"{path}: line {first}: {reason}") from None
    finally:
        csv.field_size_limit(usual)
    return iter(rows)


def _dialect(path: Path, text: str, known: Collection[str]) -> tuple[_Dialect, list[Note]]:
    """How a text is written, and what there is to say of that."""
    n_comments = 0
    notes = []
    for number, line in enumerate(io.StringIO(text, newline=None), start=1):
        line = line.strip("\n")
        if not line.strip():
            continue
        if told := _SEP_LINE.fullmatch(line.strip(" ")):
            separator = told["separator"]
            name = SEPARATORS.get(separator, repr(separator))
            note = Note(f"{path.name}: separated by {name}, as a line says")
            return _Dialect(separator, n_above=number), [note]
        separator, n_known = _separator(line, known)
        if line.lstrip().startswith("#") and not n_known:
            n_comments += 1
            continue
        if n_comments:
            notes.append(Note(f"{path.name}: {count(n_comments, 'comment')} above it passed over"))
        if separator != ",":
            notes.append(Note(f"{path.name}: separated by {SEPARATORS[separator]}"))
        cells = [cell.strip() for cell in line.split(separator)]
        quote = "'" if all(_IN_QUOTES.fullmatch(cell) for cell in cells) else '"'
        if quote == "'":
            notes.append(Note(f"{path.name}: cells in single quotes"))
        return _Dialect(separator, quote=quote, n_above=number - 1), notes
    return _Dialect(","), []


def _separator(line: str, known: Collection[str]) -> tuple[str, int]:
    """What separates the cells of a header, and how many known names that shows."""
    shown = {}
    for separator in SEPARATORS:
        try:
            cells = next(csv.reader([line], delimiter=separator), [])
        except csv.Error:  # a cell of a megabyte is no name of a column
            cells = []
        shown[separator] = sum(plain(cell) in known for cell in cells), len(cells)
    best = max(shown, key=lambda separator: shown[separator])
    return best, shown[best][0]


def _even(
    path: Path, header: list[str], filled: Sequence[Numbered]
) -> tuple[list[str], list[list[str]], list[Note]]:
    """Header and rows of one length.

    Empty cells beyond the last name are cut, as spreadsheets write them, and so are numbers before
    the first one, as R writes those of its rows.

    Raises:
        CorpusError: a line has too few or too many cells.
    """
    rows = [cells for _, cells in filled]
    n_given = len(header)
    while header and not header[-1]:
        header = header[:-1]
    width = len(header)
    numbered = bool(rows) and all(len(cells) == n_given + 1 for cells in rows)
    if numbered and any(cells[-1] for cells in rows) and _counting([c[0] for c in rows]):
        text = f"{path.name}: numbers of the rows before the first column, left out"
        return header, [cells[1 : width + 1] for cells in rows], [Note(text)]
    n_cut = 0
    for place, (number, cells) in enumerate(filled):
        if any(cells[width:]) or len(cells) < width:
            comment = "; a comment? remove the line" if cells[0].startswith("#") else ""
            many = "; quote a cell that holds the separator" if len(cells) > width else ""
            raise CorpusError(
                f"{path}: line {number}: expected {width} columns, found {len(cells)}"
                f"{comment or many}"
            )
        n_cut += len(cells) > n_given
        rows[place] = cells[:width]
    notes = []
    if n_cut:
        notes.append(Note(f"{path.name}: {count(n_cut, 'line')} end in empty cells, left out"))
    if n_given > width:
        columns = count(n_given - width, "column")
        notes.append(Note(f"{path.name}: {columns} without a name or a value, left out"))
    return header, rows, notes


def _counting(cells: Sequence[Cell]) -> bool:
    """Whether the cells are distinct whole numbers, as those of an index are."""
    return len(set(cells)) == len(cells) and all(c and c.isascii() and c.isdecimal() for c in cells)


def _named(sheet: Sheet) -> Sheet:
    """The table without columns that nobody named.

    Raises:
        CorpusError: such a column holds more than the numbers of the rows.
    """
    name = sheet.path.name
    unnamed = [at for at, column in enumerate(sheet.header) if _UNNAMED.fullmatch(column)]
    empty = [at for at in unnamed if not any(row[at] for row in sheet.rows)] if sheet.rows else []
    notes = []
    if empty:
        text = f"{name}: {count(len(empty), 'column')} without a name or a value, left out"
        notes.append(Note(text))
    left_out = [*empty]
    for at in unnamed:
        if at in empty:
            continue
        cells = [row[at] for row in sheet.rows]
        if (at == 0 or sheet.header[at]) and _counting(cells):
            what = "the first column" if at == 0 else f"column {sheet.header[at]!r}"
            notes.append(Note(f"{name}: {what} counts the rows, left out"))
            left_out.append(at)
        elif not sheet.header[at] and any(cells):  # a name that pandas gave is one
            place = next(place for place, cell in zip(sheet.places, cells, strict=True) if cell)
            shown = next(cell for cell in cells if cell)
            like = "call it image_id if it holds the ids" if at == 0 else "name it"
            raise CorpusError(
                f"{sheet.path}: column {at + 1} has no name, but {shown!r} in {place}; {like}, or"
                " remove it"
            )
    return sheet.without(left_out, *notes) if left_out else sheet
