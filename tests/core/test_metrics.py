"""Scores of decided concept sets."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy.sparse import csr_array
from sklearn.metrics import f1_score

from core.editions import EmptyTruth
from core.labels import LabelSpace, Targets
from core.metrics import (
    THRESHOLDS,
    Interval,
    ScoredImages,
    beats_by_margin,
    best_threshold,
    bootstrap,
    column_sums,
    cross_fitted_decisions,
    cross_fitted_f1,
    decided_at,
    f1_by_threshold,
    f1_of_pairs_by_threshold,
    group_numbers,
    image_f1,
    mean_in_order,
    recall_by_frequency,
    row_sums,
    sample_f1,
)
from core.predictions import Probs

SPACE = LabelSpace(("C1", "C2", "C3"))


@pytest.fixture
def targets() -> Targets:
    return SPACE.encode([("C1", "C2"), ("C3", "C9"), (), (), ("C9",)])


@pytest.fixture
def decided() -> csr_array:
    return SPACE.encode([("C1",), ("C1", "C3"), (), ("C2",), ()]).matrix


def random_case(
    seed: int, *, n_images: int = 60, n_concepts: int = 12
) -> tuple[Targets, csr_array, list[set[str]], list[set[str]]]:
    """A random truth, of which two concepts lie outside the space, and a random decision."""
    rng = np.random.default_rng(seed)
    names = [f"C{i}" for i in range(n_concepts)]
    shares = rng.random(n_images)
    true = [set(np.array(names)[rng.random(n_concepts) < share / 2].tolist()) for share in shares]
    found = [
        {name for name in names[:-2] if rng.random() < (0.7 if name in concepts else 0.1)}
        for concepts in true
    ]
    space = LabelSpace.of([names[:-2]])
    return space.encode([*true]), space.encode([*found]).matrix, true, found


def test_image_f1_by_hand(targets: Targets, decided: csr_array) -> None:
    # 2*1/(2+1); 2*1/(2+2), the concept outside the space missed; nothing true and nothing decided;
    # nothing true but one decided; only a concept outside is true, nothing decided.
    expected = [2 / 3, 1 / 2, 1.0, 0.0, 0.0]
    assert image_f1(targets, decided, empty_truth="counted").tolist() == expected


def test_images_without_a_true_concept_are_left_out_until_2020(
    targets: Targets, decided: csr_array
) -> None:
    scores = image_f1(targets, decided, empty_truth="left out")
    assert np.isnan(scores).tolist() == [False, False, True, True, False]
    assert scores[[0, 1, 4]].tolist() == [2 / 3, 1 / 2, 0.0]


def test_the_mean_is_over_the_images_that_are_not_left_out(
    targets: Targets, decided: csr_array
) -> None:
    assert sample_f1(targets, decided, empty_truth="left out") == (2 / 3 + 1 / 2 + 0.0) / 3
    assert sample_f1(targets, decided, empty_truth="counted") == (2 / 3 + 1 / 2 + 1.0 + 0 + 0) / 5


def looped_f1(true: list[set[str]], found: list[set[str]], *, empty_truth: EmptyTruth) -> float:
    """The evaluators' rule: scikit-learn on each image, added in order."""
    total, n = 0.0, 0
    for t, d in zip(true, found, strict=True):
        if empty_truth == "counted":
            t, d = t or {""}, d or {""}  # "".split(";") is [""]
        if t:
            both = sorted(t | d)
            total += f1_score([c in t for c in both], [c in d for c in both], average="binary")
            n += 1
    return total / n


@pytest.mark.parametrize("empty_truth", ["left out", "counted"])
@pytest.mark.parametrize("seed", range(5))
def test_sample_f1_is_the_evaluators_to_the_last_bit(seed: int, empty_truth: EmptyTruth) -> None:
    targets, decided, true, found = random_case(seed)
    assert sum(not t for t in true) > 0
    ours = sample_f1(targets, decided, empty_truth=empty_truth)
    assert ours == looped_f1(true, found, empty_truth=empty_truth)


def test_permuted_images_permute_their_scores() -> None:
    targets, decided, _, _ = random_case(0)
    order = np.random.default_rng(1).permutation(len(targets))
    before = image_f1(targets, decided, empty_truth="counted")
    after = image_f1(targets.rows(order), decided[order], empty_truth="counted")
    assert np.array_equal(after, before[order])


def test_different_shapes_are_refused(targets: Targets, decided: csr_array) -> None:
    with pytest.raises(ValueError, match=r"targets are \(5, 3\), decisions \(4, 3\)"):
        sample_f1(targets, decided[:4], empty_truth="counted")


def test_no_image_with_a_true_concept_is_refused(decided: csr_array) -> None:
    with pytest.raises(ValueError, match="the mean is not defined"):
        sample_f1(SPACE.encode([()] * 5), decided, empty_truth="left out")


