"""Log odds less a part of the concepts' prior: by hand, against plain loops, and what it does."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy.sparse import csr_array

from core.errors import ConfigError, LabelSpaceError
from core.labels import LabelSpace, Targets
from core.metrics import recall_by_frequency
from ensembles.calibration.temperature import Calibration
from ensembles.decisions.choose import SaidByLabels, choose_rule, decide_by_one_threshold
from ensembles.decisions.prior_adjustment import PriorAdjustment
from ensembles.decisions.rule import CALIBRATED_RULES, DecisionRule
from ensembles.decisions.thresholds import Thresholds, Tuning
from ensembles.forecast.forecast import expected_scores
from ensembles.pairs import Floats, to_csr
from tests.ensembles.made_pairs import ranked, scored

LABELS = LabelSpace(("C1", "C2", "C3"))
SHARES = {"C1": 0.5, "C2": 0.04, "C3": 0.0001}
HALF = PriorAdjustment(strength=0.5, shares=SHARES)
AT_HALF = DecisionRule(kind="thresholds", thresholds=Thresholds(global_=0.5))


def sets_of(rule: DecisionRule, probs: Floats) -> list[tuple[str, ...]]:
    return LABELS.decode(rule.decide(probs, categories=[""] * len(probs), labels=LABELS))


def by_loop(probs: Floats, adjustment: PriorAdjustment) -> Floats:
    """Formula of the module, pair by pair."""
    found = np.zeros_like(probs)
    for row in range(len(probs)):
        for column, cui in enumerate(LABELS.cuis):
            p = float(probs[row, column])
            if p in (0.0, 1.0):
                found[row, column] = p
                continue
            logit = math.log(p / (1 - p)) - adjustment.strength * math.log(adjustment.shares[cui])
            found[row, column] = 1 / (1 + math.exp(-(logit - adjustment.shift)))
    return found


def drawn(n_images: int, *, seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    probs = rng.random((n_images, 3)).astype(np.float32) ** 3
    probs[rng.random(probs.shape) < 0.2] = 0.0
    probs[0, 0] = 1.0
    return probs


def test_a_hand_worked_case() -> None:
    # Strength 1/2 multiplies the odds by 1 / sqrt(share): by 5 at 0.04, by 100 at 0.0001.
    # Odds 1/4 become 5/4, p = 5/9; odds 1/99 become 100/99, p = 100/199.
    probs = np.array([[0.0, 0.2, 0.01], [1.0, 0.15, 0.009]], dtype=np.float32)
    adjusted = HALF.of_matrix(probs, labels=LABELS).toarray()
    np.testing.assert_allclose(adjusted[0], [0, 5 / 9, 100 / 199], rtol=1e-6)
    # Odds 3/17 become 15/17, p = 15/32; odds 9/991 become 900/991, p = 900/1891.
    np.testing.assert_allclose(adjusted[1], [1, 15 / 32, 900 / 1891], rtol=1e-6)
    assert sets_of(AT_HALF, probs) == [(), ("C1",)]
    assert sets_of(replace(AT_HALF, adjustment=HALF), probs) == [("C2", "C3"), ("C1",)]
    # The threshold 1/2 is a probability of 1/6 of C2, and of 1/101 of C3.
    assert HALF.limit("C2", 0.5) == pytest.approx(1 / 6, rel=1e-6)
    assert HALF.limit("C3", 0.5) == pytest.approx(1 / 101, rel=1e-6)
    assert HALF.limit("C3", 2.0) == 2.0  # never


@pytest.mark.parametrize("shift", [0.0, 0.7])
@pytest.mark.parametrize("strength", [0.1, 1.0])
def test_decisions_are_those_of_plain_loops(strength: float, shift: float) -> None:
    adjustment = PriorAdjustment(strength=strength, shares=SHARES, shift=shift)
    probs, thresholds = drawn(200), Thresholds(global_=0.4, by_concept={"C2": 0.6})
    expected = by_loop(probs, adjustment)
    found = adjustment.of_matrix(probs, labels=LABELS)
    np.testing.assert_allclose(found.toarray(), expected, rtol=1e-5)
    rule = DecisionRule(kind="thresholds", thresholds=thresholds, adjustment=adjustment)
    sets = [
        tuple(
            cui
            for column, cui in enumerate(LABELS.cuis)
            if expected[row, column] >= np.float32(0.6 if cui == "C2" else 0.4)
        )
        for row in range(len(probs))
    ]
    assert sets_of(rule, probs) == sets


def test_what_is_between_0_and_1_stays_there_and_comes_back() -> None:
    tiny, nearly = np.finfo(np.float32).tiny, np.nextafter(np.float32(1), np.float32(0))
    probs = np.array([0.0, tiny, 0.3, nearly, 1.0, 2.0], dtype=np.float32)
    columns = np.full(6, 2, dtype=np.int32)
    up, down = (PriorAdjustment(strength=2, shares=SHARES, shift=s) for s in (0.0, 60.0))
    for adjustment in (up, down):
        moved = adjustment.of_pairs(probs, columns, labels=LABELS)
        assert moved[[0, 4, 5]].tolist() == [0.0, 1.0, 2.0]
        assert ((moved[1:4] > 0) & (moved[1:4] < 1)).all()
    back = HALF.inverse(HALF.of_pairs(probs, columns, labels=LABELS), columns, labels=LABELS)
    np.testing.assert_allclose(back, probs, rtol=1e-4)


@pytest.mark.parametrize("kind", CALIBRATED_RULES)
def test_calibrated_rules_decide_by_adjusted_and_tell_plain_probabilities(kind: str) -> None:
    probs = drawn(60)
    plain = DecisionRule(kind=kind, calibration=Calibration(temperature=2.0, bias=-0.5))
    before = plain.ranked(probs, categories=[""] * 60, labels=LABELS)
    adjustment = HALF.balanced(before, labels=LABELS)
    rule = replace(plain, adjustment=adjustment)
    now = rule.ranked(probs, categories=[""] * 60, labels=LABELS)
    np.testing.assert_array_equal(now.probs, before.probs)
    # As the rule without adjustment decides where these are the probabilities.
    dense = np.zeros((60, 3), dtype=np.float32)
    dense[before.rows, before.columns] = before.probs
    as_they_are = DecisionRule(kind=kind, floor=1e-9)
    adjusted = by_loop(dense, adjustment)
    assert sets_of(rule, probs) == sets_of(as_they_are, adjusted)
    assert sets_of(rule, probs) != sets_of(plain, probs)
    # What is told of a set does not depend on the adjustment, the expected F1 neither.
    sets = rule.decide(probs, categories=[""] * 60, labels=LABELS)
    told = [
        expected_scores(own, sets, probs=probs, categories=[""] * 60, labels=LABELS)[0].f1
        for own in (plain, rule)
    ]
    np.testing.assert_array_equal(told[0], told[1])
    of_sets = [
        own.probs_of(sets, probs, categories=[""] * 60, labels=LABELS).toarray()
        for own in (plain, rule)
    ]
    np.testing.assert_array_equal(of_sets[0], of_sets[1])


def test_balanced_probabilities_expect_as_many_concepts_as_before() -> None:
    pairs = ranked(drawn(300))
    own = HALF.balanced(pairs, labels=LABELS)
    assert own.of_ranked(pairs, labels=LABELS).mass.sum() == pytest.approx(pairs.mass.sum())
    assert own.shift > 0  # rare concepts gain, all are lowered for that
    # The certain ones have no part in it, and nothing is to be balanced where all are.
    certain = ranked(np.ones((2, 3), dtype=np.float32))
    assert HALF.balanced(certain, labels=LABELS).shift == 0.0


def test_an_image_left_without_gets_the_highest_adjusted_concept() -> None:
    probs = np.array([[0.3, 0.1, 0.0], [0.0, 0.0, 0.0]], dtype=np.float32)
    never = replace(AT_HALF, thresholds=Thresholds(global_=0.9), nomissing=True)
    assert sets_of(never, probs) == [("C1",), ()]
    # Odds 3/7 sqrt 2 = 0.61 of C1 against 5/9 = 0.56 of C2; at strength 1 it is 0.86 and 2.8.
    assert sets_of(replace(never, adjustment=HALF), probs) == [("C1",), ()]
    assert sets_of(replace(never, adjustment=replace(HALF, strength=1.0)), probs) == [("C2",), ()]


def test_constant_concepts_are_not_touched() -> None:
    probs = np.array([[0.3, 0.01, 0.001]], dtype=np.float32)
    rule = replace(AT_HALF, always={"": ("C2",)}, adjustment=replace(HALF, strength=0.1))
    assert sets_of(rule, probs) == [("C2",)]
    certain = rule.with_always(probs, categories=[""], labels=LABELS)
    adjusted = rule.adjusted(certain, labels=LABELS).toarray()
    assert adjusted[0, 1] == 1.0


def test_it_is_read_again_to_the_last_bit_and_left_out_where_there_is_none(tmp_path: Path) -> None:
    rate = np.array([1 / 3, 0.1, 1e-5], dtype=np.float32)
    own = PriorAdjustment.of(rate, labels=LABELS, strength=0.1 + 0.2)
    rule = replace(AT_HALF, adjustment=replace(own, shift=-1 / 3))
    rule.save(tmp_path / "decision.json")
    assert DecisionRule.load(tmp_path / "decision.json") == rule
    AT_HALF.save(tmp_path / "without.json")
    written = json.loads((tmp_path / "without.json").read_text())
    assert list(written) == [
        "kind", "thresholds", "calibration", "factor", "head", "missed", "floor", "empty_truth",
        "max_concepts", "nomissing", "always",
    ]  # fmt: skip
    assert DecisionRule.load(tmp_path / "without.json").adjustment is None


def test_strange_numbers_and_other_concepts_are_refused(tmp_path: Path) -> None:
    for strength, shift in ((0.0, 0.0), (math.inf, 0.0), (0.5, math.nan)):
        with pytest.raises(ConfigError, match="a strength above 0 and a finite shift"):
            replace(HALF, strength=strength, shift=shift)
    for share in (0.0, 1.0, math.nan):
        with pytest.raises(ConfigError, match=r"shares between 0 and 1; not so: \['C2'\]"):
            replace(HALF, shares={**SHARES, "C2": share})
    probs = np.full((1, 3), 0.5, dtype=np.float32)
    for shares, reason in (
        ({"C1": 0.5}, r"2 of 3 concepts have no share: \['C2', 'C3'\]"),
        ({**SHARES, "C9": 0.1}, "C9"),
    ):
        with pytest.raises(LabelSpaceError, match=reason):
            sets_of(replace(AT_HALF, adjustment=replace(HALF, shares=shares)), probs)
    replace(AT_HALF, adjustment=HALF).save(tmp_path / "decision.json")
    values = json.loads((tmp_path / "decision.json").read_text())
    strange: list[object] = [{}, {"strength": "much", "shares": SHARES, "shift": 0.0}, []]
    for bad in strange:
        (tmp_path / "bad.json").write_text(json.dumps({**values, "adjustment": bad}))
        with pytest.raises(ConfigError, match="not a decision rule"):
            DecisionRule.load(tmp_path / "bad.json")


def long_tail(n_images: int) -> tuple[Floats, Targets, LabelSpace, npt.NDArray[np.int64]]:
    """Concepts from every third image down to one in 150, told alike by noisy log odds."""
    rng = np.random.default_rng(3)
    rates = np.geomspace(0.35, 1 / 150, 24)
    truth = rng.random((n_images, 24)) < rates
    truth[~truth.any(axis=1), 0] = True
    evidence = rng.normal(np.where(truth, 1.2, -1.2), 1.5)  # of which 1.07 is worth log odds of 1
    logits = np.log(rates / (1 - rates)) + 2.4 / 1.5**2 * evidence
    rows, columns = np.nonzero(truth)
    matrix = to_csr(rows.astype(np.int32), columns.astype(np.int32), shape=truth.shape)
    labels = LabelSpace(tuple(f"C{n:02d}" for n in range(24)))
    targets = Targets(matrix=matrix, n_outside=np.zeros(n_images, dtype=np.int32))
    return (1 / (1 + np.exp(-logits))).astype(np.float32), targets, labels, truth.sum(axis=0)


def test_rare_concepts_of_a_long_tail_are_found_more_often() -> None:
    probs, targets, labels, n_train = long_tail(2400)
    images = scored(targets, labels, folds=np.arange(2400) % 4)
    tuning, rate = Tuning(nomissing=True), (n_train + 0.5) / 2401
    by_one, chosen, scores = [], [], []

    def recall(decided: csr_array, bucket: str) -> float:
        return recall_by_frequency(targets, decided, n_train=n_train // 4)[bucket][0]

    for strength in (0.0, 0.2, 0.5, 1.0):
        said: SaidByLabels = {}
        if strength:
            own = PriorAdjustment.of(rate, labels=labels, strength=strength)
            said = {"adjustment": own}
        levels = decide_by_one_threshold(probs, images, tuning=tuning, **said)
        assert levels.level == "global"
        by_one.append([recall(levels.decided, bucket) for bucket in ("6-20", "101+")])
        scores.append(np.nanmean(levels.image_f1["global"]))
        choice = choose_rule(probs, images, tuning=tuning, **said)
        chosen.append(recall(choice.decided, "6-20"))
        if strength:
            assert choice.fallback.adjustment == own
            # The shift is of calibrated probabilities: thresholds are chosen without any.
            assert choice.rule.adjustment is not None
            is_calibrated = choice.rule.kind in CALIBRATED_RULES
            assert (choice.rule.adjustment.shift != 0) == is_calibrated
            # Own thresholds would undo it: rare concepts have none.
            fitted = choice.levels.tried["concept"].by_concept
            assert all(n_train[labels.columns([cui])] >= 101 for cui in fitted)
    rare, frequent = zip(*by_one, strict=True)
    assert list(rare) == sorted(rare)
    assert list(frequent) == sorted(frequent, reverse=True)
    assert scores == sorted(scores, reverse=True)
    assert chosen == sorted(chosen)
    assert rare[-1] > rare[0] + 0.3
    assert chosen[-1] > chosen[0] + 0.3


def test_images_of_a_fold_are_decided_by_shares_counted_without_it() -> None:
    probs, targets, labels, n_train = long_tail(400)
    folds = np.arange(400) % 4
    images = scored(targets, labels, folds=folds)
    rate = (n_train + 0.5) / 401
    whole = PriorAdjustment.of(rate, labels=labels, strength=0.3)
    rarest = np.where(np.arange(24) == 23, 1e-6, rate)
    by_fold = {f: PriorAdjustment.of(rate, labels=labels, strength=0.3) for f in range(3)}
    by_fold[3] = PriorAdjustment.of(rarest, labels=labels, strength=0.3)  # of one fold alone
    judged = [
        choose_rule(
            probs, images, tuning=Tuning(margin=1e6), adjustment=whole, adjustment_by_fold=own
        )
        for own in (by_fold, {**by_fold, 3: whole})
    ]
    assert judged[0].rule.adjustment == whole
    more, plain = (each.decided.toarray()[:, 23] for each in judged)
    assert more[folds == 3].sum() > plain[folds == 3].sum()
    np.testing.assert_array_equal(more[folds != 3], plain[folds != 3])
