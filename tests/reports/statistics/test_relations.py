"""Concepts and categories: kinds, mutual information, what chance gives."""

from itertools import permutations

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from reports.statistics.labels import LabelledImages
from reports.statistics.relations import KINDS, Relation, constant_f1, expected_bits, relate
from tests.reports.made import made_images


def related(images: LabelledImages, *, at_least: int = 1) -> Relation:
    relation = relate(images, at_least=at_least)
    assert relation is not None
    return relation


@pytest.fixture
def six() -> LabelledImages:
    """Three CT with C1, of which one has C2 and C4; three ultrasound with C3, one with C2."""
    return made_images(
        [("C1",), ("C1",), ("C1", "C2", "C4"), ("C3",), ("C3",), ("C2", "C3")],
        categories=["DRCT"] * 3 + ["DRUS"] * 3,
    )


def test_support_and_shares_are_counted_by_category(six: LabelledImages) -> None:
    relation = related(six)
    assert relation.categories == ("DRCT", "DRUS")
    assert relation.n_images.tolist() == [3, 3]
    assert relation.support.tolist() == [3, 2, 3, 1]
    np.testing.assert_allclose(relation.shares, [[1, 1 / 3, 0, 1 / 3], [0, 1 / 3, 1, 0]])


def test_every_concept_is_of_one_kind(six: LabelledImages) -> None:
    kinds = [KINDS[kind] for kind in related(six).kinds]
    assert kinds == [
        "constant and exclusive", "shared", "constant and exclusive", "exclusive"
    ]  # fmt: skip
    # With fewer than four images a category is too small to call anything constant.
    kinds = [KINDS[kind] for kind in related(six, at_least=4).kinds]
    assert kinds == ["exclusive", "shared", "exclusive", "exclusive"]


def test_a_constant_concept_that_stands_elsewhere_too_is_shared() -> None:
    images = made_images(
        [("C1",), ("C1", "C2"), ("C1",), ("C3",)], categories=["DRCT", "DRCT", "DRUS", "DRUS"]
    )
    relation = related(images)
    assert KINDS[relation.kinds[0]] == "constant and shared"
    assert relation.constant[:, 0].tolist() == [True, False]


def test_a_concept_of_another_split_is_of_no_kind() -> None:
    images = made_images(
        [("C1",), ("C1",), ("C2",)],
        splits=["train", "train", "valid"],
        categories=["DRCT", "DRUS", "DRCT"],
    )
    relation = related(images.split("train"))
    assert relation.kinds.tolist() == [1, -1]
    assert relation.expected_exclusive == pytest.approx(0.0)  # two images of two categories


def test_mutual_information_is_worked_by_hand(six: LabelledImages) -> None:
    bits = related(six).bits
    # C1 and C3 decide the category: 1 bit. C2 is on a third of either: 0.
    # C4: p(1, CT) = 1/6, p(0, CT) = 2/6, p(0, US) = 3/6, p(1) = 1/6, categories 1/2 each:
    c4 = 1 / 6 * np.log2((1 / 6) / (1 / 12)) + 2 / 6 * np.log2((2 / 6) / (5 / 12))
    c4 += 3 / 6 * np.log2((3 / 6) / (5 / 12))
    np.testing.assert_allclose(bits, [1.0, 0.0, 1.0, c4], atol=1e-12)


def test_mutual_information_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    categories = rng.choice(["DRAN", "DRCT", "DRXR"], 200, p=[0.1, 0.5, 0.4])
    marks = rng.random((200, 6)) < np.linspace(0.02, 0.9, 6)
    marks[:, 3] |= categories == "DRCT"
    images = made_images(
        [tuple(f"C{k}" for k in np.flatnonzero(row)) for row in marks],
        categories=[str(c) for c in categories],
    )
    expected = [mutual_info_score(categories, marks[:, k]) / np.log(2) for k in range(6)]
    np.testing.assert_allclose(related(images).bits, expected, atol=1e-12)


