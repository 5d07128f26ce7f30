"""What an ensemble's run folder keeps of how it was chosen comes back as it was written."""

from pathlib import Path

import numpy as np

from core.metrics import Interval
from core.runs.ensemble import (
    DECISION_RULES,
    EnsembleRecord,
    PriorPoint,
    read_scores,
    write_scores,
)
from core.runs.ladder import LadderStep
from core.runs.learning import LearningPoint

SCORES = {"prior": np.array([1 / 3, np.nan, 0.0]), "mean": np.array([0.1 + 0.2, np.nan, 1.0])}


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    interval = Interval(value=0.1, low=0.0, high=0.2, n=2)
    record = EnsembleRecord(
        image_ids=("a", "b,c", "d"),
        scores=SCORES,
        rules={"plain": SCORES["mean"]},
        worth=[LadderStep(name="routed", f1=interval, gain=interval)],
        thresholds={"level": "global", "levels": {"global": {"global": 0.3}}},
        reliability={
            "before": np.array([[0.0, 0.005, 0.0015, 0.0, 2.0]]),
            "after": np.array([[0.5, 0.6, 0.525, 0.5, 2.0], [0.9, 1.0, 1.0, 1.0, 1.0]]),
        },
        folds=np.array([[0.0, 2.0, 0.75, 0.5], [1.0, 1.0, 0.25, 0.125]]),
        forecast={"forecast": SCORES["prior"], "truth": SCORES["mean"]},
        learning=[
            LearningPoint(share=0.1, n_images=1 / 3, f1=interval, gain=None),
            LearningPoint(share=1.0, n_images=2.0, f1=interval, gain=interval),
        ],
        prior=[
            PriorPoint(
                decided_by="one threshold", strength=0.1, measure="F1", bucket="", value=1 / 3,
                gain=interval, n=2,
            ),
            PriorPoint(
                decided_by="submission", strength=0.0, measure="recall", bucket="6-20", value=0.5,
                gain=None, n=4,
            ),
        ],
    )  # fmt: skip
    record.save(tmp_path)
    found = EnsembleRecord.load(tmp_path)
    assert found.image_ids == record.image_ids
    assert found.worth == record.worth
    assert found.thresholds == record.thresholds
    assert found.learning == record.learning
    assert found.prior == record.prior
    np.testing.assert_equal(dict(found.scores), SCORES)
    np.testing.assert_equal(dict(found.rules), dict(record.rules))
    np.testing.assert_equal(dict(found.reliability), dict(record.reliability))
    np.testing.assert_equal(found.folds, record.folds)
    np.testing.assert_equal(dict(found.forecast), dict(record.forecast))
    assert (tmp_path / "reliability.csv").read_text().splitlines() == [
        "calibration,low,high,mean_predicted,share_true,n",
        "before,0.0,0.005,0.001500,0.000000,2",
        "after,0.5,0.6,0.525000,0.500000,2",
        "after,0.9,1.0,1.000000,1.000000,1",
    ]
    assert (tmp_path / "learning_curve.csv").read_text().splitlines()[1:] == [
        f"0.1,{1 / 3!r},0.1,0.0,0.2,,,,2",
        "1.0,2.0,0.1,0.0,0.2,0.1,0.0,0.2,2",
    ]
    assert (tmp_path / "prior_adjustment.csv").read_text().splitlines() == [
        "decided_by,strength,measure,bucket,value,gain,gain_low,gain_high,n",
        f"one threshold,0.1,F1,,{1 / 3!r},0.1,0.0,0.2,2",
        "submission,0.0,recall,6-20,0.5,,,,4",
    ]
    assert (tmp_path / "forecast.csv").read_text().splitlines() == [
        "fold,n,forecast,truth",
        "0,2,0.750000,0.500000",
        "1,1,0.250000,0.125000",
    ]


def test_what_was_not_measured_has_no_file_and_is_read_as_empty(tmp_path: Path) -> None:
    EnsembleRecord(image_ids=("a", "b,c", "d"), scores=SCORES).save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["valid_f1.csv"]
    found = EnsembleRecord.load(tmp_path)
    assert list(map(len, (found.rules, found.worth, found.reliability, found.forecast))) == [0] * 4
    assert found.thresholds is None
    assert found.folds is None
    assert not found.learning


def test_scores_of_images_come_back_to_the_last_bit(tmp_path: Path) -> None:
    scores = {"prior": np.array([1 / 3, np.nan, 0.0]), "mean": np.array([0.1 + 0.2, np.nan, 1.0])}
    write_scores(tmp_path / "f1.csv", image_ids=["a", "b,c", "d"], scores=scores)
    image_ids, found = read_scores(tmp_path / "f1.csv")
    assert image_ids == ("a", "b,c", "d")
    assert list(found) == ["prior", "mean"]
    for name, values in scores.items():
        np.testing.assert_array_equal(found[name], values)


def test_every_decision_rule_has_words_of_its_own() -> None:
    assert len({rule.title for rule in DECISION_RULES.values()}) == len(DECISION_RULES)
    assert len({rule.meaning for rule in DECISION_RULES.values()}) == len(DECISION_RULES)
    calibrated = [name for name, rule in DECISION_RULES.items() if rule.calibrated]
    assert calibrated == ["top-k", "ratio", "expected-f1", "general-f1"]
