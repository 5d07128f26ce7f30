from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from core.errors import CorpusError
from core.images import LABELLED, ImageTable
from core.labels import Concepts
from corpus.folds import assign_folds
from corpus.readers.releases.imageclef import read_imageclef_2020

RADBENCH = Path(__file__).parents[3] / "shared" / "radbench"


def table(
    concepts: Sequence[Concepts | None],
    *,
    groups: Sequence[str] | None = None,
    categories: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
) -> ImageTable:
    n = len(concepts)
    ids = tuple(f"i{row}" for row in range(n))
    return ImageTable(
        image_ids=ids,
        paths=ids,
        categories=tuple(categories or [""] * n),
        splits=tuple(splits or ["train"] * n),
        folds=np.full(n, -1, dtype=np.int16),
        groups=tuple(groups or ids),
        concepts=tuple(concepts),
    )


def drawn(seed: int, n: int = 900) -> ImageTable:
    """Images of about three a group, with 4 concepts of a long tail and one of their category."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, 101)
    tail = rng.choice(100, size=(n, 4), p=weights / weights.sum())
    categories = rng.choice(["DRCT", "DRMR", "DRXR", "DRPE"], size=n, p=[0.4, 0.3, 0.25, 0.05])
    return table(
        [
            tuple(sorted({*(f"C{c:03d}" for c in row), f"M{category}"}))
            for row, category in zip(tail, categories, strict=True)
        ],
        groups=[f"g{g}" for g in rng.integers(0, n // 3, n)],
        categories=categories.tolist(),
    )


def n_absent(images: ImageTable, folds: np.ndarray, n_folds: int) -> tuple[int, int]:
    """Concepts with a group for every fold, and how many of them some fold lacks."""
    groups: dict[str, set[str]] = {}
    seen: dict[str, set[int]] = {}
    for group, fold, concepts in zip(images.groups, folds, images.concepts, strict=True):
        for cui in concepts or ():
            groups.setdefault(cui, set()).add(group)
            seen.setdefault(cui, set()).add(int(fold))
    frequent = [cui for cui in groups if len(groups[cui]) >= n_folds]
    return len(frequent), sum(len(seen[cui]) < n_folds for cui in frequent)


def test_every_concept_is_halved_between_two_folds() -> None:
    # A, A, B, B: whichever fold takes the first A, the other one has fewer and takes the second.
    images = table([("A",), ("A",), ("B",), ("B",)])
    for seed in range(10):
        folds = assign_folds(images, n_folds={"train": 2}, seed=seed)
        assert sorted(folds[:2]) == [0, 1]
        assert sorted(folds[2:]) == [0, 1]


def test_large_groups_come_first_and_small_ones_fill_up() -> None:
    # Groups of 3, 2 and 1 images: 3 | 2, and the last one goes where 2 are: 3 | 3.
    images = table([("A",)] * 6, groups=["z", "y", "x", "y", "x", "x"])
    for seed in range(10):
        folds = assign_folds(images, n_folds={"train": 2}, seed=seed)
        assert np.bincount(folds).tolist() == [3, 3]
        assert folds[0] == folds[1] == folds[3] != folds[2]
        assert folds[2] == folds[4] == folds[5]


def test_ties_go_to_the_fold_with_least_of_the_other_concepts() -> None:
    # RARE is spread first: one group of it in each fold, and of their A and B there is nothing
    # to choose. Then A, B and the category are even, too: each fold ends with one of each.
    images = table([("A", "RARE"), ("B", "RARE"), ("A",), ("B",)])
    for seed in range(10):
        folds = assign_folds(images, n_folds={"train": 2}, seed=seed)
        assert folds[0] == folds[3] != folds[1] == folds[2]


def test_images_without_concepts_are_spread_by_their_category() -> None:
    images = table([()] * 20, categories=["DRCT", "DRMR"] * 10)
    folds = assign_folds(images, n_folds={"train": 5}, seed=0)
    for category in ("DRCT", "DRMR"):
        here = np.array(images.categories) == category
        assert np.bincount(folds[here]).tolist() == [2] * 5


def test_the_rarest_concept_is_in_every_fold_when_it_has_the_groups() -> None:
    rng = np.random.default_rng(3)
    concepts: list[Concepts] = [
        tuple(sorted(rng.choice(list("ABCDEF"), 3, False))) for _ in "x" * 93
    ]
    images = table([*concepts, *[("RARE", cui) for cui in "ABCDEFA"]])
    for seed in range(10):
        folds = assign_folds(images, n_folds={"train": 7}, seed=seed)
        assert sorted(folds[93:]) == list(range(7))


@pytest.mark.parametrize("seed", range(4))
def test_groups_are_never_parted(seed: int) -> None:
    images = drawn(seed)
    folds = assign_folds(images, n_folds={"train": 10}, seed=seed)
    assert set(folds) == set(range(10))
    pairs = set(zip(images.groups, folds.tolist(), strict=True))
    assert len(pairs) == len(set(images.groups))


@pytest.mark.parametrize("seed", range(4))
def test_folds_are_near_equal_in_size_and_in_every_category(seed: int) -> None:
    images = drawn(seed)
    folds = assign_folds(images, n_folds={"train": 10}, seed=seed)
    sizes = np.bincount(folds, minlength=10)
    assert sizes.min() >= 81
    assert sizes.max() <= 99  # 90 each, and no group has more than a dozen images
    categories = np.array(images.categories)
    counts = [np.bincount(folds[categories == c], minlength=10) for c in np.unique(categories)]
    # Images thrown into folds one by one would stray by the root of the mean, whole groups by more.
    assert np.mean([n.std() / np.sqrt(n.mean()) for n in counts]) < 0.85


@pytest.mark.parametrize("seed", range(4))
def test_far_fewer_concepts_miss_a_fold_than_at_random(seed: int) -> None:
    images = drawn(seed)
    n_frequent, n_missing = n_absent(
        images, assign_folds(images, n_folds={"train": 10}, seed=seed), 10
    )
    names, group_of = np.unique(np.array(images.groups), return_inverse=True)
    at_random = np.random.default_rng(seed).integers(0, 10, len(names))[group_of]
    assert n_frequent > 70
    assert n_missing <= n_absent(images, at_random, 10)[1] / 4


@pytest.mark.parametrize("seed", range(4))
def test_permuted_rows_keep_their_folds(seed: int) -> None:
    images = drawn(seed, n=300)
    order = np.random.default_rng(seed).permutation(300)
    folds = assign_folds(images, n_folds={"train": 5}, seed=seed)
    permuted = assign_folds(images.take(order), n_folds={"train": 5}, seed=seed)
    np.testing.assert_array_equal(permuted, folds[order])


def test_the_seed_decides_and_nothing_else() -> None:
    images = drawn(0, n=300)
    first = assign_folds(images, n_folds={"train": 5}, seed=1)
    np.testing.assert_array_equal(first, assign_folds(images, n_folds={"train": 5}, seed=1))
    assert (first != assign_folds(images, n_folds={"train": 5}, seed=2)).any()


def test_splits_not_named_and_unlabelled_images_have_no_fold() -> None:
    splits = ["train"] * 5 + ["valid"] * 5 + ["test"] * 2
    images = table(
        [("A",), ("A",), None, ("A",), ("A",), *[("A",)] * 4, None, None, None], splits=splits
    )
    folds = assign_folds(images, n_folds={"train": 2, "valid": 4}, seed=0)
    assert folds.dtype == np.int16
    assert folds[[2, 9, 10, 11]].tolist() == [-1] * 4
    assert sorted(folds[[0, 1, 3, 4]]) == [0, 0, 1, 1]
    assert sorted(folds[5:9]) == [0, 1, 2, 3]
    alone = assign_folds(images, n_folds={"valid": 4}, seed=0)
    assert (alone[:5] == -1).all()
    np.testing.assert_array_equal(alone[5:], folds[5:])


def test_train_and_valid_can_be_dealt_together() -> None:
    splits = ["train"] * 4 + ["valid"] * 4 + ["test"] * 2
    groups = ["a", "b", "c", "d", "a", "e", "f", "g", "t", "u"]
    images = table([("A",)] * 6 + [None] + [("A",)] * 3, splits=splits, groups=groups)
    folds = assign_folds(images, n_folds={"labelled": 3}, seed=0)
    assert folds[[6, 8, 9]].tolist() == [-1] * 3  # not labelled, or test
    assert folds[0] == folds[4]
    assert [(folds == fold).sum() for fold in range(3)].count(2) >= 2


def test_no_named_split_gives_no_folds() -> None:
    assert assign_folds(table([("A",)] * 3), n_folds={}, seed=0).tolist() == [-1] * 3


def test_fewer_groups_than_folds_are_refused() -> None:
    images = table([("A",), ("B",), ("C",), None], groups=["g", "g", "h", "k"])
    with pytest.raises(
        CorpusError,
        match=r"^train: 2 groups of labelled images \(\['g', 'h'\]\) cannot fill 3 folds; ask for"
        r" fewer: `prepare --set train_folds=2`$",
    ):
        assign_folds(images, n_folds={"train": 3}, seed=0)
    with pytest.raises(CorpusError, match=r"^train and valid: .* folds is at least 3"):
        assign_folds(images, n_folds={LABELLED: 4}, seed=0)


def test_a_split_without_images_is_refused() -> None:
    with pytest.raises(
        CorpusError,
        match=r"^valid: 0 groups of labelled images cannot fill 2 folds; valid_folds is at least 2",
    ):
        assign_folds(table([("A",)] * 3), n_folds={"valid": 2}, seed=0)


def test_a_single_fold_is_refused() -> None:
    with pytest.raises(CorpusError, match="train: expected at least 2 folds, found 1"):
        assign_folds(table([("A",)] * 3), n_folds={"train": 1}, seed=0)


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(CorpusError, match="no split 'dev' to fold; known: train, valid, test"):
        assign_folds(table([("A",)] * 3), n_folds={"dev": 2}, seed=0)


@pytest.mark.radbench
@pytest.mark.skipif(not RADBENCH.is_dir(), reason="the real images are not beside the project")
def test_real_groups_of_any_size_are_spread() -> None:
    images = read_imageclef_2020(RADBENCH).table
    folds = assign_folds(images, n_folds={"train": 10, "valid": 5}, seed=0)
    splits = np.array(images.splits)
    for split, n_folds in (("train", 10), ("valid", 5)):
        rows = splits == split
        part = images.take(rows)
        n_frequent, n_missing = n_absent(part, folds[rows], n_folds)
        assert n_missing <= 0.1 * n_frequent
        sizes = np.bincount(folds[rows], minlength=n_folds)
        assert 0.7 * sizes.mean() < sizes.min()
        assert sizes.max() < 1.3 * sizes.mean()
        pairs = set(zip(part.groups, folds[rows].tolist(), strict=True))
        assert len(pairs) == len(set(part.groups))
