"""Valid beside train: concept by concept, and against whole groups dealt at random."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2_contingency

from core.labels import Concepts
from reports.statistics.drift import Drift, compare_splits
from reports.statistics.labels import LabelledImages
from tests.reports.made import made_images


def compared(images: LabelledImages) -> Drift:
    drift = compare_splits(images)
    assert drift is not None
    return drift


def two_splits(
    n_train: int, n_valid: int, *, shares: dict[str, tuple[float, float]]
) -> list[Concepts]:
    """Concepts on exactly these shares of the images of train and of valid."""
    sets: list[Concepts] = []
    for n, side in ((n_train, 0), (n_valid, 1)):
        has = {cui: round(both[side] * n) for cui, both in shares.items()}
        sets += [tuple(cui for cui, k in has.items() if row < k) for row in range(n)]
    return sets


SHARES = {"C1": (0.5, 0.6), "C2": (0.2, 0.2), "C3": (0.9, 0.8), "C4": (0.01, 0.0)}
SPLITS = ["train"] * 200 + ["valid"] * 100


@pytest.fixture
def drift() -> Drift:
    return compared(made_images(two_splits(200, 100, shares=SHARES), splits=SPLITS))


def test_shares_are_of_the_images_of_each_split(drift: Drift) -> None:
    assert drift.n_images == (200, 100)
    np.testing.assert_allclose(drift.shares, [[0.5, 0.2, 0.9, 0.01], [0.6, 0.2, 0.8, 0.0]])


def test_z_of_independent_images_is_that_of_two_proportions(drift: Drift) -> None:
    # C1: p = 160 / 300; z = 0.1 / sqrt(p (1 - p) (1 / 200 + 1 / 100))
    p = 160 / 300
    assert drift.z[0] == pytest.approx(0.1 / np.sqrt(p * (1 - p) * (1 / 200 + 1 / 100)))
    assert drift.z[1] == pytest.approx(0.0)
    table = [[180, 80], [20, 20]]
    assert drift.z[2] ** 2 == pytest.approx(chi2_contingency(table, correction=False).statistic)
    assert drift.z[2] < 0
    assert np.isnan(drift.z[3])  # two images are too few to say anything


def test_q_is_that_of_benjamini_and_hochberg(drift: Drift) -> None:
    # Two-sided p of |z| = 2.40, 1.64, 0: the smallest times 3, the next times 3 / 2, the last.
    from scipy.stats import norm

    p = 2 * norm.sf(np.abs(drift.z[:3]))
    expected = [p[0] * 3 / 2, 1.0, p[2] * 3]
    np.testing.assert_allclose(drift.q[:3], expected)
    assert np.isnan(drift.q[3])


def test_the_standardised_difference_is_worked_by_hand(drift: Drift) -> None:
    spread = np.sqrt((0.5 * 0.5 + 0.6 * 0.4) / 2)
    assert drift.standardised[0] == pytest.approx(0.1 / spread)
    everywhere = compared(made_images([("C1",)] * 4, splits=["train", "train", "valid", "valid"]))
    assert np.isnan(everywhere.standardised[0])


def test_images_of_one_group_count_once(drift: Drift) -> None:
    once = two_splits(200, 100, shares=SHARES)
    thrice = [concepts for concepts in once for _ in range(3)]
    images = made_images(
        thrice,
        splits=[split for split in SPLITS for _ in range(3)],
        groups=[f"g{row // 3}" for row in range(len(thrice))],
    )
    grouped = compared(images)
    np.testing.assert_allclose(grouped.z[:3], drift.z[:3], atol=1e-12)
    assert grouped.n_groups == drift.n_groups == 300
    # Taken for independent, the same images would seem to differ more.
    apart = compared(made_images(thrice, splits=images.table.splits))
    assert apart.z[0] == pytest.approx(drift.z[0] * np.sqrt(3))


def test_distances_are_those_of_scipy() -> None:
    sets = [("C1", "C2"), ("C1",), ("C3",), ("C2", "C4"), ("C4",)]
    images = made_images(
        sets,
        splits=["train"] * 3 + ["valid"] * 2,
        categories=["DRCT", "DRCT", "DRUS", "DRUS", "DRXR"],
    )
    drift = compared(images)
    expected = jensenshannon([2, 1, 1, 0], [0, 1, 0, 2], base=2)
    assert drift.concepts.value == pytest.approx(expected)
    assert drift.categories is not None
    assert drift.categories.value == pytest.approx(jensenshannon([2, 1, 0], [0, 1, 1], base=2))
    # C4 alone was never in train, and has both its images in valid.
    assert (drift.unseen.value, drift.n_unseen_assignments) == (1.0, 2)


def test_too_few_groups_say_nothing_of_chance() -> None:
    images = made_images([("C1",)] * 9, splits=["train"] * 5 + ["valid"] * 4)
    found = compared(images).concepts
    assert found.value == pytest.approx(0.0)
    assert np.isnan([found.mean, found.low, found.high, found.p]).all()


def test_splits_dealt_at_random_lie_within_chance_and_others_do_not() -> None:
    rng = np.random.default_rng(0)
    marks = rng.random((400, 30)) < np.linspace(0.02, 0.5, 30)
    marks[::2] = marks[1::2]  # two images of a patient have the same concepts
    sets = [tuple(f"C{k:02d}" for k in np.flatnonzero(row)) for row in marks]
    groups = [f"g{row // 2}" for row in range(400)]
    dealt = ["train" if row // 2 % 4 else "valid" for row in range(400)]
    by_chance = compared(made_images(sets, splits=dealt, groups=groups))
    assert by_chance.concepts.p > 0.05
    assert by_chance.concepts.low < by_chance.concepts.value < by_chance.concepts.high
    assert not (by_chance.q < 0.05).any()
    sorted_out = sorted(range(400), key=lambda row: (not marks[row, 25], row // 2))
    valid = set(sorted_out[:100])
    apart = ["valid" if row in valid else "train" for row in range(400)]
    drifted = compared(made_images(sets, splits=apart, groups=groups))
    assert drifted.concepts.p == pytest.approx(1 / 201)
    assert drifted.q[25] < 1e-6


def test_the_same_images_give_the_same_numbers(drift: Drift) -> None:
    again = compared(made_images(two_splits(200, 100, shares=SHARES), splits=SPLITS))
    assert again.concepts == drift.concepts
    assert again.unseen == drift.unseen


def test_without_concepts_on_one_side_there_is_no_distance() -> None:
    drift = compared(made_images([("C1",), ()], splits=["train", "valid"]))
    assert np.isnan(drift.concepts.value)


@pytest.mark.parametrize("splits", ["train", "valid", ["train", "test"]])
def test_one_split_is_compared_with_nothing(splits: str | list[str]) -> None:
    assert compare_splits(made_images([("C1",), ("C2",)], splits=splits)) is None
