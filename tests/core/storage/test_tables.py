"""Every table that is written is read again: by its own reader, by `csv` and by pandas."""

import csv
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from packaging.version import Version

from core.editions import EDITIONS
from core.errors import LabelSpaceError, PredictionsError, SubmissionError
from core.images import ImageTable
from core.labels import LabelSpace
from core.metrics import Interval
from core.runs.ensemble import read_scores, write_scores
from core.runs.ladder import LadderStep, read_steps, write_steps
from core.runs.leakage import CrossingGroups, NearDuplicate, save_duplicates
from core.storage.folders import write_json
from core.storage.tables import (
    csv_row,
    read_lines,
    read_pairs,
    read_rows,
    write_lines,
    write_rows,
)
from core.storage.text import unwritable
from corpus.deal import write_manifest
from corpus.images.cache import read_remarks
from ensembles.submission.check import parse_submission
from ensembles.submission.write import write_submission
from inference.tables import COLUMNS

ODD = [
    *("", " ", "a\rb", "a\nb", "a\r\nb", "\r", "\n", "a\0b", "\0", "\u2028", "\u2029", "\x85"),
    *("\ufeff", "\ufeffa", 'a"b', '"', '""', "a,b", ",", ";", "\t", "=1+1", "+1", "-1", "@a"),
    *("\x1b[31m", "\u202eabc", "\x0b\x0c\x1c\x1d\x1e", "NA", "nan", "#", "'", "\\", "\x1a"),
    *("\U0001f600", "\ufffe", "\uffff", "e\u0301", '"' * 130_000),
]
HELD = st.text(st.characters(codec="utf-8")) | st.sampled_from(ODD)
ANY = HELD | st.text(st.characters(codec=None, categories=None))


def table_of(cell: str) -> ImageTable:
    """Two images of one group in two splits, with a text wherever one may stand."""
    return ImageTable(
        image_ids=(f"{cell}1", f"{cell}2"),
        paths=(cell, cell),
        categories=("", "DRCT"),
        splits=("train", "valid"),
        folds=np.array([0, 1], dtype=np.int16),
        groups=(f"g{cell}",) * 2,
        concepts=((), None),
        metadata={f"m{cell}": (cell, "")},
    )


STEP = Interval(value=0.5, low=0.25, high=0.75, n=3)


def _images(cell: str, path: Path) -> None:
    table = table_of(cell)
    table.save(path)
    read = ImageTable.load(path)
    assert read.image_ids == table.image_ids
    assert read.paths == table.paths
    assert read.groups == table.groups
    assert read.metadata == table.metadata


def _pairs(cell: str, path: Path) -> None:
    write_rows(path, [(cell, cell), (f"{cell}x", "")])
    assert read_pairs(path) == {cell: cell, f"{cell}x": ""}


def _alone(cell: str, path: Path) -> None:
    write_rows(path, [[cell], [None], [1.5]])
    assert read_rows(path) == [[cell], [""], ["1.5"]]


def _scores(cell: str, path: Path) -> None:
    write_scores(path, image_ids=[cell], scores={f"s{cell}": np.array([0.1])})
    ids, scores = read_scores(path)
    assert ids == (cell,)
    assert list(scores) == [f"s{cell}"]


def _steps(cell: str, path: Path) -> None:
    write_steps(path, [LadderStep(name=cell, f1=STEP, gain=STEP)])
    assert read_steps(path) == [LadderStep(name=cell, f1=STEP, gain=STEP)]


def _crossing(cell: str, path: Path) -> None:
    CrossingGroups.of(table_of(cell)).save(path)
    assert [row[0] for row in read_rows(path, n_columns=3)[1:]] == [f"g{cell}"] * 2


def _duplicates(cell: str, path: Path) -> None:
    save_duplicates([NearDuplicate(cell, "train", cell, "test", 0.5, True, False)], path)
    assert read_rows(path)[1][0] == cell


def _remarks(cell: str, path: Path) -> None:
    write_rows(path, [(cell, f"r{cell}")])
    assert read_remarks(path) == {cell: (f"r{cell}",)}


def _manifest(cell: str, path: Path) -> None:
    write_manifest(table_of(cell), path, names={})
    assert read_rows(path)[1][2] == f"{cell}1"


def _predicted(cell: str, path: Path) -> None:
    row = dict.fromkeys(COLUMNS, cell)
    path.write_text(csv_row(COLUMNS) + csv_row(row.values()), encoding="utf-8", newline="")
    assert read_rows(path)[1] == list(row.values())


@dataclass(frozen=True)
class Writer:
    """One kind of table: it is written with a text in it, and read again by its own reader."""

    check: Callable[[str, Path], None]

    def __repr__(self) -> str:
        return self.check.__name__


