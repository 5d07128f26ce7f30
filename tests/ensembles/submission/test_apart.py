"""The score without images that resemble what was learnt from, by hand and on the command line."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import cli
from core.errors import CorpusError, MissingStageError
from core.runs.leakage import DUPLICATES_FILE, NearDuplicate, save_duplicates
from core.runs.workspace import Workspace
from core.storage.folders import new_folder
from corpus.prepare import PrepareConfig, prepare
from ensembles.submission.apart import ScoreApart, score_apart
from ensembles.submission.score import score_submission

ROWS = (
    *(("train", f"p{number}", "C1;C2") for number in range(6)),
    *(("valid", f"v{number}", "C1") for number in range(4)),
    *(("test", "p0", ""), ("test", "t1", ""), ("test", "t2", "")),
)
"""Split, group and concepts; the first image of test is of a group of train."""


@pytest.fixture
def prepared(tmp_path: Path, workspace: Workspace) -> Workspace:
    lines = ["path,split,image_id,group,concepts"]
    rng = np.random.default_rng(0)
    for number, (split, group, concepts) in enumerate(ROWS):
        pixels = rng.integers(0, 255, (40, 40), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{split},i{number},{group},{concepts}")
    (tmp_path / "m.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    prepare(tmp_path / "m.csv", workspace, config=PrepareConfig(image_size=32, folds=3))
    return workspace


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Submission and truth: F1 of 0 for i10, 2*1/(1+1) for i11, 2*1/(1+2) for i12."""
    run, truth = tmp_path / "run.csv", tmp_path / "truth.csv"
    run.write_text("ID,CUIs\ni10,C2\ni11,C1\ni12,C1\n", encoding="utf-8")
    truth.write_text("ID,CUIs\ni10,C1\ni11,C1\ni12,C1;C2\n", encoding="utf-8")
    return run, truth


def know(workspace: Workspace, pairs: Sequence[NearDuplicate]) -> None:
    meta = {"corpus": workspace.open_corpus().fingerprint}
    with new_folder(workspace.duplicates, meta) as draft:
        save_duplicates(pairs, draft / DUPLICATES_FILE)


def apart(workspace: Workspace, files: tuple[Path, Path]) -> ScoreApart:
    scored = score_submission(files[0], truth=files[1], edition=2025)
    return score_apart(scored.pairs, workspace=workspace)


def test_images_of_a_group_that_was_learnt_from_are_left_out(
    prepared: Workspace, files: tuple[Path, Path]
) -> None:
    found = apart(prepared, files)
    assert (found.f1, found.n_images) == ((1 + 2 / 3) / 2, 2)
    assert (found.n_by_group, found.n_by_likeness) == (1, None)
    assert "(1 by group left out; `stats --duplicates` looks for copies too)" in found.sentence


def test_near_duplicates_are_left_out_where_they_are_known(
    prepared: Workspace, files: tuple[Path, Path]
) -> None:
    copy = NearDuplicate("i3", "train", "i12", "test", 0.99, True, False)
    within = NearDuplicate("i0", "train", "i10", "test", 0.95, False, True)
    know(prepared, [copy, within])
    found = apart(prepared, files)
    assert (found.f1, found.n_images) == (1.0, 1)
    assert found.sentence == (
        "F1 1.0 over the 1 images that share no group with train or valid and have no"
        " near-duplicate there (1 by group, 1 more by likeness left out)"
    )
    know(prepared, [copy, NearDuplicate("i6", "valid", "i11", "test", 0.94, False, False)])
    none = apart(prepared, files)
    assert (none.f1, none.n_images) == (None, 0)
    assert none.sentence.startswith("F1 - over the 0 images")


def test_the_command_prints_both_scores(prepared: Workspace, files: tuple[Path, Path]) -> None:
    arguments = ["score", str(files[0]), "--truth", str(files[1]), "--edition", "2025"]
    alone = CliRunner().invoke(cli.app, arguments)
    assert alone.output.splitlines() == [
        f"F1 {(0 + 1 + 2 / 3) / 3!r} over 3 images (2025 rule)",
    ]
    there = ["-w", str(prepared.root)]
    both = CliRunner().invoke(cli.app, [*arguments, *there]).output.splitlines()
    assert both[0] == alone.output.splitlines()[0]
    assert both[1].startswith(f"F1 {(1 + 2 / 3) / 2!r} over the 2 images that share no group")
    told = json.loads(CliRunner().invoke(cli.app, [*arguments, *there, "--json"]).output)
    assert told["apart"] == {"f1": (1 + 2 / 3) / 2, "n_images": 2}


def test_a_workspace_without_a_corpus_is_refused(
    workspace: Workspace, files: tuple[Path, Path]
) -> None:
    with pytest.raises(MissingStageError, match="no such folder; name the folder that you"):
        apart(workspace, files)


def test_the_corpus_of_other_images_is_refused(prepared: Workspace) -> None:
    pairs = {"x1": (frozenset({"C1"}), frozenset({"C1"}))}
    with pytest.raises(CorpusError, match=r"none of the scored images in test: \['x1'\]"):
        score_apart(pairs, workspace=prepared)
