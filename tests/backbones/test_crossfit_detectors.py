"""`train-backbone` on a corpus whose train and valid were dealt into folds together."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backbones.detectors import jobs
from backbones.detectors.plan import DetectorPlan, detector_names, plan_detectors
from backbones.detectors.run import RunOptions, train_network
from backbones.settings.config import BackboneConfig
from backbones.train import train_backbones
from core.config import overlay
from core.embeddings import Embeddings
from core.errors import ConfigError, MissingStageError
from core.predictions import Predictions
from core.runs.detectors import find_detectors
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import read_meta
from tests.conftest import relabelled, save_prepared
from training.devices.compute import Compute
from training.members import MemberPlan

FROZEN = BackboneConfig(
    backbone="test_efficientnet", weights="none", image_sizes=(64,), hidden=(16,),
    epochs=3, patience=1, batch_size=16, probe=False,
)  # fmt: skip
FULL = overlay(FROZEN, {"regime": "full", "augment": "hflip", "hidden": "", "epochs": 1})


def train(
    corpus: Corpus, workspace: Workspace, category: str, config: BackboneConfig = FROZEN
) -> Path:
    (folder,) = train_backbones(
        corpus,
        workspace,
        names=detector_names(category),
        config=config,
        preset="tiny",
        compute=Compute(),
    )
    return folder


@pytest.mark.parametrize("category", ["global", "DRCT"])
def test_every_labelled_image_is_predicted_by_networks_that_never_met_its_fold(
    crossfitted: Corpus, workspace: Workspace, category: str
) -> None:
    folder = train(crossfitted, workspace, category, overlay(FROZEN, {"seeds": 2}))
    names = {path.name for path in (folder / "predictions").iterdir()}
    assert names == {"labelled-1of3", "labelled-2of3", "labelled-3of3", "test"}
    only = None if category == "global" else category
    table = crossfitted.labelled_images("labelled", category=only)
    for fold in range(3):
        part = Predictions.load(folder / "predictions" / f"labelled-{fold + 1}of3")
        assert part.image_ids == table.take(table.folds == fold).image_ids
        assert part.fitted_on == set(table.take(table.folds != fold).image_ids)
        assert part.out_of_sample
    (run,) = find_detectors(workspace, crossfitted.fingerprint)
    joined = run.predictions("labelled")
    assert set(joined.image_ids) == set(table.image_ids)
    joined.require_out_of_sample()
    whole = crossfitted.table
    joined.require_groups_apart(dict(zip(whole.image_ids, whole.groups, strict=True)))
    assert run.predictions("test").fitted_on == set(table.image_ids)
    meta = read_meta(folder)
    assert meta["best_epoch"] == [3] * 6  # full length, whatever the patience
    assert meta["stopping_f1"] == [None] * 6
    assert meta["n_train"] == len(table)


def test_labels_of_a_fold_do_not_reach_what_predicts_it(
    crossfitted: Corpus, tmp_path: Path
) -> None:
    before = train(crossfitted, Workspace(tmp_path / "a"), "global")
    after = train(relabelled(crossfitted, 1), Workspace(tmp_path / "b"), "global")
    for number in (1, 2, 3):
        one, other = (
            Predictions.load(home / "predictions" / f"labelled-{number}of3").probs
            for home in (before, after)
        )
        assert np.array_equal(one, other) == (number == 2)


def third_fails(plan: DetectorPlan, member: MemberPlan, **others: Any) -> None:
    """As `train_network`, but for the third network, which is interrupted."""
    if member.number == 2:
        raise KeyboardInterrupt
    train_network(plan, member, **others)


def test_equal_settings_meet_and_a_cut_training_ends_as_an_uninterrupted_one(
    crossfitted: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(crossfitted, Workspace(tmp_path / "whole"), "global", FULL)
    cut = Workspace(tmp_path / "cut")

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "train_network", third_fails)
        with pytest.raises(KeyboardInterrupt):
            train(crossfitted, cut, "global", FULL)
    (unfinished,) = (cut.backbones / "global").iterdir()
    assert sorted(path.name for path in (unfinished / "members").iterdir()) == ["0", "1"]
    resumed = train(crossfitted, cut, "global", FULL)
    assert resumed == unfinished
    assert resumed.name == whole.name
    for split in ("labelled-1of3", "labelled-2of3", "labelled-3of3", "test"):
        one, other = (Predictions.load(f / "predictions" / split) for f in (whole, resumed))
        np.testing.assert_array_equal(one.probs, other.probs)
    made = (resumed / "model.safetensors").stat().st_mtime_ns
    assert train(crossfitted, cut, "global", FULL) == resumed
    assert (resumed / "model.safetensors").stat().st_mtime_ns == made


def test_a_fine_tuned_detector_has_pooled_features_a_fold_that_its_labels_do_not_reach(
    crossfitted: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for name, corpus in {"before": crossfitted, "after": relabelled(crossfitted, 1)}.items():
        workspace = Workspace(tmp_path / name)
        folder = train(corpus, workspace, "global", FULL)
        names = [f"global-{folder.name}-{k}of3" for k in (1, 2, 3)]
        assert read_meta(folder)["embeddings"] == names
        found.append([Embeddings.load(workspace.embeddings / name) for name in names])
    assert found[0][0].image_ids == crossfitted.readable_ids
    equal = [np.array_equal(*(of.values for of in pair)) for pair in zip(*found, strict=True)]
    assert equal == [False, True, False]  # the second network has not met the fold
    assert "global: 56 images, 7 concepts, out-of-fold F1 0." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stop_on": "valid"}, "stop_on valid: .* no image stops a training"),
        ({"folds": 2}, "folds: .* whose 3 folds every detector is trained along"),
        ({"use_folds": 2}, "use_folds: .* leave use_folds out"),
    ],
)
def test_settings_that_hold_out_other_images_are_refused(
    crossfitted: Corpus, workspace: Workspace, settings: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(crossfitted, workspace, "global", overlay(FROZEN, settings))


def test_a_category_in_a_single_fold_has_no_specialist(
    crossfitted: Corpus, workspace: Workspace
) -> None:
    table = crossfitted.table
    kinds = tuple(
        "DRUS" if split == "train" and int(image_id[-2:]) < 2 else kind
        for image_id, split, kind in zip(
            table.image_ids, table.splits, table.categories, strict=True
        )
    )
    corpus = replace(crossfitted, table=replace(table, categories=kinds))
    with pytest.raises(
        MissingStageError, match="fewer than two folds of made have labelled images of DRUS"
    ):
        train(corpus, workspace, "DRUS")


def test_a_network_elsewhere_is_described_by_its_number(
    crossfitted: Corpus, tmp_path: Path
) -> None:
    workspace = save_prepared(crossfitted, tmp_path / "far")
    (plan,) = plan_detectors(crossfitted, workspace, names=["global"], config=FROZEN, preset="tiny")
    member = plan.members[1]
    job = jobs.describe_job(
        plan, member, workspace=workspace, options=RunOptions(), device="cpu", threads=1
    )
    jobs.run_job(job)
    held_out = np.load(plan.member_home(member) / "labelled.npy")
    assert held_out.shape == (int((crossfitted.table.folds == 1).sum()), 7)
    assert not (plan.member_home(member) / "valid.npy").exists()
