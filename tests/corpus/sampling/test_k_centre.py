"""Farthest-first traversal: the plain one's sequence, and its guarantee."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.sampling import k_centre
from corpus.sampling.candidates import Floats, Rows
from corpus.sampling.k_centre import farthest_first


def unit(values: np.ndarray) -> Floats:
    units: Floats = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
    return units


def drawn(n: int, dim: int, *, seed: int) -> Floats:
    return unit(np.random.default_rng(seed).normal(size=(n, dim)))


def on_corners(n: int, *, seed: int) -> Floats:
    """Vectors whose products are exact in float32, with many ties."""
    corners = np.random.default_rng(seed).integers(0, 2, size=(n, 16)) * 2 - 1
    return (corners / 4).astype(np.float32)


def plain(units: Floats, n: int, start: Rows) -> list[int]:
    """Gonzalez 1985, word for word: all distances after every step."""
    kept: list[int] = start.tolist()
    for _ in range(n):
        nearest = (units @ units[kept].T).max(axis=1)
        nearest[kept] = np.inf
        kept.append(int(np.argmin(nearest)))
    return kept[len(start) :]


@pytest.mark.parametrize("front", [1, 7, 64, 1024])
@pytest.mark.parametrize("seed", range(4))
def test_the_sequence_is_the_plain_one_whatever_the_front(
    front: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(k_centre, "_FRONT", front)
    for units in (drawn(150, 24, seed=seed), on_corners(150, seed=seed)):
        start = np.random.default_rng(seed).choice(150, size=3, replace=False)
        assert farthest_first(units, 120, start=start).tolist() == plain(units, 120, start)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(2, 60), seed=st.integers(0, 999), front=st.integers(1, 20))
def test_every_row_is_taken_once_and_ties_go_to_the_first(n: int, seed: int, front: int) -> None:
    units = on_corners(n, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(k_centre, "_FRONT", front)
        taken = farthest_first(units, n - 1, start=np.array([0]))
    assert sorted(taken.tolist()) == list(range(1, n))
    assert taken.tolist() == plain(units, n - 1, np.array([0]))


@pytest.mark.parametrize("seed", range(5))
def test_no_image_is_farther_than_twice_the_best_choice_allows(seed: int) -> None:
    units, k = drawn(11, 3, seed=seed), 3
    distance = np.sqrt(np.maximum(2 - 2 * units @ units.T, 0))

    def radius(chosen: tuple[int, ...] | list[int]) -> float:
        return float(distance[:, list(chosen)].min(axis=1).max())

    best = min(map(radius, combinations(range(11), k)))
    found = [0, *farthest_first(units, k - 1, start=np.array([0])).tolist()]
    assert best - 1e-6 <= radius(found) <= 2 * best + 1e-6


def test_a_copy_of_a_kept_image_is_taken_last() -> None:
    units = np.concatenate([drawn(20, 8, seed=0), drawn(20, 8, seed=0)[:1]])
    assert farthest_first(units, 20, start=np.array([0]))[-1] == 20


def test_more_than_there_are_is_refused_and_a_start_is_needed() -> None:
    with pytest.raises(ValueError, match="5 of 5 rows from 1"):
        farthest_first(drawn(5, 3, seed=0), 5, start=np.array([2]))
    with pytest.raises(ValueError, match="1 of 5 rows from 0"):
        farthest_first(drawn(5, 3, seed=0), 1, start=np.zeros(0, dtype=np.intp))
