from itertools import product

import numpy as np
import pytest

from core.editions import EmptyTruth
from ensembles.decisions.set_sizes import fit_factor, ratio_sizes, top_sizes
from tests.ensembles.made_pairs import ranked


@pytest.mark.parametrize("missed", [0.0, 0.5])
def test_the_ratio_is_that_of_the_best_subset_and_half_of_it_the_threshold(missed: float) -> None:
    probs = (np.random.default_rng(0).random((30, 8)) ** 2).astype(np.float32)
    sizes = ratio_sizes(ranked(probs), limit=100, empty_truth="left out", missed=missed)
    sets = np.array(list(product((0, 1), repeat=8)))
    for row, size in enumerate(sizes):
        p = probs[row].astype(np.float64)
        some = 1 - np.exp(-missed) * np.prod(1 - p)
        p = p / some
        mass = p.sum() + missed / some
        best = (2 * (sets @ p) / (sets.sum(axis=1) + mass)).max()
        found = np.sort(p)[::-1][:size]
        assert 2 * found.sum() / (size + mass) == pytest.approx(best, abs=1e-9)
        assert (p > best / 2).sum() == size  # the fixed point


def test_nothing_is_decided_where_an_empty_truth_is_likelier_to_score() -> None:
    probs = np.array([[0.05, 0.04], [0.9, 0.04], [0.0, 0.0]], dtype=np.float32)
    assert ratio_sizes(ranked(probs), limit=9, empty_truth="counted").tolist() == [0, 1, 0]
    assert ratio_sizes(ranked(probs), limit=9, empty_truth="left out").tolist() == [2, 1, 0]


def test_top_k_rounds_the_expected_number_within_its_bounds() -> None:
    probs = np.array([[0.9, 0.9, 0.7, 0.1], [1.0, 1.0, 0.0, 0.0], [0.2, 0.2, 0, 0]], np.float32)
    pairs = ranked(probs)
    assert top_sizes(pairs, factor=1.0, limit=9).tolist() == [3, 2, 0]  # 2.6, 2.0, 0.4
    assert top_sizes(pairs, factor=0.5, limit=9).tolist() == [1, 2, 0]  # certain ones stay
    assert top_sizes(pairs, factor=2.0, limit=3).tolist() == [3, 2, 1]
    assert top_sizes(pairs, factor=1.0, limit=9, missed=2.0).tolist() == [4, 2, 2]


@pytest.mark.parametrize("empty_truth", ["left out", "counted"])
def test_the_factor_is_the_one_with_the_highest_score(empty_truth: EmptyTruth) -> None:
    # each image: two certain-looking concepts that are true, two at a half that are not; mass 3
    probs = np.tile(np.array([0.99, 0.99, 0.51, 0.51], dtype=np.float32), (20, 1))
    pairs = ranked(probs)
    true = pairs.columns < 2
    factor = fit_factor(pairs, true, n_true=np.full(20, 2), limit=9, empty_truth=empty_truth)
    assert top_sizes(pairs, factor=factor, limit=9).tolist() == [2] * 20
    assert factor == 0.8  # the nearest to 1 that rounds 3 to 2
