"""The general maximiser and the value of given sets against all subsets under all outcomes."""

from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import minimize

from core.editions import EmptyTruth
from ensembles.decisions.concept_counts import RIDGE, CountHead, fit_counts, poisson_binomial
from ensembles.decisions.expected_f1 import Expected, maximise
from ensembles.decisions.general_f1 import (
    expected_of,
    maximise_general,
    tilts,
    with_decided,
)
from ensembles.pairs import CalibratedPairs
from tests.ensembles.made_pairs import ranked

Floats64 = npt.NDArray[np.float64]
HEAD = CountHead(power=0.6, shift=0.3, empty=0.8, by_category={"DRCT": -0.2})
BOTH = pytest.mark.parametrize("empty_truth", ["left out", "counted"])


def values(chance: Floats64, n: int, empty_truth: EmptyTruth) -> Floats64:
    """(2^n,) expected F1 of every subset when outcomes have these chances."""
    sets = np.array(list(product((0, 1), repeat=n)))
    sizes = sets.sum(axis=1)
    expected = np.zeros(len(sets))
    for number, mine in enumerate(sets):
        f1 = 2.0 * (sets @ mine) / np.maximum(sizes + sizes[number], 1)
        if number == 0:
            f1[0] = 1.0 if empty_truth == "counted" else 0.0
        if empty_truth == "left out":
            f1 = f1 * (sizes > 0) / (1 - chance[0])
        expected[number] = f1 @ chance
    return expected


def outcomes(p: Floats64, head: CountHead, category: str) -> Floats64:
    """(2^n,) chance of every outcome: the head's for its number, as the odds say within it."""
    sets = np.array(list(product((0, 1), repeat=len(p))))
    independent = np.prod(np.where(sets == 1, p, 1 - p), axis=1)
    sizes = sets.sum(axis=1)
    pmf = np.bincount(sizes, weights=independent).astype(np.float64)
    corrected = head.distribution(pmf[None, :], [category])[0]
    return np.asarray(independent * corrected[sizes] / pmf[sizes])


def number_of(decided: npt.NDArray[np.bool_]) -> int:
    return int("".join(str(int(bit)) for bit in decided), 2)


@BOTH
@pytest.mark.parametrize("n_concepts", [1, 4, 10])
def test_no_subset_does_better_when_the_number_follows_a_head(
    n_concepts: int, empty_truth: EmptyTruth
) -> None:
    probs = (np.random.default_rng(n_concepts).random((4, n_concepts)) ** 2).astype(np.float32)
    categories = ["DRCT", "DRXR", "DRCT", ""]
    found = maximise_general(
        ranked(probs), head=HEAD, categories=categories, limit=100, empty_truth=empty_truth
    )
    for row, decided in enumerate(found.decided.toarray()):
        chance = outcomes(probs[row].astype(np.float64), HEAD, categories[row])
        expected = values(chance, n_concepts, empty_truth)
        assert found.f1[row] == pytest.approx(expected.max(), abs=1e-9)
        assert expected[number_of(decided)] == pytest.approx(expected.max(), abs=1e-9)
        assert empty_truth == "counted" or found.counts[row] == pytest.approx(1 - chance[0])


@BOTH
def test_fifteen_concepts_under_a_head_are_as_exact(empty_truth: EmptyTruth) -> None:
    probs = np.random.default_rng(1).uniform(0.02, 0.6, (1, 15)).astype(np.float32)
    found = maximise_general(
        ranked(probs), head=HEAD, categories=["DRUS"], limit=3, empty_truth=empty_truth
    )
    sets = np.array(list(product((0, 1), repeat=15)))
    sizes = sets.sum(axis=1)
    chance = outcomes(probs[0].astype(np.float64), HEAD, "DRUS")
    some = 1.0 if empty_truth == "counted" else 1 - chance[0]
    best = chance[0] if empty_truth == "counted" else 0.0
    for mine in sets[(sizes > 0) & (sizes <= 3)]:
        best = max(best, (2.0 * (sets @ mine) / (sizes + mine.sum())) @ chance / some)
    assert found.f1[0] == pytest.approx(best, abs=1e-9)


