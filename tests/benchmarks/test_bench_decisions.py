"""The benchmark of decisions on a drawn corpus: every rule is judged, and the aims are told."""

import numpy as np
import pytest

from benchmarks.quality.bench_decisions import RULES, judge, paired, row, seen_row, verdict
from benchmarks.quality.simulated import LabelSets, Setting
from core.labels import LabelSpace
from core.metrics import Interval


@pytest.fixture(scope="module")
def sets() -> LabelSets:
    rng = np.random.default_rng(0)
    labels = LabelSpace(tuple(f"C{i:02d}" for i in range(30)))
    concepts = [rng.choice(labels.cuis, size=4, replace=False).tolist() for _ in range(300)]
    return LabelSets(
        image_ids=tuple(map(str, range(300))),
        labels=labels,
        targets=labels.encode(concepts),
        kinds=np.arange(300) % 7,
        clusters=np.arange(30) % 5,
    )


def test_every_rule_is_judged_on_the_same_images(sets: LabelSets) -> None:
    setting = Setting(name="plain", hardness=0.3)
    run = judge(sets, setting, strength=2.5, seed=0)
    assert set(run.image_f1) == set(RULES)
    assert {len(f1) for f1 in run.image_f1.values()} == {len(run.image_ids)} == {150}
    assert abs(run.forecast) < 0.1
    assert row(setting, 2.5, [run]).count("|") == 12
    assert "expected-f1" in seen_row(setting, 2.5, [run])


def test_a_rule_that_cannot_be_fitted_is_said_to_be(sets: LabelSets) -> None:
    setting = Setting(name="upside down", inverted=1.0, calibratable=False)
    run = judge(sets, setting, strength=3.0, seed=0)
    assert paired([run], "expected F1") is None
    assert "cannot be fitted" in row(setting, 3.0, [run])


@pytest.mark.parametrize(
    ("chosen", "oracle", "calibratable", "said"),
    [
        (0.010, 0.02, True, "met"),
        (0.009, 0.02, True, "missed"),
        (0.009, 0.009, True, "out of reach"),
        (-0.001, 0.02, False, "held"),
        (-0.002, 0.02, False, "**below**"),
        (-0.002, 0.02, True, "**below**"),
    ],
)
def test_the_aims(chosen: float, oracle: float, calibratable: bool, said: str) -> None:
    gains = {
        name: Interval(value=value, low=value, high=value, n=1)
        for name, value in (("chosen", chosen), ("oracle", oracle))
    }
    assert verdict(Setting(name="", calibratable=calibratable), 2.0, gains) == said
