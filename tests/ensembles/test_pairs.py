import numpy as np
import pytest
from scipy.sparse import csr_array

from core.labels import LabelSpace, Targets
from ensembles.pairs import Bools, Floats, LabelledPairs, Pairs, select, to_csr

LABELS = LabelSpace(("C1", "C2", "C3", "C4"))
PROBS = np.array([[0.9, 0.2, 0.0, 0.2], [0.1, 0.1, 0.8, 0.3]], dtype=np.float32)
TARGETS = LABELS.encode([("C1", "C4", "C9"), ("C2",)])


def chosen(probs: Floats, threshold: float, *, limit: int = 100) -> list[list[int]]:
    rows = np.full(len(probs), threshold, dtype=np.float32)
    images, concepts = select(probs, row_thresholds=rows, limit=limit)
    return [concepts[images == i].tolist() for i in range(len(probs))]


def test_pairs_above_zero_are_kept_with_their_truth() -> None:
    pairs = LabelledPairs.of(PROBS, TARGETS)
    assert pairs.rows.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert pairs.columns.tolist() == [0, 1, 3, 0, 1, 2, 3]
    assert pairs.true.tolist() == [True, False, True, False, True, False, False]
    assert pairs.n_true.tolist() == [3, 1]  # C9 is outside the space, and true all the same
    assert len(pairs) == 7


def test_a_floor_is_kept_itself() -> None:
    assert LabelledPairs.of(PROBS, TARGETS, floor=float(np.float32(0.2))).columns.tolist() == [
        0, 1, 3, 2, 3,
    ]  # fmt: skip


def test_equal_probabilities_at_the_limit_go_to_the_lower_column() -> None:
    assert chosen(PROBS, 0.01, limit=2) == [[0, 1], [2, 3]]
    assert chosen(PROBS, 0.01, limit=3) == [[0, 1, 3], [0, 2, 3]]


@pytest.mark.parametrize("seed", range(5))
def test_the_limit_keeps_what_a_stable_sort_puts_first(seed: int) -> None:
    probs = np.round(np.random.default_rng(seed).random((6, 40)), 1).astype(np.float32)
    expected = [
        sorted(j for j in np.argsort(-row, kind="stable")[:7].tolist() if row[j] >= 0.05)
        for row in probs
    ]
    assert chosen(probs, 0.05, limit=7) == expected


def test_a_concept_s_own_threshold_comes_before_the_image_s() -> None:
    own = np.array([np.nan, 0.15, np.nan, 0.5], dtype=np.float32)
    rows = np.full(2, 0.3, dtype=np.float32)
    images, concepts = select(PROBS, row_thresholds=rows, column_thresholds=own, limit=4)
    assert list(zip(images.tolist(), concepts.tolist(), strict=True)) == [(0, 0), (0, 1), (1, 2)]


def test_forced_concepts_come_before_more_probable_ones() -> None:
    forced = np.array([[False, False, True, False], [True, False, False, False]])
    images, concepts = select(
        PROBS,
        row_thresholds=np.full(2, 0.15, dtype=np.float32),
        forced=forced,
        kinds=np.array([0, 1], dtype=np.int32),
        limit=2,
    )
    assert list(zip(images.tolist(), concepts.tolist(), strict=True)) == [
        (0, 0), (0, 2), (1, 0), (1, 2),
    ]  # fmt: skip


def test_orders_run_from_the_most_probable_down_and_ties_keep_theirs() -> None:
    pairs = LabelledPairs.of(PROBS, TARGETS)
    assert pairs.by_prob.tolist() == [0, 5, 6, 1, 2, 3, 4]  # .9 .8 .3 .2 .2 .1 .1
    # By concept: C1 .9 .1, C2 .2 .1, C3 .8, C4 .3 .2
    assert pairs.by_concept.tolist() == [0, 3, 1, 4, 5, 6, 2]
    assert pairs.concept_starts.tolist() == [0, 2, 4, 5, 7]


def test_images_taken_are_numbered_from_zero() -> None:
    one = LabelledPairs.of(PROBS, TARGETS).of_images(np.array([False, True]))
    assert one.rows.tolist() == [0, 0, 0, 0]
    assert one.columns.tolist() == [0, 1, 2, 3]
    assert one.n_true.tolist() == [1]


def test_f1_of_images_counts_truth_without_a_pair() -> None:
    pairs = LabelledPairs.of(PROBS, TARGETS)
    decided = pairs.probs >= np.float32(0.2)
    # Image 0: {C1, C2, C4} against {C1, C4, C9}: 2*2/6. Image 1: {C3, C4} against {C2}: 0.
    assert pairs.image_f1(decided, empty_truth="counted") == pytest.approx([2 / 3, 0.0])


def test_images_left_without_a_concept_get_their_most_probable() -> None:
    pairs = LabelledPairs.of(PROBS, TARGETS)
    decided: Bools = pairs.probs >= np.float32(0.85)
    completed = pairs.completed(decided)
    assert pairs.columns[completed].tolist() == [0, 2]
    assert decided.sum() == 1  # the given decisions are left as they were


def test_an_image_without_any_pair_stays_without_one() -> None:
    pairs = LabelledPairs.of(np.zeros_like(PROBS), TARGETS)
    assert pairs.completed(np.zeros(0, dtype=np.bool_)).tolist() == []
    assert pairs.are_true(TARGETS).tolist() == []


def test_nothing_is_true_where_no_image_has_a_concept() -> None:
    zero = np.zeros(1, dtype=np.int32)
    pair = Pairs(rows=zero, columns=zero, shape=(2, len(LABELS)))
    assert pair.are_true(LABELS.encode([(), ()])).tolist() == [False]


def test_a_sparse_matrix_of_pairs_has_them_in_their_rows() -> None:
    rows = np.array([0, 2, 2], dtype=np.int32)
    columns = np.array([3, 0, 1], dtype=np.int32)
    assert LABELS.decode(to_csr(rows, columns, shape=(3, 4))) == [("C4",), (), ("C1", "C2")]


def test_probabilities_of_another_shape_are_refused() -> None:
    wrong = Targets(matrix=TARGETS.matrix, n_outside=TARGETS.n_outside)
    with pytest.raises(ValueError, match=r"probabilities are \(1, 4\), targets \(2, 4\)"):
        LabelledPairs.of(PROBS[:1], wrong)


def test_pairs_of_a_concept_fall_in_probability_and_equal_ones_keep_their_order() -> None:
    rng = np.random.default_rng(0)
    probs = (rng.integers(0, 5, (400, 300)) / 4).astype(np.float32)  # many are equal, some 0
    probs[:, 7] = 0.0
    targets = Targets(
        matrix=csr_array(rng.random(probs.shape) < 0.1), n_outside=np.zeros(400, dtype=np.int32)
    )
    pairs = LabelledPairs.of(probs, targets)
    wanted = np.lexsort((np.arange(len(pairs)), -pairs.probs, pairs.columns))
    np.testing.assert_array_equal(pairs.by_concept, wanted)
    assert np.diff(pairs.concept_starts)[7] == 0
