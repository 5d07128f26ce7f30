"""What became of concepts, by hand."""

import numpy as np
import pytest

from browser.concepts import (
    by_category,
    calibration,
    count_concepts,
    f1_interval,
    instead,
    together,
)
from browser.judgements import Judgement
from browser.library import Library, rows_with
from tests.browser.conftest import judged


def test_concepts_are_counted_over_some_images(library: Library, judgement: Judgement) -> None:
    every = count_concepts(library, judgement, images=np.ones(6, dtype=np.bool_))
    assert (every.n_images, every.n_judged) == (4, 4)
    assert every.true.tolist() == [2, 2, 1]
    assert every.right.tolist() == [1, 2, 0]
    assert every.missed.tolist() == [1, 0, 1]
    assert every.invented.tolist() == [0, 1, 1]
    # 2 * 1 / (2 + 1), 2 * 2 / (4 + 1), 0 / 2
    np.testing.assert_allclose(every.f1, [2 / 3, 4 / 5, 0])
    of_ct = count_concepts(library, judgement, images=library.is_category("DRCT"))
    assert (of_ct.n_images, of_ct.missed.tolist()) == (2, [1, 0, 0])


def test_without_decisions_only_the_truth_is_counted(library: Library) -> None:
    counts = count_concepts(library, None, images=np.ones(6, dtype=np.bool_))
    assert (counts.n_judged, counts.true.tolist()) == (0, [2, 2, 1])
    assert counts.ordered("true", library).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("order", "columns"),
    [
        ("true", [0, 1, 2]),
        ("missed", [0, 2, 1]),
        ("invented", [1, 2, 0]),
        ("lowest", [2, 0, 1]),
        ("-lowest", [1, 0, 2]),
        ("right", [1, 0, 2]),
        ("-true", [2, 0, 1]),
        ("-missed", [1, 0, 2]),
        ("-name", [1, 0, 2]),
        ("name", [2, 0, 1]),  # C3 has no name; Chest, Lung nodule
    ],
)
def test_concepts_are_ordered_the_more_frequent_first_where_equal(
    library: Library, judgement: Judgement, order: str, columns: list[int]
) -> None:
    counts = count_concepts(library, judgement, images=np.ones(6, dtype=np.bool_))
    assert counts.ordered(order, library).tolist() == columns


def test_a_concept_is_counted_by_category_and_split(library: Library) -> None:
    # C1: both CT images of train; two of CT and two of X-ray are labelled.
    assert by_category(library, 0) == [("DRCT", [2, 0, 0], 2), ("DRXR", [0, 0, 0], 2)]


def test_the_interval_of_a_concept_holds_its_f1(judgement: Judgement) -> None:
    found = f1_interval(judgement, 1)
    assert found is not None
    assert found.value == pytest.approx(4 / 5)
    assert found.low <= found.value <= found.high <= 1
    assert found.n == 4
    nothing = judged(judgement.library, ((),) * 6)
    library = nothing.library
    assert f1_interval(nothing, 2) is not None  # missed once
    assert rows_with(library.truth, 2).tolist() == [2]


def test_the_interval_is_that_of_a_bootstrap_over_groups(judgement: Judgement) -> None:
    """Against drawing all groups with replacement, 20,000 times, on 60 made images."""
    rng = np.random.default_rng(1)
    n = 60
    right, missed, invented = rng.integers(0, 2, (3, n))
    drawn = rng.integers(n, size=(20_000, n))
    hits = right[drawn].sum(axis=1)
    total = (2 * right + missed + invented)[drawn].sum(axis=1)
    low, high = np.quantile(2 * hits / total, (0.025, 0.975))
    weights = rng.poisson(1.0, size=(20_000, n))
    poisson = 2 * (weights @ right) / (weights @ (2 * right + missed + invented))
    np.testing.assert_allclose(np.quantile(poisson, (0.025, 0.975)), [low, high], atol=0.02)


def test_concepts_beside_another_and_instead_of_it(library: Library, judgement: Judgement) -> None:
    # With C2: C1 on one of two images, C3 on one; C1 is on 2 of 4 labelled images, C3 on 1 of 4.
    beside = [(b.cui, b.n, b.share, b.lift) for b in together(library, 1)]
    assert beside == [("C1", 1, 0.5, 1.0), ("C3", 1, 0.5, 2.0)]
    # C1 was missed on one image, where C2 was invented; C2 is invented on 1 of 4.
    assert [(b.cui, b.n, b.share, b.lift) for b in instead(judgement, 0)] == [("C2", 1, 1.0, 4.0)]
    assert instead(judgement, 1) == []


def test_calibration_counts_the_images_of_each_bin() -> None:
    probs = np.array([0.0, 0.04, 0.05, 0.9, 1.0], dtype=np.float32)
    bins = calibration(probs, np.array([False, True, False, True, True]))
    assert [(b.low, b.high, b.n, round(b.mean, 3), b.share) for b in bins] == [
        (0.0, 0.05, 2, 0.02, 0.5), (0.05, 0.2, 1, 0.05, 0.0), (0.8, 1.0, 2, 0.95, 1.0),
    ]  # fmt: skip