def test_the_mean_is_added_one_after_the_other() -> None:
    # In this order each 1 is lost beside 1e16; pairwise summation would keep some of them.
    scores = np.array([1e16, *[1.0] * 1000])
    assert mean_in_order(scores) == 1e16 / 1001
    assert float(scores.sum()) > 1e16


def test_nothing_has_no_mean() -> None:
    with pytest.raises(ValueError, match="not defined"):
        mean_in_order(np.array([np.nan]))
    with pytest.raises(ValueError, match="not defined"):
        mean_in_order(np.array([]))


def test_recall_by_frequency_by_hand() -> None:
    targets = SPACE.encode([("C1", "C2"), ("C1", "C3", "C9")])
    decided = SPACE.encode([("C1",), ("C3",)]).matrix
    found = recall_by_frequency(
        targets, decided, n_train=np.array([0, 1, 30]), edges=(1, 2, 21, 101)
    )
    # C1 was never seen: 1 of 2 found; C9 lies outside the space and joins it: 1 of 3.
    assert list(found) == ["0", "1", "2-20", "21-100", "101+"]
    assert found["0"] == (1 / 3, 3)
    assert found["1"] == (0.0, 1)
    assert found["21-100"] == (1.0, 1)
    assert found["2-20"][1] == 0
    assert math.isnan(found["2-20"][0])


def test_the_buckets_begin_at_1_6_21_and_101_training_images() -> None:
    n_train = np.array([0, 1, 5, 6, 20, 21, 100, 101, 5000])
    space = LabelSpace(tuple(f"C{i}" for i in range(9)))
    targets = space.encode([space.cuis])
    found = recall_by_frequency(targets, space.encode([()]).matrix, n_train=n_train)
    assert {name: pairs for name, (_, pairs) in found.items()} == {
        **{"0": 1, "1-5": 2, "6-20": 2, "21-100": 2, "101+": 2}
    }


def test_every_true_pair_is_in_one_bucket() -> None:
    targets, decided, _, _ = random_case(3)
    n_train = np.arange(10) * 20
    buckets = recall_by_frequency(targets, decided, n_train=n_train)
    assert sum(pairs for _, pairs in buckets.values()) == targets.n_true.sum()


@pytest.mark.parametrize("n_resamples", [1, 31, 32, 33, 100])
def test_the_interval_is_that_of_a_plain_loop_over_resamples(n_resamples: int) -> None:
    scores = np.array([0.1, 0.9, np.nan, 0.4, 0.6, 0.3])
    parts = [[0.1, 0.6], [0.9], [0.4, 0.3]]  # of patients p, q, r
    groups = ["p", "q", "q", "r", "p", "r"]
    rng = np.random.default_rng(5)
    means = []
    for _ in range(n_resamples):
        drawn = [score for number in rng.integers(3, size=3) for score in parts[number]]
        means.append(sum(drawn) / len(drawn))
    found = bootstrap(scores, groups=groups, n_resamples=n_resamples, seed=5)
    expected = np.quantile(means, (0.025, 0.975))
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=1e-12)
    assert found.value == pytest.approx(2.3 / 5)


def test_2000_resamples_are_drawn_from_seed_0_unless_asked_otherwise() -> None:
    scores = np.random.default_rng(0).random(30)
    assert bootstrap(scores) == bootstrap(scores, n_resamples=2000, seed=0)
    assert bootstrap(scores) != bootstrap(scores, n_resamples=2001, seed=0)


def test_an_interval_holds_its_value_and_reads_as_one() -> None:
    interval = bootstrap(np.random.default_rng(0).random(400))
    assert interval.low < interval.value < interval.high
    assert interval.n == 400
    assert str(Interval(value=0.5, low=0.4, high=0.61239, n=9)) == "0.5000 [0.4000, 0.6124]"


def test_the_interval_has_the_width_of_the_normal_one() -> None:
    # For 2,000 independent scores: 2 * 1.96 * s / sqrt(n), within a twentieth of it.
    scores = np.random.default_rng(1).random(2000)
    interval = bootstrap(scores, n_resamples=4000)
    normal = 2 * 1.96 * scores.std() / math.sqrt(2000)
    assert interval.high - interval.low == pytest.approx(normal, rel=0.05)


def test_equal_seeds_give_equal_intervals_and_others_differ() -> None:
    scores = np.random.default_rng(0).random(50)
    assert bootstrap(scores, seed=3) == bootstrap(scores, seed=3)
    assert bootstrap(scores, seed=3) != bootstrap(scores, seed=4)


