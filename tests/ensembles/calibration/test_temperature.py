import numpy as np
import pytest
from scipy.special import expit

from core.errors import ConfigError, PredictionsError
from ensembles.calibration.temperature import Calibration, fit_calibration
from ensembles.solvers.logistic import logit


def test_log_odds_stay_finite_at_the_ends() -> None:
    values = logit(np.array([0.0, 0.25, 0.5, 1.0], dtype=np.float32))
    assert values.dtype == np.float32
    assert values[0] == pytest.approx(np.log(1e-7), abs=1e-3)
    assert values[1:3].tolist() == pytest.approx([-np.log(3), 0.0], abs=1e-6)
    assert 15 < values[3] < 17


def test_a_temperature_draws_probabilities_to_the_middle() -> None:
    # log odds log(9) / 2 = log(3), which is 3/4
    probs = np.array([[0.9, 0.1]], dtype=np.float32)
    calibrated = Calibration(temperature=2.0).apply(probs)
    assert calibrated[0].tolist() == pytest.approx([0.75, 0.25], abs=1e-6)
    # a bias of log(3) more than undoes it for the lower one: 1/3 * 3 = odds of 1
    biased = Calibration(temperature=2.0, bias=np.log(3)).apply(probs)
    assert biased[0].tolist() == pytest.approx([0.9, 0.5], abs=1e-6)


def test_what_is_impossible_or_certain_stays_so() -> None:
    ends = np.array([0.0, 1.0], dtype=np.float32)
    assert Calibration(temperature=3.0, bias=1.0).apply(ends).tolist() == [0.0, 1.0]


def test_inverting_undoes_a_calibration() -> None:
    calibration = Calibration(temperature=1.7, bias=-0.4)
    raw = np.float32(calibration.invert(0.02))
    assert calibration.apply(np.array([raw]))[0] == pytest.approx(0.02, rel=1e-4)


def test_the_distortion_of_sharpened_probabilities_is_found() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(-1, 2, 40_000)
    true = rng.random(40_000) < expit(logits)
    sharpened = expit(2.5 * logits + 1.0).astype(np.float32)  # logits = (z - 1) / 2.5
    found = fit_calibration(sharpened, true)
    assert found.temperature == pytest.approx(2.5, rel=0.05)
    assert found.bias == pytest.approx(-0.4, abs=0.05)


def test_probabilities_that_mean_what_they_say_are_left_alone() -> None:
    rng = np.random.default_rng(1)
    probs = rng.random(40_000).astype(np.float32)
    found = fit_calibration(probs, rng.random(40_000) < probs)
    assert found.temperature == pytest.approx(1.0, abs=0.05)
    assert found.bias == pytest.approx(0.0, abs=0.05)


def test_pairs_of_one_kind_cannot_calibrate() -> None:
    probs = np.array([0.2, 0.4], dtype=np.float32)
    with pytest.raises(PredictionsError, match="0 of 2 candidate pairs are true"):
        fit_calibration(probs, np.zeros(2, dtype=np.bool_))
    with pytest.raises(PredictionsError, match="2 of 2 candidate pairs are true"):
        fit_calibration(probs, np.ones(2, dtype=np.bool_))


def test_probabilities_upside_down_cannot_calibrate() -> None:
    probs = np.array([0.9, 0.8, 0.2, 0.1], dtype=np.float32)
    with pytest.raises(PredictionsError, match="higher probability are true less often"):
        fit_calibration(probs, np.array([False, False, True, True]))


def test_a_temperature_of_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"above 0; found 0\.0"):
        Calibration(temperature=0.0)
