"""Forecasts of test that may be of other sources: wider where it reaches beyond, else as before."""

import json
from dataclasses import replace

import numpy as np
import pytest

from core.metrics import Interval, Scores
from ensembles.decisions.expected_f1 import Expected
from ensembles.distance.model import FarCategory
from ensembles.distance.reliance import Reliance
from ensembles.forecast.forecast import ForecastModel
from ensembles.forecast.interval import (
    NO_OTHERS,
    CategoryForecast,
    Forecast,
    Lie,
    OtherSources,
    forecast,
)
from ensembles.forecast.shift import Shift
from ensembles.pairs import to_csr
from tests.ensembles.distance.test_reliance import FAR, NEAR, WEIGHTS

# As the version before forecasts reached beyond known sources gave them: value, low, high.
BEFORE = (
    (0.5168132328932267, 0.45593818361877597, 0.5757301300709923),
    (0.4354474698155264, 0.3756833411862613, 0.4933103891291255),
)

GROUPS, TEST_GROUPS = [f"g{i // 2}" for i in range(120)], [f"t{i // 3}" for i in range(90)]


def expected(f1: Scores) -> Expected:
    none = np.array([], np.int32)
    decided = to_csr(none, none, shape=(len(f1), 1))
    return Expected(decided=decided, f1=f1, counts=np.ones(len(f1)))


def drawn() -> tuple[Expected, list[Scores]]:
    rng = np.random.default_rng(5)
    found = expected(rng.random(90))
    return found, [0.2 * rng.standard_normal(120) + shift for shift in (0.0, 0.08)]


def made(error: Scores, others: OtherSources = NO_OTHERS) -> Forecast:
    return forecast(drawn()[0], error=error, groups=GROUPS, test_groups=TEST_GROUPS, others=others)


def test_without_other_sources_numbers_are_those_of_version_before() -> None:
    for error, numbers in zip(drawn()[1], BEFORE, strict=True):
        for others in (NO_OTHERS, OtherSources(reach=0.0, spread=0.3, n_sources=4)):
            found = made(error, others)
            assert [found.value, found.low, found.high] == pytest.approx(numbers, abs=1e-12)
            assert found.reach is None


@pytest.mark.parametrize("which", [0, 1])
def test_an_interval_that_reaches_beyond_holds_the_one_that_does_not(which: int) -> None:
    error = drawn()[1][which]
    plain, widths = made(error), []
    for reach in (0.0, 0.1, 0.5, 1.0):
        found = made(error, others=OtherSources(reach=reach, spread=0.1, n_sources=6))
        assert found.value == plain.value
        assert found.low <= plain.low < plain.high <= found.high
        widths.append(found.high - found.low)
    assert widths == sorted(widths)
    assert widths[3] > widths[0] + 0.2
    few = made(error, others=OtherSources(reach=0.5, spread=0.1, n_sources=2))
    assert few.high - few.low > widths[2]  # two sources say little of their spread


def test_errors_of_other_sources_are_students() -> None:
    errors = OtherSources(reach=0.5, spread=0.2, n_sources=6).drawn(20_000, seed=1)
    low, high = np.quantile(errors, (0.025, 0.975))
    assert high == pytest.approx(0.5 * 0.2 * 2.571, rel=0.05)  # t of 5 degrees of freedom
    assert low == pytest.approx(-high, rel=0.05)


def lie(distances: Scores, *, shares: Scores, categories: list[FarCategory]) -> Lie:
    return Lie(
        distances=distances,
        shares=shares,
        categories=categories,
        reliance=replace(Reliance.fit(NEAR, FAR, weights=WEIGHTS), spread=0.08, n_sources=5),
    )


@pytest.fixture
def model() -> ForecastModel:
    rng = np.random.default_rng(6)
    truth = rng.random(120)
    found = {"forecast": np.clip(truth + 0.1 * rng.standard_normal(120), 0, 1), "truth": truth}
    names = ["DRCT", "DRXR"] * 60
    # The rule has no part in a forecast of what is expected already.
    return ForecastModel(rule=None, found=found, categories=names, groups=GROUPS)  # type: ignore[arg-type]


def told(
    model: ForecastModel, f1: Scores, *, names: list[str], shift: Shift, lie: Lie | None = None
) -> Forecast | None:
    return model.forecast(expected(f1), categories=names, groups=TEST_GROUPS, shift=shift, lie=lie)


