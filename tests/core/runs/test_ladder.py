"""Steps from the prior to the submission, with paired gains."""

from pathlib import Path

import numpy as np
import pytest

from core.metrics import Interval, bootstrap
from core.runs.ladder import (
    LadderStep,
    Rung,
    climb,
    describe_rungs,
    ladder_table,
    read_steps,
    rungs_of,
    write_steps,
)

GROUPS = tuple(f"g{i // 2}" for i in range(40))


def rungs() -> list[Rung]:
    rng = np.random.default_rng(0)
    scores = rng.random(40) * 0.5
    scores[[3, 17]] = np.nan
    return [
        Rung(name="prior", image_f1=scores),
        Rung(name="routed", title="best member: routed", image_f1=scores + 0.1),
        Rung(name="mean", image_f1=scores + rng.normal(0.1, 0.05, 40)),
    ]


def test_a_rung_is_scored_over_the_images_that_are_not_left_out() -> None:
    assert Rung(name="a", image_f1=np.array([0.2, np.nan, 0.6])).mean == pytest.approx(0.4)


def test_each_step_has_its_score_and_the_paired_gain_over_the_one_before() -> None:
    prior, routed, mean = climb(rungs(), groups=GROUPS)
    assert prior.gain is None
    assert prior.f1 == bootstrap(rungs()[0].image_f1, groups=GROUPS)
    assert prior.f1.n == 38
    assert routed.gain is not None
    # Every image gains the same 0.1: the difference is known exactly, though the scores are not.
    assert (routed.gain.value, routed.gain.low, routed.gain.high) == pytest.approx((0.1, 0.1, 0.1))
    assert routed.f1.high - routed.f1.low > 0.05
    assert mean.gain == bootstrap(rungs()[2].image_f1 - rungs()[1].image_f1, groups=GROUPS)


def test_a_single_rung_is_a_ladder() -> None:
    (step,) = climb(rungs()[:1], groups=GROUPS)
    assert step.gain is None


def with_one_not_kept() -> list[Rung]:
    """The prior, a stacker that loses 0.2 on each image, a rule that gains 0.1, the submission."""
    scores = rungs()[0].image_f1 + 0.3
    return [
        Rung(name="prior", image_f1=scores),
        Rung(name="mean", image_f1=scores - 0.2, state="not kept"),
        Rung(name="mean", title="decision", image_f1=scores + 0.1, is_rule=True),
        Rung(name="submission", image_f1=scores + 0.1, state="submitted"),
    ]


def test_gains_are_over_the_last_rung_that_was_kept() -> None:
    steps = climb(with_one_not_kept(), groups=GROUPS)
    assert [step.state for step in steps] == ["kept", "not kept", "kept", "submitted"]
    gains = [None if step.gain is None else step.gain.value for step in steps]
    # over the prior both times: not +0.3 over the mean, which was not kept
    assert gains == [None, pytest.approx(-0.2), pytest.approx(0.1), None]


def test_the_table_is_aligned_and_says_how_many_images_and_what_was_kept() -> None:
    lines = ladder_table(climb(with_one_not_kept(), groups=GROUPS), images="valid")
    assert len(lines) == 6
    assert lines[0].startswith("cross-fitted on valid  sample F1 [95 %]")
    assert lines[2].startswith("mean ")
    assert lines[2].endswith("  -0.2000 [-0.2000, -0.2000]  not kept")
    assert lines[3].endswith("  +0.1000 [+0.1000, +0.1000]  kept")
    assert lines[4].endswith("  submitted")
    assert lines[-1].strip().startswith("n = 38 images; a line is kept where its gain exceeds")
    assert len({line.index("0.") for line in lines[1:5]}) == 1


def test_without_a_rung_that_was_not_kept_the_margin_is_not_mentioned() -> None:
    lines = ladder_table(climb(rungs(), groups=GROUPS), images="valid")
    assert lines[-1].strip() == "n = 38 images"


def test_rungs_are_made_again_from_the_scores_of_sources_and_of_rules() -> None:
    made = with_one_not_kept()  # `mean` is a name in both
    sources, rules = (
        {rung.name: rung.image_f1 for rung in made if rung.is_rule == is_rule}
        for is_rule in (False, True)
    )
    found = rungs_of(describe_rungs(made), sources=sources, rules=rules)
    assert climb(found, groups=GROUPS) == climb(made, groups=GROUPS)


def test_rungs_of_earlier_versions_are_taken_as_kept() -> None:
    scores = {"prior": np.array([0.5, 1.0]), "submission": np.array([1.0, 1.0])}
    described = [["prior", ""], ["submission", "decision: expected F1"]]
    found = rungs_of(described, sources=scores, rules={})
    assert [(rung.name, rung.title, rung.state) for rung in found] == [
        ("prior", "", "kept"),
        ("submission", "decision: expected F1", "kept"),
    ]


def test_steps_come_back_to_the_last_bit(tmp_path: Path) -> None:
    f1 = Interval(value=1 / 3, low=0.1 + 0.2, high=0.4, n=5)
    steps = [LadderStep(name="a, b", f1=f1, gain=Interval(value=-1 / 7, low=-0.3, high=0.1, n=5))]
    write_steps(tmp_path / "members.csv", steps)
    assert read_steps(tmp_path / "members.csv") == steps
