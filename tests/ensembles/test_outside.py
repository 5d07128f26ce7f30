"""Members made elsewhere."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.errors import ConfigError, LeakageError, PredictionsError
from core.labels import LabelSpace
from core.predictions import Predictions, SparsePredictions
from core.runs.workspace import Corpus, Workspace
from ensembles.config import EnsembleConfig
from ensembles.members import gather
from ensembles.second_stage import candidates_of

SaveRun = Callable[..., Path]
CONFIG = EnsembleConfig(top=12)


@pytest.fixture
def far(fused: SaveRun, tmp_path: Path) -> Path:
    """A folder outside of the workspace with valid and test."""
    (fused("one-hot") / "predictions").rename(tmp_path / "far")
    return tmp_path / "far"


@pytest.fixture
def empty(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "empty")


def test_a_folder_is_a_member_under_its_name_and_stands_last(
    generated: Corpus, empty: Workspace, far: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prior, member = gather(generated, empty, outside=[far])
    assert (prior.name, member.name) == ("prior", "far")
    assert member.origin.startswith("sha256 ")
    line = "member far: 80 of 80 valid images, 40 of 40 test images, 12 of 12 concepts; what is"
    assert line in capsys.readouterr().err
    changed = Predictions.load(far / "test")
    replace(changed, probs=np.square(changed.probs)).save(far / "test")
    assert gather(generated, empty, outside=[far])[1].origin != member.origin


def test_the_sparse_form_makes_the_same_candidates(
    generated: Corpus, empty: Workspace, far: Path
) -> None:
    valid = generated.table.of(split="valid")

    def features() -> np.ndarray:
        members = gather(generated, empty, outside=[far])
        pairs = candidates_of(generated, members, valid, split="valid", config=CONFIG)
        return np.asarray(pairs.features)

    dense = features()
    for split in ("valid", "test"):
        SparsePredictions.of(Predictions.load(far / split), at_least=0.0).save(far / split)
    np.testing.assert_array_equal(features(), dense)


def test_what_the_corpus_lacks_is_cut_off_and_what_is_missing_is_unknown(
    generated: Corpus, empty: Workspace, far: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = Predictions.load(far / "valid")
    cuis = ("C77", *whole.labels.cuis[1:])
    ids = ("elsewhere", *whole.image_ids[2:])
    replace(whole, image_ids=ids, labels=LabelSpace(cuis), probs=whole.probs[1:]).save(
        far / "valid"
    )
    member = gather(generated, empty, outside=[far])[1]
    line = capsys.readouterr().err
    assert "member far: 78 of 80 valid images, 40 of 40 test images, 11 of 12 concepts" in line
    assert "left out 1 images and 1 concepts that the corpus lacks" in line
    source = member.source("valid", generated.table.of(split="valid"), generated)
    assert (source.rows < 0).sum() == 2
    assert (source.columns < 0).sum() == 1


def test_the_leakage_guard_holds_for_them_too(
    generated: Corpus, empty: Workspace, far: Path
) -> None:
    seen = replace(Predictions.load(far / "test"), fitted_on=frozenset({"test_001"}))
    SparsePredictions.of(seen, at_least=0.1).save(far / "test")
    with pytest.raises(LeakageError, match="1 of 40 images were used to fit it"):
        gather(generated, empty, outside=[far])


def test_a_name_that_is_taken_is_refused(
    generated: Corpus, empty: Workspace, far: Path, tmp_path: Path
) -> None:
    other = tmp_path / "elsewhere" / "far"
    shutil.copytree(far, other)
    with pytest.raises(ConfigError, match=r"elsewhere/far: the name 'far' is taken; rename the"):
        gather(generated, empty, outside=[far, other])
    far.rename(tmp_path / "mean")
    with pytest.raises(ConfigError, match="the name 'mean' is taken"):
        gather(generated, empty, outside=[tmp_path / "mean"])


def test_a_run_that_is_passed_over_can_be_named(
    generated: Corpus,
    workspace: Workspace,
    detector: SaveRun,
    fused: SaveRun,
    capsys: pytest.CaptureFixture[str],
) -> None:
    older = detector("DRCT", name="quick-1", made="2026-11-01", noise=3.0)
    detector("DRCT", name="quick-2", made="2026-11-02")
    routed = fused("routed", name="routed-1", made="2026-11-01", noise=3.0)
    fused("routed", name="routed-2", made="2026-11-02")
    members = gather(generated, workspace, outside=[older, routed / "predictions"])
    assert [m.name for m in members] == ["prior", "routed", "DRCT", "DRCT/quick-1", "routed-1"]
    said = capsys.readouterr().err
    assert "member DRCT/quick-1: " in said
    assert said.endswith("members: prior, routed, DRCT, DRCT/quick-1, routed-1\n")
    valid = generated.table.of(split="valid")
    pairs = candidates_of(generated, members, valid, split="valid", config=CONFIG)
    own = members[3].source("valid", valid, generated).at(pairs.rows, pairs.columns)
    kept = pairs.feature("logit DRCT/quick-1")
    np.testing.assert_array_equal(np.isnan(kept), np.isnan(own))
    assert not np.array_equal(kept, pairs.feature("logit DRCT"), equal_nan=True)


def test_a_specialist_in_a_fused_source_can_be_named_too(
    generated: Corpus,
    workspace: Workspace,
    detector: SaveRun,
    fused: SaveRun,
    capsys: pytest.CaptureFixture[str],
) -> None:
    home = detector("DRCT", name="quick-1")
    fused("routed", contains=("DRCT/quick-1",))
    members = gather(generated, workspace, outside=[home])
    assert [member.name for member in members] == ["prior", "routed", "DRCT/quick-1"]
    assert "already in a fused source" not in capsys.readouterr().err


def test_what_is_a_member_already_is_taken_once_and_said(
    generated: Corpus,
    workspace: Workspace,
    detector: SaveRun,
    fused: SaveRun,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    home, strategy = detector("global"), fused("film")
    (tmp_path / "link").symlink_to(home)
    far = shutil.copytree(home / "predictions", tmp_path / "far")
    given = [home, tmp_path / "link", home / "predictions", strategy, far, far]
    members = gather(generated, workspace, outside=given)
    assert [member.name for member in members] == ["prior", "film", "global", "far"]
    said = capsys.readouterr().err.splitlines()
    assert said[:4] == [
        f"--member {home}: already a member, global",
        f"--member {tmp_path / 'link'}: already a member, global",
        f"--member {home / 'predictions'}: already a member, global",
        f"--member {strategy}: already a member, film",
    ]
    assert said[5:] == [
        f"--member {far}: already a member, far",
        "members: prior, film, global, far",
    ]


def test_an_ensemble_run_is_no_member(generated: Corpus, workspace: Workspace) -> None:
    home = workspace.ensembles / "stack-1" / "predictions"
    home.mkdir(parents=True)
    with pytest.raises(PredictionsError, match=r"stack-1/predictions/valid: no such folder"):
        gather(generated, workspace, outside=[home.parent])


def test_a_folder_without_predictions_of_valid_is_refused(
    generated: Corpus, empty: Workspace, far: Path, tmp_path: Path
) -> None:
    with pytest.raises(PredictionsError, match="no such folder"):
        gather(generated, empty, outside=[tmp_path / "nowhere"])
    Predictions.load(far / "test").save(far / "valid")
    with pytest.raises(PredictionsError, match="no image of valid in it to weigh it by"):
        gather(generated, empty, outside=[far])
