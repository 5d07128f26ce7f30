import re
from dataclasses import replace

import numpy as np
import pytest

from core.errors import AlignmentError
from core.labels import LabelSpace, Targets
from core.metrics import THRESHOLDS, image_f1, sample_f1
from ensembles.calibration.temperature import Calibration
from ensembles.decisions.choose import RuleChoice, choose_rule
from ensembles.decisions.rule import CALIBRATED_RULES
from ensembles.decisions.thresholds import Tuning
from ensembles.pairs import Floats, to_csr
from tests.ensembles.made_pairs import scored

LABELS = LabelSpace(tuple(f"C{i:02d}" for i in range(30)))
TUNING = Tuning(nomissing=True)


def simulated(n_images: int, *, temperature: float = 1.0) -> tuple[Floats, Targets]:
    """Images that differ in how sure one can be of them, with labels drawn independently."""
    rng = np.random.default_rng(0)
    sharpness = rng.choice([0.3, 3.0], size=(n_images, 1))
    logits = sharpness * rng.standard_normal((n_images, 30)) - 1.5
    truth = rng.random(logits.shape) < 1 / (1 + np.exp(-logits))
    truth[~truth.any(axis=1), 0] = True
    rows, columns = np.nonzero(truth)
    matrix = to_csr(rows.astype(np.int32), columns.astype(np.int32), shape=truth.shape)
    probs = (1 / (1 + np.exp(-logits * temperature))).astype(np.float32)
    return probs, Targets(matrix=matrix, n_outside=np.zeros(n_images, dtype=np.int32))


