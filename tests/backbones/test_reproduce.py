"""The paper's experiments as pairs of networks: trained, crashed, resumed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from backbones.detectors.run import RunOptions
from backbones.reproduce import TrialPlan, plan_trials, reproduce
from backbones.settings.paper import SCALES, Scale
from core.errors import ConfigError, MissingStageError
from core.predictions import Predictions
from core.runs.paper import crash_of, note_crash
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import is_complete, read_meta
from tests.conftest import save_prepared
from tests.core.storage.unlisted import forget_files

Prepared = Callable[[str], Workspace]

ROOT = Path(__file__).parents[2]


def run(trials: list[TrialPlan], workspace: Workspace) -> list[TrialPlan]:
    return reproduce(trials, workspace, device="cpu", options=RunOptions())


def test_of_a_cross_fitted_corpus_train_alone_is_learnt_from(
    crossfitted: Corpus, tmp_path: Path
) -> None:
    workspace = save_prepared(crossfitted, tmp_path / "runs")
    (trial, _) = plan_trials((3,), scale="small")
    plan = trial.plan(workspace)
    train = plan.table.of(split="train").image_ids
    assert train
    assert {*train} <= {*crossfitted.as_holdout().labelled_images("train").image_ids}
    assert plan.labels.cuis == tuple(
        sorted({c for cuis in crossfitted.table.of(split="train").concepts for c in cuis or ()})
    )
    torn = tuple(
        "train_0" if split == "valid" else group
        for split, group in zip(crossfitted.table.splits, crossfitted.table.groups, strict=True)
    )
    corpus = replace(crossfitted, table=replace(crossfitted.table, groups=torn))
    with pytest.raises(
        MissingStageError, match="groups with images in train and in valid: \\['train_0'\\]"
    ):
        corpus.as_holdout()


def test_without_numbers_all_ten_are_trained_as_pairs() -> None:
    trials = plan_trials((), scale="small")
    assert [(t.number, t.stop_on) for t in trials[:3]] == [(1, "val1"), (1, "val2"), (2, "val1")]
    assert len(trials) == 20
    third = plan_trials((3, 3), scale="full", third=True)
    assert [(t.number, t.stop_on) for t in third] == [(3, "val1"), (3, "val2"), (3, "valid")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"numbers": (11,), "scale": "small"}, "no experiment 11: the paper has 10"),
        ({"numbers": (1,), "scale": "huge"}, "--scale huge: expected full or tiny or small"),
        (
            {"numbers": (1,), "scale": "small", "weights": {"vgg19": "x"}},
            "--weights vgg19=...: the experiments have densenet169, resnet50, vgg16",
        ),
    ],
)
def test_what_there_is_not_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_trials(**arguments)  # type: ignore[arg-type]  # as the command line might


def test_weights_go_to_the_experiments_of_that_network(tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    path.write_bytes(b"weights")
    trials = plan_trials((3, 5), scale="tiny", weights={"resnet50": str(path)})
    assert {t.number: t.config.weights for t in trials} == {3: "none", 5: str(path)}


def test_a_scale_changes_what_it_names_and_nothing_else() -> None:
    from backbones.settings.paper import EXPERIMENTS

    scale = Scale(
        title="half", sizes={450: 64}, width=2, batch=2, epochs=7, weights={"vgg16": "none"}
    )
    changed, config = scale.of(EXPERIMENTS[4]), EXPERIMENTS[4]
    assert (changed.image_sizes, changed.hidden, changed.epochs) == ((64,), (2048, 2048), 7)
    assert (changed.weights, changed.learning_rate) == ("none", config.learning_rate)
    assert scale.of(EXPERIMENTS[3]).image_sizes == (227,)
    batches = {n: replace(scale, batch=4).of(EXPERIMENTS[n]).batch_size for n in (3, 5, 9)}
    assert batches == {3: 8, 5: 8, 9: 12}  # 32, 16 and 48 by 4, 8 at least
    assert SCALES["full"].of(config) == config


@dataclass(frozen=True, kw_only=True)
class Done:
    """A pair of networks, trained after one whose weights cannot be read.

    Attributes:
        workspace: where.
        pair: the two.
        bad: the other.
        crashed: what `reproduce` says of them.
    """

    workspace: Workspace
    pair: list[TrialPlan]
    bad: TrialPlan
    crashed: list[TrialPlan]


@pytest.fixture(scope="module")
def done(prepared_once: Workspace) -> Done:
    spoilt = prepared_once.root / "spoilt.pth"
    spoilt.write_bytes(b"no weights")
    bad = TrialPlan(number=5, stop_on="val1", scale="tiny", weights=str(spoilt))
    pair = plan_trials((3,), scale="tiny")
    before = pair[0].plan(prepared_once)
    note_crash(before.home, "RuntimeError: in an earlier call", corpus=before.corpus.fingerprint)
    crashed = run([bad, *pair], prepared_once)
    return Done(workspace=prepared_once, pair=pair, bad=bad, crashed=crashed)


def test_what_crashes_is_noted_and_the_others_go_on(done: Done) -> None:
    assert done.crashed == [done.bad]
    reason = crash_of(done.bad.plan(done.workspace).home)["reason"]
    assert reason.startswith("ConfigError: ")
    assert "spoilt.pth" in reason
    homes = [trial.plan(done.workspace).home for trial in done.pair]
    assert all(is_complete(home) and not crash_of(home) for home in homes)


def test_each_of_a_pair_is_tested_on_what_it_never_met(done: Done, corpus: Corpus) -> None:
    for trial in done.pair:
        home = trial.plan(done.workspace).home
        assert home.parent == done.workspace.reproduced / "tiny"
        meta = read_meta(home)
        assert (meta["preset"], meta["n_train"], meta["embeddings"]) == ("paper-3", 10, [])
        predictions = Predictions.load(home / "predictions" / "valid")
        assert set(predictions.image_ids) == set(corpus.images("valid").image_ids)
        assert predictions.fitted_on >= set(corpus.valid_half(trial.stop_on).image_ids)
        other = "val2" if trial.stop_on == "val1" else "val1"
        assert not predictions.fitted_on & set(corpus.valid_half(other).image_ids)


def test_what_is_trained_is_not_trained_again(
    done: Done, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(done.pair, done.workspace) == []
    assert capfd.readouterr().err == "2 of 2 networks are trained already\n"


def test_a_corpus_without_halves_is_named(prepared: Prepared) -> None:
    workspace = prepared("halves")
    forget_files(workspace.corpus)
    table = workspace.corpus / "images.csv"
    lines = [line.rsplit(",", 1)[0] for line in table.read_text().splitlines()]
    table.write_text("\n".join(lines) + "\n")
    with pytest.raises(MissingStageError, match="without the halves val1 and val2; run `prepare`"):
        len(TrialPlan(number=3, stop_on="val1", scale="tiny").plan(workspace).table)


@pytest.mark.skipif(not hasattr(os, "setsid"), reason="signals of another kind here")
@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_interrupted_it_ends_its_worker_and_the_next_call_finishes(
    prepared: Prepared, sent: signal.Signals, code: int
) -> None:
    workspace = prepared("interrupted")
    command = [sys.executable, "cli.py", "reproduce", "3", "--scale", "tiny"]
    child = subprocess.Popen(
        [*command, "-w", str(workspace.root)], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    home = workspace.reproduced / "tiny"
    deadline = time.monotonic() + 120
    while not list(home.glob("*/members/0/checkpoint/*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(sent)
    _, said = child.communicate(timeout=120)
    assert child.returncode == code, said
    assert "run the same command again" in said
    if sent == signal.SIGTERM:
        trials = plan_trials((3,), scale="tiny")
        assert run(trials, workspace) == []
        assert all(is_complete(trial.plan(workspace).home) for trial in trials)


def test_a_pair_shares_its_key_and_other_settings_have_another(prepared: Prepared) -> None:
    workspace = prepared("keys")
    keys = {
        trial.plan(workspace).home.name.rpartition("-")[2]
        for seed in (0, 1)
        for trial in plan_trials((3,), scale="tiny", seed=seed)
    }
    assert len(keys) == 2


def test_the_third_configuration_stops_on_all_of_valid(prepared: Prepared, corpus: Corpus) -> None:
    trial = TrialPlan(number=3, stop_on="valid", scale="tiny")
    plan = trial.plan(prepared("third"))
    [member] = plan.members
    assert member.stop.sum() == len(corpus.images("valid"))
    assert member.learnt.sum() == plan.n_train == 10
    assert np.array_equal(plan.table.take(member.learnt).folds, np.zeros(10))
