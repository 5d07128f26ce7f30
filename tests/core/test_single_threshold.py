"""The plain decision at one threshold, against plain loops."""

import numpy as np
import pytest
from scipy.sparse import csr_array

from core.labels import Targets
from core.metrics import EmptyTruth, image_f1
from core.predictions import Probs
from core.single_threshold import (
    THRESHOLDS,
    best_threshold,
    cross_fitted_decisions,
    cross_fitted_f1,
    decided_at,
    f1_by_threshold,
    f1_of_pairs_by_threshold,
)

RULES: tuple[EmptyTruth, ...] = ("left out", "counted")


def drawn(seed: int, n: int = 40, n_concepts: int = 7) -> tuple[Probs, Targets]:
    """Images with ties at the thresholds, some without concepts, some with concepts outside."""
    rng = np.random.default_rng(seed)
    truth = rng.random((n, n_concepts)) < 0.3
    truth[::9] = False
    probs = np.clip(rng.random((n, n_concepts)) + 0.3 * truth, 0, 1).astype(np.float32)
    at_threshold = rng.random((n, n_concepts)) < 0.3
    probs[at_threshold] = rng.choice(THRESHOLDS, at_threshold.sum())
    probs[rng.random((n, n_concepts)) < 0.1] = 0.0
    probs[rng.random((n, n_concepts)) < 0.05] = 1.0
    outside = np.where(rng.random(n) < 0.2, rng.integers(1, 3, n), 0).astype(np.int32)
    outside[9] = 2  # nothing inside the label space, something outside
    return probs, Targets(matrix=csr_array(truth), n_outside=outside)


def plain_f1(probs: Probs, targets: Targets, rule: EmptyTruth) -> list[list[float]]:
    truth, scores = targets.matrix.toarray(), []
    for threshold in THRESHOLDS:
        row = []
        for image in range(len(probs)):
            decided = {c for c in range(truth.shape[1]) if probs[image, c] >= threshold}
            true = {c for c in range(truth.shape[1]) if truth[image, c]}
            n_true = len(true) + int(targets.n_outside[image])
            if n_true == 0 and rule == "left out":
                row.append(float("nan"))
            elif n_true + len(decided) == 0:
                row.append(1.0)
            else:
                row.append(2 * len(true & decided) / (n_true + len(decided)))
        scores.append(row)
    return scores


@pytest.mark.parametrize("rule", RULES)
def test_pairs_score_what_the_matrix_scores_that_is_0_elsewhere(rule: EmptyTruth) -> None:
    probs, targets = drawn(0)
    rows, columns = np.nonzero(probs)
    true = targets.matrix.toarray()[rows, columns]
    found = f1_of_pairs_by_threshold(
        rows, probs[rows, columns], true, targets=targets, empty_truth=rule
    )
    np.testing.assert_array_equal(found, f1_by_threshold(probs, targets, empty_truth=rule))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seed", range(5))
def test_every_threshold_scores_what_a_plain_loop_says(rule: EmptyTruth, seed: int) -> None:
    probs, targets = drawn(seed)
    scores = f1_by_threshold(probs, targets, empty_truth=rule)
    assert scores.shape == (49, 40)
    np.testing.assert_array_equal(scores, plain_f1(probs, targets, rule))


@pytest.mark.parametrize("rule", RULES)
def test_every_threshold_scores_what_the_metric_says(rule: EmptyTruth) -> None:
    probs, targets = drawn(1)
    scores = f1_by_threshold(probs, targets, empty_truth=rule)
    for number in (0, 24, 48):
        decided = csr_array(probs >= THRESHOLDS[number])
        expected = image_f1(targets, decided, empty_truth=rule)
        np.testing.assert_array_equal(scores[number], expected)


def one_image(true: list[bool], *, n_outside: int = 0) -> Targets:
    return Targets(
        matrix=csr_array(np.array([true])), n_outside=np.array([n_outside], dtype=np.int32)
    )


def test_a_probability_at_the_threshold_is_decided() -> None:
    half = int(np.argmin(np.abs(THRESHOLDS - 0.5)))
    probs = np.array([[THRESHOLDS[half]]], dtype=np.float32)
    scores = f1_by_threshold(probs, one_image([True]), empty_truth="left out")[:, 0]
    assert scores[half] == 1.0
    assert scores[half + 1] == 0.0


def test_concepts_outside_the_label_space_are_missed() -> None:
    probs = np.array([[0.9, 0.0]], dtype=np.float32)
    scores = f1_by_threshold(probs, one_image([True, False], n_outside=2), empty_truth="left out")
    assert scores[0, 0] == 2 * 1 / (3 + 1)  # one of three true ones is decided, and nothing else


