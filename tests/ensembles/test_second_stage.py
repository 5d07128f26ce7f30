"""From members to concept sets, on predictions that see the truth through noise."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.metrics import cross_fitted_f1
from core.predictions import Predictions
from core.runs.ladder import Rung, read_steps, write_steps
from core.runs.workspace import Corpus, Workspace
from ensembles.config import EnsembleConfig
from ensembles.decisions.rule import CALIBRATED_RULES, DecisionRule
from ensembles.decisions.thresholds import Thresholds
from ensembles.members import gather_members
from ensembles.second_stage import (
    SecondStage,
    candidates_of,
    describe,
    every_rung,
    fit_second_stage,
    leave_one_out,
    quick_stacker,
)

SaveRun = Callable[..., Path]

QUICK = EnsembleConfig(stackers=("mean", "logistic"), constant_from=15)


def fit(corpus: Corpus, workspace: Workspace, config: EnsembleConfig = QUICK) -> SecondStage:
    valid = corpus.table.of(split="valid")
    return fit_second_stage(
        corpus,
        gather_members(corpus, workspace),
        scored=valid,
        config=config,
        empty_truth="left out",
    )


def kept_rung(fitted: SecondStage) -> float:
    """F1 of what the decision starts from."""
    return next(rung.mean for rung in fitted.tried if rung.name == fitted.stacker_name)


def best_single(fitted: SecondStage, config: EnsembleConfig = QUICK) -> float:
    return max(rung.mean for rung in fitted.tried if rung.name not in config.stackers)


def kept_sources(fitted: SecondStage) -> list[Rung]:
    """The prior, the best member and the stackers that paid."""
    return [rung for rung in fitted.rungs if not rung.is_rule and rung.state == "kept"]


def test_everything_that_was_tried_is_scored_out_of_fold(
    generated: Corpus, workspace: Workspace, detector: SaveRun, fused: SaveRun
) -> None:
    detector("global")
    fused("one-hot", noise=1.5)
    fitted = fit(generated, workspace)
    members = ["prior", "one-hot", "global"]
    assert [rung.name for rung in fitted.tried] == [*members, "mean", "logistic"]
    assert fitted.rungs[0].name == "prior"
    assert fitted.rungs[-1].title == f"submission: {describe(fitted.choice)}"
    assert fitted.rungs[-1].state == "submitted"
    np.testing.assert_array_equal(fitted.rungs[-1].image_f1, fitted.choice.image_f1)
    valid = generated.table.of(split="valid")
    scores = cross_fitted_f1(
        fitted.out_of_fold.toarray(),
        valid.targets(generated.labels),
        folds=valid.folds,
        empty_truth="left out",
    )
    kept = next(rung for rung in fitted.tried if rung.name == fitted.stacker_name)
    np.testing.assert_array_equal(kept.image_f1, scores)


def test_the_rungs_climb_from_the_prior_over_the_best_member_to_the_decision(
    generated: Corpus, workspace: Workspace, detector: SaveRun, fused: SaveRun
) -> None:
    for strategy, noise in (("one-hot", 1.5), ("retrieval", 2.0), ("routed", 4.0)):
        fused(strategy, noise=noise)
    detector("global", noise=2.0)
    fitted = fit(generated, workspace)
    names = [rung.name for rung in fitted.rungs]
    assert names[:4] == ["prior", "one-hot", "mean", "logistic"]
    assert fitted.rungs[1].title == "best member: one-hot"
    means = [rung.mean for rung in kept_sources(fitted)]
    assert means == sorted(means)
    assert fitted.rungs[-1].mean > fitted.rungs[1].mean


def test_a_specialist_is_no_best_member_however_good(
    generated: Corpus, workspace: Workspace, detector: SaveRun
) -> None:
    """Alone it says nothing of most images, where the mean of the others would stand in for it."""
    detector("global", noise=3.0)
    detector("DRCT", noise=0.1)
    fitted = fit(generated, workspace)
    scores = {rung.name: rung.mean for rung in fitted.tried}
    assert scores["DRCT"] > scores["global"]
    assert fitted.rungs[1].title == "best member: global"


def test_every_kind_of_thing_that_was_tried_has_a_rung_kept_or_not(
    generated: Corpus, workspace: Workspace, detector: SaveRun, fused: SaveRun
) -> None:
    fused("one-hot", noise=1.5)
    detector("global", noise=2.0)
    fitted = fit(generated, workspace)
    choice = fitted.choice
    titles = [(rung.title or rung.name).partition(":")[0] for rung in fitted.rungs]
    assert titles[:4] == ["prior", "best member", "mean of the members", "stacker"]
    assert titles[-2:] == ["decision", "submission"]
    assert titles[-3] in {"one exact threshold", "thresholds by category", "thresholds by concept"}
    assert choice.calibrated_model is not None
    assert fitted.rungs[-2].title.endswith(
        f"({choice.calibrated_model.calibration.kind} calibration)"
    )
    last_kept = [rung for rung in fitted.rungs if rung.state == "kept"][-1]
    np.testing.assert_array_equal(last_kept.image_f1, choice.image_f1)
    for rung in fitted.rungs[-3:-1]:
        np.testing.assert_array_equal(rung.image_f1, choice.rungs[rung.name])
    best = max(choice.scores[name] for name in CALIBRATED_RULES)
    if fitted.rungs[-2].state == "not kept":
        assert fitted.rungs[-2].mean == pytest.approx(best)


def test_the_plain_threshold_has_a_rung_where_constant_concepts_make_a_difference(
    generated: Corpus, workspace: Workspace, fused: SaveRun
) -> None:
    fused("one-hot", noise=2.0)
    fitted = fit(generated, workspace, replace(QUICK, margin=1_000))
    rung = next(rung for rung in fitted.rungs if rung.name == "plain")
    assert rung.title == "one threshold, constant concepts always, no image empty"
    assert rung.state == "kept"
    below = kept_sources(fitted)
    assert rung.mean != below[-1].mean
    tried = {rung.name: rung for rung in fitted.tried}
    same = replace(fitted.choice, rungs={**fitted.choice.rungs, "plain": below[-1].image_f1.copy()})
    rungs = every_rung(below, tried, choice=same, config=replace(QUICK, margin=1_000))
    assert "plain" not in [rung.name for rung in rungs]


@pytest.mark.parametrize("noises", [(0.5, 6.0, 8.0), (3.0, 3.0, 3.0), (6.0, 6.5, 7.0)])
def test_what_is_kept_is_never_below_the_best_single_member(
    generated: Corpus, workspace: Workspace, fused: SaveRun, noises: tuple[float, ...]
) -> None:
    for strategy, noise in zip(("one-hot", "retrieval", "routed"), noises, strict=True):
        fused(strategy, noise=noise)
    for margin in (0.0, 0.5):
        fitted = fit(generated, workspace, replace(QUICK, margin=margin))
        assert kept_rung(fitted) >= best_single(fitted)


def test_a_stacker_that_does_not_pay_is_not_used(
    generated: Corpus, workspace: Workspace, fused: SaveRun
) -> None:
    fused("one-hot", noise=2.0)
    fused("retrieval", noise=2.0)
    paying = fit(generated, workspace)
    assert paying.stacker_name in QUICK.stackers
    fitted = fit(generated, workspace, replace(QUICK, margin=1_000))
    assert fitted.stacker_name in ("one-hot", "retrieval")
    assert kept_rung(fitted) == best_single(fitted)
    assert [rung.name for rung in kept_sources(fitted)] == ["prior", fitted.stacker_name]
    states = {rung.name: rung.state for rung in fitted.rungs if not rung.is_rule}
    assert states["mean"] == states["logistic"] == "not kept"
    member = next(m for m in gather_members(generated, workspace) if m.name == fitted.stacker_name)
    found = fitted.out_of_fold.toarray()
    chosen = found > 0
    assert isinstance(member.scored, Predictions)
    np.testing.assert_allclose(found[chosen], member.scored.probs[chosen], atol=1e-6)


def test_where_the_prior_is_the_best_member_it_stands_on_the_ladder_once(
    generated: Corpus, workspace: Workspace, fused: SaveRun
) -> None:
    fused("one-hot", noise=50.0)
    fitted = fit(generated, workspace, replace(QUICK, margin=1_000))
    assert fitted.stacker_name == "prior"
    assert [rung.name for rung in kept_sources(fitted)] == ["prior"]


def test_the_out_of_fold_probabilities_of_a_fold_do_not_know_its_labels(
    generated: Corpus, workspace: Workspace, fused: SaveRun
) -> None:
    fused("one-hot", noise=2.0)
    fused("retrieval", noise=2.0)
    config = EnsembleConfig(stackers=("logistic",), margin=0.0)
    table = generated.table
    concepts = list(table.concepts)
    for row, split in enumerate(table.splits):
        if split == "valid" and table.folds[row] == 2:
            concepts[row] = ("C11",)  # nonsense
    spoilt = replace(generated, table=replace(table, concepts=tuple(concepts)))
    here = table.of(split="valid").folds == 2
    fitted = [fit(corpus, workspace, config) for corpus in (generated, spoilt)]
    assert fitted[0].stacker_name == fitted[1].stacker_name == "logistic"
    found = [one.out_of_fold.toarray() for one in fitted]
    np.testing.assert_array_equal(found[0][here], found[1][here])
    assert (found[0][~here] != found[1][~here]).any()


def test_concepts_that_are_constant_in_a_category_are_always_decided(
    generated: Corpus, workspace: Workspace, fused: SaveRun
) -> None:
    fused("one-hot", noise=2.0)
    rule = fit(generated, workspace).choice.rule
    n_us = len(generated.table.of(split="train", category="DRUS"))
    assert rule.always == {"DRCT": ("C00",), "DRUS": ("C02",), "DRXR": ("C01",)}
    larger = fit(generated, workspace, replace(QUICK, constant_from=n_us + 1)).choice.rule
    assert larger.always.keys() == {"DRCT", "DRXR"}
    assert fit(generated, workspace, replace(QUICK, constant_from=0)).choice.rule.always == {}


def test_concepts_that_train_never_saw_count_as_missed(
    generated: Corpus, workspace: Workspace, fused: SaveRun
) -> None:
    fused("one-hot", noise=0.01)  # as good as knowing the truth
    fitted = fit(generated, workspace)
    valid = generated.table.of(split="valid")
    scores = next(rung.image_f1 for rung in fitted.tried if rung.name == "one-hot")
    known = valid.concepts[0]
    assert known is not None
    assert "C99" in known
    assert scores[0] == 2 * (len(known) - 1) / (2 * len(known) - 1)
    assert scores[1] == 1.0


def test_candidates_of_test_have_the_features_of_those_of_valid(
    generated: Corpus, workspace: Workspace, detector: SaveRun, fused: SaveRun
) -> None:
    fused("one-hot")
    detector("DRCT")
    members = gather_members(generated, workspace)
    names = {
        candidates_of(
            generated, members, table=generated.table.of(split=split), split=split, config=QUICK
        ).feature_names
        for split in ("valid", "test")
    }
    assert len(names) == 1


@pytest.mark.parametrize(
    ("thresholds", "words"),
    [
        (Thresholds(global_=0.314), "one threshold, 0.31"),
        (Thresholds(global_=0.3, by_category={"DRCT": 0.2}), "1 categories with their own"),
        (
            Thresholds(global_=0.3, by_category={"DRCT": 0.2}, by_concept={"C1": 0.1, "C2": 0.2}),
            "2 concepts with their own",
        ),
        (None, "expected F1"),
    ],
)
def test_a_rule_is_described_in_words(
    generated: Corpus,
    workspace: Workspace,
    fused: SaveRun,
    thresholds: Thresholds | None,
    words: str,
) -> None:
    fused("one-hot")
    choice = fit(generated, workspace).choice
    rule = DecisionRule(
        kind="expected-f1" if thresholds is None else "thresholds", thresholds=thresholds
    )
    assert words in describe(replace(choice, rule=rule))


CONFIG = EnsembleConfig(stackers=("mean", "logistic"))


def test_the_member_that_knows_is_worth_most_and_the_score_is_that_of_the_others(
    generated: Corpus, workspace: Workspace, fused: SaveRun, tmp_path: Path
) -> None:
    fused("one-hot", noise=0.8)
    fused("retrieval", noise=4.0)
    valid = generated.table.of(split="valid")
    members = gather_members(generated, workspace)
    fitted = fit_second_stage(
        generated, members, scored=valid, config=CONFIG, empty_truth="left out"
    )
    steps = leave_one_out(generated, members, scored=valid, config=CONFIG, fitted=fitted)
    gains = {step.name: step.gain for step in steps if step.gain is not None}
    assert list(gains) == ["prior", "one-hot", "retrieval"]
    assert gains["one-hot"].low > 0.1
    assert gains["one-hot"].low > gains["retrieval"].value
    name = quick_stacker(fitted)
    assert name in CONFIG.stackers
    without = [member for member in members if member.name != "one-hot"]
    alone = fit_second_stage(
        generated, without, scored=valid, config=CONFIG, empty_truth="left out"
    )
    whole, part = (
        next(rung.mean for rung in stage.tried if rung.name == name) for stage in (fitted, alone)
    )
    assert steps[1].f1.value == pytest.approx(part)
    assert gains["one-hot"].value == pytest.approx(whole - part)
    write_steps(tmp_path / "members.csv", steps)
    assert read_steps(tmp_path / "members.csv") == steps
    quiet = replace(CONFIG, leave_one_out=False)
    assert not leave_one_out(generated, members, scored=valid, config=quiet, fitted=fitted)


def test_the_kept_stacker_judges_if_it_is_quick_and_else_the_best_quick_one(
    generated: Corpus, workspace: Workspace, fused: SaveRun
) -> None:
    fused("one-hot")
    valid = generated.table.of(split="valid")
    members = gather_members(generated, workspace)
    fitted = fit_second_stage(
        generated, members, scored=valid, config=CONFIG, empty_truth="left out"
    )
    assert quick_stacker(replace(fitted, stacker_name="logistic")) == "logistic"
    better = replace(fitted.tried[-1], image_f1=np.ones(len(valid)))  # of "logistic"
    tried = [*fitted.tried[:-1], better]
    assert quick_stacker(replace(fitted, stacker_name="lightgbm", tried=tried)) == "logistic"
    assert quick_stacker(replace(fitted, stacker_name="prior", tried=fitted.tried[:1])) is None
