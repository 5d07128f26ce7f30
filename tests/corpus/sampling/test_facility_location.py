"""Facility location: the lazy greedy choice is the plain one, and as good as it must be."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.sampling import neighbours
from corpus.sampling.candidates import Floats
from corpus.sampling.facility_location import most_similar_to_all
from corpus.sampling.neighbours import nearest_rows

NONE = np.zeros(0, dtype=np.intp)


def on_corners(n: int, *, seed: int) -> Floats:
    """Vectors whose products are exact in float32, with many ties."""
    corners = np.random.default_rng(seed).integers(0, 2, size=(n, 16)) * 2 - 1
    return (corners / 4).astype(np.float32)


def drawn(n: int, dim: int, *, seed: int) -> Floats:
    values = np.random.default_rng(seed).normal(size=(n, dim))
    units: Floats = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
    return units


def plain(
    similarity: np.ndarray, n: int, *, start: list[int], weights: np.ndarray, content: np.ndarray
) -> list[int]:
    """All gains after every step, from their definition."""
    kept = list(start)
    for _ in range(n):
        reached = np.maximum(similarity[:, kept].max(axis=1, initial=-1), content)
        gains = [
            -np.inf
            if row in kept
            else float(weights @ np.maximum(similarity[:, row].astype(float) - reached, 0))
            for row in range(len(similarity))
        ]
        kept.append(int(np.argmax(gains)))
    return kept[len(start) :]


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 60), seed=st.integers(0, 999), n_start=st.integers(0, 5))
def test_the_lazy_sequence_is_the_plain_one_ties_included(n: int, seed: int, n_start: int) -> None:
    units = on_corners(n, seed=seed)
    rng = np.random.default_rng(seed)
    start = rng.choice(n, size=min(n_start, n), replace=False)
    weights = rng.integers(0, 4, size=n).astype(float)
    more = n - len(start)
    found = most_similar_to_all(units, more, start=start, weights=weights)
    expected = plain(
        units @ units.T, more, start=start.tolist(), weights=weights, content=np.full(n, -1.0)
    )
    assert found.tolist() == expected


@pytest.mark.parametrize("k", [1, 5, 39])
def test_with_neighbours_alone_it_is_the_plain_choice_of_similarities_above_the_last(
    k: int,
) -> None:
    units = on_corners(40, seed=3)
    similarity = units @ units.T
    without_own = np.where(np.eye(40, dtype=bool), -np.inf, similarity)
    content = np.sort(without_own, axis=1)[:, -k]
    rows, _ = nearest_rows(units, k=k)
    known = np.eye(40, dtype=bool)
    known[np.arange(40)[:, None], rows] = True
    cut = np.where(known, similarity, -1)
    found = most_similar_to_all(units, 30, start=NONE, dense=0, k=k)
    expected = plain(cut, 30, start=[], weights=np.ones(40), content=content)
    assert found.tolist() == expected


@pytest.mark.parametrize("seed", range(5))
def test_it_comes_within_the_bound_of_the_best_choice(seed: int) -> None:
    units = drawn(10, 4, seed=seed)
    similarity = 1 + units @ units.T  # above zero, as the bound asks

    def value(chosen: tuple[int, ...]) -> float:
        return float(similarity[:, chosen].max(axis=1).sum())

    best = max(map(value, combinations(range(10), 3)))
    found = value(tuple(most_similar_to_all(units, 3, start=NONE).tolist()))
    assert (1 - 1 / np.e) * best <= found <= best + 1e-5


def test_the_first_of_three_clusters_is_in_the_largest() -> None:
    centres = drawn(3, 16, seed=0)
    units = np.repeat(centres, [2, 9, 4], axis=0)
    assert most_similar_to_all(units, 3, start=NONE).tolist() == [2, 11, 0]


def test_more_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="5 of 5 rows from 1"):
        most_similar_to_all(drawn(5, 3, seed=0), 5, start=np.array([1]))


@settings(max_examples=20, deadline=None)
@given(
    n=st.integers(2, 80),
    k=st.integers(1, 90),
    seed=st.integers(0, 99),
    block=st.sampled_from([1, 3, 16, 2048]),
)
def test_the_nearest_rows_are_those_of_a_sorted_list(n: int, k: int, seed: int, block: int) -> None:
    units = on_corners(n, seed=seed)
    rows = np.arange(0, n, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "_ROWS", block)
        found, similarity = nearest_rows(units, k=k, rows=rows)
    assert found.shape == (len(rows), min(k, len(rows) - 1))
    for place, row in enumerate(rows.tolist()):
        others = sorted(
            (r for r in rows.tolist() if r != row), key=lambda r: -units[row] @ units[r]
        )
        assert found[place].tolist() == others[:k]
        assert similarity[place].tolist() == [units[row] @ units[r] for r in others[:k]]
