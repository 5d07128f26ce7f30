import numba
import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from ensembles.solvers import logistic
from ensembles.solvers.features import Standard
from ensembles.solvers.logistic import fit_logistic, fit_offsets, logits_of


@pytest.mark.parametrize("ridge", [0.1, 10.0])
def test_weights_agree_with_scikit_learn(ridge: float) -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((500, 4)).astype(np.float32)
    features[:, 3] = features[:, 2] + 1e-3 * features[:, 3]  # all but collinear
    targets = rng.random(500) < expit(features @ np.array([1.0, -2.0, 0.5, 0.0]) - 1)
    found = fit_logistic(features, targets, ridge=ridge)
    reference = LogisticRegression(C=1 / ridge, tol=1e-10, max_iter=5000)
    reference.fit(features.astype(np.float64), targets)
    np.testing.assert_allclose(found[:-1], reference.coef_[0], atol=1e-4)
    assert found[-1] == pytest.approx(reference.intercept_[0], abs=1e-4)


def test_the_intercept_alone_is_the_log_odds_of_the_share() -> None:
    # 3 of 4 true: log(3)
    targets = np.array([True, True, True, False])
    found = fit_logistic(np.zeros((4, 1), dtype=np.float32), targets)
    assert found.tolist() == pytest.approx([0.0, np.log(3)], abs=1e-5)


def test_separable_targets_are_held_by_the_ridge() -> None:
    features = np.linspace(-50, 50, 40, dtype=np.float32)[:, None]
    found = fit_logistic(features, features[:, 0] > 0, ridge=1e-3)
    assert np.isfinite(found).all()
    assert found[0] > 0.1


def test_a_million_rows_in_chunks_give_the_minimum_too() -> None:
    rng = np.random.default_rng(1)
    features = rng.standard_normal((1_060_000, 1), dtype=np.float32)
    targets = rng.random(len(features)) < expit(2 * features[:, 0] - 1)
    found = fit_logistic(features, targets, ridge=1.0)
    assert found.tolist() == pytest.approx([2.0, -1.0], abs=0.02)
    residual = expit(features[:, 0] * found[0] + found[1]) - targets
    assert abs(residual.sum()) < 1e-2
    assert abs(residual @ features[:, 0] + found[0]) < 1e-2


def test_the_part_that_shows_the_way_leads_to_the_same_minimum(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(3)
    features = rng.normal(-3, 2, (40_000, 5)).astype(np.float32)
    features[:, 1] = features[:, 0] + 0.01 * features[:, 1]  # all but collinear
    features[rng.random(40_000) < 0.2, 0] = np.nan
    names = ("logit a", "logit b", "x", "y", "z")
    targets = rng.random(40_000) < expit(features[:, 1] - 0.3 * features[:, 4])
    standard = Standard.of(features, names)
    standardised = standard.of_rows(features)
    plain = fit_logistic(standardised, targets, ridge=2.0)
    monkeypatch.setattr(logistic, "_MANY", 1000)
    monkeypatch.setattr(logistic, "_PART", 4000)
    found = []
    for n_threads in (1, 2):
        monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", n_threads)
        found.append(fit_logistic(features, targets, ridge=2.0, standard=standard))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_allclose(found[0], plain, atol=2e-4)
    reference = LogisticRegression(C=1 / 2, tol=1e-10, max_iter=5000)
    reference.fit(standardised.astype(np.float64), targets)
    np.testing.assert_allclose(found[0][:-1], reference.coef_[0], atol=5e-4)
    np.testing.assert_allclose(
        logits_of(features, standard, coef=found[0]),
        standardised @ found[0][:-1] + found[0][-1],
        rtol=1e-5,
        atol=1e-5,
    )


def test_offsets_agree_with_a_search_on_the_loss_of_each_group() -> None:
    rng = np.random.default_rng(2)
    groups = rng.integers(0, 3, 300)
    logits = rng.standard_normal(300)
    targets = rng.random(300) < expit(logits + np.array([2.0, 0.0, -3.0])[groups])
    found = fit_offsets(groups, logits, targets=targets, ridge=4.0, n_groups=4)
    grid = np.arange(-5, 5, 1e-3)
    for group in range(3):
        here = groups == group
        z = logits[here][:, None] + grid
        loss = (np.logaddexp(0, z) - targets[here][:, None] * z).sum(axis=0) + 2.0 * grid**2
        assert found[group] == pytest.approx(grid[loss.argmin()], abs=2e-3)
    assert found[3] == 0.0  # a group without rows
