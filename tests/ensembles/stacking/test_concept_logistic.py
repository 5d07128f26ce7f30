"""Weights of their own for frequent concepts."""

from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from core.errors import PredictionsError
from ensembles.pairs import Bools
from ensembles.stacking.candidates import Candidates
from ensembles.stacking.concept_logistic import ConceptLogisticStacker, fit_around
from ensembles.stacking.registry import load_stacker

NAMES = ("logit a", "logit b", "mean logit")


def simulated(n_images: int = 400, *, seed: int = 0) -> tuple[Candidates, Bools]:
    """Member a knows concepts 0 and 1, member b concept 2; concept 3 is true three times."""
    rng = np.random.default_rng(seed)
    rows = np.repeat(np.arange(n_images, dtype=np.int32), 4)
    columns = np.tile(np.arange(4, dtype=np.int32), n_images)
    a, b = rng.normal(-0.5, 1.5, (2, len(rows)))
    true = rng.random(len(rows)) < expit(2 * np.where(columns < 2, a, b))
    true[columns == 3] = rows[columns == 3] < 3
    pairs = Candidates(
        rows=rows,
        columns=columns,
        shape=(n_images, 5),
        features=np.column_stack([a, b, (a + b) / 2]).astype(np.float32),
        feature_names=NAMES,
    )
    return pairs, np.asarray(true)


def test_each_group_minimises_its_loss_around_the_centre() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(0, 1, (300, 2)).astype(np.float32)
    targets = rng.random(300) < expit(3 * features[:, 0] - 1)
    centre = np.array([0.5, -0.5, 2.0])
    starts = np.array([0, 100, 100, 300])
    found = fit_around(starts, features, targets=targets, centre=centre, ridge=3.0)

    def loss(coef: np.ndarray, here: slice) -> float:
        z = features[here].astype(np.float64) @ coef[:2] + coef[2]
        losses = np.logaddexp(0, z) - targets[here] * z
        return float(losses.sum() + 1.5 * ((coef - centre) ** 2).sum())

    for g in (0, 2):
        best = minimize(loss, centre, args=(slice(starts[g], starts[g + 1]),), tol=1e-10)
        np.testing.assert_allclose(found[g], best.x, atol=1e-4)
    np.testing.assert_array_equal(found[1], centre)  # a group without rows


def test_a_frequent_concept_listens_to_the_member_that_knows_it() -> None:
    pairs, true = simulated()
    stacker = ConceptLogisticStacker().fit(pairs, true)
    assert stacker.concepts_.tolist() == [0, 1, 2]  # three true pairs are too few, none too
    of_b = stacker.coef_[2] - stacker.shared_.coef_
    assert of_b[1] > 0.5
    assert of_b[0] < -0.5
    others, their_truth = simulated(seed=1)
    losses = [
        -np.log(np.where(their_truth, p, 1 - p)).mean()
        for p in (stacker.predict(others), stacker.shared_.predict(others))
    ]
    assert losses[0] < losses[1] - 0.05


def test_a_rare_concept_has_the_shared_weights() -> None:
    pairs, true = simulated()
    stacker = ConceptLogisticStacker().fit(pairs, true)
    rare = pairs.take(pairs.columns == 3)
    np.testing.assert_allclose(stacker.predict(rare), stacker.shared_.predict(rare), atol=1e-6)


def test_a_firm_hand_leaves_every_concept_at_the_shared_weights() -> None:
    pairs, true = simulated()
    stacker = ConceptLogisticStacker(ridge=1e9).fit(pairs, true)
    np.testing.assert_allclose(stacker.predict(pairs), stacker.shared_.predict(pairs), atol=1e-5)


def test_separable_concepts_are_held() -> None:
    starts, features = np.array([0, 40]), np.linspace(-50, 50, 40, dtype=np.float32)[:, None]
    found = fit_around(starts, features, targets=features[:, 0] > 0, centre=np.zeros(2), ridge=1e-3)
    assert np.isfinite(found).all()
    assert found[0, 0] > 0.1


def test_without_a_frequent_concept_it_is_the_shared_one(tmp_path: Path) -> None:
    pairs, true = simulated()
    stacker = ConceptLogisticStacker(min_true=10_000).fit(pairs, true)
    np.testing.assert_allclose(stacker.predict(pairs), stacker.shared_.predict(pairs), atol=1e-6)
    stacker.save(tmp_path)
    np.testing.assert_array_equal(load_stacker(tmp_path).predict(pairs), stacker.predict(pairs))


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    pairs, true = simulated()
    ConceptLogisticStacker().fit(pairs, true).save(tmp_path)
    np.save(tmp_path / "concept_coef.npy", np.zeros((2, 4)))
    with pytest.raises(PredictionsError, match=r"expected weights of shape \(3, 4\); found \(2, 4"):
        load_stacker(tmp_path)
