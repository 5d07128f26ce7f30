"""Features as points: angles stay, and nothing is fitted."""

import numpy as np
import numpy.typing as npt
import pytest

from ensembles.distance.features import N_DIRECTIONS, as_points


def drawn(n: int, width: int, *, seed: int) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, width), np.float32) + 2 * rng.standard_normal((n, 1), np.float32)


def test_cosines_stay_what_they_were_to_a_few_hundredths() -> None:
    parts = [drawn(300, 2048, seed=0), 7 * drawn(300, 512, seed=1)]
    points = as_points(parts)
    assert points.shape == (300, N_DIRECTIONS)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1.0, atol=1e-5)
    each = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts]
    expected = sum(part @ part.T for part in each) / 2  # each network counts the same
    off = (points @ points.T - expected)[np.triu_indices(300, 1)]
    assert np.abs(off).mean() < 0.06  # a deviation of 1 / sqrt(256) at most
    assert np.abs(off).max() < 0.3


def test_an_image_has_the_same_point_whatever_others_come_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = [drawn(30, 64, seed=2), drawn(30, 20, seed=3)]
    points = as_points(parts)
    np.testing.assert_allclose(as_points([part[7:9] for part in parts]), points[7:9], atol=1e-6)
    monkeypatch.setattr("ensembles.distance.features._ROWS", 4)
    np.testing.assert_allclose(as_points(parts), points, atol=1e-6)
    np.testing.assert_allclose(as_points([100 * part for part in parts]), points, atol=1e-5)


def test_features_of_zeros_give_a_point_of_zeros() -> None:
    part = drawn(3, 16, seed=4)
    part[1] = 0.0
    points = as_points([part])
    assert not points[1].any()
    assert np.linalg.norm(points, axis=1).tolist() == pytest.approx([1.0, 0.0, 1.0])