TABLES = [
    Writer(check)
    for check in (
        *(_images, _pairs, _alone, _scores, _steps),
        *(_crossing, _duplicates, _remarks, _manifest, _predicted),
    )
]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def by_csv(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def by_pandas(path: Path) -> list[list[str]]:
    source: Path | StringIO = path
    engine: Literal["c", "python"] = "c"
    text = path.read_bytes().decode()
    if before := "\0" in text and Version(pd.__version__) < Version("3.1"):
        # There the engine of C ends a cell at a NUL. That of Python takes U+FEFF in the very first
        # cell for a byte order mark, quoted or not, hence a row of numbers before it; and a row of
        # one blank cell for a blank line.
        engine, source = "python", StringIO(csv_row(range(len(by_csv(path)[0]))) + text)
    found = pd.read_csv(
        source,
        header=0 if before else None,
        dtype=str,
        keep_default_na=False,
        na_filter=False,
        engine=engine,
        skip_blank_lines=not before,
    )
    return [[str(cell) for cell in row] for row in found.to_numpy().tolist()]


@pytest.mark.parametrize("table", TABLES, ids=repr)
@given(HELD)
@settings(max_examples=10, deadline=None)
def test_a_table_is_read_again_by_its_reader_csv_and_pandas(
    folder: Path, table: Writer, text: str
) -> None:
    path = folder / "table.csv"
    text = text[:130_000] if len(text) > 1000 else text  # some put a letter before it
    table.check(text, path)
    assert by_csv(path) == by_pandas(path) == read_rows(path)


@pytest.mark.parametrize("text", ODD, ids=ascii)
def test_each_odd_cell_comes_back(tmp_path: Path, text: str) -> None:
    rows = [[text, "b"], [text, text], ["", text]]
    write_rows(tmp_path / "t.csv", rows)
    assert read_rows(tmp_path / "t.csv") == rows
    assert by_csv(tmp_path / "t.csv") == by_pandas(tmp_path / "t.csv") == rows


@given(st.lists(st.lists(ANY, min_size=2, max_size=2), min_size=1, max_size=3))
@settings(max_examples=40, deadline=None)
@example([["\ud800", "a"]])
@example([["a", "b"], ["x" * 131_073, ""]])
def test_rows_are_read_again_or_refused_by_file_and_row(
    folder: Path, rows: Sequence[Sequence[str]]
) -> None:
    path = folder / "rows.csv"
    if any(map(unwritable, chain.from_iterable(rows))):
        with pytest.raises(PredictionsError, match=r"^\S+rows\.csv: row \d: \S.*$"):
            write_rows(path, rows)
        return
    write_rows(path, rows)
    assert read_rows(path) == by_csv(path) == by_pandas(path) == rows


def test_plain_rows_have_the_bytes_that_csv_writes(tmp_path: Path) -> None:
    rows: list[list[object]] = [["a", 1, 0.1, None, ""], ["b c", 'q"', "x,y", "l\nm", "Ü"], [""]]
    with (tmp_path / "csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    write_rows(tmp_path / "ours", rows)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "csv").read_bytes()


def test_cells_for_people_are_no_formulas(tmp_path: Path) -> None:
    write_rows(tmp_path / "t.csv", [["=1+1", -0.5, "+x", "-0.5"]], for_people=True)
    assert read_rows(tmp_path / "t.csv") == [["'=1+1", "-0.5", "'+x", "-0.5"]]


@given(st.lists(ANY, max_size=4))
@settings(max_examples=40, deadline=None)
@example(["a\rb"])
@example(["a\u2028b", "", "\x85", "\x0c", "\0"])
def test_lines_are_read_again_or_refused(folder: Path, lines: list[str]) -> None:
    path = folder / "lines.txt"
    if any("\r" in x or "\n" in x or "half a" in unwritable(x) for x in lines):
        with pytest.raises(PredictionsError, match=r"^\S+lines\.txt: line \d: \S.*$"):
            write_lines(path, lines)
        return
    write_lines(path, lines)
    assert read_lines(path) == tuple(lines)


@given(st.lists(ANY, max_size=3, unique=True))
@settings(max_examples=40, deadline=None)
def test_a_label_space_is_read_again_or_refused(folder: Path, cuis: list[str]) -> None:
    path = folder / "labels.txt"
    try:
        space = LabelSpace(tuple(cuis))
        space.save(path)
    except (LabelSpaceError, PredictionsError):
        return
    assert LabelSpace.load(path) == space


@given(ANY)
@settings(max_examples=40, deadline=None)
def test_json_is_read_again(folder: Path, text: str) -> None:
    write_json(folder / "meta.json", {text: [text]})
    assert json.loads((folder / "meta.json").read_text(encoding="utf-8")) == {text: [text]}


@pytest.mark.parametrize("year", EDITIONS)
@given(st.lists(st.tuples(ANY, st.lists(ANY, max_size=2)), min_size=1, max_size=2))
@settings(max_examples=15, deadline=None)
@example([("a\rb", ["C1"])])
@example([("a", ["C1\r", "=2"])])
@example([("\ud800", [])])
def test_a_submission_is_read_again_or_refused(
    folder: Path, year: int, images: list[tuple[str, list[str]]]
) -> None:
    ids, sets = [image_id for image_id, _ in images], [concepts for _, concepts in images]
    path = folder / "submission.csv"
    try:
        write_submission(path, image_ids=ids, concept_sets=sets, edition=year)
    except SubmissionError:
        return
    read = parse_submission(
        path.read_bytes(), path=path, rules=EDITIONS[year], expected_ids=ids
    )  # an id may be taken for a header
    for image_id, concepts in images:
        said = read.predicted.get(image_id)
        assert said is None or tuple(filter(None, said)) == tuple(filter(None, concepts))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a,b\nc\n", r"t\.csv: row 2: 1 cells, not 2"),
        (b"\xff,b\n", r"t\.csv: not UTF-8"),
        (b"a,b\n" + b"x" * 131_073 + b",b\n", r"t\.csv: row 2: not a table \(field larger"),
    ],
)
def test_a_table_of_others_is_refused_in_one_line(
    tmp_path: Path, content: bytes, said: str
) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(PredictionsError, match=said):
        read_rows(tmp_path / "t.csv", n_columns=2)
    with pytest.raises(PredictionsError, match=r"gone\.csv: no such file"):
        read_rows(tmp_path / "gone.csv")