@BOTH
@pytest.mark.parametrize("missed", [0.0, 0.7])
def test_a_head_that_corrects_nothing_gives_the_sets_of_independent_concepts(
    empty_truth: EmptyTruth, missed: float
) -> None:
    probs = (np.random.default_rng(3).random((300, 40)) ** 4).astype(np.float32)
    probs[:, 0] = 1.0
    probs[0] = 0.0
    general = maximise_general(
        ranked(probs),
        head=CountHead(),
        categories=[""] * 300,
        limit=9,
        empty_truth=empty_truth,
        missed=missed,
    )
    plain = maximise(ranked(probs), limit=9, empty_truth=empty_truth, missed=missed)
    np.testing.assert_allclose(general.f1, plain.f1, atol=1e-10)
    np.testing.assert_allclose(general.counts, plain.counts, atol=1e-10)
    np.testing.assert_array_equal(general.decided.toarray(), plain.decided.toarray())


@BOTH
def test_the_value_of_any_set_is_that_over_all_outcomes(empty_truth: EmptyTruth) -> None:
    rng = np.random.default_rng(4)
    probs = rng.uniform(0.05, 0.9, (40, 7)).astype(np.float32)
    decided = rng.random((40, 7)) < 0.4
    decided[0] = False
    pairs = ranked(probs)
    found = expected_of(
        pairs,
        decided[pairs.rows, pairs.columns],
        head=HEAD,
        categories=["DRCT"] * 40,
        empty_truth=empty_truth,
    )
    np.testing.assert_array_equal(found.decided.toarray(), decided)
    for row in range(40):
        expected = values(outcomes(probs[row].astype(np.float64), HEAD, "DRCT"), 7, empty_truth)
        assert found.f1[row] == pytest.approx(expected[number_of(decided[row])], abs=1e-9)


def test_the_best_set_is_worth_what_the_maximiser_says() -> None:
    probs = (np.random.default_rng(5).random((50, 30)) ** 3).astype(np.float32)
    best = maximise(ranked(probs), limit=100, empty_truth="left out", missed=0.4)
    rows, columns, flags = with_decided(
        ranked(probs).rows, ranked(probs).columns, decided=best.decided
    )
    pairs = CalibratedPairs(
        rows=rows, columns=columns, probs=probs[rows, columns], shape=probs.shape
    )
    found = expected_of(
        pairs,
        flags,
        head=CountHead(),
        categories=[""] * 50,
        empty_truth="left out",
        missed=0.4,
    )
    np.testing.assert_allclose(found.f1, best.f1, atol=1e-10)


def test_decided_pairs_join_the_others_once() -> None:
    decided = ranked(np.array([[0, 1, 1], [1, 0, 0]], dtype=np.float32)).chosen(np.ones(3, bool))
    rows, columns, flags = with_decided(
        np.array([0, 0], np.int32), np.array([0, 1], np.int32), decided=decided
    )
    assert rows.tolist() == [0, 0, 0, 1]
    assert columns.tolist() == [0, 1, 2, 0]
    assert flags.tolist() == [False, True, True, True]


def test_the_number_of_independent_concepts_is_poisson_binomial() -> None:
    pmf = poisson_binomial(ranked(np.array([[0.5, 0.25, 0.0], [1.0, 0.0, 0.0]], dtype=np.float32)))
    np.testing.assert_allclose(pmf, [[0.375, 0.5, 0.125], [0.0, 1.0, 0.0]])
    np.testing.assert_allclose(
        tilts(pmf, head=CountHead(), categories=["", ""]) * pmf, pmf, atol=1e-15
    )


