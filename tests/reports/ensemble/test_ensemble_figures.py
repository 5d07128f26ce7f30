"""What is drawn for the report: nothing overlaps, nothing that is far off hides the rest."""

from itertools import pairwise

import numpy as np
import pytest

from core.metrics import Interval
from core.runs.ladder import LadderStep, RungState
from reports.ensemble.figures import draw_deciles, draw_ladder, draw_reliability, draw_sources
from reports.pages.figures import style


def step(name: str, f1: float, gain: float | None, state: RungState = "kept") -> LadderStep:
    def around(value: float, width: float) -> Interval:
        return Interval(value, value - width, value + width, 100)

    return LadderStep(
        name=name,
        f1=around(f1, 0.02),
        gain=None if gain is None else around(gain, 0.002),
        state=state,
    )


def test_a_gain_that_would_hide_the_others_leaves_the_axis_with_its_number() -> None:
    steps = [
        step("prior", 0.4, None),
        step("best member", 0.6, 0.2),
        step("mean", 0.598, -0.002, "not kept"),
        step("submission", 0.6, None, "submitted"),
    ]
    left, right = draw_ladder(steps).axes
    assert right.get_xlim()[1] < 0.01
    assert "+0.2000  →" in [text.get_text() for text in right.texts]
    assert [text.get_text() for text in left.get_yticklabels()] == [s.name for s in steps]
    markers = {line.get_marker() for line in left.lines} - {"None"}
    assert markers == {"o", "D"}


def test_gains_of_a_size_share_an_axis() -> None:
    steps = [step("prior", 0.4, None), step("a", 0.41, 0.01), step("b", 0.43, 0.02)]
    right = draw_ladder(steps).axes[1]
    assert right.get_xlim()[1] > 0.022
    assert not any("→" in text.get_text() for text in right.texts)


def test_labels_of_the_ladder_do_not_overlap_however_long() -> None:
    long = "decision: expected F1 with a corrected number of concepts (temperature calibration)"
    figure = draw_ladder([step("prior", 0.4, None), *[step(long, 0.5, 0.01)] * 3])
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    for upper, lower in pairwise(boxes):
        assert lower.y1 < upper.y0


def test_the_best_source_of_each_category_is_bold_and_an_empty_category_has_dashes() -> None:
    values = np.array([[0.5, 0.8, np.nan], [0.6, 0.7, np.nan]])
    axes = draw_sources(values, rows=["a", "b"], columns=["all", "DRCT", "DRUS"]).axes[0]
    texts = [(text.get_text(), text.get_fontweight()) for text in axes.texts]
    assert texts == [
        ("0.500", "normal"), ("0.800", "bold"), ("-", "normal"),
        ("0.600", "bold"), ("0.700", "normal"), ("-", "normal"),
    ]  # fmt: skip


def test_reliability_lies_on_the_diagonal_where_probabilities_are_right() -> None:
    bins = np.array([[0.0, 0.1, 0.05, 0.05, 1000.0], [0.1, 1.0, 0.5, 0.5, 10.0]])
    with style():
        upper = draw_reliability({"after": bins}).axes[0]
    diagonal, after = upper.lines
    np.testing.assert_array_equal(after.get_xdata(), after.get_ydata())
    assert after.get_label() == "after calibration, 1,010 pairs"
    np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())


def test_deciles_stand_at_their_forecast_within_the_axes() -> None:
    deciles = [(0.3, Interval(0.25, 0.2, 0.3, 9)), (0.9, Interval(1.0, 1.0, 1.0, 9))]
    axes = draw_deciles(deciles).axes[0]
    points = axes.lines[-1]
    np.testing.assert_array_equal(points.get_xdata(), [0.3, 0.9])
    np.testing.assert_array_equal(points.get_ydata(), [0.25, 1.0])
    assert axes.get_xlim()[0] <= 0.2
    assert axes.get_ylim()[1] > 1.0


@pytest.mark.parametrize("gain", [0.0009, 0.0031, 0.0056, 0.02])
def test_ticks_of_the_gains_do_not_overlap(gain: float) -> None:
    with style():
        figure = draw_ladder([step("prior", 0.4, None), *[step("mean", 0.5, gain)] * 6])
        figure.draw_without_rendering()
    right = figure.axes[1]
    low, high = right.get_xlim()
    labels = zip(right.get_xticks(), right.get_xticklabels(), strict=True)
    boxes = [label.get_window_extent() for tick, label in labels if low <= tick <= high]
    for before, after in pairwise(boxes):
        assert before.x1 < after.x0
