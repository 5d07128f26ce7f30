"""Detectors that learn from chosen images: what each network kept, and who had no say in it."""

import csv
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backbones.detectors import jobs, sampled
from backbones.detectors.inputs import TRAINING_INPUTS, TrainingInputs
from backbones.detectors.plan import DetectorPlan, plan_detectors
from backbones.detectors.run import RunOptions, train_network
from backbones.detectors.sampled import SAMPLE, learnt_by
from backbones.settings.config import BackboneConfig
from backbones.train import train_backbones
from core.errors import PredictionsError
from core.predictions import Predictions
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import read_meta
from core.storage.tables import read_rows, write_rows
from tests.conftest import relabelled
from training.devices.compute import Compute
from training.members import MemberPlan

FROZEN = BackboneConfig(
    backbone="test_efficientnet", weights="none", image_sizes=(64,), hidden=(16,),
    epochs=3, patience=1, batch_size=16, probe=False, sample="k-centre", keep=0.5, sample_rare=1,
)  # fmt: skip


def train(
    corpus: Corpus, workspace: Workspace, config: BackboneConfig, name: str = "global"
) -> Path:
    (folder,) = train_backbones(
        corpus, workspace, names=[name], config=config, preset="tiny", compute=Compute()
    )
    return folder


def rows_by_network(path: Path) -> dict[int, list[dict[str, str]]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        n: [r for r in rows if int(r["network"]) == n] for n in {int(r["network"]) for r in rows}
    }


def planned(
    corpus: Corpus, workspace: Workspace, config: BackboneConfig
) -> tuple[DetectorPlan, TrainingInputs]:
    (plan,) = plan_detectors(corpus, workspace, names=["global"], config=config, preset="tiny")
    inputs = TRAINING_INPUTS[config.regime](corpus, workspace, config=config, compute=Compute())
    return plan, inputs