def test_images_left_out_change_nothing() -> None:
    scores = np.random.default_rng(0).random(50)
    groups = [f"g{i % 7}" for i in range(50)]
    holes = np.insert(scores, [0, 20], np.nan)
    filled = ["g9", *groups[:20], "g1", *groups[20:]]
    assert bootstrap(holes) == bootstrap(scores)
    assert bootstrap(holes, groups=filled) == bootstrap(scores, groups=groups)


def test_copies_within_a_group_do_not_narrow_the_interval() -> None:
    scores = np.random.default_rng(0).random(60)
    groups = [f"g{i:02d}" for i in range(60)]
    once = bootstrap(scores, groups=groups)
    copied = bootstrap(np.repeat(scores, 5), groups=np.repeat(groups, 5).tolist())
    assert copied.high - copied.low == pytest.approx(once.high - once.low)
    assert (copied.n, once.n) == (300, 60)
    naive = bootstrap(np.repeat(scores, 5))
    assert naive.high - naive.low < 0.6 * (once.high - once.low)


def test_groups_of_one_are_independent_images() -> None:
    scores = np.random.default_rng(0).random(40)
    groups = [f"g{i:02d}" for i in range(40)]
    assert bootstrap(scores, groups=groups) == bootstrap(scores)


def test_one_group_has_no_width() -> None:
    interval = bootstrap(np.array([0.0, 1.0]), groups=["p", "p"])
    assert (interval.low, interval.value, interval.high) == (0.5, 0.5, 0.5)


def test_only_scores_left_out_are_refused() -> None:
    with pytest.raises(ValueError, match="not defined"):
        bootstrap(np.array([np.nan, np.nan]))


def test_sums_count_true_entries_past_the_range_of_a_byte() -> None:
    dense: npt.NDArray[np.bool_] = np.ones((300, 2), dtype=np.bool_)
    assert column_sums(csr_array(dense)).tolist() == [300, 300]
    assert row_sums(csr_array(dense.T)).tolist() == [300, 300]
    assert row_sums(csr_array((0, 4), dtype=np.bool_)).tolist() == []


def test_an_image_of_group_nothing_is_a_group_by_itself() -> None:
    assert group_numbers(["", "a", "", "a", "b"]).tolist() == [0, 2, 1, 2, 3]
    scores = np.array([0.1, 0.9, 0.4, 0.6])
    alone = bootstrap(scores, groups=["", "", "", ""])
    assert alone == bootstrap(scores)
    assert alone.low < alone.high


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


def test_the_thresholds_are_the_even_hundredths_between_0_and_1() -> None:
    expected = [hundredths / 100 for hundredths in range(2, 100, 2)]
    np.testing.assert_allclose(THRESHOLDS, expected, rtol=1e-6)


def test_images_without_a_pair_score_as_images_of_which_nothing_is_decided() -> None:
    # Only the first of three images has pairs; the second misses a concept, the third has none.
    targets = SPACE.encode([("C1",), ("C1",), ()])
    found = f1_of_pairs_by_threshold(
        np.array([0]),
        np.array([0.01], dtype=np.float32),
        true=np.array([True]),
        targets=targets,
        empty_truth="counted",
    )
    assert found.tolist() == [[0.0, 0.0, 1.0]] * 49  # 0.01 is below every threshold


def test_more_images_than_are_looked_at_together_score_as_their_pairs() -> None:
    probs, targets = drawn(6, n=2100, n_concepts=3)  # of 1,024 at once
    rows, columns = np.nonzero(probs)
    true = targets.matrix.toarray()[rows, columns]
    found = f1_by_threshold(probs, targets, empty_truth="counted")
    pairs = f1_of_pairs_by_threshold(
        rows, probs[rows, columns], true=true, targets=targets, empty_truth="counted"
    )
    np.testing.assert_array_equal(found, pairs)


