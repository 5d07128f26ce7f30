from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array

from core.errors import AlignmentError, ConfigError, LabelSpaceError
from core.labels import Concepts, LabelSpace
from core.runs.ensemble import DECISION_RULES
from ensembles.calibration.isotonic import IsotonicCalibration
from ensembles.calibration.temperature import Calibration
from ensembles.calibration.vector import VectorCalibration
from ensembles.decisions.concept_counts import CountHead
from ensembles.decisions.expected_f1 import maximise
from ensembles.decisions.rule import CALIBRATED_RULES, DecisionRule
from ensembles.decisions.thresholds import Thresholds
from ensembles.pairs import CalibratedPairs, Floats
from ensembles.solvers.line_search import NEVER

LABELS = LabelSpace(("C1", "C2", "C3", "C4"))
PROBS = np.array([[0.9, 0.5, 0.2, 0.0], [0.3, 0.1, 0.4, 0.3]], dtype=np.float32)
CATEGORIES = ("DRCT", "DRXR")
HALF = DecisionRule(kind="thresholds", thresholds=Thresholds(global_=0.5))
EXPECTED = DecisionRule(kind="expected-f1")


def decided(rule: DecisionRule, probs: Floats = PROBS) -> list[Concepts]:
    return LABELS.decode(rule.decide(probs, categories=CATEGORIES, labels=LABELS))


def test_a_probability_at_its_threshold_is_decided() -> None:
    assert decided(HALF) == [("C1", "C2"), ()]


def test_thresholds_of_categories_and_concepts_come_before_the_global_one() -> None:
    thresholds = Thresholds(global_=0.5, by_category={"DRXR": 0.3}, by_concept={"C1": NEVER})
    assert decided(replace(HALF, thresholds=thresholds)) == [("C2",), ("C3", "C4")]


def test_a_threshold_that_float32_cannot_hold_is_compared_as_float32() -> None:
    # the float32 next to 0.1 is above 0.1: a pair of exactly this probability is decided
    probs = np.full((2, 4), 0.1, dtype=np.float32)
    rule = replace(HALF, thresholds=Thresholds(global_=0.1))
    assert decided(rule, probs) == [LABELS.cuis, LABELS.cuis]


def test_an_image_left_without_a_concept_gets_its_most_probable_one() -> None:
    assert decided(replace(HALF, nomissing=True)) == [("C1", "C2"), ("C3",)]


def test_of_equally_probable_ones_an_image_left_without_gets_the_lower_column() -> None:
    probs = np.array([[0.0, 0.4, 0.4, 0.1], [0.0, 0.0, 0.0, 0.0]], dtype=np.float32)
    assert decided(replace(HALF, nomissing=True), probs) == [("C2",), ()]


def test_the_most_probable_concepts_stay_at_the_limit() -> None:
    probs = np.array([[0.6, 0.7, 0.7, 0.8], [0.9, 0.9, 0.9, 0.9]], dtype=np.float32)
    assert decided(replace(HALF, max_concepts=2), probs) == [("C2", "C4"), ("C1", "C2")]


def test_constant_concepts_of_a_category_are_forced_within_the_limit() -> None:
    rule = replace(HALF, always={"DRCT": ("C4",), "DRXR": ("C2", "C1")}, max_concepts=2)
    assert decided(rule) == [("C1", "C4"), ("C1", "C2")]
    assert decided(replace(rule, kind="expected-f1")) == [("C1", "C4"), ("C1", "C2")]


def test_probabilities_with_constant_concepts_are_a_copy_with_ones() -> None:
    rule = replace(HALF, always={"DRXR": ("C2",)})
    changed = rule.with_always(PROBS, categories=CATEGORIES, labels=LABELS).toarray()
    assert changed[1, 1] == 1.0
    assert PROBS[1, 1] == np.float32(0.1)
    assert (changed != PROBS).sum() == 1
    sparse = csr_array(PROBS)
    assert HALF.with_always(sparse, categories=CATEGORIES, labels=LABELS) is sparse


def test_the_set_of_highest_expectation_is_decided_on_calibrated_probabilities() -> None:
    calibration = Calibration(temperature=2.0, bias=-0.5)
    rule = replace(EXPECTED, calibration=calibration, floor=0.01)
    calibrated = calibration.apply(PROBS)
    rows, columns = np.nonzero(calibrated >= 0.01)
    ranked = CalibratedPairs(
        rows=rows.astype(np.int32),
        columns=columns.astype(np.int32),
        probs=calibrated[rows, columns],
        shape=PROBS.shape,
    )
    reference = maximise(ranked, limit=100, empty_truth="left out")
    assert decided(rule) == LABELS.decode(reference.decided)


