"""Steps from the prior to the submission, with paired gains."""

from pathlib import Path

import numpy as np
import pytest

from core.ladder import Rung, climb, ladder_table, read_scores, write_scores
from core.metrics import bootstrap

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


def test_the_table_is_aligned_and_says_how_many_images() -> None:
    lines = ladder_table(climb(rungs(), groups=GROUPS)).splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("cross-fitted on valid  sample F1 [95 %]")
    assert lines[2].startswith("best member: routed ")
    assert lines[2].endswith("+0.1000 [+0.1000, +0.1000]")
    assert lines[-1].strip() == "n = 38 images"
    assert len({line.index("0.") for line in lines[1:4]}) == 1


def test_scores_of_images_come_back_to_the_last_bit(tmp_path: Path) -> None:
    scores = {"prior": np.array([1 / 3, np.nan, 0.0]), "mean": np.array([0.1 + 0.2, np.nan, 1.0])}
    write_scores(tmp_path / "f1.csv", image_ids=["a", "b,c", "d"], scores=scores)
    image_ids, found = read_scores(tmp_path / "f1.csv")
    assert image_ids == ("a", "b,c", "d")
    assert list(found) == ["prior", "mean"]
    for name, values in scores.items():
        np.testing.assert_array_equal(found[name], values)
