"""Detectors of a cross-fitted corpus that start from another detector: nothing leaks."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from backbones.detectors import jobs
from backbones.detectors.plan import plan_detectors
from backbones.detectors.run import RunOptions
from backbones.detectors.start import Start
from backbones.networks.weights import start_weights
from backbones.settings.config import BackboneConfig
from core.config import overlay
from core.errors import ConfigError, PredictionsError
from core.predictions import Predictions
from core.runs.detectors import find_detectors
from core.runs.workspace import Corpus, Workspace
from core.storage.documents import read_json
from core.storage.folders import read_meta, write_json
from core.storage.sums import HOLDS, META, SEAL
from core.storage.tables import read_lines, write_lines
from tests.backbones.test_crossfit_detectors import FROZEN, FULL, third_fails, train
from tests.conftest import relabelled, save_prepared
from training.checkpoint import load_network

FOLDS = ("labelled-1of3", "labelled-2of3", "labelled-3of3")
STILL = overlay(FULL, {"learning_rate": 1e-12, "weight_decay": 0.0})
"""Learns nothing, so that its networks stay what they started from."""


def from_global(corpus: Corpus, workspace: Workspace, config: BackboneConfig) -> BackboneConfig:
    return start_weights(config, "global", corpus=corpus, workspace=workspace)


@pytest.fixture(scope="module")
def general(crossfitted: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fine-tuned global detector of the cross-fitted corpus; to be read only."""
    return train(crossfitted, Workspace(tmp_path_factory.mktemp("general")), "global", FULL)


@pytest.fixture
def started(general: Path, workspace: Workspace) -> Workspace:
    """A workspace with that detector, to be changed."""
    shutil.copytree(general, workspace.backbones / "global" / general.name)
    return workspace


def specialist(workspace: Workspace, corpus: Corpus, config: BackboneConfig = FULL) -> Path:
    return train(corpus, workspace, "DRCT", from_global(corpus, workspace, config))


def test_each_network_starts_from_the_one_that_left_out_the_same_fold(
    crossfitted: Corpus, started: Workspace, general: Path
) -> None:
    home = specialist(started, crossfitted, overlay(STILL, {"seeds": 2}))
    name = "backbone.network.conv_stem.weight"
    theirs = [load_network(general / "model.safetensors", number)[name] for number in range(3)]
    assert not torch.allclose(theirs[0], theirs[1], atol=1e-4)
    for number in range(6):  # the other has one seed: network 3 starts from 0 again
        own = load_network(home / "model.safetensors", number)[name]
        assert torch.allclose(own, theirs[number % 3], atol=1e-7)


def test_of_several_seeds_the_same_one_is_taken() -> None:
    start = Start(folder=Path("run"), corpus="made0001", n_networks=6, n_folds=3)
    assert [start.network(number) for number in range(9)] == [0, 1, 2, 3, 4, 5, 0, 1, 2]


def test_a_specialist_was_fitted_on_what_the_global_detector_met(
    crossfitted: Corpus, started: Workspace
) -> None:
    home = specialist(started, crossfitted)
    table = crossfitted.labelled_images("labelled")
    for fold, name in enumerate(FOLDS):
        part = Predictions.load(home / "predictions" / name)
        own = table.of(category="DRCT")
        assert part.image_ids == own.take(own.folds == fold).image_ids
        assert part.fitted_on == set(table.take(table.folds != fold).image_ids)
        assert part.out_of_sample
    run = next(r for r in find_detectors(started, crossfitted.fingerprint) if r.category == "DRCT")
    joined, whole = run.predictions("labelled"), crossfitted.table
    joined.require_groups_apart(dict(zip(whole.image_ids, whole.groups, strict=True)))
    assert run.predictions("test").fitted_on == set(table.image_ids)


def test_what_a_chain_of_starts_has_met_is_kept(crossfitted: Corpus, started: Workspace) -> None:
    """The global detector, a specialist of CT from it, and one of X-ray from that."""
    first = specialist(started, crossfitted)
    second = train(crossfitted, started, "DRXR", replace(FULL, weights=str(first)))
    table = crossfitted.labelled_images("labelled")
    part = Predictions.load(second / "predictions" / FOLDS[1])
    assert part.fitted_on == set(table.take(table.folds != 1).image_ids)


def test_labels_of_a_fold_do_not_reach_what_predicts_it_through_the_start(
    crossfitted: Corpus, tmp_path: Path
) -> None:
    homes = []
    for name, corpus in (("before", crossfitted), ("after", relabelled(crossfitted, 1))):
        workspace = Workspace(tmp_path / name)
        train(corpus, workspace, "global", FULL)
        homes.append(specialist(workspace, corpus))
    for fold, name in enumerate(FOLDS):
        one, other = (Predictions.load(home / "predictions" / name).probs for home in homes)
        assert np.array_equal(one, other) == (fold == 1)


def test_a_start_that_met_the_fold_held_out_is_refused(
    crossfitted: Corpus, started: Workspace, general: Path
) -> None:
    home = started.backbones / "global" / general.name
    file = home / "predictions" / FOLDS[1] / "fitted_on.txt"
    (leaked,) = crossfitted.table.take(crossfitted.table.folds == 1).image_ids[:1]
    write_lines(file, sorted({*read_lines(file), leaked}))
    with pytest.raises(ConfigError, match=f"labelled-2of3 has met 1 images of fold 2: .'{leaked}'"):
        specialist(started, crossfitted)


