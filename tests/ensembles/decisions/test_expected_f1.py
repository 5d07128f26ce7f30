"""The maximiser against all subsets under all outcomes."""

from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import poisson

from core.editions import EmptyTruth
from ensembles.decisions.expected_f1 import Expected, maximise, reciprocals
from ensembles.pairs import Floats
from tests.ensembles.made_pairs import ranked


def decide(
    probs: Floats,
    *,
    empty_truth: EmptyTruth = "left out",
    limit: int = 100,
    missed: float = 0.0,
) -> Expected:
    return maximise(ranked(probs), limit=limit, empty_truth=empty_truth, missed=missed)


def expected_of_all_subsets(
    p: npt.NDArray[np.float64], empty_truth: EmptyTruth
) -> npt.NDArray[np.float64]:
    """(2^n,) expected F1 of every subset, in the order of `subsets`."""
    sets = subsets(len(p))
    chance = np.prod(np.where(sets == 1, p, 1 - p), axis=1)
    both = sets @ sets.T
    sizes = sets.sum(axis=1)
    f1 = 2 * both / np.maximum(sizes[:, None] + sizes[None, :], 1)
    f1[0, 0] = 1.0
    if empty_truth == "left out":
        f1[:, 0] = 0.0
        chance = chance / (1 - chance[0])
    return np.asarray(f1 @ chance)


def subsets(n: int) -> npt.NDArray[np.int64]:
    return np.array(list(product((0, 1), repeat=n)))


@pytest.mark.parametrize("empty_truth", ["left out", "counted"])
@pytest.mark.parametrize("n_concepts", [1, 2, 5, 10])
def test_no_subset_has_a_higher_expectation(n_concepts: int, empty_truth: EmptyTruth) -> None:
    rng = np.random.default_rng(n_concepts)
    probs = (rng.random((8, n_concepts)) ** 3).astype(np.float32)  # mostly small ones
    probs[0] = np.round(probs[0], 1)  # with ties and zeros
    probs[0, 0] = 0.1
    found = decide(probs, empty_truth=empty_truth)
    for row, decided in enumerate(found.decided.toarray()):
        expected = expected_of_all_subsets(probs[row].astype(np.float64), empty_truth)
        assert found.f1[row] == pytest.approx(expected.max(), abs=1e-9)
        number = int("".join(str(int(bit)) for bit in decided), 2)
        assert expected[number] == pytest.approx(expected.max(), abs=1e-9)


def test_twelve_concepts_under_the_limit_are_searched_as_exactly() -> None:
    probs = np.random.default_rng(0).uniform(0.2, 0.9, (1, 12)).astype(np.float32)
    sizes = subsets(12).sum(axis=1)
    expected = expected_of_all_subsets(probs[0].astype(np.float64), "left out")
    found = decide(probs, limit=4)
    assert found.f1[0] == pytest.approx(expected[sizes <= 4].max(), abs=1e-9)
    assert found.decided.sum() <= 4


def test_two_concepts_worked_by_hand() -> None:
    # p = .8, .3. {1}: .8*.7*1 + .8*.3*2/3 = .72. {1, 2}: .24*1 + (.8*.7 + .2*.3)*2/3 = .6533.
    # Both divided by the probability of any concept, 1 - .2*.7 = .86.
    found = decide(np.array([[0.8, 0.3]], dtype=np.float32))
    assert found.decided.toarray().tolist() == [[True, False]]
    assert found.f1[0] == pytest.approx(0.72 / 0.86, abs=1e-6)
    assert found.counts[0] == pytest.approx(0.86, abs=1e-6)


def test_deciding_nothing_pays_only_where_an_empty_truth_counts() -> None:
    # Nothing scores 1 with probability .95; the concept scores 1 with probability .05.
    probs = np.array([[0.05]], dtype=np.float32)
    counted = decide(probs, empty_truth="counted")
    assert counted.decided.sum() == 0
    assert counted.f1[0] == pytest.approx(0.95, abs=1e-6)
    left_out = decide(probs)
    assert left_out.decided.sum() == 1
    assert left_out.f1[0] == pytest.approx(1.0)


def test_an_image_that_can_have_no_concept_has_no_expectation_where_it_is_left_out() -> None:
    probs = np.array([[0.0, 0.0], [1.0, 0.0]], dtype=np.float32)
    found = decide(probs)
    assert np.isnan(found.f1[0])
    assert found.counts.tolist() == [0.0, 1.0]
    assert found.forecast == 1.0
    assert np.isnan(decide(probs[:1]).forecast)
    assert decide(probs, empty_truth="counted").f1.tolist() == [1.0, 1.0]


def test_equal_probabilities_are_decided_from_the_lowest_column() -> None:
    found = decide(np.full((1, 6), 0.5, dtype=np.float32), limit=3)
    assert found.decided.indices.tolist() == [0, 1, 2]