@pytest.mark.parametrize("kind", CALIBRATED_RULES)
def test_every_kind_keeps_the_limit_constant_concepts_and_one_for_each_image(
    kind: str,
) -> None:
    rule = DecisionRule(kind=kind, always={"DRCT": ("C4",)}, max_concepts=2, nomissing=True)
    probs = np.array([[0.9, 0.9, 0.9, 0.0], [0.0, 0.06, 0.05, 0.0]], dtype=np.float32)
    first, second = decided(rule, probs)
    assert len(first) == 2
    assert "C4" in first
    assert second[0] == "C2"
    counted = replace(rule, empty_truth="counted", nomissing=False)
    assert decided(counted, probs)[1] == ()
    nothing = np.zeros((2, 4), dtype=np.float32)
    assert decided(rule, nothing) == [("C4",), ()]


def test_concepts_below_the_floor_count_as_absent() -> None:
    assert decided(replace(EXPECTED, floor=0.35)) == [("C1", "C2"), ("C3",)]


def test_permuted_images_permute_the_decisions() -> None:
    rng = np.random.default_rng(0)
    probs = rng.random((30, 4)).astype(np.float32)
    categories = np.array(["DRCT", "DRXR", ""])[rng.integers(0, 3, 30)]
    order = rng.permutation(30)
    for rule in (replace(HALF, always={"DRCT": ("C3",)}, nomissing=True), EXPECTED):
        straight = rule.decide(probs, categories=categories.tolist(), labels=LABELS).toarray()
        permuted = rule.decide(
            probs[order], categories=categories[order].tolist(), labels=LABELS
        ).toarray()
        np.testing.assert_array_equal(permuted, straight[order])


def test_read_only_probabilities_are_decided_too(tmp_path: Path) -> None:
    np.save(tmp_path / "probs.npy", PROBS)
    mapped = np.load(tmp_path / "probs.npy", mmap_mode="r")
    assert decided(HALF, mapped) == decided(HALF)


@pytest.mark.parametrize(
    "rule",
    [
        replace(HALF, always={"DRCT": ("C1", "C2")}, nomissing=True, max_concepts=7),
        DecisionRule(
            kind="thresholds",
            thresholds=Thresholds(
                global_=0.1, by_category={"DRUS": 1 / 3}, by_concept={"C1": float(np.float32(0.7))}
            ),
        ),
        replace(EXPECTED, calibration=Calibration(temperature=1 / 3, bias=0.1), floor=0.02),
        replace(EXPECTED, empty_truth="counted"),
        DecisionRule(kind="top-k", factor=0.85, missed=1 / 3),
        DecisionRule(
            kind="general-f1",
            head=CountHead(power=1 / 3, shift=0.1, empty=-2.0, by_category={"DRCT": 1 / 7}),
            calibration=VectorCalibration(
                shared=Calibration(temperature=1.5), by_concept={"C1": (1 / 3, -0.1)}
            ),
        ),
        DecisionRule(
            kind="ratio",
            calibration=IsotonicCalibration(
                shared=((-1.0, 0.5), (-2.0, 1 / 3)), by_concept={"C2": (0.3, ((0.0,), (0.1,)))}
            ),
        ),
    ],
)
def test_a_saved_rule_is_read_back_to_the_last_bit(rule: DecisionRule, tmp_path: Path) -> None:
    rule.save(tmp_path / "decision.json")
    assert DecisionRule.load(tmp_path / "decision.json") == rule


def test_a_file_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    path = tmp_path / "decision.json"
    path.write_text(
        '{"kind": "expected-f1", "thresholds": null, "calibration": {"temperature": 2.0, "bias":'
        ' 0.5}, "floor": 0.005, "empty_truth": "left out", "max_concepts": 100, "nomissing": true,'
        ' "always": {"DRCT": ["C1"]}}'
    )
    expected = replace(
        EXPECTED,
        calibration=Calibration(temperature=2.0, bias=0.5),
        nomissing=True,
        always={"DRCT": ("C1",)},
    )
    assert DecisionRule.load(path) == expected


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"decision\.json: no such file"):
        DecisionRule.load(tmp_path / "decision.json")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"kind": "thresholds", "thresholds": {}}'])
def test_a_file_that_is_no_rule_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "decision.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"decision\.json: not a decision rule"):
        DecisionRule.load(path)