def test_an_image_without_concepts_counts_where_the_rule_says_so() -> None:
    probs = np.array([[0.5, 0.1]], dtype=np.float32)
    nothing = one_image([False, False])
    counted = f1_by_threshold(probs, nothing, empty_truth="counted")[:, 0]
    np.testing.assert_array_equal(counted, (THRESHOLDS > 0.5).astype(np.float64))
    assert np.isnan(f1_by_threshold(probs, nothing, empty_truth="left out")).all()
    # Only outside ones: it has concepts, and whatever is decided is wrong.
    outside = one_image([False, False], n_outside=1)
    assert not f1_by_threshold(probs, outside, empty_truth="left out").any()


def test_the_best_threshold_is_the_lowest_of_equals_and_passes_over_left_out_images() -> None:
    scores = np.array([[0.2, np.nan], [0.6, np.nan], [0.6, np.nan], [0.1, np.nan]])
    assert best_threshold(scores) == 1


def test_images_that_are_all_left_out_have_no_best_threshold() -> None:
    with pytest.raises(ValueError, match="no image with true concepts: no threshold is better"):
        best_threshold(np.full((49, 3), np.nan))


@pytest.mark.parametrize("rule", RULES)
def test_cross_fitting_is_a_plain_loop_over_folds(rule: EmptyTruth) -> None:
    probs, targets = drawn(2)
    folds = np.arange(40) % 4
    expected = np.empty(40)
    for fold in range(4):
        others = np.flatnonzero(folds != fold)
        means = [np.nanmean(row) for row in plain_f1(probs[others], targets.rows(others), rule)]
        best = max(range(49), key=lambda number: (means[number], -number))
        here = np.flatnonzero(folds == fold)
        expected[here] = plain_f1(probs[here], targets.rows(here), rule)[best]
    found = cross_fitted_f1(probs, targets, folds, empty_truth=rule)
    np.testing.assert_array_equal(found, expected)


def test_the_labels_of_a_fold_do_not_choose_its_threshold() -> None:
    probs, targets = drawn(3)
    folds = np.arange(40) % 4
    changed = targets.matrix.toarray()
    changed[folds == 2] = np.random.default_rng(0).random((10, 7)) < 0.5
    other = Targets(matrix=csr_array(changed), n_outside=targets.n_outside)
    found = cross_fitted_f1(probs, other, folds, empty_truth="counted")
    # The fold's images are decided as before: at the threshold of the other folds' labels.
    chosen = best_threshold(f1_by_threshold(probs, targets, empty_truth="counted")[:, folds != 2])
    decided = csr_array(probs >= THRESHOLDS[chosen])
    expected = image_f1(other, decided, empty_truth="counted")
    np.testing.assert_array_equal(found[folds == 2], expected[folds == 2])


def test_a_held_out_image_changes_the_scores_of_the_others_only() -> None:
    probs, targets = drawn(4)
    folds = np.arange(40) % 4
    before = cross_fitted_f1(probs, targets, folds, empty_truth="counted")
    changed = targets.matrix.toarray()
    changed[0] = ~changed[0]
    after = cross_fitted_f1(
        probs,
        Targets(matrix=csr_array(changed), n_outside=targets.n_outside),
        folds,
        empty_truth="counted",
    )
    same_fold = folds == 0
    same_fold[0] = False
    np.testing.assert_array_equal(after[same_fold], before[same_fold])


def test_rows_in_another_order_score_the_same() -> None:
    probs, targets = drawn(5)
    order = np.random.default_rng(0).permutation(40)
    folds = np.arange(40) % 4
    scores = cross_fitted_f1(probs, targets, folds, empty_truth="left out")
    shuffled = cross_fitted_f1(
        probs[order], targets.rows(order), folds[order], empty_truth="left out"
    )
    np.testing.assert_array_equal(shuffled, scores[order])


def test_decided_at_takes_what_reaches_the_threshold_and_fills_what_is_empty() -> None:
    probs = np.array([[0.5, 0.49, 0.9], [0.1, 0.3, 0.2]], dtype=np.float32)
    assert decided_at(probs, 0.5).toarray().tolist() == [[True, False, True], [False] * 3]
    filled = decided_at(probs, 0.5, nomissing=True).toarray()
    assert filled.tolist() == [[True, False, True], [False, True, False]]
    assert decided_at(probs[:, :0], 0.5, nomissing=True).shape == (2, 0)


@pytest.mark.parametrize("rule", RULES)
def test_cross_fitted_decisions_have_the_cross_fitted_scores(rule: EmptyTruth) -> None:
    probs, targets = drawn(seed=3)
    folds = np.arange(40) % 3
    decided = cross_fitted_decisions(probs, targets, folds, empty_truth=rule)
    np.testing.assert_array_equal(
        image_f1(targets, decided, empty_truth=rule),
        cross_fitted_f1(probs, targets, folds, empty_truth=rule),
    )
