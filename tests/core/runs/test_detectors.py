"""Finished detectors of a workspace."""

from pathlib import Path

import numpy as np

from core.labels import LabelSpace
from core.predictions import Predictions
from core.runs.detectors import (
    DetectorRun,
    find_detectors,
    find_runs,
    newest_of_each_preset,
    untrained,
)
from core.runs.workspace import Workspace
from core.storage.folders import write_json


def finish(
    workspace: Workspace,
    category: str,
    name: str,
    *,
    made: str,
    corpus: str = "0123abcd",
    **more: str,
) -> Path:
    folder = workspace.backbones / category / name
    folder.mkdir(parents=True)
    write_json(folder / "config.json", {})
    meta = {
        "category": category,
        "preset": name,
        "corpus": corpus,
        "made": made,
        "embeddings": ["lite0-224px"],
        **more,
    }
    write_json(folder / "meta.json", meta)
    return folder


def test_the_newest_run_of_each_category_is_found_the_global_one_first(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    finish(workspace, "DRXR", "quick", made="2026-11-02T10:00:00")
    newest = finish(workspace, "DRCT", "early-in-the-alphabet", made="2026-11-03T10:00:00")
    finish(workspace, "DRCT", "quick", made="2026-11-02T10:00:00")
    finish(workspace, "global", "quick", made="2026-11-01T10:00:00")
    found = find_detectors(workspace, "0123abcd")
    assert [run.category for run in found] == ["global", "DRCT", "DRXR"]
    assert found[1] == DetectorRun(
        folder=newest,
        category="DRCT",
        preset="early-in-the-alphabet",
        asked=(0, "2026-11-03T10:00:00"),
        embeddings=("lite0-224px",),
    )


def test_the_newest_run_of_each_preset_is_called_by_it_where_there_are_several(
    tmp_path: Path,
) -> None:
    workspace = Workspace(tmp_path)
    for day, (category, run) in enumerate(
        [
            ("global", "quick-1"), ("DRCT", "quick-1"), ("DRCT", "swin-1"), ("DRCT", "swin-0"),
            ("DRCT", "convnext-1"), ("DRXR", "swin-1"), ("global", "quick-0"),
        ]
    ):  # fmt: skip
        finish(workspace, category, run, made=f"2026-11-0{day}", preset=run[:-2])
    runs = find_runs(workspace, "0123abcd")
    assert [run.name for run in runs[-2:]] == ["DRXR/swin-1", "global/quick-0"]
    assert {name: run.folder.name for name, run in newest_of_each_preset(runs).items()} == {
        "global": "quick-0",
        "DRCT/convnext": "convnext-1",
        "DRCT/quick": "quick-1",
        "DRCT/swin": "swin-0",
        "DRXR": "swin-1",
    }
    assert list(newest_of_each_preset(runs)) == [
        "global", "DRCT/convnext", "DRCT/quick", "DRCT/swin", "DRXR"
    ]  # fmt: skip
    newest = [run.name for run in find_detectors(workspace, "0123abcd")]
    assert newest == ["global/quick-0", "DRCT/convnext-1", "DRXR/swin-1"]


def test_runs_that_images_of_valid_stopped_are_passed_over_and_if_asked_frozen_ones(
    tmp_path: Path,
) -> None:
    workspace = Workspace(tmp_path)
    finish(workspace, "global", "paper", made="2026-11-03", stop_on="val1", regime="full")
    finish(workspace, "global", "quick", made="2026-11-02", regime="frozen")
    finish(workspace, "global", "finetune", made="2026-11-01", stop_on="train", regime="full")
    runs = find_runs(workspace, "0123abcd")
    assert [run.preset for run in runs] == ["finetune", "quick"]
    tuned = find_runs(workspace, "0123abcd", fine_tuned=True)
    assert [run.preset for run in tuned] == ["finetune"]


def test_runs_on_another_corpus_and_unfinished_ones_are_passed_over(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    finish(workspace, "DRCT", "other", made="2026-11-03T10:00:00", corpus="ffffffff")
    unfinished = finish(workspace, "DRCT", "half", made="2026-11-03T10:00:00")
    (unfinished / "meta.json").unlink()
    assert find_detectors(workspace, "0123abcd") == []
    kept = finish(workspace, "DRCT", "quick", made="2026-11-01T10:00:00")
    assert [run.folder for run in find_detectors(workspace, "0123abcd")] == [kept]


def test_a_run_is_called_the_same_wherever_its_workspace_lies(tmp_path: Path) -> None:
    for place in ("here", "there"):
        workspace = Workspace(tmp_path / place)
        finish(workspace, "DRCT", "quick-1", made="2026-11-03T10:00:00")
        (run,) = find_detectors(workspace, "0123abcd")
        assert run.name == "DRCT/quick-1"


def test_a_run_gives_its_predictions(tmp_path: Path) -> None:
    folder = finish(Workspace(tmp_path), "DRCT", "quick", made="2026-11-01T10:00:00")
    Predictions(
        source="DRCT",
        image_ids=("v",),
        labels=LabelSpace(("C1",)),
        probs=np.array([[0.5]], dtype=np.float32),
        fitted_on=frozenset({"t"}),
    ).save(folder / "predictions" / "valid")
    (run,) = find_detectors(Workspace(tmp_path), "0123abcd")  # the predictions are no run
    assert run.predictions("valid").image_ids == ("v",)


def detector(category: str) -> DetectorRun:
    return DetectorRun(
        folder=Path(category), category=category, preset="quick", asked=(0, ""), embeddings=()
    )


def test_detectors_that_could_still_be_trained_are_named_with_the_command() -> None:
    present = ["DRCT", "DRUS"]
    everything = [detector(name) for name in ("global", *present)]
    home = Workspace(Path("own"))
    assert untrained(everything, present, workspace=home) is None
    assert untrained(everything[:2], present, workspace=home) == (
        "not trained yet: DRUS alone; to train: python cli.py train-backbone --category DRUS -w own"
    )
    assert untrained([], present, workspace=home) == (
        "not trained yet: global, DRCT, DRUS; to train: python cli.py train-backbone -w own"
    )