def test_the_head_finds_how_much_wider_and_higher_numbers_are() -> None:
    rng = np.random.default_rng(6)
    probs = np.full((4000, 30), 0.2, dtype=np.float32)
    categories = ["DRCT", "DRXR"] * 2000
    pmf = poisson_binomial(ranked(probs))
    truth = CountHead(power=0.4, shift=0.2, empty=1.0, by_category={"DRCT": 0.3, "DRXR": -0.3})
    chance = truth.distribution(pmf, categories)
    n_true = (rng.random((4000, 1)) > np.cumsum(chance, axis=1)).sum(axis=1)
    found = fit_counts(pmf, n_true, categories=categories)
    assert found.power == pytest.approx(0.4, abs=0.05)
    difference = found.by_category["DRCT"] - found.by_category["DRXR"]
    assert difference == pytest.approx(0.6, abs=0.1)
    np.testing.assert_allclose(found.distribution(pmf, categories)[:2], chance[:2], atol=0.02)


def test_few_images_leave_the_head_near_independence() -> None:
    pmf = poisson_binomial(ranked(np.full((3, 10), 0.3, dtype=np.float32)))
    found = fit_counts(pmf, np.array([3, 3, 2]), categories=["DRCT"] * 3)
    np.testing.assert_allclose(found.distribution(pmf, ["DRCT"] * 3), pmf, atol=0.1)


def test_a_number_that_certain_concepts_rule_out_says_nothing() -> None:
    pmf = poisson_binomial(ranked(np.array([[1.0, 0.5], [1.0, 0.5]], dtype=np.float32)))
    assert fit_counts(pmf, np.array([0, 0]), categories=["", ""]) == CountHead(
        by_category={"": 0.0}
    )


def test_a_head_corrects_nothing_unless_told_to() -> None:
    assert CountHead() == CountHead(power=1.0, shift=0.0, empty=0.0, by_category={})
    assert RIDGE == (1.0, 1.0, 1.0, 20.0)


def counted_images() -> tuple[Floats64, npt.NDArray[np.int64], list[str]]:
    """PB of 30 images in two categories and their numbers; what two of them say is impossible."""
    rng = np.random.default_rng(8)
    probs = rng.uniform(0.1, 0.7, (30, 6)).astype(np.float32)
    probs[::3, 4:] = 0.0
    probs[5, 0] = 1.0
    pmf = poisson_binomial(ranked(probs))
    n_true = (rng.random(probs.shape) < probs).sum(axis=1)
    n_true[5] = 0  # although one concept is certain
    n_true[0] = 6  # of four that are possible
    n_true[1] = 9  # counts as 6, the most that an image has
    return pmf, n_true, ["DRCT", "DRXR", "DRXR"] * 10


def objective(
    values: Floats64, pmf: Floats64, n_true: npt.NDArray[np.int64], categories: list[str]
) -> float:
    """The penalised log likelihood, image by image as its definition has it."""
    power, shift, empty, *own = values
    by_category = dict(zip(["DRCT", "DRXR"], own, strict=True))
    total = 0.0
    for image, number, category in zip(pmf, n_true, categories, strict=True):
        s = np.flatnonzero(image > 0)
        seen = min(number, len(image) - 1)
        if seen not in s:
            continue
        mean = sum(k * image[k] for k in s)
        deviation = np.sqrt(sum((k - mean) ** 2 * image[k] for k in s))
        z = (s - mean) / deviation
        logits = power * np.log(image[s]) + (shift + by_category[category]) * z + empty * (s == 0)
        total += logits[list(s).index(seen)] - np.log(np.exp(logits).sum())
    ridge = np.array([1.0, 1.0, 1.0, 20.0, 20.0])
    return float(total - 0.5 * (ridge * (values - [1, 0, 0, 0, 0]) ** 2).sum())


