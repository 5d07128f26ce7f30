"""Images, label cardinality and density, concepts an image."""

import numpy as np
import pytest

from core.errors import CorpusError
from core.images import ImageTable
from core.labels import Concepts
from reports.statistics.labels import ImageCounts, LabelledImages, histogram, summarise
from tests.reports.made import made_images, made_table

# Table 2 of the iml paper at ImageCLEFmed Caption 2020.
PUBLISHED = {
    "train": {
        "DRAN": 4713, "DRCO": 487, "DRCT": 20031, "DRMR": 11447, "DRPE": 502, "DRUS": 8629,
        "DRXR": 18944,
    },
    "valid": {
        "DRAN": 1132, "DRCO": 73, "DRCT": 4992, "DRMR": 2848, "DRPE": 74, "DRUS": 2134,
        "DRXR": 4717,
    },
    "test": {
        "DRAN": 325, "DRCO": 49, "DRCT": 1140, "DRMR": 562, "DRPE": 38, "DRUS": 502, "DRXR": 918,
    },
}  # fmt: skip

N_CONCEPTS = 3047
N_ASSIGNMENTS = 907_718


def published_table() -> ImageTable:
    """The published numbers of images, of concepts and of assignments; which is where is made up.

    80,723 labelled images with 11 concepts each have 887,953; one more on 19,765 of them makes
    907,718. Image i has the concepts 11 i, 11 i + 1, ... around the circle of 3,047.
    """
    places = [
        (split, category)
        for split, counts in PUBLISHED.items()
        for category, n in counts.items()
        for _ in range(n)
    ]
    cuis = [f"C{number:07d}" for number in range(N_CONCEPTS)]
    concepts: list[Concepts | None] = []
    for image, (split, _) in enumerate(places):
        if split == "test":
            concepts.append(None)
            continue
        n = 12 if image < 19_765 else 11
        concepts.append(tuple(cuis[(11 * image + k) % N_CONCEPTS] for k in range(n)))
    return made_table(concepts, splits=[s for s, _ in places], categories=[c for _, c in places])


@pytest.fixture(scope="module")
def published() -> ImageTable:
    return published_table()


def test_the_published_counts_give_the_published_sums(published: ImageTable) -> None:
    counts = ImageCounts.of(published)
    assert counts.splits == ("train", "valid", "test")
    assert counts.n_images.sum(axis=1).tolist() == [64_753, 15_970, 3_534]
    for row, split in enumerate(counts.splits):
        numbers = counts.n_images[row].tolist()
        assert dict(zip(counts.categories, numbers, strict=True)) == PUBLISHED[split]


def test_the_published_counts_give_the_published_cardinality_and_density(
    published: ImageTable,
) -> None:
    labels = summarise(LabelledImages.of(published))
    assert (labels.n_images, labels.n_assignments, labels.n_concepts) == (80_723, 907_718, 3_047)
    # 907,718 / 80,723 = 11.2449; 11.2449 / 3,047 = 0.0036905
    assert f"{labels.cardinality:.2f}" == "11.24"
    assert f"{labels.density:.4f}" == "0.0037"


def test_cardinality_and_density_count_images_without_concepts_and_no_test_image() -> None:
    images = made_images(
        [("C1", "C2"), (), ("C1", "C2", "C3", "C4"), None],
        splits=["train", "train", "valid", "test"],
    )
    labels = summarise(images)
    assert labels.cardinality == pytest.approx((2 + 0 + 4) / 3)
    assert labels.density == pytest.approx(((2 + 0 + 4) / 4) / 3)
    assert (labels.n_images, labels.n_without, labels.n_assignments) == (3, 1, 6)
    assert (labels.median, labels.largest) == (2.0, 4)
    # A split alone is divided by all four concepts too: |L| is what a detector has to tell apart.
    train = summarise(images.split("train"))
    assert (train.n_concepts, train.cardinality, train.density) == (2, 1.0, 0.25)


def test_only_images_without_a_category_are_counted_as_such_and_last() -> None:
    table = made_table([None] * 4, categories=["DRXR", "", "DRCT", ""])
    counts = ImageCounts.of(table)
    assert counts.categories == ("DRCT", "DRXR", "")
    assert counts.known == ("DRCT", "DRXR")
    assert counts.n_images.tolist() == [[1, 1, 2]]


def test_a_histogram_counts_what_lies_beyond_its_end() -> None:
    sets = [tuple(f"C{k}" for k in range(n)) for n in (0, 1, 1, 3, 5, 7)]
    counts = histogram(made_images(sets), cut=3)
    assert counts.n_images.tolist() == [1, 2, 0, 1]
    assert (counts.n_beyond, counts.n_total, counts.largest) == (2, 6, 7)
    assert counts.mean == pytest.approx(17 / 6)


def test_the_most_frequent_concepts_come_first_ties_by_cui_and_absent_ones_never() -> None:
    images = made_images(
        [("C2", "C3"), ("C3", "C1"), ("C3",), ("C9",)], splits=["train"] * 3 + ["valid"]
    )
    train = images.split("train")
    assert [train.labels.cuis[column] for column in train.most_frequent(9)] == ["C3", "C1", "C2"]
    assert len(train.most_frequent(2)) == 2


def test_groups_hold_their_images() -> None:
    images = made_images([("C1",)] * 3, groups=["p", "q", "p"])
    np.testing.assert_array_equal(images.membership.toarray(), [[1, 0, 1], [0, 1, 0]])


@pytest.mark.parametrize("concepts", [[(), ()], [None, None], [None, ()], []])
def test_a_corpus_without_any_concept_is_refused(concepts: list[Concepts | None]) -> None:
    with pytest.raises(CorpusError, match=f"none of {len(concepts)} images has a concept"):
        made_images(concepts)
