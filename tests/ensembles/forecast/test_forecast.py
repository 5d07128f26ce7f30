"""The forecast meets the score of drawn labels, by fold and with its interval."""

import numpy as np
import numpy.typing as npt
import pytest

from core.labels import LabelSpace, Targets
from core.metrics import Interval, image_f1
from ensembles.decisions.choose import choose_rule
from ensembles.decisions.expected_f1 import Expected
from ensembles.decisions.thresholds import Tuning
from ensembles.forecast.forecast import ForecastModel, expected_scores, forecast_scored
from ensembles.forecast.interval import Forecast, forecast
from ensembles.pairs import Floats, to_csr
from tests.ensembles.made_pairs import scored

LABELS = LabelSpace(tuple(f"C{i:02d}" for i in range(30)))


def simulated(n: int, *, seed: int, spread: float) -> tuple[Floats, Targets]:
    """Concepts that come together (by `spread`), seen as sharpened probabilities."""
    rng = np.random.default_rng(seed)
    logits = 2.0 * rng.standard_normal((n, 30)) - 2.0
    together = spread * rng.standard_normal((n, 1))
    truth = rng.random((n, 30)) < 1 / (1 + np.exp(-(logits + together)))
    rows, columns = np.nonzero(truth)
    matrix = to_csr(rows.astype(np.int32), columns.astype(np.int32), shape=truth.shape)
    outside = rng.poisson(0.2, n).astype(np.int32)
    probs = (1 / (1 + np.exp(-1.7 * logits))).astype(np.float32)
    return probs, Targets(matrix=matrix, n_outside=outside)


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_the_forecast_is_within_a_hundredth_and_its_interval_holds_the_score(
    spread: float,
) -> None:
    probs, targets = simulated(1500, seed=0, spread=spread)
    categories = ["DRCT", "DRXR"] * 750
    folds = np.arange(1500) % 5
    images = scored(targets, LABELS, categories=categories, folds=folds)
    choice = choose_rule(probs, images, tuning=Tuning(nomissing=True))
    judged = forecast_scored(choice, probs, images=images)
    assert judged is not None
    rule, found = judged
    error = found["forecast"] - found["truth"]
    # A strong common cause, which no model here knows, leaves an error of 0.010 on valid; it is
    # beyond chance, and is taken off.
    assert abs(np.nanmean(error)) < (0.005 if spread == 0 else 0.015)
    model = ForecastModel(rule=rule, found=found, categories=categories, groups=images.groups)
    by_fold = model.by_fold(folds)
    assert by_fold[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert by_fold[:, 1].sum() == (~np.isnan(found["truth"])).sum()
    means = np.average(by_fold[:, 2:], axis=0, weights=by_fold[:, 1])
    assert means[0] - means[1] == pytest.approx(np.nanmean(error))

    test_probs, test_targets = simulated(800, seed=1, spread=spread)
    test_categories = ["DRCT", "DRXR"] * 400
    decided = choice.rule.decide(test_probs, categories=test_categories, labels=LABELS)
    expected, _ = expected_scores(
        rule, decided, probs=test_probs, categories=test_categories, labels=LABELS
    )
    groups = [str(i) for i in range(1500)]
    made = forecast(expected, error=error, groups=groups, test_groups=groups[:800])
    truth = np.nanmean(image_f1(test_targets, decided, empty_truth="left out"))
    assert made.low < truth < made.high
    assert made.high - made.low < 0.06
    assert made.value == pytest.approx(truth, abs=0.02)  # of 800 images by luck alone: 0.007
    assert made.corrected == (spread > 0)


def of(values: npt.NDArray[np.float64]) -> Expected:
    return Expected(
        decided=to_csr(np.array([], np.int32), np.array([], np.int32), shape=(len(values), 1)),
        f1=values,
        counts=np.ones(len(values)),
    )


def test_only_an_error_beyond_chance_is_taken_off() -> None:
    rng = np.random.default_rng(0)
    groups = [str(i // 2) for i in range(400)]
    noise = 0.2 * rng.standard_normal(400)
    noise -= noise.mean()
    clear = forecast(
        of(np.full(50, 0.8)), error=noise + 0.1, groups=groups, test_groups=groups[:50]
    )
    assert clear.corrected
    assert clear.value == pytest.approx(0.7)
    chance = forecast(
        of(np.full(50, 0.8)), error=noise + 0.002, groups=groups, test_groups=groups[:50]
    )
    assert not chance.corrected
    assert chance.value == pytest.approx(0.8)
    # 25 groups of two: 0.2 / sqrt(50) = 0.028 of luck, and 0.01 of the error on valid
    assert chance.high - chance.low == pytest.approx(2 * 1.96 * 0.030, rel=0.2)


def test_the_interval_is_that_of_one_resample_after_the_other() -> None:
    rng = np.random.default_rng(1)
    error = 0.1 * rng.standard_normal(60)
    groups = [str(i // 3) for i in range(60)]
    made = forecast(
        of(np.full(9, 0.5)), error=error, groups=groups, test_groups=groups[:9], n_resamples=70
    )
    members = np.unique(np.array(groups), return_inverse=True)[1]
    sums, sizes = np.bincount(members, error - error.mean()), np.bincount(members)
    drawing, luck = np.random.default_rng(0), np.zeros(70)
    for n_drawn in (20, 3):
        for resample in range(70):
            drawn = drawing.integers(20, size=n_drawn)
            luck[resample] += sums[drawn].sum() / sizes[drawn].sum()
    value = 0.5 - made.corrected * error.mean()
    expected = np.quantile(value - luck, (0.025, 0.975))
    np.testing.assert_allclose([made.low, made.high], expected, atol=1e-12)


def test_the_line_says_all_that_matters() -> None:
    error = Interval(value=0.002, low=-0.003, high=0.007, n=900)
    made = Forecast(value=0.781, low=0.764, high=0.798, n=1165, error=error, corrected=False)
    assert str(made) == (
        "forecast: F1 0.781 [0.764, 0.798] on 1,165 test images; forecasts of labelled images, made"
        " the same way, were off by +0.002"
    )
    assert made.to_json()["error"]["n"] == 900
