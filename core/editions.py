"""How each edition of the task reads submissions and truths, as data.

The rules were read off the public evaluators; `ensembles.submission.check` and
`ensembles.submission.score` apply them. In every edition a line holds an image id and its concepts,
and `;` stands between concepts.
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from core.errors import ConfigError

EmptyTruth = Literal["left out", "counted"]
"""What an image without true concepts does to the mean.

`left out`: nothing, it is no part of it (2017-2020). `counted`: it scores 1 against an empty
decision and 0 against any other (since 2022, whose evaluators split "" into one empty concept).
"""

MAX_CONCEPTS = 100
"""Concepts that an image may be given, in every edition."""


@dataclass(frozen=True, kw_only=True)
class Edition:
    r"""Rules of one edition.

    Attributes:
        year: the edition.
        separator: stands between id and concepts of a submission; in 2023, of what is written.
        truth_separator: the same of a truth file.
        pipe_or_tab: a `|` anywhere in the first line makes `|` the separator, else TAB.
        quotes: `"` quotes a cell; otherwise it is a character like any other.
        header: first line that is written; None where a submission has none.
        truth_header: the first line of a truth is dropped, whatever it holds.
        id_marks_header: any line, anywhere, whose id contains "ID" is taken for a header and
            dropped, in submissions and truths.
        empty_truth: `left out`: a blank cell is no concept. `counted`: it is one concept, the
            empty one, and so never equals a line without a second cell.
        strict: a second script checks the form first: header, order of ids, two cells a line, no
            blank lines, no blanks at the ends of a cell, concepts `C` and digits.
        secondary: there is a secondary score on 15 concepts.
        zipped: the platform takes a zip that holds `submission.csv`.
    """

    year: int
    separator: str = "\t"
    truth_separator: str = "\t"
    pipe_or_tab: bool = False
    quotes: bool = False
    header: tuple[str, str] | None = None
    truth_header: bool = False
    id_marks_header: bool = False
    empty_truth: EmptyTruth = "counted"
    strict: bool = False
    secondary: bool = False
    zipped: bool = False

    @property
    def suffix(self) -> str:
        """Ending of a submission file."""
        return ".csv" if self.zipped else ".txt"

    def rows(self, text: str, *, truth: bool = False) -> Iterator[tuple[int, list[str]]]:
        """First line number and cells of each record, headers included; a blank line has no cells.

        Raises:
            csv.Error: a cell is longer than the csv module takes (131,072 characters).
        """
        file = io.StringIO(text, newline=None)  # CRLF and CR end a line too
        separator = self.truth_separator if truth else self.separator
        if self.pipe_or_tab:
            separator = "|" if "|" in file.readline() else "\t"
            file.seek(0)
        reader = csv.reader(
            file,
            delimiter=separator,
            quoting=csv.QUOTE_MINIMAL if self.quotes else csv.QUOTE_NONE,
        )
        line = 1
        for cells in reader:
            yield line, cells
            line = reader.line_num + 1

    def split(self, cell: str) -> tuple[str, ...]:
        """Concepts of a cell, as they stand in it: repeated, empty and lower-case ones included.

        Example:
            >>> EDITIONS[2020].split(""), EDITIONS[2020].split("C1; C2;")
            ((), ('C1', ' C2', ''))
            >>> EDITIONS[2022].split(""), EDITIONS[2022].split("C1; C2;")
            (('',), ('C1', 'C2', ''))
        """
        if self.empty_truth == "counted":
            return tuple(concept.strip() for concept in cell.split(";"))
        return tuple(cell.split(";")) if cell.strip() else ()

    def takes_for_header(self, image_id: str) -> bool:
        """Whether a line with this id is dropped wherever it stands."""
        return self.id_marks_header and "ID" in image_id


EDITIONS: dict[int, Edition] = {
    2017: Edition(year=2017, empty_truth="left out"),
    2018: Edition(year=2018, empty_truth="left out"),
    2019: Edition(year=2019, empty_truth="left out"),
    2020: Edition(year=2020, empty_truth="left out"),
    2022: Edition(year=2022, separator="|", truth_header=True),
    2023: Edition(year=2023, separator="|", pipe_or_tab=True, id_marks_header=True),
    2025: Edition(
        year=2025,
        separator=",",
        truth_separator=",",
        quotes=True,
        header=("ID", "CUIs"),
        id_marks_header=True,
        secondary=True,
        zipped=True,
    ),
    2026: Edition(
        year=2026,
        separator=",",
        truth_separator=",",
        quotes=True,
        header=("ID", "CUIs"),
        id_marks_header=True,
        strict=True,
        secondary=True,
        zipped=True,
    ),
}

_WITHOUT_EVALUATOR = {
    2021: "2020 had the same files",
    2024: "2025 had the same files",
}


def rules_of(year: int) -> Edition:
    """Rules of an edition.

    Raises:
        ConfigError: no evaluator of that year is public; the nearest edition is named.
    """
    if year in EDITIONS:
        return EDITIONS[year]
    known = ", ".join(map(str, EDITIONS))
    if year in _WITHOUT_EVALUATOR:
        nearest = _WITHOUT_EVALUATOR[year]
        raise ConfigError(f"edition {year}: no public evaluator is known; {nearest}: use that one")
    raise ConfigError(f"edition {year}: not known; expected one of {known}")


def empty_truth_rule(edition: int) -> EmptyTruth:
    """What an edition does with an image without true concepts."""
    return "counted" if edition >= 2022 else "left out"
