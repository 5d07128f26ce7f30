"""Decisions as tables: csv, one JSON object an image, parquet, and the task's submissions."""

import csv
import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np

from core.editions import rules_of
from core.errors import ConfigError
from core.labels import Concepts
from ensembles.submission.write import write_submission
from inference.images import GUESSED
from inference.stream import DecidedBlock

FORMATS = ("csv", "jsonl", "parquet", "submission")

COLUMNS = (
    *("image", "CUI", "name", "probability", "decided", "rule"),
    *("category", "category_from", "expected_f1", "nearest"),
)
"""Of csv and parquet: a row a concept; an image without any has one row with an empty CUI."""


class Writer(Protocol):
    """Takes decisions block by block."""

    def take(self, block: DecidedBlock) -> None:
        """Write the decisions of a block."""

    def end(self) -> None:
        """Nothing more will come."""


@contextmanager
def writing(out: Path | None, *, form: str, top: int, edition: int) -> Iterator[Writer]:
    """A writer for the length of a block of code.

    A file is written under a temporary name and renamed when all is in it.

    Args:
        out: the file; None for stdout.
        form: one of `FORMATS`.
        top: candidates of an image beside what was decided; none in a submission.
        edition: year of a submission's format.

    Raises:
        ConfigError: no such format, one that needs a file has none, the file cannot be written, or
            parquet is not installed.
    """
    if form not in FORMATS:
        raise ConfigError(f"--format {form}: expected one of {', '.join(FORMATS)}")
    if out is None and form in ("parquet", "submission"):
        raise ConfigError(f"--format {form}: name the file with --out")
    if out is not None:
        _try_to_write(out)
    if form == "submission":
        assert out is not None
        to_submit = _Submission(out, edition)
        yield to_submit
        to_submit.end()
        return
    draft = None if out is None else out.with_name(f".{out.name}.tmp")
    try:
        if form == "parquet":
            assert draft is not None
            table: Writer = _Parquet(draft, top)
            yield table
            table.end()
        else:
            kind = _Csv if form == "csv" else _Jsonl
            if draft is None:
                yield kind(sys.stdout, top)
            else:
                with draft.open("w", encoding="utf-8", newline="") as file:
                    yield kind(file, top)
        if draft is not None and out is not None:
            draft.replace(out)
    finally:
        if draft is not None:
            draft.unlink(missing_ok=True)


def _try_to_write(out: Path) -> None:
    """Make the folder of a file, and refuse what cannot become one before anything is decided."""
    if out.is_dir():
        raise ConfigError(f"--out {out}: is a folder; name a file in it")
    draft = out.with_name(f".{out.name}.tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        draft.touch()
        draft.unlink()
    except OSError as error:
        reason = (error.strerror or "no reason given").lower()
        raise ConfigError(f"--out {out}: cannot be written ({reason})") from None


def objects(block: DecidedBlock, *, top: int) -> Iterator[dict[str, Any]]:
    """An object an image: its category, how sure the set is, how far it lies, its concepts."""
    decisions = block.decisions
    for row, image in enumerate(block.images):
        category = decisions.categories[row]
        yield {
            "image": decisions.image_ids[row],
            "category": category,
            "category_from": (GUESSED if decisions.guessed[row] else image.told_by),
            "expected_f1": _number(decisions.expected_f1[row]),
            "nearest": _number(decisions.nearest[row]),
            "concepts": [
                {
                    "CUI": concept.cui,
                    "name": concept.name,
                    "probability": _number(concept.probability),
                    "decided": concept.decided,
                    "rule": concept.rule,
                }
                for concept in decisions.concepts(row, top=top)
            ],
        }


def _number(value: float | np.floating[Any]) -> float | None:
    return None if math.isnan(value) else round(float(value), 6)


def rows(block: DecidedBlock, *, top: int) -> Iterator[dict[str, Any]]:
    """A row a concept, by `COLUMNS`."""
    nothing = {"CUI": "", "name": "", "probability": None, "decided": False, "rule": ""}
    for image in objects(block, top=top):
        concepts = image.pop("concepts")
        for concept in concepts or [nothing]:
            whole = {**image, **concept}
            yield {name: whole[name] for name in COLUMNS}


class _Csv:
    def __init__(self, file: TextIO, top: int) -> None:
        self.top = top
        self.writer = csv.writer(file, lineterminator="\n")
        self.writer.writerow(COLUMNS)

    def take(self, block: DecidedBlock) -> None:
        for row in rows(block, top=self.top):
            self.writer.writerow([_cell(value) for value in row.values()])

    def end(self) -> None:
        pass


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        return f"{value:.6f}"
    return "" if value is None else str(value)


class _Jsonl:
    def __init__(self, file: TextIO, top: int) -> None:
        self.top, self.file = top, file

    def take(self, block: DecidedBlock) -> None:
        for image in objects(block, top=self.top):
            print(json.dumps(image, ensure_ascii=False), file=self.file)

    def end(self) -> None:
        pass


class _Parquet:
    def __init__(self, path: Path, top: int) -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ModuleNotFoundError:
            raise ConfigError(
                "--format parquet: run `pip install 'radfuse[parquet]'` first"
            ) from None
        kinds = {"probability": pa.float64(), "decided": pa.bool_(), "expected_f1": pa.float64()}
        kinds["nearest"] = pa.float64()
        self.top, self.table = top, pa.Table
        self.schema = pa.schema([(name, kinds.get(name, pa.string())) for name in COLUMNS])
        self.writer = pq.ParquetWriter(path, self.schema)

    def take(self, block: DecidedBlock) -> None:
        some = list(rows(block, top=self.top))
        self.writer.write_table(self.table.from_pylist(some, schema=self.schema))

    def end(self) -> None:
        self.writer.close()


class _Submission:
    """Ids and sets alone are kept until all are there: the format is checked as a whole."""

    def __init__(self, path: Path, edition: int) -> None:
        rules_of(edition)
        self.path, self.edition = path, edition
        self.ids: list[str] = []
        self.sets: list[Concepts] = []

    def take(self, block: DecidedBlock) -> None:
        self.ids += block.decisions.image_ids
        self.sets += block.decisions.labels.decode(block.decisions.decided)

    def end(self) -> None:
        write_submission(
            self.path, image_ids=self.ids, concept_sets=self.sets, edition=self.edition
        )