def test_permuted_concepts_permute_the_decision() -> None:
    rng = np.random.default_rng(4)
    probs = rng.random((20, 15)).astype(np.float32)
    order = rng.permutation(15)
    straight, permuted = decide(probs), decide(np.ascontiguousarray(probs[:, order]))
    np.testing.assert_array_equal(permuted.decided.toarray(), straight.decided.toarray()[:, order])
    np.testing.assert_allclose(permuted.f1, straight.f1, rtol=1e-12)


def test_the_forecast_is_met_by_labels_drawn_from_the_probabilities() -> None:
    rng = np.random.default_rng(5)
    probs = (rng.random((4000, 12)) ** 2).astype(np.float32)
    truth = rng.random(probs.shape) < probs
    found = decide(probs)
    both = (found.decided.toarray() & truth).sum(axis=1)
    total = found.decided.toarray().sum(axis=1) + truth.sum(axis=1)
    counted = truth.any(axis=1)
    # standard error of the mean of 4,000 F1 values of deviation 0.25: 0.004
    assert found.forecast == pytest.approx((2 * both / total)[counted].mean(), abs=0.012)


def test_a_missed_concept_is_a_concept_that_cannot_be_decided() -> None:
    # one certain concept beside a Poisson number of missed ones: E[2 / (2 + m)], mean 1
    found = decide(np.ones((1, 1), dtype=np.float32), missed=1.0)
    chance = np.exp(-1.0) / np.cumprod([1.0, *range(1, 40)])
    expected = (chance * 2 / (2 + np.arange(40))).sum()
    assert found.f1[0] == pytest.approx(expected, abs=1e-12)
    np.testing.assert_allclose(reciprocals(4, missed=0.0), [0, 1, 1 / 2, 1 / 3])
    # where empty truths are left out, the chance of one is e^-1 (1 - p)
    assert decide(np.full((1, 1), 0.5, np.float32), missed=1.0).counts[0] == pytest.approx(
        1 - 0.5 * np.exp(-1.0)
    )


def test_fifteen_concepts_are_decided_as_the_best_of_all_subsets() -> None:
    probs = (np.random.default_rng(15).random((1, 15)) ** 2).astype(np.float32)
    sets = subsets(15).astype(np.float64)  # whole numbers: products are exact, and BLAS is quick
    p = probs[0].astype(np.float64)
    chance = np.prod(np.where(sets == 1, p, 1 - p), axis=1)
    sizes = sets.sum(axis=1)
    best = 0.0
    for k in range(1, 16):  # the best set of k concepts is among these, all of them looked at
        for mine in np.array_split(sets[sizes == k], 16):
            f1 = (mine @ sets.T) @ (2.0 * chance / (k + sizes))
            best = max(best, f1.max(initial=0.0))
    assert decide(probs).f1[0] == pytest.approx(best / (1 - chance[0]), abs=1e-9)


# At the second line's the number that scipy begins from is one too high.
@pytest.mark.parametrize(
    "mean",
    [
        *(0.0, 1e-14, 1e-9, 1e-3, 0.2, 0.7, 1.0, 3.3, 25.0, 400.0),
        *(4.4732496453845775e-07, 8.491008693709254, 150.05245275915757),
    ],
)
def test_chances_are_those_of_scipys_distribution_to_the_last_bit(mean: float) -> None:
    m = np.arange(int(poisson.isf(1e-13, mean)) + 1 if mean > 0 else 1)
    shares = poisson.pmf(m, mean) / (np.arange(1, 30)[:, None] + m)
    np.testing.assert_array_equal(reciprocals(30, missed=mean)[1:], shares.sum(axis=1))


def test_the_reciprocals_of_0_and_1_are_0_and_1() -> None:
    assert reciprocals(0, missed=0.0).tolist() == []
    assert reciprocals(1, missed=0.5).tolist() == [0.0]
    assert reciprocals(2, missed=0.0).tolist() == [0.0, 1.0]


def test_of_equal_sets_the_smaller_one_is_decided() -> None:
    # p = 1, .5. {1}: .5*1 + .5*2/3 = 5/6. {1, 2}: .5*2/3 + .5*1 = 5/6.
    assert decide(np.array([[1.0, 0.5]], dtype=np.float32)).decided.nnz == 1
    # Under the rule that counts empty truths nothing scores 1/2, and so does the concept.
    even = decide(np.array([[0.5]], dtype=np.float32), empty_truth="counted")
    assert (even.decided.nnz, even.f1.tolist()) == (0, [0.5])


def test_the_forecast_of_an_image_that_hardly_counts_is_its_own_expectation() -> None:
    # It is part of the mean with probability .1, and then the concept is true.
    found = decide(np.array([[0.1], [0.0]], dtype=np.float32))
    assert found.counts == pytest.approx([0.1, 0.0])
    assert found.forecast == pytest.approx(1.0)