def test_networks_in_another_order_would_have_met_the_fold_and_are_refused(
    crossfitted: Corpus, started: Workspace, general: Path
) -> None:
    home = started.backbones / "global" / general.name / "predictions"
    (home / FOLDS[0]).rename(home / "x")
    (home / FOLDS[1]).rename(home / FOLDS[0])
    (home / "x").rename(home / FOLDS[1])
    meta = read_json(home.parent / META)
    write_json(home.parent / META, {k: v for k, v in meta.items() if k not in (HOLDS, SEAL)})
    with pytest.raises(ConfigError, match=r"labelled-1of3 has met \d+ images of fold 1"):
        specialist(started, crossfitted)


def test_a_start_of_another_corpus_or_protocol_is_refused(
    corpus: Corpus, crossfitted: Corpus, workspace: Workspace, general: Path
) -> None:
    held_out = train(corpus, workspace, "global", FULL)
    for home, on in (
        (held_out, crossfitted),
        (general, replace(crossfitted, fingerprint="made0002")),
    ):
        config = replace(FULL, weights=str(home))
        with pytest.raises(ConfigError, match="was not cross-fitted on made as it is prepared"):
            train(on, workspace, "DRCT", config)
    same = replace(crossfitted, fingerprint=corpus.fingerprint)  # by its name alone
    with pytest.raises(ConfigError, match="was not cross-fitted on made as it is prepared"):
        train(same, workspace, "DRCT", replace(FULL, weights=str(held_out)))


def test_a_start_with_another_number_of_folds_is_refused(
    crossfitted: Corpus, workspace: Workspace, general: Path
) -> None:
    table = crossfitted.table
    two = replace(crossfitted, table=table.with_folds(np.minimum(table.folds, 1)))
    with pytest.raises(ConfigError, match=r"3 networks for 3 folds, made has 2 folds"):
        train(two, workspace, "DRCT", replace(FULL, weights=str(general)))


def test_a_frozen_network_of_a_detector_is_refused(
    crossfitted: Corpus, workspace: Workspace, general: Path
) -> None:
    with pytest.raises(ConfigError, match="all share the features of one frozen network"):
        train(crossfitted, workspace, "DRCT", replace(FROZEN, weights=str(general)))


def test_a_start_that_does_not_say_what_it_met_is_refused(
    crossfitted: Corpus, started: Workspace, general: Path, corpus: Corpus, tmp_path: Path
) -> None:
    shutil.rmtree(started.backbones / "global" / general.name / "predictions" / FOLDS[2])
    with pytest.raises(PredictionsError, match=r"labelled-3of3/meta.json: missing; to make"):
        specialist(started, crossfitted)
    plain = Workspace(tmp_path / "plain")
    home = train(corpus, plain, "global", FULL)
    shutil.rmtree(home / "predictions" / "test")
    with pytest.raises(PredictionsError, match=r"test/meta.json: missing; to make it anew"):
        train(corpus, plain, "DRCT", replace(FULL, weights=str(home)))


def test_what_a_start_has_met_counts_under_holdout_too(
    corpus: Corpus, workspace: Workspace, general: Path
) -> None:
    """One that was cross-fitted has met valid, so that no second stage takes what comes from it."""
    home = train(corpus, workspace, "DRCT", replace(FULL, weights=str(general)))
    assert not Predictions.load(home / "predictions" / "valid").out_of_sample
    start = train(corpus, workspace, "global", FULL)
    home = train(corpus, workspace, "DRCT", replace(FULL, weights=str(start)))
    valid = Predictions.load(home / "predictions" / "valid")
    assert valid.fitted_on == set(corpus.images("train").image_ids)
    assert valid.out_of_sample


def test_a_cut_training_goes_on_from_the_same_starts(
    crossfitted: Corpus, started: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = Workspace(shutil.copytree(started.root, tmp_path / "cut"))
    whole = specialist(started, crossfitted)

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "train_network", third_fails)
        with pytest.raises(KeyboardInterrupt):
            specialist(cut, crossfitted)
    resumed = specialist(cut, crossfitted)
    assert resumed.name == whole.name  # wherever the start lies
    for name in (*FOLDS, "test"):
        one, other = (Predictions.load(home / "predictions" / name) for home in (whole, resumed))
        np.testing.assert_array_equal(one.probs, other.probs)
        assert one.fitted_on == other.fitted_on


def test_a_network_elsewhere_starts_from_the_same_one(
    crossfitted: Corpus, general: Path, tmp_path: Path
) -> None:
    here, there = (save_prepared(crossfitted, tmp_path / name) for name in ("here", "there"))
    config = replace(FULL, weights=str(general))
    home = train(crossfitted, here, "DRCT", config)
    (plan,) = plan_detectors(crossfitted, there, names=["DRCT"], config=config, preset="tiny")
    for member in plan.members:
        job = jobs.describe_job(
            plan, member, workspace=there, options=RunOptions(), device="cpu", threads=1
        )
        jobs.run_job(jobs.Job(**json.loads(json.dumps(vars(job)))))
    assert train(crossfitted, there, "DRCT", config).name == home.name
    one, other = (run / "model.safetensors" for run in (home, plan.home))
    assert one.read_bytes() == other.read_bytes()
    assert read_meta(plan.home)["weights"] == str(general)