def test_a_forecast_tells_of_far_categories_and_how_far_it_reaches(model: ForecastModel) -> None:
    names = ["DRCT"] * 60 + ["DRUS"] * 30
    f1 = np.repeat([0.8, 0.4], [60, 30])
    shift = Shift(excess={"DRUS": 0.9})
    far = lie(
        np.zeros(90),
        shares=np.repeat([0.0, 0.5], [60, 30]),
        categories=[
            FarCategory(category="DRCT", n=60, share=0.0, separation=0.0),
            FarCategory(category="DRUS", n=30, share=0.5, separation=0.2),
        ],
    )
    plain = told(model, f1, names=names, shift=shift)
    found = told(model, f1, names=names, shift=shift, lie=far)
    assert plain is not None
    assert found is not None
    assert (plain.reach, plain.far) == (None, ())
    assert found.reach == pytest.approx(0.9 * 30 / 90)  # the excess is more than share or strength
    assert found.value == plain.value
    assert found.low < plain.low
    assert found.high > plain.high
    (own,) = found.far
    assert (own.category, own.n, own.n_far) == ("DRUS", 30, 15)
    assert own.value == pytest.approx(0.4, abs=0.03)
    assert own.low < own.value < own.high
    assert own.high - own.low > found.high - found.low


def test_where_nothing_is_far_the_forecast_is_what_it_was(model: ForecastModel) -> None:
    names, f1 = ["DRCT", "DRXR"] * 45, np.random.default_rng(7).random(90)
    near = lie(
        np.zeros(90),
        shares=np.zeros(90),
        categories=[
            FarCategory(category=name, n=45, share=0.0, separation=0.0) for name in ("DRCT", "DRXR")
        ],
    )
    plain = told(model, f1, names=names, shift=Shift())
    found = told(model, near.expected(f1), names=names, shift=Shift(), lie=near)
    assert plain is not None
    assert found == replace(plain, reach=0.0)


def test_of_images_that_are_all_left_out_there_is_no_forecast(model: ForecastModel) -> None:
    nothing = replace(expected(np.full(90, np.nan)), counts=np.zeros(90))
    near = lie(np.zeros(90), shares=np.zeros(90), categories=[])
    names = ["DRCT"] * 90
    found = model.forecast(nothing, categories=names, groups=TEST_GROUPS, shift=Shift(), lie=near)
    assert found is None


ERROR = Interval(value=0.002, low=-0.003, high=0.007, n=900)
FORECAST = Forecast(
    value=0.581, low=0.464, high=0.698, n=1165, error=ERROR, corrected=True, reach=0.31,
    differs=["DRUS 30% against 5%"],
    far=(CategoryForecast(category="DRUS", n=350, n_far=280, value=0.31, low=0.1, high=0.55),
         CategoryForecast(category="", n=1200, n_far=1100, value=0.2, low=0.0, high=0.4)),
)  # fmt: skip


def test_the_line_says_what_is_far_and_that_the_interval_takes_it_in() -> None:
    assert str(FORECAST) == (
        "forecast: F1 0.581 [0.464, 0.698] on 1,165 test images; forecasts of labelled images, made"
        " the same way, were off by +0.002, which is taken off; DRUS: 280 of 350 images unlike"
        " those learnt from, forecast 0.31 [0.10, 0.55]; no category: 1,100 of 1,200 images unlike"
        " those learnt from, forecast 0.20 [0.00, 0.40]; test differs from what it was fitted on:"
        " DRUS 30% against 5%; the interval takes in that 31% of test may be of sources that"
        " nothing was learnt from"
    )
    unknown = str(replace(FORECAST, reach=None, far=()))
    assert unknown.endswith(
        "; not to be relied on, test differs from what it was fitted on: DRUS 30% against 5%"
    )
    assert "interval takes in" not in str(replace(FORECAST, reach=0.0))


def test_it_is_written_as_plain_values() -> None:
    values = json.loads(json.dumps(FORECAST.to_json()))
    assert values["far"][0] == {
        "category": "DRUS", "n": 350, "n_far": 280, "value": 0.31, "low": 0.1, "high": 0.55,
    }  # fmt: skip
    assert (values["reach"], values["differs"]) == (0.31, ["DRUS 30% against 5%"])
    assert values["error"]["n"] == 900
    assert json.dumps(replace(FORECAST, reach=None).to_json()).count("null") == 1
