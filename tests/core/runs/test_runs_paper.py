"""The networks of `reproduce`, as they lie on disk."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from core.runs.paper import (
    FINDINGS,
    TABLE_4,
    TABLE_5,
    Trial,
    crash_of,
    find_trials,
    forget_crash,
    note_crash,
)
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import write_json


@pytest.fixture
def home(workspace: Workspace) -> Path:
    folder = workspace.reproduced / "small"
    folder.mkdir(parents=True)
    return folder


def save(folder: Path, *, corpus: str = "made0000", made: str = "2026-01") -> None:
    folder.mkdir(exist_ok=True)
    write_json(folder / "meta.json", {"corpus": corpus, "made": made})


def numbers(found: Mapping[tuple[int, str], Trial]) -> dict[tuple[int, str], str]:
    return {key: trial.folder.name[-1] for key, trial in found.items()}


def test_networks_of_an_experiment_are_those_made_last_with_equal_settings(
    home: Path, corpus: Corpus, workspace: Workspace
) -> None:
    save(home / "paper-03-val1-00000001", made="2026-03")
    save(home / "paper-03-val1-00000002", made="2026-01")
    save(home / "paper-03-val2-00000002", made="2026-02")
    save(home / "paper-07-val2-00000003", corpus="other000")
    save(home / "paper-10-valid-00000004")
    (home / "paper-09-val1-00000005").mkdir()  # under way
    (home / "notes").mkdir()
    found = find_trials(corpus, workspace, scale="small")
    assert numbers(found) == {(3, "val1"): "1", (10, "valid"): "4"}  # never val1 of 1, val2 of 2
    save(home / "paper-03-val2-00000001", made="2026-04")
    found = find_trials(corpus, workspace, scale="small")
    assert numbers(found) == {(3, "val1"): "1", (3, "val2"): "1", (10, "valid"): "4"}
    assert find_trials(corpus, workspace, scale="full") == {}


def test_a_crash_is_told_of_this_corpus_until_it_is_tried_again(
    home: Path, corpus: Corpus, workspace: Workspace
) -> None:
    folder = home / "paper-04-val1-00000001"
    note_crash(folder, "RuntimeError: no memory", corpus=corpus.fingerprint)
    note_crash(home / "paper-05-val1-00000001", "RuntimeError: before", corpus="other000")
    [trial] = find_trials(corpus, workspace, scale="small").values()
    assert (trial.number, trial.meta, trial.crash) == (4, {}, "RuntimeError: no memory")
    forget_crash(folder)
    forget_crash(folder)
    assert crash_of(folder) == {}
    assert find_trials(corpus, workspace, scale="small") == {}


def test_the_log_gives_epochs_and_no_events(
    home: Path, corpus: Corpus, workspace: Workspace
) -> None:
    save(home / "paper-03-val1-00000001")
    entries = [{"epoch": 1, "event": "out of memory"}, {"epoch": 1, "loss": 0.5, "f1": 0.1}]
    (home / "paper-03-val1-00000001" / "log.jsonl").write_text(
        "".join(json.dumps(entry) + "\n" for entry in entries)
    )
    trial = find_trials(corpus, workspace, scale="small")[3, "val1"]
    assert trial.epochs() == entries[1:]


def test_every_experiment_has_its_row_and_one_of_them_crashed() -> None:
    assert sorted(TABLE_4) == list(range(1, 11))
    for number, row in TABLE_4.items():
        assert (None in row.f1) == (number == 4)
        assert [epoch is None for epoch in row.epochs] == [f1 is None for f1 in row.f1]


def test_a_submitted_run_has_the_online_score_of_its_experiment() -> None:
    for run in TABLE_5.values():
        online = TABLE_4[run.experiment].online
        assert online is not None
        assert abs(online - run.f1) < 6e-4
    assert [run.rank for run in TABLE_5.values()] == [12, 13, 17, 18, 19]


def test_findings_compare_experiments_that_there_are() -> None:
    assert all({finding.better, finding.worse} <= set(TABLE_4) for finding in FINDINGS)
