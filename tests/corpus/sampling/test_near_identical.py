"""Near-identical images go, the most similar pair first."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.sampling import near_identical
from corpus.sampling.near_identical import without_near_identical


def plain(units: np.ndarray, n: int, strata: np.ndarray, protected: np.ndarray) -> list[int]:
    """All pairs after every step."""
    left, gone = list(range(len(units))), []
    while len(left) > n:
        pairs = [
            (-float(units[a] @ units[b]), a, b)
            for place, a in enumerate(left)
            for b in left[place + 1 :]
            if strata[a] == strata[b] and not (protected[a] and protected[b])
        ]
        if not pairs:
            break
        _, first, second = min(pairs)
        gone.append(first if protected[second] else second)
        left.remove(gone[-1])
    return gone


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 30), left=st.integers(0, 30), seed=st.integers(0, 999), k=st.integers(1, 9))
def test_what_goes_is_what_a_search_of_all_pairs_drops(
    n: int, left: int, seed: int, k: int
) -> None:
    rng = np.random.default_rng(seed)
    units = ((rng.integers(0, 2, size=(n, 16)) * 2 - 1) / 4).astype(np.float32)
    strata, protected = rng.integers(0, 3, size=n), rng.random(n) < 0.2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near_identical, "_K", k)
        found = without_near_identical(units, left, strata=strata, protected=protected)
    assert found.tolist() == plain(units, left, strata, protected)


def test_copies_go_before_anything_else_and_never_across_strata() -> None:
    rng = np.random.default_rng(0)
    one = rng.normal(size=(6, 8))
    units = np.concatenate([one, one])
    units = (units / np.linalg.norm(units, axis=1, keepdims=True)).astype(np.float32)
    together = np.zeros(12, dtype=int)
    none = np.zeros(12, dtype=bool)
    assert sorted(without_near_identical(units, 6, strata=together, protected=none)) == [
        *range(6, 12)
    ]
    apart = np.repeat([0, 1], 6)
    dropped = without_near_identical(units, 11, strata=apart, protected=none)
    assert units[dropped[0]].tolist() in units[:6].tolist()
