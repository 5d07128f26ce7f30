"""What adjusting by the prior costs and brings, against loops; `ensemble` with and without."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from core.labels import frequency_buckets
from core.metrics import ScoredImages
from core.runs.decided import Decided
from core.runs.ensemble import EnsembleRecord, PriorPoint, read_run, read_scores
from core.runs.out_of_fold import read_folds
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import read_meta
from ensembles.config import EnsembleConfig
from ensembles.decisions.choose import decide_by_one_threshold
from ensembles.decisions.rule import DecisionRule
from ensembles.ensemble import ensemble
from ensembles.prior_frontier import STRENGTHS, prior_frontier
from ensembles.second_stage import (
    SecondStage,
    label_statistics_of,
    said_by_labels,
    statistics_of_scored,
    tuning_of,
)
from reports.ensemble.page import report_sections
from tests.conftest import relabelled

QUICK = EnsembleConfig(
    stackers=("mean",), constant_from=15, leave_one_out=False, learning_curve=False
)


@pytest.fixture
def members(detector: Callable[..., Path], fused: Callable[..., Path]) -> None:
    detector("global", noise=2.0)
    fused("one-hot", noise=1.5)


def by_key(points: list[PriorPoint]) -> dict[tuple[str, float, str, str], PriorPoint]:
    found = {(p.decided_by, p.strength, p.measure, p.bucket): p for p in points}
    assert len(found) == len(points)
    return found


@pytest.mark.usefixtures("members")
def test_every_strength_is_measured_as_plain_loops_do(
    generated: Corpus, workspace: Workspace
) -> None:
    made = ensemble(generated, workspace, config=QUICK, submit=False)
    record = EnsembleRecord.load(made.folder)
    points = by_key(list(record.prior))
    assert {strength for _, strength, _, _ in points} == set(STRENGTHS)
    images = ScoredImages.of(
        generated.table.of(split="valid"), generated.labels, empty_truth="left out"
    )
    read = read_folds(made.folder / "predictions", "valid")
    rows = [read.image_ids.index(i) for i in record.image_ids]
    statistics = statistics_of_scored(generated)
    found_before: dict[str, list[bool]] = {}
    for strength in STRENGTHS:
        said = said_by_labels(
            generated, statistics, constant_from=QUICK.constant_from, strength=strength
        )
        levels = decide_by_one_threshold(
            read.probs[rows], images, tuning=tuning_of(QUICK, "left out"), **said
        )
        decided = [set(own) for own in generated.labels.decode(levels.decided)]
        true = [set(own or ()) for own in generated.table.of(split="valid").concepts]
        f1 = [2 * len(t & d) / (len(t) + len(d)) for t, d in zip(true, decided, strict=True)]
        own = points["one threshold", strength, "F1", ""]
        assert own.value == pytest.approx(np.mean(f1))
        assert own.n == 80
        assert (own.gain is None) == (strength == 0)
        train = generated.table.of(split="train").concepts
        counts = {cui: sum(cui in (own or ()) for own in train) for cui in generated.labels.cuis}
        for bucket in frequency_buckets():
            cuis = {c for c, n in counts.items() if bucket.holds(np.array([n]))[0]}
            found = [
                cui in d for t, d in zip(true, decided, strict=True) for cui in sorted(t & cuis)
            ]
            n_decided = sum(len(d & cuis) for d in decided)
            recall = points["one threshold", strength, "recall", bucket.name]
            precision = points["one threshold", strength, "precision", bucket.name]
            assert (recall.n, precision.n) == (len(found), n_decided)
            if found:
                assert recall.value == pytest.approx(np.mean(found))
                before = found_before.setdefault(bucket.name, found)
                if recall.gain is not None:
                    assert recall.gain.value == pytest.approx(np.mean(found) - np.mean(before))
            else:
                assert np.isnan(recall.value)
                assert recall.gain is None
            if n_decided:
                assert precision.value == pytest.approx(sum(found) / n_decided)
            else:
                assert np.isnan(precision.value)


@pytest.mark.usefixtures("members")
def test_an_adjusted_ensemble_says_so_and_what_it_would_be_without(
    generated: Corpus, workspace: Workspace
) -> None:
    plain = ensemble(generated, workspace, config=QUICK, submit=True)
    config = replace(QUICK, prior_adjustment=0.4)
    made = ensemble(generated, workspace, config=config, submit=True)
    assert "prior_adjustment" not in read_meta(plain.folder)
    meta = read_meta(made.folder)
    assert meta["prior_adjustment"] == 0.4
    assert meta["decision"].endswith(", prior adjustment 0.4")
    assert "adjustment" not in json.loads((plain.folder / "decision.json").read_text())
    rule = DecisionRule.load(made.folder / "decision.json")
    assert rule.adjustment is not None
    rate = label_statistics_of(generated).rate
    assert list(rule.adjustment.shares.values()) == rate.tolist()
    assert DecisionRule.load(made.folder / "fallback.json").adjustment is not None
    # The second stage is the same, and so is what is told of it; only the decisions differ.
    for name in ("stacker/stacker.json", "reliability.csv", "predictions/test/values.npy"):
        assert (made.folder / name).read_bytes() == (plain.folder / name).read_bytes()
    sets = [
        Decided.load(own.folder / "decided.csv", labels=generated.labels).concepts
        for own in (plain, made)
    ]
    both = sets[0].astype(bool).multiply(sets[1].astype(bool))
    assert sets[1].nnz != sets[0].nnz
    shared = both.nonzero()
    np.testing.assert_array_equal(sets[0][shared], sets[1][shared])
    # The comparison: without adjustment it is the other ensemble, with it the submission.
    points = by_key(list(EnsembleRecord.load(made.folder).prior))
    assert {s for by, s, _, _ in points if by == "one threshold"} == {*STRENGTHS, 0.4}
    for strength, own in ((0.0, plain), (0.4, made)):
        f1 = read_scores(own.folder / "valid_f1.csv")[1]["submission"]
        assert points["submission", strength, "F1", ""].value == pytest.approx(np.mean(f1))
    # The forecast is that of the decided sets under calibrated probabilities, not adjusted ones.
    run = read_run(made.folder, generated)
    sections = {part.heading: "".join(part.paragraphs) for part in report_sections(run)}
    assert "**The submission is adjusted by 0.4.**" in sections["Rare concepts"]
    assert "Log odds are adjusted by the concepts' prior" in sections["Thresholds"]
    error = run.record.forecast["forecast"] - run.record.forecast["truth"]
    assert abs(error.mean()) < 0.03


@pytest.mark.usefixtures("members")
def test_no_strength_is_tried_where_none_is_asked_for(
    generated: Corpus, workspace: Workspace
) -> None:
    plain = ensemble(generated, workspace, config=QUICK, submit=True)
    quiet = ensemble(generated, workspace, config=replace(QUICK, prior_frontier=False), submit=True)
    assert not (quiet.folder / "prior_adjustment.csv").exists()
    for name in ("decision.json", "decided.csv", "concepts.csv"):
        assert (quiet.folder / name).read_bytes() == (plain.folder / name).read_bytes()
    sections = report_sections(read_run(quiet.folder, generated))
    assert "Rare concepts" not in {part.heading for part in sections}


def test_labels_of_a_fold_have_no_say_in_the_shares_that_adjust_it(crossfitted: Corpus) -> None:
    def shares(corpus: Corpus) -> list[dict[str, float]]:
        said = said_by_labels(corpus, statistics_of_scored(corpus), constant_from=50, strength=0.2)
        return [dict(said["adjustment_by_fold"][fold].shares) for fold in range(3)]

    before, after = shares(crossfitted), shares(relabelled(crossfitted, 1))
    assert before[1] == after[1]
    assert before[0] != after[0]
    learnt = [
        own for own, fold in zip(crossfitted.table.concepts, crossfitted.table.folds, strict=True)
        if own is not None and fold not in (-1, 1)
    ]  # fmt: skip
    n = sum("C3" in own for own in learnt)
    assert before[1]["C3"] == pytest.approx((n + 0.5) / (len(learnt) + 1), rel=1e-6)


def test_folds_are_measured_by_the_concepts_that_they_were_decided_with(
    crossfitted: Corpus,
) -> None:
    images = ScoredImages.of(
        crossfitted.table.of(split=crossfitted.scored), crossfitted.labels, empty_truth="left out"
    )
    statistics = statistics_of_scored(crossfitted)
    rng = np.random.default_rng(0)
    fitted = SimpleNamespace(
        images=images,
        statistics=statistics,
        out_of_fold=rng.random(images.targets.matrix.shape).astype(np.float32),
    )
    points = by_key(prior_frontier(crossfitted, cast(SecondStage, fitted), config=QUICK))
    expected: dict[str, int] = {}
    rows, columns = images.targets.matrix.nonzero()
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        n_train = statistics[images.folds[row]].n_train[column : column + 1]
        for bucket in frequency_buckets():
            expected[bucket.name] = expected.get(bucket.name, 0) + int(bucket.holds(n_train)[0])
    found: dict[str, Any] = {b: points["one threshold", 0.1, "recall", b].n for b in expected}
    assert found == expected
