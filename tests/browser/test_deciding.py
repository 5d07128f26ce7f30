"""From which probability on an ensemble decides a concept, by hand."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from browser.concepts import threshold_of
from browser.judgements import Judgement
from browser.library import Library
from browser.members import Deciding, Limit
from browser.state import State
from core.errors import ConfigError
from core.runs.workspace import Workspace
from ensembles.calibration.temperature import Calibration
from ensembles.decisions.prior_adjustment import PriorAdjustment
from ensembles.decisions.rule import DecisionRule
from ensembles.decisions.thresholds import Thresholds

RULE = DecisionRule(
    kind="thresholds",
    thresholds=Thresholds(global_=0.4, by_category={"DRCT": 0.3}, by_concept={"C2": 2.0}),
    always={"DRMR": ("C3",)},
)
FALLBACK = replace(RULE, thresholds=Thresholds(global_=0.5), always={})


def test_the_finest_threshold_is_the_limit() -> None:
    deciding = Deciding(rule=RULE, of_test=FALLBACK, calibrated_by=None)
    for cui, category, split, limit in (
        ("C1", "DRXR", "train", Limit(0.4, "all")),
        ("C1", "DRCT", "valid", Limit(0.3, "category")),
        ("C2", "DRCT", "train", Limit(2.0, "concept")),
        ("C3", "DRMR", "train", Limit(0.0, "given")),
        ("C2", "DRCT", "test", Limit(0.5, "all")),
        ("C3", "DRMR", "test", Limit(0.5, "all")),
    ):
        assert deciding.limit(cui, category=category, split=split) == limit


def test_the_limit_of_adjusted_log_odds_is_that_of_the_probability_shown() -> None:
    # At strength 1/2 the odds of C1 are multiplied by 5, those of C2 by 10, before thresholds.
    adjustment = PriorAdjustment(strength=0.5, shares={"C1": 0.04, "C2": 0.01})
    rule = replace(
        RULE, thresholds=Thresholds(global_=0.5, by_concept={"C2": 0.8}), adjustment=adjustment
    )
    deciding = Deciding(rule=rule, of_test=RULE, calibrated_by=None)
    for cui, whose, limit in (("C1", "all", 1 / 6), ("C2", "concept", 4 / 14)):
        found = deciding.limit(cui, category="DRXR", split="train")
        assert found is not None
        assert found.whose == whose
        assert found.value == pytest.approx(limit, rel=1e-6)
    assert deciding.limit("C1", category="DRXR", split="test") == Limit(0.4, "all")
    # Of a rule on calibrated probabilities the shift is none of the thresholds'.
    shifted = replace(deciding, rule=replace(rule, adjustment=replace(adjustment, shift=3.0)))
    for own in (deciding, shifted):
        assert own.tuned("C1", 0.5) == pytest.approx(1 / 6, rel=1e-6)
    assert Deciding(rule=RULE, of_test=RULE, calibrated_by=None).tuned("C1", 0.5) == 0.5


def test_thresholds_of_a_concept_are_those_of_the_probability_shown() -> None:
    levels = {
        "level": "category",
        "levels": {"category": {"global": 0.5, "by_category": {"DRCT": 0.8}, "by_concept": {}}},
    }
    run = SimpleNamespace(record=SimpleNamespace(thresholds=levels))
    judgement = cast(Judgement, SimpleNamespace(run=run))
    adjustment = PriorAdjustment(strength=0.5, shares={"C1": 0.04})
    rule = replace(RULE, adjustment=adjustment)
    adjusted = Deciding(rule=rule, of_test=rule, calibrated_by=None)
    for deciding, found in (
        (None, [("DRCT", 0.8), ("all others", 0.5)]),
        (adjusted, [("DRCT", pytest.approx(4 / 9)), ("all others", pytest.approx(1 / 6))]),
    ):
        lines = threshold_of(judgement, "C1", categories=["DRCT", "DRXR"], deciding=deciding)
        assert lines == found


def test_a_rule_without_thresholds_has_no_limit_but_what_it_gives_to_all() -> None:
    rule = replace(RULE, kind="expected-f1")
    deciding = Deciding(rule=rule, of_test=rule, calibrated_by=None)
    assert deciding.limit("C1", category="DRMR", split="train") is None
    assert deciding.limit("C3", category="DRMR", split="train") == Limit(0.0, "given")


def test_probabilities_are_calibrated_as_those_of_decided_concepts_are(library: Library) -> None:
    calibrated = Deciding(
        rule=RULE, of_test=RULE,
        calibrated_by=replace(RULE, calibration=Calibration(temperature=2.0)),
    ).calibrated(np.array([0.0, 0.9, 0.1], np.float32), library)  # fmt: skip
    # The odds 9 and 1/9 become 3 and 1/3.
    assert calibrated is not None
    np.testing.assert_allclose(calibrated, [0.0, 3 / 4, 1 / 4], rtol=1e-6)
    none = Deciding(rule=RULE, of_test=RULE, calibrated_by=None)
    assert none.calibrated(np.zeros(3, np.float32), library) is None


def test_an_ensemble_that_fell_back_decides_test_by_one_threshold(
    whole: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = State(library=Library.open(whole))
    judgement = state.judgement()
    assert judgement is not None
    assert judgement.run is not None
    found = state.deciding(judgement)
    assert found is not None
    assert found.of_test is found.rule
    fell = replace(judgement.run, meta={**judgement.run.meta, "fell_back": True})
    home = judgement.run.folder
    assert Deciding.of(fell).of_test == DecisionRule.load(home / "fallback.json")
    # What was decided without the fold is calibrated as the table of members says.
    decided = judgement.decided
    for row in range(5):
        image_id = state.library.image_ids[row]
        source = state.stacked(judgement.name)
        assert source is not None
        probs = source.of_image(image_id, state.library, split=state.library.corpus.scored)
        assert probs is not None
        calibrated = found.calibrated(probs, state.library)
        assert calibrated is not None
        here = slice(decided.indptr[row], decided.indptr[row + 1])
        kept = decided.data[here]
        free = kept < 1
        np.testing.assert_allclose(calibrated[decided.indices[here]][free], kept[free], atol=2e-6)
    # A rule that is not there is said once, and no limits are shown.
    copy = tmp_path / "copy"
    shutil.copytree(home, copy)
    (copy / "decision.json").unlink()
    damaged = replace(judgement.run, folder=copy)
    with pytest.raises(ConfigError, match="no such file"):
        Deciding.of(damaged)
    assert state.deciding(replace(judgement, name="copy", run=damaged)) is None
    assert "limits are not shown" in capsys.readouterr().err
