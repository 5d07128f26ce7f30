"""The members of an ensemble, found in a workspace."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from core.errors import ConfigError, LeakageError, MissingStageError, PredictionsError
from core.labels import LabelSpace
from core.predictions import Predictions, SparsePredictions
from core.prior import CategoryPrior
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import mark_used
from ensembles.config import EnsembleConfig
from ensembles.members import constant_concepts, gather_members
from ensembles.second_stage import candidates_of

SaveRun = Callable[..., Path]


def test_the_prior_comes_first_then_fused_sources_then_detectors(
    generated: Corpus, workspace: Workspace, detector: SaveRun, fused: SaveRun
) -> None:
    for name in ("global", "DRXR", "DRCT"):
        detector(name)
    for name in ("retrieval", "one-hot"):
        fused(name)
    members = gather_members(generated, workspace)
    names = [member.name for member in members]
    assert names[0] == "prior"
    assert set(names[1:3]) == {"one-hot", "retrieval"}
    assert names[3:] == ["global", "DRCT", "DRXR"]
    valid = generated.table.of(split="valid")
    train = generated.table.of(split="train")
    expected = CategoryPrior.of(train, generated.labels).predict(valid)
    np.testing.assert_array_equal(members[0].scored.probs, expected.probs)


def test_the_newest_run_wins(
    generated: Corpus, workspace: Workspace, detector: SaveRun, fused: SaveRun
) -> None:
    for number, made in enumerate(("2026-11-02", "2026-11-03", "2026-11-01")):
        detector("global", name=f"made-{number}", made=made, noise=1.0 + number)
        fused("retrieval", name=f"retrieval-{number}", made=made)
    _, retrieval, general = gather_members(generated, workspace)
    assert retrieval.origin == "retrieval-1 2026-11-03"
    assert general.origin == "made-1 2026-11-03"
    newest = workspace.backbones / "global" / "made-1" / "predictions" / "valid"
    np.testing.assert_array_equal(general.scored.probs, Predictions.load(newest).probs)


def test_the_newest_run_of_each_preset_takes_part_under_its_own_name(
    generated: Corpus,
    workspace: Workspace,
    detector: SaveRun,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for day, preset in enumerate(("quick", "finetune", "convnext")):
        detector("global", name=f"{preset}-1", made=f"2026-11-0{day + 1}", noise=1.0 + day)
    detector("global", name="finetune-2", made="2026-11-08", noise=5.0)
    detector("global", name="finetune-3", made="2026-11-05", noise=6.0)
    detector("DRCT", name="finetune-1")
    members = gather_members(generated, workspace)
    names = ["global/convnext", "global/finetune", "global/quick", "DRCT"]
    assert [member.name for member in members] == ["prior", *names]
    assert members[2].origin == "finetune-2 2026-11-08"
    assert capsys.readouterr().err == (
        f"members: prior, {', '.join(names)}; 2 runs superseded by a newer one of the same category"
        " and preset\n"
    )


def test_members_of_one_category_are_sources_of_their_own(
    generated: Corpus, workspace: Workspace, detector: SaveRun
) -> None:
    detector("global", name="quick-1", noise=1.0)
    detector("global", name="finetune-1", noise=4.0)
    members = gather_members(generated, workspace)
    valid = generated.table.of(split="valid")
    pairs = candidates_of(generated, members, table=valid, split="valid", config=EnsembleConfig())
    assert pairs.feature_names[:3] == ("logit prior", "logit global/finetune", "logit global/quick")
    for member in members[1:]:
        assert member.scored.source == "global"
        known = member.source("valid", valid, corpus=generated).at(pairs.rows, pairs.columns)
        np.testing.assert_allclose(expit(pairs.feature(f"logit {member.name}")), known, atol=1e-5)


def test_asking_for_another_preset_again_changes_neither_names_nor_order(
    generated: Corpus, workspace: Workspace, detector: SaveRun
) -> None:
    for preset in ("quick", "finetune"):
        detector("global", name=f"{preset}-1")
    before = [(member.name, member.origin) for member in gather_members(generated, workspace)]
    mark_used(workspace.backbones / "global" / "finetune-1", among=workspace.backbones)
    assert [(m.name, m.origin) for m in gather_members(generated, workspace)] == before


def test_of_a_specialist_with_two_presets_the_one_that_is_routed_is_left_out(
    generated: Corpus,
    workspace: Workspace,
    detector: SaveRun,
    fused: SaveRun,
    capsys: pytest.CaptureFixture[str],
) -> None:
    detector("DRCT", name="quick-1", made="2026-11-01")
    detector("DRCT", name="finetune-1", made="2026-11-02")
    fused("routed", contains=("DRCT/finetune-1",))
    members = gather_members(generated, workspace)
    assert [member.name for member in members] == ["prior", "routed", "DRCT/quick"]
    line = "members: prior, routed, DRCT/quick; already in a fused source: DRCT/finetune\n"
    assert capsys.readouterr().err == line


def test_specialists_that_are_contained_in_a_fused_source_are_left_out(
    generated: Corpus, workspace: Workspace, detector: SaveRun, fused: SaveRun
) -> None:
    for name in ("global", "DRCT", "DRXR"):
        detector(name)
    fused("routed", contains=("DRCT/made-1",))
    members = gather_members(generated, workspace)
    assert [member.name for member in members] == ["prior", "routed", "global", "DRXR"]


def test_a_specialist_trained_after_the_fusion_has_its_own_say(
    generated: Corpus, workspace: Workspace, detector: SaveRun, fused: SaveRun
) -> None:
    detector("DRCT", name="made-1", made="2026-11-01")
    fused("routed", contains=("DRCT/made-1",))
    detector("DRCT", name="made-2", made="2026-11-02")
    members = gather_members(generated, workspace)
    assert [member.name for member in members] == ["prior", "routed", "DRCT"]


def test_only_the_newest_run_of_a_strategy_says_what_is_contained(
    generated: Corpus, workspace: Workspace, detector: SaveRun, fused: SaveRun
) -> None:
    detector("DRCT")
    fused("routed", name="routed-1", made="2026-11-01", contains=("DRCT/made-1",))
    fused("routed", name="routed-2", made="2026-11-02")
    assert [m.name for m in gather_members(generated, workspace)] == ["prior", "routed", "DRCT"]


def test_runs_on_another_corpus_are_passed_over(
    generated: Corpus, workspace: Workspace, detector: SaveRun, fused: SaveRun
) -> None:
    detector("global", corpus="other000")
    fused("retrieval", corpus="other000", made="2099-01-01")
    fused("one-hot")
    assert [member.name for member in gather_members(generated, workspace)] == ["prior", "one-hot"]


def test_the_fused_prior_is_not_counted_twice(
    generated: Corpus, workspace: Workspace, fused: SaveRun
) -> None:
    fused("prior")
    fused("one-hot")
    assert [member.name for member in gather_members(generated, workspace)] == ["prior", "one-hot"]


def test_a_workspace_without_members_names_the_commands(
    generated: Corpus, workspace: Workspace
) -> None:
    with pytest.raises(
        MissingStageError, match=r"neither a detector nor a fused .*`python cli\.py train-backbone"
    ):
        gather_members(generated, workspace)


def test_a_member_fitted_on_images_that_it_predicts_is_refused(
    generated: Corpus, workspace: Workspace, detector: SaveRun
) -> None:
    home = detector("global")
    honest = Predictions.load(home / "predictions" / "valid")
    replace(honest, fitted_on=frozenset({"valid_003"})).save(home / "predictions" / "valid")
    with pytest.raises(LeakageError, match=r"member global: global: 1 of 80 images .*valid_003"):
        gather_members(generated, workspace)


def test_a_member_fitted_on_test_images_is_refused_as_well(
    generated: Corpus, workspace: Workspace, detector: SaveRun
) -> None:
    home = detector("global")
    honest = Predictions.load(home / "predictions" / "test")
    replace(honest, fitted_on=frozenset({"test_007"})).save(home / "predictions" / "test")
    with pytest.raises(LeakageError, match=r"global: 1 of 40 images were used to fit it"):
        gather_members(generated, workspace)


def test_a_group_that_crosses_the_splits_is_refused(
    generated: Corpus, workspace: Workspace, detector: SaveRun
) -> None:
    detector("global")
    groups = list(generated.table.groups)
    groups[generated.table.image_ids.index("valid_010")] = "train-0"
    crossing = replace(generated, table=replace(generated.table, groups=tuple(groups)))
    with pytest.raises(LeakageError, match=r"share a group with images .*valid_010.*whole groups"):
        gather_members(crossing, workspace)


def test_a_member_knows_which_images_and_concepts_it_covers(
    generated: Corpus, workspace: Workspace, detector: SaveRun
) -> None:
    detector("DRCT")
    special = gather_members(generated, workspace)[1]
    valid = generated.table.of(split="valid")
    source = special.source("valid", valid, corpus=generated)
    is_ct = np.array(valid.categories) == "DRCT"
    np.testing.assert_array_equal(source.rows >= 0, is_ct)
    covered = [cui in special.scored.labels for cui in generated.labels.cuis]
    np.testing.assert_array_equal(source.columns >= 0, covered)
    test = generated.table.of(split="test")
    assert special.source("test", test, corpus=generated).probs is special.test.probs


def test_constant_concepts_stand_on_every_training_image_of_a_category(generated: Corpus) -> None:
    expected = {"DRCT": ("C00",), "DRUS": ("C02",), "DRXR": ("C01",)}
    assert constant_concepts(generated, at_least=1) == expected
    n_us = len(generated.table.of(split="train", category="DRUS"))
    del expected["DRUS"]
    assert constant_concepts(generated, at_least=n_us + 1) == expected
    assert constant_concepts(generated, at_least=10_000) == {}


def test_with_0_no_concept_is_taken_for_constant(generated: Corpus) -> None:
    assert constant_concepts(generated, at_least=0) == {}


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
    prior, member = gather_members(generated, empty, outside=[far])
    assert (prior.name, member.name) == ("prior", "far")
    assert member.origin.startswith("sha256 ")
    line = "member far: 80 of 80 valid images, 40 of 40 test images, 12 of 12 concepts; what is"
    assert line in capsys.readouterr().err
    changed = Predictions.load(far / "test")
    replace(changed, probs=np.square(changed.probs)).save(far / "test")
    assert gather_members(generated, empty, outside=[far])[1].origin != member.origin


def test_the_sparse_form_makes_the_same_candidates(
    generated: Corpus, empty: Workspace, far: Path
) -> None:
    valid = generated.table.of(split="valid")

    def features() -> np.ndarray:
        members = gather_members(generated, empty, outside=[far])
        pairs = candidates_of(generated, members, table=valid, split="valid", config=CONFIG)
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
    member = gather_members(generated, empty, outside=[far])[1]
    line = capsys.readouterr().err
    assert "member far: 78 of 80 valid images, 40 of 40 test images, 11 of 12 concepts" in line
    assert "left out 1 images and 1 concepts that the corpus lacks" in line
    source = member.source("valid", generated.table.of(split="valid"), corpus=generated)
    assert (source.rows < 0).sum() == 2
    assert (source.columns < 0).sum() == 1


def test_the_leakage_guard_holds_for_them_too(
    generated: Corpus, empty: Workspace, far: Path
) -> None:
    seen = replace(Predictions.load(far / "test"), fitted_on=frozenset({"test_001"}))
    SparsePredictions.of(seen, at_least=0.1).save(far / "test")
    with pytest.raises(LeakageError, match="1 of 40 images were used to fit it"):
        gather_members(generated, empty, outside=[far])


def test_a_name_that_is_taken_is_refused(
    generated: Corpus, empty: Workspace, far: Path, tmp_path: Path
) -> None:
    other = tmp_path / "elsewhere" / "far"
    shutil.copytree(far, other)
    with pytest.raises(ConfigError, match=r"elsewhere/far: the name 'far' is taken; rename the"):
        gather_members(generated, empty, outside=[far, other])
    far.rename(tmp_path / "mean")
    with pytest.raises(ConfigError, match="the name 'mean' is taken"):
        gather_members(generated, empty, outside=[tmp_path / "mean"])


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
    members = gather_members(generated, workspace, outside=[older, routed / "predictions"])
    assert [m.name for m in members] == ["prior", "routed", "DRCT", "DRCT/quick-1", "routed-1"]
    said = capsys.readouterr().err
    assert "member DRCT/quick-1: " in said
    assert said.endswith("members: prior, routed, DRCT, DRCT/quick-1, routed-1\n")
    valid = generated.table.of(split="valid")
    pairs = candidates_of(generated, members, table=valid, split="valid", config=CONFIG)
    own = members[3].source("valid", valid, corpus=generated).at(pairs.rows, pairs.columns)
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
    members = gather_members(generated, workspace, outside=[home])
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
    members = gather_members(generated, workspace, outside=given)
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
        gather_members(generated, workspace, outside=[home.parent])


def test_a_folder_without_predictions_of_valid_is_refused(
    generated: Corpus, empty: Workspace, far: Path, tmp_path: Path
) -> None:
    with pytest.raises(PredictionsError, match="no such folder"):
        gather_members(generated, empty, outside=[tmp_path / "nowhere"])
    Predictions.load(far / "test").save(far / "valid")
    with pytest.raises(PredictionsError, match="no valid image in it to weigh it by"):
        gather_members(generated, empty, outside=[far])


def test_a_strategy_on_the_features_of_two_encoders_is_two_members(
    generated: Corpus, workspace: Workspace, fused: SaveRun
) -> None:
    b0, vit = ("b0-224px-0000000a", "b0-320px-0000000b"), ("vit-224px-0000000c",)
    fused("retrieval", embeddings=b0, made="2026-11-01")
    assert [m.name for m in gather_members(generated, workspace)] == ["prior", "retrieval"]
    fused("retrieval", name="retrieval-2", embeddings=vit, made="2026-11-02")
    # Of other sizes, but the same encoder: it takes the place of the first.
    fused("retrieval", name="retrieval-3", embeddings=b0[:1], made="2026-11-03")
    tuned = ("global-finetune-0000000d-1of2", "global-finetune-0000000d-2of2")
    fused("one-hot", embeddings=vit, made="2026-11-01")
    fused("one-hot", name="one-hot-2", embeddings=tuned, made="2026-11-02")
    fused("routed", embeddings=b0, made="2026-11-01")
    fused("routed", name="routed-2", embeddings=vit, made="2026-11-02")
    members = {m.name: m.folder for m in gather_members(generated, workspace)}
    assert {name: folder and folder.name for name, folder in members.items()} == {
        "prior": None, "one-hot/finetune": "one-hot-2", "one-hot/vit": "one-hot-1",
        "retrieval/b0": "retrieval-3", "retrieval/vit": "retrieval-2", "routed": "routed-2",
    }  # fmt: skip
