"""Decisions as tables: csv, one JSON object an image, parquet, and the task's submissions.

A table is made of the tables of units, which are joined when they are whole: see
`inference.archive.join`.
"""

import io
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from core.editions import rules_of
from core.errors import ConfigError
from core.storage.tables import csv_row
from inference.images import GUESSED
from inference.stream import DecidedBlock

FORMATS = ("csv", "jsonl", "parquet", "submission")

COLUMNS = (
    *("image", "CUI", "name", "probability", "decided", "rule"),
    *("category", "category_from", "expected_f1", "review", "distance"),
    *("nearest", "nearest_image"),
)
"""Of csv and parquet: a row a concept; an image without any has one row with an empty CUI."""

NUMBERS = ("expected_f1", "review", "distance", "nearest")
"""Of these the numbers of an image."""


def check_format(form: str, *, out: Path | None, edition: int | None, top: int = 0) -> None:
    """Refuse what cannot be written.

    Args:
        form: one of `FORMATS`.
        out: the file; None for stdout.
        edition: year of a submission's format; None for that of the corpus.
        top: candidates of an image beside what was decided.

    Raises:
        ConfigError: no such format, one that needs a file has none, there is no such edition,
            parquet is not installed, or an option belongs to another format.
    """
    if form not in FORMATS:
        raise ConfigError(f"--format {form}: expected one of {', '.join(FORMATS)}")
    if out is None and form in ("parquet", "submission"):
        raise ConfigError(f"--format {form}: name the file with --out")
    if form == "parquet":
        parquet_schema()
    if edition is not None:
        if form != "submission":
            raise ConfigError(f"--edition {edition}: goes with --format submission only")
        rules_of(edition)
    if top and form == "submission":
        raise ConfigError(f"--top {top}: there are no candidates in a submission; leave it away")


def objects(block: DecidedBlock, *, top: int) -> Iterator[dict[str, Any]]:
    """An object an image, as it is written: numbers to six places, None where there is none."""
    for image in exact_objects(block, top=top):
        concepts = [{**c, "probability": _number(c["probability"])} for c in image["concepts"]]
        numbers = {name: _number(image[name]) for name in NUMBERS}
        yield {**image, **numbers, "concepts": concepts}


def exact_objects(block: DecidedBlock, *, top: int) -> Iterator[dict[str, Any]]:
    """An object an image: its category, how sure the set is, how far it lies, its concepts."""
    decisions = block.decisions
    for row, image in enumerate(block.images):
        category = decisions.categories[row]
        yield {
            "image": decisions.image_ids[row],
            "category": category,
            "category_from": (GUESSED if decisions.guessed[row] else image.told_by),
            "expected_f1": float(decisions.expected_f1[row]),
            "review": float(decisions.review[row]),
            "distance": float(decisions.distance[row]),
            "nearest": float(decisions.nearest[row]),
            "nearest_image": decisions.nearest_image[row],
            "concepts": [
                {
                    "CUI": concept.cui,
                    "name": concept.name,
                    "probability": concept.probability,
                    "decided": concept.decided,
                    "rule": concept.rule,
                }
                for concept in decisions.concepts(row, top=top)
            ],
        }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)


def rows(images: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """A row a concept, by `COLUMNS`, of objects of either kind."""
    nothing = {"CUI": "", "name": "", "probability": None, "decided": False, "rule": ""}
    for image in images:
        for concept in image["concepts"] or [nothing]:
            whole = {**image, **concept}
            yield {name: whole[name] for name in COLUMNS}


def head_of(form: str) -> str:
    """What a table of text begins with."""
    return ",".join(COLUMNS) + "\n" if form == "csv" else ""


def text_of(block: DecidedBlock, *, form: str, top: int) -> str:
    """The lines of a block in a table of text; of a submission an object an image.

    Args:
        block: the decisions.
        form: csv, jsonl or submission.
        top: candidates of an image beside what was decided; none in a submission.
    """
    if form == "csv":
        found_rows = rows(objects(block, top=top))
        return "".join(csv_row(map(_cell, row.values())) for row in found_rows)
    if form == "jsonl":
        found: Iterator[Any] = objects(block, top=top)
    else:
        decisions = block.decisions
        sets = decisions.labels.decode(decisions.decided)
        found = zip(decisions.image_ids, sets, strict=True)
    return "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in found)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        return f"{value:.6f}"
    return "" if value is None else str(value)


class UnitTable:
    """The table of a unit: text without its head, or a parquet file of its own."""

    def __init__(self, *, form: str, top: int) -> None:
        """Begin one; see `text_of`."""
        self.form, self.top = form, top
        self._file = io.BytesIO()
        self._parquet: Any = None
        if form == "parquet":
            import pyarrow.parquet as pq

            self._parquet = pq.ParquetWriter(self._file, parquet_schema())

    def take(self, block: DecidedBlock) -> None:
        """Add the decisions of a block."""
        if self._parquet is None:
            text = text_of(block, form=self.form, top=self.top)
            self._file.write(text.encode())
            return
        import pyarrow as pa

        some = list(rows(objects(block, top=self.top)))
        self._parquet.write_table(pa.Table.from_pylist(some, schema=parquet_schema()))

    def end(self) -> bytes:
        """All of it; nothing more will come."""
        if self._parquet is not None:
            self._parquet.close()
        return self._file.getvalue()


def parquet_schema() -> Any:
    """Columns of a parquet file, as `pyarrow.schema`.

    Raises:
        ConfigError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise ConfigError("--format parquet: run `pip install 'radfuse[parquet]'` first") from None
    kinds = {name: pa.string() for name in COLUMNS}
    kinds |= dict.fromkeys(("probability", *NUMBERS), pa.float64())
    kinds["decided"] = pa.bool_()
    return pa.schema(list(kinds.items()))
