"""The rivals of the kernels' benchmark look for the same thresholds."""

import numpy as np
import pytest

from benchmarks.algorithms.bench_kernels import (
    MANY,
    Scores,
    draw,
    reached,
    recompute,
    search_exactly,
    swap_candidates,
    swap_columns,
)

START = 0.3


@pytest.fixture(scope="module")
def scores() -> Scores:
    return draw(300, 40, seed=0)


def test_every_grid_finds_the_same_thresholds(scores: Scores) -> None:
    found = swap_columns(scores, START)
    np.testing.assert_array_equal(found, swap_candidates(scores, START))
    decided = scores.probs >= np.float32(START)
    plain = recompute(scores, START, scores.targets.matrix.toarray(), decided, n=40)
    np.testing.assert_array_equal(found, plain)
    assert (found != np.float32(START)).any()


def test_the_exact_search_reaches_no_less_than_a_grid(scores: Scores) -> None:
    grid = reached(scores, swap_columns(scores, START), START)
    assert reached(scores, search_exactly(scores, START, max_sweeps=MANY), START) >= grid