@pytest.mark.parametrize("category", ["global", "DRXR"])
def test_each_network_keeps_half_of_the_images_outside_its_fold(
    crossfitted: Corpus, workspace: Workspace, category: str
) -> None:
    folder = train(crossfitted, workspace, FROZEN, category)
    networks = rows_by_network(folder / SAMPLE)
    table = crossfitted.training_images(category=None if category == "global" else category)
    for number in range(3):
        own = networks[number]
        assert {r["image_id"] for r in own} == {*table.take(table.folds != number).image_ids}
        kept = [r for r in own if r["state"] == "kept"]
        assert len(kept) == -(-len(own) // 2)
    assert read_meta(folder)["sampled"] == [
        sum(r["state"] == "kept" for r in networks[n]) for n in range(3)
    ]
    part = Predictions.load(folder / "predictions" / "labelled-1of3")
    # What was looked at to choose counts as met.
    assert part.fitted_on == set(table.take(table.folds != 0).image_ids)


def test_the_only_image_of_a_concept_is_kept_by_all_that_may_learn_from_it(
    crossfitted: Corpus, workspace: Workspace
) -> None:
    folder = train(crossfitted, workspace, replace(FROZEN, keep=0.1))
    (alone,) = [
        i
        for i, c in zip(crossfitted.table.image_ids, crossfitted.table.concepts, strict=True)
        if c is not None and "C6" in c
    ]
    found = [r for rows in rows_by_network(folder / SAMPLE).values() for r in rows]
    said = [(r["state"], r["reason"]) for r in found if r["image_id"] == alone]
    assert said == [("kept", "rare concept")] * 2


@pytest.mark.parametrize("strategy", ["loss", "inverse-frequency", "facility-location"])
def test_labels_of_a_fold_do_not_reach_the_choice_of_the_network_that_predicts_it(
    crossfitted: Corpus, tmp_path: Path, strategy: Any
) -> None:
    config = replace(FROZEN, sample=strategy)
    before = train(crossfitted, Workspace(tmp_path / "a"), config)
    after = train(relabelled(crossfitted, 1), Workspace(tmp_path / "b"), config)
    ones, others = (rows_by_network(home / SAMPLE) for home in (before, after))
    assert ones[1] == others[1]
    assert ones != others  # the other two learnt from these labels
    one, other = (
        Predictions.load(home / "predictions" / "labelled-2of3").probs for home in (before, after)
    )
    assert np.array_equal(one, other)


@pytest.mark.parametrize("strategy", ["k-centre", "facility-location", "distinct", "uncertainty"])
def test_features_of_images_that_are_held_out_do_not_reach_the_choice(
    crossfitted: Corpus, tmp_path: Path, strategy: Any
) -> None:
    config = replace(FROZEN, sample=strategy)
    found = []
    for name in ("as they are", "altered"):
        plan, inputs = planned(crossfitted, Workspace(tmp_path / name), config)
        embeddings = inputs.pooled()
        values = np.array(embeddings.values)
        if name == "altered":
            outside = np.array([plan.table.row_of.get(i, -1) for i in embeddings.image_ids])
            held_out = (outside < 0) | (plan.table.folds[outside] == 0)
            values[held_out] = values[held_out][::-1] * 3 + 7
        changed = replace(embeddings, values=values)
        inputs = replace(inputs, pooled=partial(replace, changed))
        found.append([learnt_by(plan, member, inputs=inputs) for member in plan.members])
    first, second = found
    assert first[0].tolist() == second[0].tolist()
    assert not (first[0] & plan.members[0].held_out).any()


def test_images_that_stop_a_network_are_not_chosen_from(
    corpus: Corpus, workspace: Workspace
) -> None:
    plan, inputs = planned(corpus, workspace, replace(FROZEN, n_members=2))
    for member in plan.members:
        learnt = learnt_by(plan, member, inputs=inputs)
        assert member.stop.any()
        assert not (learnt & member.stop).any()
        assert learnt.sum() == -(-member.learnt.sum() // 2)


def test_a_training_that_was_interrupted_resumes_with_the_images_it_had(
    crossfitted: Corpus, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def second_fails(plan: DetectorPlan, member: MemberPlan, **others: Any) -> None:
        if member.number == 1:
            raise KeyboardInterrupt
        train_network(plan, member, **others)

    plan, inputs = planned(crossfitted, workspace, FROZEN)
    with monkeypatch.context() as patch:
        patch.setattr(jobs, "train_network", second_fails)
        with pytest.raises(KeyboardInterrupt):
            train(crossfitted, workspace, FROZEN)
    first = plan.member_home(plan.members[0]) / SAMPLE
    before = first.read_text(encoding="utf-8")

    def fails(*_: Any, **__: Any) -> None:
        raise AssertionError("chosen again")

    # The choice of a network that was killed after it is not made anew.
    learnt_by(plan, plan.members[1], inputs=inputs)
    header, *rows = read_rows(plan.member_home(plan.members[1]) / SAMPLE)
    states = [row[2] for row in rows]
    moved = [[*row[:2], {"kept": "left out", "left out": "kept"}[row[2]], *row[3:]] for row in rows]
    write_rows(plan.member_home(plan.members[1]) / SAMPLE, [header, *moved])
    with monkeypatch.context() as patch:
        patch.setattr(sampled, "choose", fails)
        train_network(plan, plan.members[1], inputs=inputs, options=RunOptions())
    folder = train(crossfitted, workspace, FROZEN)
    networks = rows_by_network(folder / SAMPLE)
    assert [r["state"] for r in networks[1]] == [row[2] for row in moved] != states
    assert [",".join([*r.values()][1:]) for r in networks[0]] == before.splitlines()[1:]


def test_two_runs_keep_and_predict_the_same(crossfitted: Corpus, tmp_path: Path) -> None:
    one, other = (train(crossfitted, Workspace(tmp_path / name), FROZEN) for name in "ab")
    assert (one / SAMPLE).read_bytes() == (other / SAMPLE).read_bytes()
    first, second = (Predictions.load(home / "predictions" / "test").probs for home in (one, other))
    assert np.array_equal(first, second)


def test_a_table_of_another_detector_is_refused(crossfitted: Corpus, workspace: Workspace) -> None:
    plan, inputs = planned(crossfitted, workspace, FROZEN)
    home = plan.member_home(plan.members[0])
    home.mkdir(parents=True)
    write_rows(home / SAMPLE, [["image_id", "category", "state"], ["x1", "DRCT", "kept"]])
    with pytest.raises(PredictionsError, match="x1 is no training image of this detector"):
        learnt_by(plan, plan.members[0], inputs=inputs)


def test_a_fine_tuned_network_learns_from_what_was_drawn(
    corpus: Corpus, workspace: Workspace
) -> None:
    config = replace(
        FROZEN, regime="full", augment="both", hidden=(), epochs=1, n_members=1, sample="random"
    )
    folder = train(corpus, workspace, config)
    (rows,) = rows_by_network(folder / SAMPLE).values()
    assert sum(r["state"] == "kept" for r in rows) == 15  # of 30: a fold of 10 stops it


@pytest.mark.slow
def test_a_fine_tuned_network_chooses_by_features_of_the_default_encoder(
    corpus: Corpus, workspace: Workspace
) -> None:
    config = replace(FROZEN, regime="full", hidden=(), epochs=1, n_members=1)
    plan, inputs = planned(corpus, workspace, config)
    assert learnt_by(plan, plan.members[0], inputs=inputs).sum() == 15
    names = {path.name.rpartition("-")[0] for path in workspace.embeddings.iterdir()}
    assert names == {"tf_efficientnet_lite0-224px", "tf_efficientnet_lite0-320px"}