def test_the_bits_by_chance_are_the_mean_over_every_order_of_the_categories() -> None:
    categories = ("DRCT", "DRCT", "DRUS", "DRUS", "DRUS", "DRXR")
    sets = [("C1", "C2", "C3"), ("C2", "C3"), ("C3",), ("C3",), (), ()]
    orders = set(permutations(categories))
    over = [related(made_images(sets, categories=order)).bits for order in orders]
    given = related(made_images(sets, categories=categories))
    np.testing.assert_allclose(given.chance, np.mean(over, axis=0), atol=1e-12)


def test_the_bits_by_chance_of_a_frequent_concept_approach_those_of_miller_and_madow() -> None:
    sizes = np.array([3000, 4000, 3000])
    [chance] = expected_bits(np.array([4000]), sizes)
    assert chance == pytest.approx((3 - 1) / (2 * 10_000 * np.log(2)), rel=0.01)


def test_told_is_one_where_the_category_decides_and_nothing_on_average_by_chance() -> None:
    rng = np.random.default_rng(0)
    categories = [str(c) for c in rng.choice(["DRCT", "DRUS"], 400)]
    own = {"DRCT": ("C1",), "DRUS": ("C2",)}
    noise = rng.random((400, 200)) < 0.05
    sets = [
        (*own[c], "C3", *(f"D{k:03d}" for k in np.flatnonzero(row)))
        for c, row in zip(categories, noise, strict=True)
    ]
    told = related(made_images(sets, categories=categories)).told
    np.testing.assert_allclose(told[:2], 1.0)
    assert np.isnan(told[2])  # on every image: nothing to tell
    assert abs(told[3:].mean()) < 0.002


def test_exclusive_concepts_by_chance_are_the_mean_over_every_order() -> None:
    categories = ("DRCT", "DRCT", "DRUS", "DRUS", "DRUS")
    sets = [("C1", "C2", "C3"), ("C2", "C3"), ("C3",), ("C4",), ("C4",)]
    orders = set(permutations(categories))
    over = [related(made_images(sets, categories=o), at_least=99).kinds == 2 for o in orders]
    given = related(made_images(sets, categories=categories))
    # C1 of one image always; C2 and C4 of two: (1 + 3) / 10 each; C3 of three: 1 / 10.
    assert given.expected_exclusive == pytest.approx(1 + 0.4 + 0.4 + 0.1)
    assert given.expected_exclusive == pytest.approx(np.mean(np.sum(over, axis=1)))


def test_constant_concepts_alone_score_what_is_worked_by_hand() -> None:
    images = made_images(
        [("C1",), ("C1", "C2"), ("C3",), ("C1", "C9"), ("C3", "C4", "C5"), (), ("C1",)],
        splits=["train"] * 3 + ["valid"] * 4,
        categories=["DRCT", "DRCT", "DRUS", "DRCT", "DRUS", "DRUS", ""],
    )
    relation = related(images.split("train"))
    valid = images.split("valid")
    # {C1} against {C1, C9}: 2/3; {C3} against {C3, C4, C5}: 2/4; {C3} against nothing: left out,
    # or 0; nothing, for want of a category, against {C1}: 0.
    score = constant_f1(relation, valid, empty_truth="left out")
    assert score is not None
    assert score.value == pytest.approx((2 / 3 + 1 / 2) / 3)
    assert score.n == 3
    score = constant_f1(relation, valid, empty_truth="counted")
    assert score is not None
    assert score.value == pytest.approx((2 / 3 + 1 / 2) / 4)
    assert score.n == 4


def test_without_an_image_that_counts_there_is_no_score(six: LabelledImages) -> None:
    empty = six.take(np.zeros(6, dtype=np.bool_))
    assert constant_f1(related(six), empty, empty_truth="left out") is None


@pytest.mark.parametrize("categories", ["", "DRCT", ["", "DRCT"]])
def test_fewer_than_two_categories_are_related_to_nothing(categories: str | list[str]) -> None:
    assert relate(made_images([("C1",), ("C2",)], categories=categories)) is None


def test_images_without_a_category_are_left_out_and_counted() -> None:
    images = made_images([("C1",), ("C2",), ("C1",)], categories=["DRCT", "DRUS", ""])
    relation = related(images)
    assert relation.n_left_out == 1
    assert relation.support.tolist() == [1, 1]
