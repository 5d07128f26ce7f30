"""Tables and lists as plain files: rows of cells as csv, and text with an entry a line.

What is written here is read again as it was by `read_rows` and `read_lines`, by Python's `csv` and
by pandas. A cell may hold any character, ends of lines among them; what no file can hold is
refused, and the file and the row are named.
"""

import csv
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from core.errors import PredictionsError
from core.storage.drafts import naming
from core.storage.plain import plain_file
from core.storage.text import brief, harmless, unwritable, visible

_QUOTED = re.compile('[",\r\n\0]|^\ufeff')
"""Cells in quotes. Python's `csv` leaves a bare CR outside, which ends a row when it is read; and
the mark at the beginning would be taken for that of the file."""

_UNLISTED = re.compile("[\r\n\ud800-\udfff]")


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write one entry a line.

    Raises:
        PredictionsError: an entry has the end of a line in it, or is not UTF-8.
    """
    lines = list(lines)
    for number, line in enumerate(lines, start=1):
        if _UNLISTED.search(line):
            raise PredictionsError(
                f"{path}: line {number}: {visible(line[:60])!r} has the end of a line, or half a"
                " character, in it"
            )
    with naming(path):
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def read_lines(path: Path) -> tuple[str, ...]:
    """Read one entry a line.

    Raises:
        PredictionsError: the file is missing or not UTF-8.
    """
    try:
        text = plain_file(path, error=PredictionsError).read_text(encoding="utf-8")
        lines = text.split("\n")  # splitlines() splits at more
    except FileNotFoundError:
        raise PredictionsError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise PredictionsError(f"{path}: not UTF-8 ({error.reason})") from None
    return tuple(lines[:-1] if lines[-1] == "" else lines)


def write_rows(
    path: Path,
    rows: Iterable[Iterable[object]],
    *,
    mode: Literal["w", "a"] = "w",
    for_people: bool = False,
) -> None:
    """Write a csv with one row a line, or add to it.

    Args:
        path: the file.
        rows: their cells; None is an empty one.
        mode: `a` adds.
        for_people: whether it is opened in spreadsheets rather than read by programs: cells that
            could be formulas get an apostrophe (see `core.storage.text.harmless`).

    Raises:
        PredictionsError: a cell cannot be written so that it is read again.
    """
    with naming(path), path.open(mode, encoding="utf-8", newline="") as file:
        for number, row in enumerate(rows, start=1):
            try:
                file.write(csv_row(row, for_people=for_people))
            except ValueError as error:
                raise PredictionsError(f"{path}: row {number}: {error}") from None


def csv_row(cells: Iterable[object], *, for_people: bool = False) -> str:
    """A row of a csv file with its end.

    Raises:
        ValueError: a cell cannot be written so that it is read again; the text says why.
    """
    texts = ["" if cell is None else str(cell) for cell in cells]
    if reason := next(filter(None, map(unwritable, texts)), ""):
        raise ValueError(reason)
    if for_people:
        texts = list(map(harmless, texts))
    line = ",".join(
        '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text for text in texts
    )
    # A row of one blank cell is no blank line, which readers pass over.
    return f'"{line}"\n' if len(texts) == 1 and not line.strip() else f"{line}\n"


@contextmanager
def meant_as_written(path: Path) -> Iterator[None]:
    """A block that reads cells of a file: where they are not what was written, it is damaged.

    Raises:
        PredictionsError: a cell is no number, a column is missing, or a row has other cells.
    """
    try:
        yield
    except (ValueError, KeyError, IndexError) as error:
        reason = brief(str(error), longest=100)
        raise PredictionsError(f"{path}: damaged, or of another version ({reason})") from None


def read_pairs(path: Path) -> dict[str, str]:
    """The second cell of each row by the first one; errors as of `read_rows`."""
    return {key: value for key, value in read_rows(path, n_columns=2)}  # noqa: C416  # for mypy


def read_rows(path: Path, *, n_columns: int | None = None) -> list[list[str]]:
    """The rows of a csv that `write_rows` wrote, a header among them.

    Args:
        path: the file.
        n_columns: how many cells each row must have; None for any number.

    Raises:
        PredictionsError: the file is missing, not UTF-8 or no table, or a row has other cells.
    """
    rows: list[list[str]] = []
    try:
        with plain_file(path, error=PredictionsError).open(encoding="utf-8", newline="") as file:
            rows += csv.reader(file)
    except FileNotFoundError:
        raise PredictionsError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise PredictionsError(f"{path}: not UTF-8 ({error.reason})") from None
    except csv.Error as error:
        raise PredictionsError(f"{path}: row {len(rows) + 1}: not a table ({error})") from None
    if n_columns is not None:
        for number, row in enumerate(rows, start=1):
            if len(row) != n_columns:
                found = f"{len(row)} cells, not {n_columns}"
                raise PredictionsError(f"{path}: row {number}: {found}")
    return rows
