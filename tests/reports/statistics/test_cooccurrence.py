"""Pairs of concepts, counted by hand and against plain loops."""

from itertools import combinations

import numpy as np
import pytest

from core.labels import Concepts
from reports.statistics.cooccurrence import cluster_order, conditional, count_pairs
from tests.reports.made import made_images


def drawn_sets(n: int) -> list[Concepts]:
    rng = np.random.default_rng(0)
    return [tuple(f"C{k}" for k in np.flatnonzero(rng.random(8) < 0.3)) for _ in range(n)]


def test_lift_is_worked_by_hand() -> None:
    images = made_images([("C1", "C2"), ("C1", "C2"), ("C1",), ("C3",), ()])
    pairs = count_pairs(images, at_least=1, groups_at_least=1)
    assert (pairs.first.tolist(), pairs.second.tolist()) == ([0], [1])
    assert (pairs.n_images.tolist(), pairs.n_groups.tolist()) == ([2], [2])
    # 2 images with both, of 5; 3 have C1 and 2 have C2: 2 * 5 / (3 * 2)
    assert pairs.lift.tolist() == [pytest.approx(5 / 3)]


def test_pairs_are_those_that_plain_loops_find() -> None:
    sets = drawn_sets(60)
    groups = [f"g{row // 3}" for row in range(60)]
    images = made_images(sets, groups=groups)
    pairs = count_pairs(images, at_least=4, groups_at_least=5)
    found = {}
    for a, b in combinations(range(8), 2):
        both = [row for row, s in enumerate(sets) if {f"C{a}", f"C{b}"} <= set(s)]
        holding = [{g for g, s in zip(groups, sets, strict=True) if f"C{k}" in s} for k in (a, b)]
        n_groups = len(holding[0] & holding[1])
        if len(both) >= 4 and n_groups >= 5:
            n_a, n_b = (sum(f"C{k}" in s for s in sets) for k in (a, b))
            found[a, b] = (len(both), n_groups, len(both) * 60 / (n_a * n_b))
    assert len(found) > 5
    keys = zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
    values = zip(pairs.n_images.tolist(), pairs.n_groups.tolist(), pairs.lift, strict=True)
    assert dict(zip(keys, values, strict=True)) == {k: pytest.approx(v) for k, v in found.items()}


def test_many_images_of_one_patient_are_no_pair() -> None:
    images = made_images([("C1", "C2")] * 30, groups=["patient"] * 30)
    assert len(count_pairs(images)) == 0
    assert len(count_pairs(made_images([("C1", "C2")] * 30))) == 1
    assert len(count_pairs(made_images([("C1", "C2")] * 19))) == 0


def test_the_top_pairs_come_in_order_ties_by_images_then_by_cui() -> None:
    images = made_images([("C1", "C2", "C3")] * 2 + [("C1", "C2")] + [("C4", "C5")])
    pairs = count_pairs(images, at_least=1, groups_at_least=1)
    names = [(images.labels.cuis[a], images.labels.cuis[b]) for a, b in
             zip(pairs.first, pairs.second, strict=True)]  # fmt: skip
    by_images = [names[i] for i in pairs.top(pairs.n_images, 3)]
    assert by_images == [("C1", "C2"), ("C1", "C3"), ("C2", "C3")]
    # Lift: C4 C5 1 * 4 / 1; C1 C2 3 * 4 / 9; C1 C3 and C2 C3 2 * 4 / (3 * 2), the same 4/3.
    by_lift = [names[i] for i in pairs.top(pairs.lift, 4)]
    assert by_lift == [("C4", "C5"), ("C1", "C2"), ("C1", "C3"), ("C2", "C3")]


def test_conditional_shares_are_of_the_row() -> None:
    images = made_images([("C1", "C2"), ("C1",), ("C1",), ("C2", "C3")])
    # C1 on 3 images, C2 on 2, C3 on 1.
    expected = np.array([[1, 1 / 3, 0], [1 / 2, 1, 1 / 2], [0, 1, 1]])
    np.testing.assert_allclose(conditional(images, np.arange(3)), expected)


def test_concepts_that_stand_together_come_next_to_each_other() -> None:
    images = made_images([("C1", "C3")] * 5 + [("C2", "C4")] * 5 + [("C1", "C2")])
    order = cluster_order(images, np.arange(4)).tolist()
    assert sorted(order) == [0, 1, 2, 3]
    assert abs(order.index(0) - order.index(2)) == 1
    assert abs(order.index(1) - order.index(3)) == 1


@pytest.mark.parametrize("n", [0, 1, 2])
def test_fewer_than_three_concepts_keep_their_order(n: int) -> None:
    images = made_images([("C1", "C2", "C3")])
    assert cluster_order(images, np.arange(n)).tolist() == list(range(n))
