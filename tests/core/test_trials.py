"""The networks of `reproduce`, as they lie on disk."""

import json
from pathlib import Path

import pytest

from core.runs import write_json
from core.trials import find_trials
from core.workspace import Corpus, Workspace


@pytest.fixture
def home(workspace: Workspace) -> Path:
    folder = workspace.reproduced / "small"
    folder.mkdir(parents=True)
    return folder


def save(folder: Path, *, corpus: str = "made0000", made: str = "2026-01") -> None:
    folder.mkdir()
    write_json(folder / "meta.json", {"corpus": corpus, "made": made})


def test_the_newest_finished_network_of_each_experiment_and_half_is_found(
    home: Path, corpus: Corpus, workspace: Workspace
) -> None:
    save(home / "paper-03-val1-00000001", made="2026-02")
    save(home / "paper-03-val1-00000002", made="2026-01")
    save(home / "paper-03-val2-00000003", corpus="other000")
    save(home / "paper-10-valid-00000004")
    (home / "paper-03-val1-00000005").mkdir()  # under way, with other settings
    (home / "notes").mkdir()
    found = find_trials(corpus, workspace, "small")
    assert {key: trial.folder.name[-1] for key, trial in found.items()} == {
        (3, "val1"): "1", (10, "valid"): "4",
    }  # fmt: skip
    assert find_trials(corpus, workspace, "full") == {}


def test_a_crash_is_told_where_nothing_else_is_there(
    home: Path, corpus: Corpus, workspace: Workspace
) -> None:
    folder = home / "paper-04-val1-00000001"
    folder.mkdir()
    (folder / "crash.txt").write_text("RuntimeError: no memory\n")
    trial = find_trials(corpus, workspace, "small")[4, "val1"]
    assert (trial.meta, trial.crash) == ({}, "RuntimeError: no memory")


def test_the_log_gives_epochs_and_no_events(
    home: Path, corpus: Corpus, workspace: Workspace
) -> None:
    save(home / "paper-03-val1-00000001")
    entries = [{"epoch": 1, "event": "out of memory"}, {"epoch": 1, "loss": 0.5, "f1": 0.1}]
    (home / "paper-03-val1-00000001" / "log.jsonl").write_text(
        "".join(json.dumps(entry) + "\n" for entry in entries)
    )
    trial = find_trials(corpus, workspace, "small")[3, "val1"]
    assert trial.epochs() == entries[1:]
