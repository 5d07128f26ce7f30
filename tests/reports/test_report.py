"""The report of a workspace, its numbers worked by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.errors import MissingStageError
from core.images import ImageTable
from core.labels import LabelSpace
from core.ladder import Step, write_scores, write_steps
from core.metrics import Interval
from core.runs import new_folder, write_json
from core.workspace import Corpus, Workspace
from reports.report import write_report

IDS = ("t1", "a", "b", "c", "d", "e", "f")
CATEGORIES = ("DRCT", "DRCT", "DRCT", "DRXR", "DRXR", "DRUS", "DRUS")

# Cross-fitted F1 of the six validation images; image f has no true concept and is left out.
SCORES = {
    "prior": [0.5, 1.0, 0.0, 0.0, 0.25, np.nan],
    "routed": [1.0, 1.0, 0.5, 0.5, 0.75, np.nan],
    "submission": [1.0, 1.0, 1.0, 0.5, 0.25, np.nan],
}

META: dict[str, Any] = {
    "margin": 1.0,
    "decision": "one threshold, 0.30",
    "decision_scores": {"global": 0.75, "expected-f1": 0.7},
    "ladder": [
        ["prior", ""],
        ["routed", "best member: routed"],
        ["submission", "decision: one threshold, 0.30"],
    ],
}


def made_corpus(*, category: str | None = None) -> Corpus:
    """One training image and six of validation, each a group of its own."""
    table = ImageTable(
        image_ids=IDS,
        paths=IDS,
        categories=CATEGORIES if category is None else (category,) * len(IDS),
        splits=("train", *["valid"] * 6),
        folds=np.array([0, 0, 1, 0, 1, 0, 1], dtype=np.int16),
        groups=IDS,
        concepts=(("C1", "C2"), *[("C1",)] * 5, ()),
    )
    return Corpus(
        name="made", table=table, labels=LabelSpace(("C1", "C2")), names={}, edition=2020,
        fingerprint="made0000", notes=("3 images without a file, left out",),
    )  # fmt: skip


def save_ensemble(
    workspace: Workspace, name: str = "stack-1", *, corpus: str = "made0000", made: str = "2026-01"
) -> Path:
    home = workspace.ensembles / name
    with new_folder(home, {"corpus": corpus, **META}) as draft:
        write_json(draft / "config.json", {})
        scores = {source: np.array(values) for source, values in SCORES.items()}
        write_scores(draft / "valid_f1.csv", image_ids=IDS[1:], scores=scores)
    provenance = {"python": "3.11.7", "machine": "two cores", "packages": {"numpy": "2.1"}}
    write_json(home / "meta.json", {"corpus": corpus, **META, "made": made, **provenance})
    return home


def rows_of(text: str, first_cell: str) -> dict[str, list[str]]:
    """Cells of the table whose header begins so, by the first cell of the row."""
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    start = next(i for i, cells in enumerate(lines) if cells and cells[0] == first_cell)
    table = {}
    for cells in lines[start:]:
        if not cells:
            break
        table[cells[0]] = cells[1:]
    return table


@pytest.fixture
def report(workspace: Workspace) -> str:
    save_ensemble(workspace)
    return write_report(made_corpus(), workspace).read_text(encoding="utf-8")


def test_every_source_has_its_n_its_f1_and_its_interval_in_every_category(report: str) -> None:
    rows = rows_of(report, "source")
    assert rows["source"] == ["all, n = 5", "DRCT, n = 2", "DRUS, n = 1", "DRXR, n = 2"]
    assert set(rows) == {"source", ":---------", *SCORES}
    # prior, DRCT: (0.5 + 1.0) / 2. Two groups drawn from two: both the worse one in a quarter of
    # the draws, both the better one in another, so the 2.5 % and 97.5 % bounds are these.
    assert rows["prior"][1] == "0.750 [0.500, 1.000]"
    # DRUS: image e alone, f is left out; one group has no spread.
    assert [rows[source][2] for source in SCORES] == [
        "0.250 [0.250, 0.250]",
        "0.750 [0.750, 0.750]",
        "0.250 [0.250, 0.250]",
    ]
    # DRXR: (0 + 0) / 2, (0.5 + 0.5) / 2, (1 + 0.5) / 2.
    assert [rows[source][3] for source in SCORES] == [
        "0.000 [0.000, 0.000]",
        "0.500 [0.500, 0.500]",
        "0.750 [0.500, 1.000]",
    ]
    # All: (0.5 + 1 + 0 + 0 + 0.25) / 5, (1 + 1 + 0.5 + 0.5 + 0.75) / 5, (3 + 0.5 + 0.25) / 5.
    assert [rows[source][0][:6] for source in SCORES] == ["0.3500", "0.7500", "0.7500"]


def test_the_ladder_has_gains_over_the_line_above(report: str) -> None:
    rows = rows_of(report, "n = 5")
    assert list(rows)[2:] == ["prior", "best member: routed", "decision: one threshold, 0.30"]
    assert rows["prior"][1] == ""
    # routed - prior: 0.5, 0, 0.5, 0.5, 0.5: mean 0.4. A resample of five holds the 0 k times with
    # probability 0.33, 0.41, 0.20, 0.05, 0.01, 0.00: the 2.5 % bound is at k = 3, the mean of
    # 0.5, 0.5, 0, 0, 0; the 97.5 % bound at k = 0.
    assert rows["best member: routed"][1].startswith("+0.4000 [+0.2000, +0.5000]")
    # submission - routed: 0, 0, 0.5, 0, -0.5: mean 0.
    assert rows["decision: one threshold, 0.30"][1].startswith("+0.0000 [-")


def test_what_each_member_is_worth_is_shown_where_it_is_known(workspace: Workspace) -> None:
    run = save_ensemble(workspace)
    half, gain = Interval(0.5, 0.25, 0.75, 5), Interval(0.125, -0.25, 0.5, 5)
    write_steps(run / "members.csv", [Step(name="routed", f1=half, gain=gain)])
    meta = json.loads((run / "meta.json").read_text())
    write_json(run / "meta.json", {**meta, "worth_to": "mean"})
    text = write_report(made_corpus(), workspace).read_text(encoding="utf-8")
    assert "the stacker `mean` at one threshold" in text
    cells = rows_of(text, "member")["routed"]
    assert cells == ["0.5000 [0.2500, 0.7500]", "+0.1250 [-0.2500, +0.5000]"]


def test_rules_that_were_tried_stand_with_their_scores(report: str) -> None:
    rows = rows_of(report, "rule")
    assert rows["global"] == ["0.7500"]
    assert rows["expected-f1"] == ["0.7000"]
    assert "which decides by one threshold, 0.30" in report


def test_notes_counts_and_provenance_are_in_it(report: str) -> None:
    assert "- 1 train, 6 valid, 0 test images; 2 concepts in train\n" in report
    assert "- 3 images without a file, left out\n" in report
    assert "Run `stack-1`, 2026-01, Python 3.11.7, two cores; numpy 2.1.\n" in report
    assert "DRCT computed tomography, DRUS ultrasound, DRXR X-ray and 2D tomography." in report


def test_without_categories_there_is_one_column(workspace: Workspace) -> None:
    save_ensemble(workspace)
    text = write_report(made_corpus(category=""), workspace).read_text(encoding="utf-8")
    assert rows_of(text, "source")["source"] == ["all, n = 5"]


def test_the_newest_ensemble_of_this_corpus_is_reported(workspace: Workspace) -> None:
    save_ensemble(workspace, "stack-a", made="2026-03")
    save_ensemble(workspace, "stack-b", made="2026-02")
    save_ensemble(workspace, "stack-c", corpus="another", made="2026-04")
    text = write_report(made_corpus(), workspace).read_text(encoding="utf-8")
    assert "Run `stack-a`, 2026-03" in text


@pytest.mark.parametrize("corpus", [None, "another"])
def test_without_an_ensemble_of_the_corpus_the_command_is_named(
    corpus: str | None, workspace: Workspace
) -> None:
    if corpus is not None:
        save_ensemble(workspace, corpus=corpus)
    with pytest.raises(MissingStageError, match=r"run `python cli.py ensemble --submit -w .+runs`"):
        write_report(made_corpus(), workspace)
    assert not workspace.reports.exists()


def test_the_report_of_the_same_run_is_the_same(workspace: Workspace) -> None:
    save_ensemble(workspace)
    first = write_report(made_corpus(), workspace).read_bytes()
    assert write_report(made_corpus(), workspace).read_bytes() == first