def choose(probs: Floats, targets: Targets, *, margin: float = 0.5) -> RuleChoice:
    return choose_rule(
        probs,
        scored(
            targets,
            LABELS,
            categories=["DRCT", "DRXR"] * (len(probs) // 2),
            folds=np.arange(len(probs)) % 4,
        ),
        tuning=replace(TUNING, margin=margin),
    )


def test_a_calibrated_rule_is_kept_where_images_differ_in_how_sure_one_can_be() -> None:
    probs, targets = simulated(400, temperature=2.0)
    choice = choose(probs, targets)
    assert choice.rule.kind in CALIBRATED_RULES
    thresholds = {"plain", "global", "category", "concept"}
    assert set(choice.scores) == {*thresholds, "top-k", "ratio", "expected-f1", "general-f1"}
    assert choice.scores["expected-f1"] > choice.scores["global"]
    assert np.nanmean(choice.image_f1) == pytest.approx(choice.scores[choice.rule.kind])
    assert isinstance(choice.rule.calibration, Calibration)
    assert choice.rule.calibration.temperature == pytest.approx(2.0, rel=0.1)
    own = image_f1(targets, choice.decided, empty_truth="left out")
    np.testing.assert_array_equal(own, choice.image_f1)


def test_thresholds_are_kept_where_expected_f1_does_not_win_by_the_margin() -> None:
    probs, targets = simulated(400)
    choice = choose(probs, targets, margin=1e6)
    assert choice.rule.kind == "thresholds"
    assert choice.rule.thresholds is not None
    assert choice.rule.thresholds.level == "global"
    assert choice.rule.nomissing
    # the plain threshold: one of 0.02, 0.04, ..., 0.98, without any exact search
    assert choice.rule.thresholds.global_ in THRESHOLDS
    assert np.nanmean(choice.image_f1) == pytest.approx(choice.scores["plain"])


def test_the_kept_rule_decides_alone_about_as_well_as_when_cross_fitted() -> None:
    probs, targets = simulated(400)
    choice = choose(probs, targets)
    decided = choice.rule.decide(probs, categories=["DRCT", "DRXR"] * 200, labels=LABELS)
    score = sample_f1(targets, decided, empty_truth="left out")
    assert score == pytest.approx(np.nanmean(choice.image_f1), abs=0.01)


@pytest.mark.parametrize("margin", [0.5, 1e6])
def test_constant_concepts_are_part_of_the_rule_and_of_its_scores(margin: float) -> None:
    probs, targets = simulated(100)
    wrong = choose_rule(
        probs,
        scored(targets, LABELS, categories=["DRCT"] * 100, folds=np.arange(100) % 4),
        tuning=replace(TUNING, margin=margin),
        always={"DRCT": LABELS.cuis[:10]},  # each is false on most images
    )
    free = choose(probs, targets)
    assert wrong.rule.always == {"DRCT": LABELS.cuis[:10]}
    assert wrong.scores["global"] < free.scores["global"]
    decided = wrong.rule.decide(probs, categories=["DRCT"] * 100, labels=LABELS)
    assert decided.toarray()[:, :10].all()


def test_two_runs_choose_the_same_rule() -> None:
    probs, targets = simulated(60)
    first, second = choose(probs, targets), choose(probs, targets)
    assert first.rule == second.rule
    np.testing.assert_array_equal(first.image_f1, second.image_f1)


def test_probabilities_that_cannot_be_calibrated_are_decided_by_thresholds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    probs, targets = simulated(40)
    nowhere = np.where(targets.matrix.toarray(), np.float32(0.0), probs)
    choice = choose(nowhere, targets)
    assert choice.rule.kind == "thresholds"
    assert "expected-f1" not in choice.scores
    assert re.search(r"not tried: .*0 of \d+ candidate pairs are true", capsys.readouterr().err)


def test_categories_of_other_images_are_refused() -> None:
    probs, targets = simulated(40)
    with pytest.raises(AlignmentError, match="40 x 30; expected 38 images x 30 concepts"):
        choose_rule(
            probs,
            scored(targets, LABELS, categories=["DRCT"] * 38, folds=np.arange(40) % 4),
            tuning=TUNING,
        )


def test_images_are_judged_with_the_constant_concepts_counted_without_their_fold() -> None:
    probs, targets = simulated(100)
    folds = np.arange(100) % 4
    folds[0] = 4  # a fold of one image
    images = scored(targets, LABELS, categories=["DRCT"] * 100, folds=folds)
    by_fold = {fold: {"DRCT": (LABELS.cuis[fold],)} for fold in range(5)}
    choice = choose_rule(
        probs,
        images,
        tuning=TUNING,
        always={"DRCT": LABELS.cuis[:1]},
        always_by_fold=by_fold,
    )
    assert choice.rule.always == {"DRCT": LABELS.cuis[:1]}
    decided = choice.decided.toarray()
    for fold in range(5):
        assert decided[images.folds == fold, fold].all()
    assert not decided[:, :4].all()


def test_the_fallback_is_the_exact_threshold_whatever_is_kept() -> None:
    probs, targets = simulated(100, temperature=2.0)
    choice = choose(probs, targets)
    assert choice.fallback.kind == "thresholds"
    assert choice.fallback.thresholds is not None
    assert choice.fallback.thresholds.level == "global"
    exact = choice.levels.tried["global"].global_
    assert choice.fallback.thresholds.global_ == exact


def test_concepts_that_cannot_be_decided_are_missed_and_certain_ones_say_nothing() -> None:
    # Each image has two concepts outside the label space; the last has no other.
    probs, targets = simulated(80)
    truth = targets.matrix.toarray()
    truth[-1] = False
    rows, columns = np.nonzero(truth)
    matrix = to_csr(rows.astype(np.int32), columns.astype(np.int32), shape=truth.shape)
    others = Targets(matrix=matrix, n_outside=np.full(80, 2, dtype=np.int32))
    choice = choose_rule(
        np.maximum(probs, np.float32(0.01)),
        scored(others, LABELS, categories=["DRCT"] * 80, folds=np.arange(80) % 4),
        tuning=TUNING,
        always={"DRCT": LABELS.cuis[:3]},
    )
    model = choice.calibrated_model
    assert model is not None
    assert model.rule.missed == 2.0
    assert all(rule.missed == 2.0 for _, rule in model.by_fold)
    certain = 3 * 80
    before = model.reliability()["before"]
    assert set(model.reliability()) == {"before", "after"}
    assert before[:, -1].sum() == 30 * 80 - certain
