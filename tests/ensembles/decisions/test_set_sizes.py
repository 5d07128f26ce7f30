from itertools import product

import numba
import numpy as np
import pytest

from core.editions import EmptyTruth
from ensembles.decisions.set_sizes import FACTORS, fit_factor, ratio_sizes, top_sizes
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


def test_factors_from_three_tenths_to_two_are_tried() -> None:
    assert FACTORS.tolist() == [hundredths / 100 for hundredths in range(30, 205, 5)]


def test_of_equal_ratios_the_fewer_concepts_are_decided() -> None:
    # mass 1 + .25 + 1.75 = 3: 2*1/(1+3) = 1/2 and 2*1.25/(2+3) = 1/2
    pairs = ranked(np.array([[1.0, 0.25]], dtype=np.float32))
    assert ratio_sizes(pairs, limit=9, empty_truth="counted", missed=1.75).tolist() == [1]


def factor_of(n_empty: int, n_true: int, empty_truth: EmptyTruth) -> float:
    """The factor for images of one pair of .4, which gets a concept from a factor of 1.25 on."""
    n = n_empty + n_true
    pairs = ranked(np.full((n, 1), 0.4, dtype=np.float32))
    true = np.arange(n) >= n_empty
    return fit_factor(pairs, true, n_true=true.astype(np.int64), limit=9, empty_truth=empty_truth)


def test_images_without_truth_ask_for_no_concept_where_they_count() -> None:
    assert factor_of(10, 1, "counted") == 1.0  # 10 score 1 while none is decided
    assert factor_of(3, 5, "counted") == 1.25  # 3 against 5
    assert factor_of(5, 4, "counted") == 1.0  # 5 against 4
    assert factor_of(10, 1, "left out") == 1.25  # 0 against 1


@pytest.mark.parametrize("empty_truth", ["left out", "counted"])
def test_images_are_decided_alike_on_one_core_and_on_three(
    empty_truth: EmptyTruth, monkeypatch: pytest.MonkeyPatch
) -> None:
    probs = (np.random.default_rng(1).random((300, 3)) ** 2).astype(np.float32)
    found = []
    for n_cores in (1, 3):
        monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", n_cores)
        found.append(ratio_sizes(ranked(probs), limit=9, empty_truth=empty_truth).tolist())
    assert found[0] == found[1]