def test_rules_that_cannot_be_followed_are_refused() -> None:
    with pytest.raises(ConfigError, match="needs thresholds"):
        DecisionRule(kind="thresholds")
    with pytest.raises(ConfigError, match=r"always: unknown category \['CT'\]"):
        replace(HALF, always={"CT": ("C1",)})
    with pytest.raises(ConfigError, match="floor: expected a number between 0 and 1; found 0"):
        replace(EXPECTED, floor=0.0)
    with pytest.raises(ConfigError, match="floor: expected a number between 0 and 1; found 1"):
        replace(EXPECTED, floor=1.0)
    with pytest.raises(ConfigError, match=r"no fewer than 0 missed; found 1\.0 and -0\.5"):
        replace(EXPECTED, missed=-0.5)
    assert replace(HALF, always={"": ("C1",)}).always == {"": ("C1",)}  # of no category
    with pytest.raises(ConfigError, match="max_concepts: expected 1 or more; found 0"):
        replace(EXPECTED, max_concepts=0)
    with pytest.raises(ConfigError, match=r"found 0\.0 and 0\.0"):
        replace(EXPECTED, factor=0.0)


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    HALF.save(tmp_path / "decision.json")
    text = (tmp_path / "decision.json").read_text(encoding="utf-8")
    (tmp_path / "decision.json").write_text(text.replace('"thresholds",', '"best",'))
    with pytest.raises(ConfigError, match="unknown decision rule 'best'; expected one of"):
        DecisionRule.load(tmp_path / "decision.json")


def test_probabilities_of_other_images_or_concepts_are_refused() -> None:
    with pytest.raises(AlignmentError, match="2 x 4; expected 3 images x 4 concepts"):
        HALF.decide(PROBS, categories=("", "", ""), labels=LABELS)
    with pytest.raises(AlignmentError, match="2 x 4; expected 2 images x 1 concepts"):
        EXPECTED.decide(PROBS, categories=CATEGORIES, labels=LabelSpace(("C1",)))


def test_a_constant_concept_outside_the_label_space_is_refused() -> None:
    with pytest.raises(LabelSpaceError, match=r"\['C9'\]"):
        decided(replace(HALF, always={"DRCT": ("C9",)}))


def test_every_rule_has_words_for_people_in_the_same_order() -> None:
    words = [name for name, rule in DECISION_RULES.items() if rule.calibrated]
    assert words == list(CALIBRATED_RULES)


def test_what_is_not_said_of_a_rule_is_as_documented() -> None:
    assert (
        DecisionRule(
            kind="expected-f1",
            thresholds=None,
            calibration=Calibration(temperature=1.0, bias=0.0),
            factor=1.0,
            head=CountHead(),
            missed=0.0,
            floor=0.005,
            empty_truth="left out",
            max_concepts=100,
            nomissing=False,
            always={},
        )
        == EXPECTED
    )


def test_only_a_rule_of_one_threshold_is_one_threshold() -> None:
    assert HALF.is_one_threshold
    assert not EXPECTED.is_one_threshold
    assert not replace(EXPECTED, thresholds=HALF.thresholds).is_one_threshold
    finer = Thresholds(global_=0.5, by_category={"DRCT": 0.4})
    assert not replace(HALF, thresholds=finer).is_one_threshold


def test_thresholds_that_a_kind_does_not_use_change_nothing() -> None:
    useless = replace(EXPECTED, thresholds=Thresholds(global_=NEVER))
    assert decided(useless) == decided(EXPECTED) != [(), ()]


def test_200_concepts_of_an_image_are_considered_or_as_many_as_it_may_have() -> None:
    labels = LabelSpace(tuple(f"C{number}" for number in range(250)))
    probs = np.full((1, 250), 0.5, dtype=np.float32)
    for most, considered in ((2, 200), (100, 200), (220, 220)):
        rule = replace(EXPECTED, max_concepts=most)
        assert len(rule.ranked(probs, categories=[""], labels=labels).rows) == considered


def test_constant_concepts_are_certain_among_those_considered() -> None:
    rule = replace(EXPECTED, always={"DRCT": ("C4",)})
    pairs = rule.ranked(PROBS, categories=CATEGORIES, labels=LABELS)
    certain = (pairs.rows == 0) & (pairs.columns == 3)
    assert pairs.probs[certain].tolist() == [1.0]
    assert (pairs.probs[~certain] < 1.0).all()


def test_pairs_and_certain_probabilities_are_refused_of_other_images_too() -> None:
    with pytest.raises(AlignmentError, match="2 x 4; expected 1 images x 4 concepts"):
        EXPECTED.ranked(PROBS, categories=("",), labels=LABELS)
    with pytest.raises(AlignmentError, match="2 x 4; expected 1 images x 4 concepts"):
        EXPECTED.with_always(PROBS, categories=("",), labels=LABELS)


@pytest.mark.parametrize("rule", [HALF, EXPECTED, replace(HALF, nomissing=True)])
def test_no_images_get_no_concepts(rule: DecisionRule) -> None:
    none = rule.decide(PROBS[:0], categories=(), labels=LABELS)
    assert none.shape == (0, 4)
    assert none.nnz == 0
