import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.categories import CATEGORIES
from core.labels import LabelSpace
from ensembles.stacking import label_statistics
from ensembles.stacking.label_statistics import LabelStatistics, fill_shares

LABELS = LabelSpace(("C1", "C2", "C3"))
BACKGROUND = LabelStatistics.of(
    LABELS.encode([("C1", "C2"), ("C1",), ("C2",), ()]), ["DRCT", "DRCT", "DRXR", ""]
)


def shares_of(statistics: LabelStatistics) -> npt.NDArray[np.float32]:
    """(L, L) P(column's concept | row's concept), looked up one row after the other."""
    n_concepts = len(statistics.rate)
    everything = np.arange(n_concepts, dtype=np.int32)
    shares = np.empty((n_concepts, n_concepts), dtype=np.float32)
    for row in range(n_concepts):
        fill_shares(statistics.lookup, everything, row, shares[row])
    return shares


def test_rates_are_smoothed_shares() -> None:
    # (2 + .5)/5, (2 + .5)/5, (0 + .5)/5
    assert BACKGROUND.n_train.tolist() == [2, 2, 0]
    assert BACKGROUND.rate.tolist() == pytest.approx([0.5, 0.5, 0.1])


def test_the_prior_of_a_category_is_drawn_to_the_rate_by_three_images() -> None:
    prior = BACKGROUND.prior
    # CT, two images: C1 in both (2 + 3*.5)/(2 + 3), C2 in one (1 + 1.5)/5, C3 (0 + .3)/5
    assert prior[CATEGORIES.index("DRCT")].tolist() == pytest.approx([0.7, 0.5, 0.06])
    # X-ray, one image with C2: 1.5/4, 2.5/4, .3/4
    assert prior[CATEGORIES.index("DRXR")].tolist() == pytest.approx([0.375, 0.625, 0.075])
    # no image: the rates
    assert prior[CATEGORIES.index("DRUS")].tolist() == pytest.approx([0.5, 0.5, 0.1])


def test_a_concept_given_another_one_is_drawn_to_its_rate_as_well() -> None:
    # C1 occurs in two images, one of them with C2: (1 + 3*.5)/(2 + 3); C3 never: .3/5
    assert shares_of(BACKGROUND)[0].tolist() == pytest.approx([0.7, 0.5, 0.06])
    # C3 occurs nowhere: the rates
    assert shares_of(BACKGROUND)[2].tolist() == pytest.approx([0.5, 0.5, 0.1])


def test_a_known_category_has_all_the_weight_and_an_unknown_one_the_shares() -> None:
    weights = BACKGROUND.category_weights(["DRXR", ""])
    assert weights[0].tolist() == [float(c == "DRXR") for c in CATEGORIES]
    # (2 + 1)/(3 + 7) for CT, (1 + 1)/10 for X-ray, 1/10 for the others
    expected = [{"DRCT": 0.3, "DRXR": 0.2}.get(c, 0.1) for c in CATEGORIES]
    assert weights[1].tolist() == pytest.approx(expected)
    assert weights.dtype == np.float32


@settings(deadline=None, max_examples=30)
@given(
    sets=st.lists(st.sets(st.integers(0, 7)), min_size=1, max_size=30),
    n_frequent=st.integers(0, 8),
)
def test_shares_are_those_of_all_counts_however_many_concepts_have_a_matrix(
    sets: list[set[int]], n_frequent: int
) -> None:
    labels = LabelSpace(tuple(f"C{c}" for c in range(8)))
    targets = labels.encode([[f"C{c}" for c in own] for own in sets])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label_statistics, "_FREQUENT", n_frequent)
        found = shares_of(statistics := LabelStatistics.of(targets, [""] * len(sets)))
    counts = targets.matrix.toarray().T.astype(np.float32) @ targets.matrix.toarray()
    added = np.float32(3) * statistics.rate
    expected = (counts + added) / (np.diag(counts).astype(np.float64)[:, None] + 3)
    np.testing.assert_array_equal(found, expected.astype(np.float32))  # to the last bit


def test_memory_follows_the_pairs_that_occur(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_statistics, "_FREQUENT", 64)
    labels = LabelSpace(tuple(f"C{c:05d}" for c in range(50_000)))  # squared 10 GB of float32
    targets = labels.encode([[f"C{c:05d}" for c in range(i, i + 10)] for i in range(0, 50_000, 9)])
    statistics = LabelStatistics.of(targets, [""] * len(targets))
    assert statistics.together.nnz <= 100 * len(targets)
    lookup = statistics.lookup
    assert lookup.matrix.shape == (64, 64)
    held = [lookup.starts, lookup.columns, lookup.counts]
    assert all(
        np.shares_memory(a, getattr(statistics.together, b))
        for a, b in zip(held, ("indptr", "indices", "data"), strict=True)
    )