@pytest.mark.parametrize("rule", RULES)
def test_pairs_score_what_the_matrix_scores_that_is_0_elsewhere(rule: EmptyTruth) -> None:
    probs, targets = drawn(0)
    rows, columns = np.nonzero(probs)
    true = targets.matrix.toarray()[rows, columns]
    found = f1_of_pairs_by_threshold(
        rows, probs[rows, columns], true=true, targets=targets, empty_truth=rule
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
    found = cross_fitted_f1(probs, targets, folds=folds, empty_truth=rule)
    np.testing.assert_array_equal(found, expected)


def test_the_labels_of_a_fold_do_not_choose_its_threshold() -> None:
    probs, targets = drawn(3)
    folds = np.arange(40) % 4
    changed = targets.matrix.toarray()
    changed[folds == 2] = np.random.default_rng(0).random((10, 7)) < 0.5
    other = Targets(matrix=csr_array(changed), n_outside=targets.n_outside)
    found = cross_fitted_f1(probs, other, folds=folds, empty_truth="counted")
    # The fold's images are decided as before: at the threshold of the other folds' labels.
    chosen = best_threshold(f1_by_threshold(probs, targets, empty_truth="counted")[:, folds != 2])
    decided = csr_array(probs >= THRESHOLDS[chosen])
    expected = image_f1(other, decided, empty_truth="counted")
    np.testing.assert_array_equal(found[folds == 2], expected[folds == 2])


def test_a_held_out_image_changes_the_scores_of_the_others_only() -> None:
    probs, targets = drawn(4)
    folds = np.arange(40) % 4
    before = cross_fitted_f1(probs, targets, folds=folds, empty_truth="counted")
    changed = targets.matrix.toarray()
    changed[0] = ~changed[0]
    after = cross_fitted_f1(
        probs,
        Targets(matrix=csr_array(changed), n_outside=targets.n_outside),
        folds=folds,
        empty_truth="counted",
    )
    same_fold = folds == 0
    same_fold[0] = False
    np.testing.assert_array_equal(after[same_fold], before[same_fold])


def test_rows_in_another_order_score_the_same() -> None:
    probs, targets = drawn(5)
    order = np.random.default_rng(0).permutation(40)
    folds = np.arange(40) % 4
    scores = cross_fitted_f1(probs, targets, folds=folds, empty_truth="left out")
    shuffled = cross_fitted_f1(
        probs[order], targets.rows(order), folds=folds[order], empty_truth="left out"
    )
    np.testing.assert_array_equal(shuffled, scores[order])


def test_decided_at_takes_what_reaches_the_threshold_and_fills_what_is_empty() -> None:
    probs = np.array([[0.5, 0.49, 0.9], [0.1, 0.3, 0.2]], dtype=np.float32)
    assert decided_at(probs, 0.5).toarray().tolist() == [[True, False, True], [False] * 3]
    filled = decided_at(probs, 0.5, nomissing=True).toarray()
    assert filled.tolist() == [[True, False, True], [False, True, False]]
    assert decided_at(probs[:, :0], 0.5, nomissing=True).shape == (2, 0)
    low = np.array([[0.1, 0.3, 0.2], [0.4, 0.1, 0.0]], dtype=np.float32)
    both = decided_at(low, 0.5, nomissing=True).toarray()
    assert both.tolist() == [[False, True, False], [True, False, False]]


@pytest.mark.parametrize("rule", RULES)
def test_cross_fitted_decisions_have_the_cross_fitted_scores(rule: EmptyTruth) -> None:
    probs, targets = drawn(seed=3)
    folds = np.arange(40) % 3
    decided = cross_fitted_decisions(probs, targets, folds=folds, empty_truth=rule)
    np.testing.assert_array_equal(
        image_f1(targets, decided, empty_truth=rule),
        cross_fitted_f1(probs, targets, folds=folds, empty_truth=rule),
    )


def test_a_difference_wins_by_its_standard_errors() -> None:
    # mean 0.5, deviation 0.5, error 0.25: two errors above 0
    difference = np.array([0.0, 1.0, np.nan, 0.0, 1.0])
    assert beats_by_margin(difference, margin=1.9)
    assert not beats_by_margin(difference, margin=2.0)
    assert not beats_by_margin(-difference, margin=0.0)
    assert not beats_by_margin(np.zeros(3), margin=0.0)
    assert beats_by_margin(np.array([0.4, 0.5]), margin=0.0)


def test_no_margin_lets_a_difference_win_that_is_not_above_0() -> None:
    assert not beats_by_margin(np.array([-1.0, 1.0]), margin=-1.0)  # mean 0, error 0.7
    assert not beats_by_margin(np.array([-1.0, 0.9]), margin=-1.0)


def test_images_that_are_all_left_out_beat_nothing() -> None:
    assert not beats_by_margin(np.array([np.nan, np.nan]), margin=0.0)
    assert not beats_by_margin(np.array([]), margin=0.0)


def images_of_three() -> ScoredImages:
    return ScoredImages(
        targets=SPACE.encode([("C1",), ("C2",), ("C3",)]),
        labels=SPACE,
        categories=["DRCT", "DRXR", ""],
        groups=["p", "q", "r"],
        folds=np.array([0, 1, 2]),
        empty_truth="counted",
    )


@pytest.mark.parametrize("rows", [np.array([2, 0]), np.array([True, False, True])])
def test_images_are_taken_by_number_or_by_mask(rows: npt.NDArray[np.int64]) -> None:
    order = [2, 0] if rows[0] == 2 else [0, 2]
    taken = images_of_three().take(rows)
    assert len(taken) == 2
    assert taken.categories == [["DRCT", "DRXR", ""][number] for number in order]
    assert taken.groups == [["p", "q", "r"][number] for number in order]
    assert taken.folds.tolist() == order
    assert SPACE.decode(taken.targets.matrix) == [(SPACE.cuis[number],) for number in order]
    assert taken.empty_truth == "counted"
