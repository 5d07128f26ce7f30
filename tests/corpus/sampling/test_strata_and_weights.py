"""Strata, shares of them, rare concepts, and draws by weight."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from corpus.sampling.strata import (
    of_categories,
    of_dominant_sets,
    shares_of_strata,
    with_rare_concepts,
)
from corpus.sampling.weighted import draw, inverse_frequency, repeat_factors


def concepts(*rows: tuple[int, ...], n: int = 4) -> csr_array:
    matrix = np.zeros((len(rows), n), dtype=np.bool_)
    for row, columns in enumerate(rows):
        matrix[row, list(columns)] = True
    return csr_array(matrix)


def test_images_of_a_category_with_the_same_dominant_concepts_are_one_stratum() -> None:
    # Of four CT images concept 0 stands on all, 1 on two, 2 on one: at half, 0 and 1 are dominant.
    targets = concepts((0, 1), (0, 1, 2), (0,), (0, 3), (0, 1))
    categories = ("DRCT",) * 4 + ("DRMR",)
    strata = of_dominant_sets(categories, targets, share=0.5)
    assert strata[0] == strata[1] != strata[2] == strata[3]
    assert strata[4] not in strata[:4]


def test_an_image_is_rare_by_its_rarest_concept() -> None:
    targets = concepts((0,), (0, 1), (0, 1), (0, 2), ())
    assert with_rare_concepts(targets, rare=0).tolist() == [False] * 5
    assert with_rare_concepts(targets, rare=1).tolist() == [False, False, False, True, False]
    assert with_rare_concepts(targets, rare=2).tolist() == [False, True, True, True, False]


def test_categories_are_numbered_by_name() -> None:
    assert of_categories(["DRXR", "DRCT", "DRXR", ""]).tolist() == [2, 1, 2, 0]


@settings(max_examples=80, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 200), min_size=1, max_size=20),
    share=st.floats(0, 1),
    power=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 99),
)
def test_shares_add_up_and_keep_to_their_bounds(
    sizes: list[int], share: float, power: float, seed: int
) -> None:
    whole = np.array(sizes)
    least = np.random.default_rng(seed).integers(0, whole + 1) // 3
    n = int(share * whole.sum())
    kept = shares_of_strata(whole, n, least=least, power=power)
    assert kept.sum() == max(n, least.sum())
    assert ((least <= kept) & (kept <= whole)).all()
    # A larger stratum keeps no fewer, unless a smaller one must.
    free = np.flatnonzero(least == 0)
    order = free[np.argsort(whole[free], kind="stable")]
    assert (np.diff(kept[order]) >= -1).all()


def test_a_draw_takes_each_row_once_and_goes_by_weight() -> None:
    rng = np.random.default_rng(0)
    weights = np.array([1.0, 3.0, 0.0, 1.0])
    first = np.bincount([draw(weights, 1, rng=rng)[0] for _ in range(4000)], minlength=4) / 4000
    assert first == pytest.approx([0.2, 0.6, 0.0, 0.2], abs=0.03)
    assert sorted(draw(weights, 4, rng=rng).tolist()) == [0, 1, 2, 3]
    assert draw(weights, 4, rng=rng)[-1] == 2  # of weight 0


@pytest.mark.parametrize(("weights", "n"), [([1.0], 2), ([-1.0, 1.0], 1), ([np.nan, 1.0], 1)])
def test_a_draw_refuses_what_it_cannot_draw_from(weights: list[float], n: int) -> None:
    with pytest.raises(ValueError, match="rows, weights of 0 or more"):
        draw(np.array(weights), n, rng=np.random.default_rng(0))


def test_weights_by_frequency_are_those_worked_by_hand() -> None:
    # Concept 0 stands on 4 of 4 images, 1 on 2, 2 on 1.
    targets = concepts((0,), (0, 1), (0, 1, 2), (0,))
    assert inverse_frequency(targets).tolist() == [1 / 4, 1 / 2, 1.0, 1 / 4]
    # sqrt(0.5 / 1) < 1; sqrt(0.5 / 0.5) = 1; sqrt(0.5 / 0.25) = sqrt 2
    expected = [1.0, 1.0, 2**0.5, 1.0]
    assert repeat_factors(targets, threshold=0.5) == pytest.approx(expected)
    assert inverse_frequency(concepts((), (0,))).tolist() == [1 / 2, 1.0]