def test_the_head_is_the_highest_of_its_penalised_likelihood() -> None:
    pmf, n_true, categories = counted_images()
    found = fit_counts(pmf, n_true, categories=categories)

    def loss(values: Floats64) -> float:
        return -objective(values, pmf, n_true, categories)

    start = np.array([1.0, 0.0, 0.0, 0.0, 0.0])
    best = minimize(loss, start, method="BFGS", options={"gtol": 1e-7}).x
    assert best[0] > 0.05
    own = [found.power, found.shift, found.empty, *found.by_category.values()]
    assert list(found.by_category) == ["DRCT", "DRXR"]
    assert own == pytest.approx(best, abs=2e-5)


def test_the_power_does_not_fall_below_a_twentieth() -> None:
    # Half of the images have no concept, half have all: wider than any power above 0 makes it.
    pmf = poisson_binomial(ranked(np.full((400, 20), 0.5, dtype=np.float32)))
    found = fit_counts(pmf, np.where(np.arange(400) % 2 == 0, 1, 20), categories=[""] * 400)
    assert found.power == 0.05


def test_images_without_pairs_have_no_concept_for_sure() -> None:
    pmf = poisson_binomial(ranked(np.zeros((2, 3), dtype=np.float32)))
    assert pmf.tolist() == [[1.0], [1.0]]
    assert CountHead().distribution(pmf, ["", ""]).tolist() == [[1.0], [1.0]]


def test_a_category_that_was_not_fitted_has_no_shift_of_its_own() -> None:
    pmf = poisson_binomial(ranked(np.full((2, 4), 0.4, dtype=np.float32)))
    head = CountHead(shift=0.5, by_category={"DRCT": 0.2})
    found = head.distribution(pmf, ["DRCT", "DRUS"])
    np.testing.assert_array_equal(found[0], CountHead(shift=0.7).distribution(pmf, ["", ""])[0])
    np.testing.assert_array_equal(found[1], CountHead(shift=0.5).distribution(pmf, ["", ""])[1])
    np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-12)


def test_numbers_that_hardly_occur_have_no_weight() -> None:
    # twelve concepts of 1 in 100: 6 of them come with a chance of 9e-10, 12 of them with 1e-24
    pmf = poisson_binomial(ranked(np.full((1, 12), 0.01, dtype=np.float32)))
    [weights] = tilts(pmf, head=CountHead(), categories=[""])
    assert weights[:7] == pytest.approx(np.ones(7))
    assert weights[9:].tolist() == [0.0] * 4


def general(probs: list[list[float]], *, empty_truth: EmptyTruth = "left out") -> Expected:
    return maximise_general(
        ranked(np.array(probs, dtype=np.float32)),
        head=CountHead(),
        categories=[""] * len(probs),
        limit=100,
        empty_truth=empty_truth,
    )


def test_of_equal_sets_the_smaller_one_is_decided() -> None:
    # p = 1, .5. {1}: .5*1 + .5*2/3 = 5/6. {1, 2}: .5*2/3 + .5*1 = 5/6.
    assert general([[1.0, 0.5]]).decided.nnz == 1
    assert general([[0.5]], empty_truth="counted").decided.nnz == 0  # 1/2 either way


CASES: tuple[tuple[EmptyTruth, list[float]], ...] = (
    ("left out", [np.nan, np.nan]),
    ("counted", [1.0, 1.0]),
)


def test_sets_of_an_image_that_can_have_no_concept_have_no_value_where_it_is_left_out() -> None:
    # The second image has a concept of 1e-20: to the last bit it has none.
    probs = np.array([[0.0, 0.0], [1e-20, 0.0], [1.0, 0.0]], dtype=np.float32)
    for decided in (np.array([False, False]), np.array([True, True])):
        for empty_truth, expected in CASES:
            found = expected_of(
                ranked(probs),
                decided,
                head=CountHead(),
                categories=[""] * 3,
                empty_truth=empty_truth,
            )
            if not decided.any() or empty_truth == "left out":
                np.testing.assert_array_equal(found.f1[:2], expected)
            assert found.f1[2] == float(decided.any())
            assert found.counts.tolist() == ([0, 0, 1] if empty_truth == "left out" else [1, 1, 1])
