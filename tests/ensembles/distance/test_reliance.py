"""What distance tells on the score: against scikit-learn, loops and limits."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import logit
from sklearn.linear_model import LogisticRegression

from core.metrics import Scores
from ensembles.distance.left_out import LeftOut
from ensembles.distance.reliance import USUAL_SHARE, Reliance

CELLS = ((0, 30), (0, 90), (1, 50), (2, 40))  # source and images of each


def made(seed: int = 0) -> tuple[Scores, LeftOut]:
    """Near distances, and far images that score less the farther they lie."""
    rng = np.random.default_rng(seed)
    cells = np.repeat(np.arange(len(CELLS)), [n for _, n in CELLS])
    z = 1.0 + 0.2 * cells + 0.6 * rng.standard_normal(len(cells))
    expected = rng.uniform(0.2, 1.0, len(cells))
    truth = np.clip(expected - 0.15 - 0.1 * z + 0.1 * rng.standard_normal(len(cells)), 0.0, 1.0)
    left_out = LeftOut(
        expected=expected,
        truth=truth,
        distances=z,
        separations=(0.2 * cells).astype(np.float64),
        cells=cells,
        sources=np.array([source for source, _ in CELLS]),
        names=[f"cell {cell}" for cell in range(len(CELLS))],
    )
    return 0.5 * rng.standard_normal(200), left_out


NEAR, FAR = made()
WEIGHTS = np.random.default_rng(1).uniform(0.2, 1.0, len(NEAR))


@pytest.fixture(scope="module")
def reliance() -> Reliance:
    return Reliance.fit(NEAR, FAR, weights=WEIGHTS)


def by_scikit_learn(
    features: npt.NDArray[np.float64], targets: Scores, weights: Scores
) -> list[float]:
    """Every row twice, as one that is true and as one that is not; ridge of 0.01 on all weights."""
    model = LogisticRegression(
        C=100.0, fit_intercept=False, solver="newton-cholesky", tol=1e-12, max_iter=1000
    )
    model.fit(
        np.concatenate([features, features]),
        np.repeat([1, 0], len(targets)),
        np.concatenate([weights * targets, weights * (1 - targets)]) / weights.sum(),
    )
    return list(model.coef_[0])


def cell_weights(cells: npt.NDArray[np.intp]) -> Scores:
    """Every cell the same weight, 1 together."""
    sizes = np.array([(cells == cell).sum() for cell in cells])
    return np.asarray(1 / sizes / len(set(cells.tolist())))


def test_the_weights_are_those_of_scikit_learn(reliance: Reliance) -> None:
    far_weights = cell_weights(FAR.cells)
    z = np.concatenate([NEAR, FAR.distances])
    evidence = by_scikit_learn(
        np.stack([np.ones(len(z)), z], axis=1),
        np.repeat([0.0, 1.0], [len(NEAR), len(FAR.distances)]),
        np.concatenate([WEIGHTS / WEIGHTS.sum(), far_weights]),
    )
    assert reliance.evidence == pytest.approx(evidence, abs=1e-6)
    assert evidence[1] > 1
    of_far = [np.ones(len(FAR.cells)), FAR.distances, logit(np.clip(FAR.expected, 0.02, 0.98))]
    score = by_scikit_learn(np.stack(of_far, axis=1), FAR.truth, far_weights)
    assert reliance.score == pytest.approx(score, abs=1e-6)
    assert score[1] < -0.1


def test_images_are_never_nearer_for_lying_farther() -> None:
    turned = replace(FAR, distances=-FAR.distances, truth=1.0 - FAR.expected)
    found = Reliance.fit(NEAR, turned, weights=WEIGHTS)
    assert found.evidence[1] == 0.0
    assert found.score[1] <= 0.0


def rows_of(far: LeftOut, rows: npt.NDArray[np.bool_]) -> LeftOut:
    return replace(
        far,
        **{
            name: getattr(far, name)[rows]
            for name in ("expected", "truth", "distances", "separations", "cells")
        },
    )


def test_the_spread_is_of_sources_each_forecast_without_itself(reliance: Reliance) -> None:
    errors = []
    for source in range(3):
        own = FAR.sources[FAR.cells] == source
        model = Reliance.fit(NEAR, rows_of(FAR, ~own), weights=WEIGHTS)
        forecasts = []
        for cell in sorted({*FAR.cells[own].tolist()}):
            here = FAR.cells == cell
            z = FAR.distances[here]
            share = max(model.share(z, groups=[""] * here.sum()), 0.2 * cell)
            forecasts += model.expected(FAR.expected[here], z, share=share).tolist()
        errors.append(np.mean(forecasts) - FAR.truth[own].mean())
    assert reliance.n_sources == 3
    assert reliance.spread == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=1e-9)


def test_of_one_source_the_spread_is_wide() -> None:
    one = replace(FAR, sources=np.zeros(len(CELLS), dtype=np.intp))
    found = Reliance.fit(NEAR, one, weights=WEIGHTS)
    assert (found.spread, found.n_sources) == (0.5, 1)


def test_a_source_without_images_does_not_count() -> None:
    rows = FAR.sources[FAR.cells] != 2
    found = Reliance.fit(NEAR, rows_of(FAR, rows), weights=WEIGHTS)
    assert found.n_sources == 2
    assert np.isfinite(found.spread)


def test_the_share_is_nothing_for_near_images_and_about_right_in_mixtures(
    reliance: Reliance,
) -> None:
    rng = np.random.default_rng(2)

    def near(n: int) -> Scores:
        return 0.5 * rng.standard_normal(n)

    found = [reliance.share(near(n), groups=[""] * n) for n in (10, 50, 400) for _ in range(20)]
    assert sum(share > 0 for share in found) <= 1
    for true in (0.2, 0.5, 0.9):
        z = near(1000)
        n = round(true * 1000)
        z[:n] = rng.choice(FAR.distances, n)
        assert reliance.share(z, groups=[""] * 1000) == pytest.approx(true, abs=0.1)
    # Images of a group lie alike: what is beyond chance of 60 by themselves is not of six groups.
    z = np.repeat([0.2, 0.3, 0.6, 0.8, 0.9, 1.1], 10)
    assert reliance.share(z, groups=[""] * 60) > 0
    assert reliance.share(z, groups=[f"g{i // 10}" for i in range(60)]) == 0.0


def test_the_share_is_that_of_the_highest_likelihood(reliance: Reliance) -> None:
    z = np.concatenate([NEAR[:60], FAR.distances[:40]])
    ratios = reliance.ratios(z)
    assert ratios.max() <= 50.0
    tried = np.linspace(0.0, 1.0, 10001)
    likelihood = [np.log1p(share * (ratios - 1)).sum() for share in tried]
    share = reliance.share(z, groups=[""] * 100)
    assert share == pytest.approx(tried[int(np.argmax(likelihood))], abs=2e-3)


def test_what_is_expected_is_less_the_farther_and_never_more(reliance: Reliance) -> None:
    rng = np.random.default_rng(3)
    expected, z = rng.random(500), rng.uniform(-8, 8, 500)
    assert reliance.expected(expected, z, share=0.0).tobytes() == expected.tobytes()
    for share in (USUAL_SHARE, 0.5, 1.0):
        found = reliance.expected(expected, z, share=share)
        assert (found <= expected).all()
        assert (found >= 0).all()
        along = reliance.expected(np.full(50, 0.8), np.linspace(-3, 3, 50), share=share)
        assert (np.diff(along) <= 1e-12).all()
    assert found[z > 1].mean() < expected[z > 1].mean() - 0.05
    each = reliance.expected(expected, z, share=np.repeat([0.0, 0.5], 250))
    np.testing.assert_array_equal(each[:250], expected[:250])
    np.testing.assert_array_equal(each[250:], reliance.expected(expected, z, share=0.5)[250:])


def test_the_expected_f1_is_the_mixture_that_is_written_down(reliance: Reliance) -> None:
    (a, b), (c, d, e) = reliance.evidence, reliance.score
    for f1, z, share in ((0.7, 0.4, 0.1), (0.3, 2.5, 0.6), (0.995, 0.0, 0.02)):
        ratio = min(np.exp(a + b * z), 50.0)
        far = share * ratio / (1 - share + share * ratio)
        held = min(f1, 0.98)
        of_far = min(1 / (1 + np.exp(-(c + d * z + e * np.log(held / (1 - held))))), f1)
        found = reliance.expected(np.array([f1]), np.array([z]), share=share)
        assert found[0] == pytest.approx((1 - far) * f1 + far * of_far)


def test_what_is_not_known_stays_so(reliance: Reliance) -> None:
    found = reliance.expected(
        np.array([np.nan, 0.7, np.nan]), np.array([3.0, np.nan, np.nan]), share=0.9
    )
    assert np.isnan(found[[0, 2]]).all()
    assert found[1] == 0.7


def test_all_being_far_is_no_division_by_nothing(reliance: Reliance) -> None:
    steep = replace(reliance, evidence=(0.0, 1e5))
    found = steep.expected(np.array([0.9, 0.9]), np.array([-9.0, 9.0]), share=1.0)
    assert np.isfinite(found).all()
    assert steep.far(np.array([-9.0, 9.0]), share=1.0).tolist() == [1.0, 1.0]


def test_it_is_read_as_it_was_written(reliance: Reliance) -> None:
    assert Reliance.from_json(json.loads(json.dumps(reliance.to_json()))) == reliance


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.pop("evidence"),
        lambda v: v.update(evidence=[1.0]),
        lambda v: v.update(evidence=3),
        lambda v: v.update(evidence=[1.0, "b"]),
        lambda v: v.update(score=[1.0, 2.0]),
        lambda v: v.update(score=[0.0, 0.0, float("nan")]),
        lambda v: v.update(score=[0.0, 0.0, None]),
        lambda v: v.update(score=[0.0, 0.0, 1e308]),
        lambda v: v.update(evidence=[0.0, float("inf")]),
        lambda v: v.update(spread=-0.1),
        lambda v: v.update(spread=[]),
        lambda v: v.update(n_sources=0),
        lambda v: v.update(n_sources=float("inf")),
        lambda v: v.update(n_sources=10**299),
        lambda v: v.update(score=[0.0, 0.0, 10**299]),
    ],
)
def test_numbers_that_do_not_hold_are_refused(
    reliance: Reliance, change: Callable[[dict[str, Any]], object]
) -> None:
    values = json.loads(json.dumps(reliance.to_json()))
    change(values)
    with pytest.raises((ValueError, KeyError)):
        Reliance.from_json(values)
