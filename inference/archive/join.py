"""Units joined: one file, or a folder of parquet parts, and beside it what could not be read."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import ConfigError, first_few
from core.storage.claims import claimed
from core.storage.documents import parse_json
from core.storage.drafts import LONGEST, draft_file
from core.storage.packed import ARCHIVE
from core.storage.tables import csv_row
from core.storage.text import LONGEST_CELL, whole
from ensembles.submission.write import write_submission
from inference.archive.units import UnitFolder
from inference.tables import head_of, parquet_schema

_ENDING = ".parquet"

SUCCESS = "_SUCCESS"
"""An empty file that says that all parts are there; readers pass over names that begin so."""


@dataclass(frozen=True, kw_only=True)
class TableTarget:
    """Where a table goes.

    Attributes:
        out: the file; of parquet also a folder, of which the name ends otherwise.
        form: one of `inference.tables.FORMATS`.
    """

    out: Path
    form: str

    @property
    def in_parts(self) -> bool:
        """Whether it is a folder with a part for every 10,000 images."""
        is_file = self.out.suffix.lower() == _ENDING and not self.out.is_dir()
        return self.form == "parquet" and not is_file

    @property
    def skipped(self) -> Path:
        """Where images are listed that could not be read."""
        if self.in_parts:
            return self.out / "_skipped.csv"
        return self.out.with_name(f"{self.out.name}.skipped.csv")

    def _part(self, number: int) -> Path:
        return self.out / f"part-{number:05d}{_ENDING}"

    def _parts(self) -> list[Path]:
        """Parts that are there, and what says that they are all."""
        names = (f"part-*{_ENDING}", f".part-*{_ENDING}.*.tmp", SUCCESS, self.skipped.name)
        return sorted(path for name in names for path in self.out.glob(name))

    def check(self, places: Iterable[str] = ()) -> None:
        """Make the folder of the file, and refuse what cannot become one.

        Args:
            places: what is to be read.

        Raises:
            ConfigError: it cannot be written, or something would be lost.
        """
        try:
            self._refuse(places)
            self._try_to_write()
        except OSError as error:
            reason = (error.strerror or "no reason given").lower()
            raise ConfigError(f"--out {self.out}: cannot be written ({reason})") from None

    def _refuse(self, places: Iterable[str]) -> None:
        out = self.out
        if out.is_dir() and not self.in_parts:
            raise ConfigError(f"--out {out}: is a folder; name a file in it")
        if self.in_parts and out.is_file():
            raise ConfigError(
                f"--out {out}: is a file; end its name in {_ENDING}, or name a folder for parts"
            )
        if out.exists() and not (out.is_file() or out.is_dir()):
            raise ConfigError(
                f"--out {out}: is a device or a pipe; name a file, or none for stdout"
            )
        written = [out, self.skipped]
        if self.form == "submission":
            if out.suffix.lower() == ARCHIVE:
                raise ConfigError(
                    f"--out {out}: name a .csv; its zip, if any, is written beside it"
                )
            written.append(out.with_suffix(ARCHIVE))
        for place in places:
            for path in written:
                if path.is_file() and Path(place).exists() and path.samefile(place):
                    raise ConfigError(f"--out {out}: {place} is to be read, and would be replaced")

    def _try_to_write(self) -> None:
        """Where drafts will be, by a name that no draft is longer than."""
        home = self.out if self.in_parts else Path(os.path.realpath(self.out)).parent
        home.mkdir(parents=True, exist_ok=True)
        draft = home / f"{self.out.name}.skipped.csv.{'x' * LONGEST}"
        draft.touch()
        draft.unlink()

    def begin(self, drops: bool) -> None:
        """Make sure that no part of another table is there.

        Args:
            drops: whether what is there was begun and not finished, and goes.

        Raises:
            ConfigError: there are parts of a table that was finished.
        """
        found = self._parts() if self.in_parts else []
        if found and not drops:
            names = first_few(path.name for path in found)
            raise ConfigError(
                f"--out {self.out}: holds a table already, {names}; remove it, or name another"
            )
        for path in found:
            path.unlink()

    def put_part(self, units: UnitFolder, number: int) -> None:
        """Write the part that a unit belongs to, if its units are all finished.

        Args:
            units: the folder of units.
            number: of a unit.
        """
        if not self.in_parts:
            return
        place = number // units.sizes.part
        numbers = units.sizes.parts(len(units.numbers))[place]
        if all(map(units.is_done, numbers)):
            self._write_part(units, place, numbers=numbers)

    def _write_part(self, units: UnitFolder, place: int, *, numbers: Iterable[int]) -> None:
        with claimed(units.home / f"part-{place:05d}.lock"):
            if not self._part(place).is_file():
                _put_parquet(self._part(place), units, numbers=numbers)

    def join(self, units: UnitFolder, *, skipped: Sequence[tuple[str, str]], edition: int) -> None:
        """Make the whole table of units that are all finished.

        Args:
            units: the folder of units.
            skipped: path and reason of what could not be read.
            edition: year of a submission's format.

        Raises:
            SubmissionError: the evaluator would refuse it.
        """
        if skipped:
            _put_text(self.skipped, [_skipped_csv(skipped)])
        else:
            self.skipped.unlink(missing_ok=True)
        if self.in_parts:
            for place, numbers in enumerate(units.sizes.parts(len(units.numbers))):
                self._write_part(units, place, numbers=numbers)
            (self.out / SUCCESS).touch()
        elif self.form == "parquet":
            _put_parquet(self.out, units, numbers=units.numbers)
        elif self.form == "submission":
            ids, sets = _submitted(units)
            there = Path(os.path.realpath(self.out))
            write_submission(there, image_ids=ids, concept_sets=sets, edition=edition)
        else:
            _put_text(self.out, _texts(units, head_of(self.form)))


def _texts(units: UnitFolder, head: str) -> Iterator[bytes]:
    yield head.encode()
    for number in units.numbers:
        yield units.rows(number).read_bytes()


def _submitted(units: UnitFolder) -> tuple[list[str], list[list[str]]]:
    """Ids and sets of all images: the format is checked as a whole."""
    ids, sets = list[str](), list[list[str]]()
    for number in units.numbers:
        with units.rows(number).open(encoding="utf-8") as lines:
            for line in lines:
                image_id, concepts = parse_json(line)
                ids.append(image_id)
                sets.append(concepts)
    return ids, sets


def _draft(path: Path) -> AbstractContextManager[Path]:
    """A hidden file that takes the place of another; where that is a link, of what it points to."""
    return draft_file(Path(os.path.realpath(path)))


def _put_text(path: Path, texts: Iterable[bytes]) -> None:
    with _draft(path) as draft, draft.open("wb") as file:
        file.writelines(texts)


def _put_parquet(path: Path, units: UnitFolder, *, numbers: Iterable[int]) -> None:
    """Write a parquet file with a group of rows a unit."""
    import pyarrow.parquet as pq

    with _draft(path) as draft, pq.ParquetWriter(draft, parquet_schema()) as writer:
        for number in numbers:
            rows: Any = pq.read_table(units.rows(number), schema=parquet_schema())
            if len(rows):
                writer.write_table(rows, row_group_size=len(rows))


def _skipped_csv(skipped: Sequence[tuple[str, str]]) -> bytes:
    rows = [("image", "reason"), *skipped]
    # A name may be no UTF-8, a reason as long as somebody liked.
    cut = ([whole(cell)[:LONGEST_CELL] for cell in row] for row in rows)
    return "".join(map(csv_row, cut)).encode()
