"""Scores of decided concept sets."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy.sparse import csr_array
from sklearn.metrics import f1_score

from core.labels import LabelSpace, Targets
from core.metrics import (
    EmptyTruth,
    Interval,
    bootstrap,
    column_sums,
    concept_f1,
    group_numbers,
    image_f1,
    macro_f1,
    mean_in_order,
    micro_f1,
    recall_by_frequency,
    row_sums,
    sample_f1,
)

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


def test_micro_and_macro_by_hand(targets: Targets, decided: csr_array) -> None:
    # True pairs 5 (two outside), decided pairs 4, both 2 (C1 on the first, C3 on the second).
    assert micro_f1(targets, decided) == 2 * 2 / (5 + 4)
    # C1: 2*1/(1+2); C2: 2*0/(1+1); C3: 2*1/(1+1).
    assert concept_f1(targets, decided).tolist() == [2 / 3, 0.0, 1.0]
    assert macro_f1(targets, decided) == pytest.approx((2 / 3 + 0 + 1) / 3)


@pytest.mark.parametrize("seed", range(3))
def test_micro_and_macro_agree_with_scikit_learn(seed: int) -> None:
    targets, decided, _, _ = random_case(seed, n_images=200)
    inside = Targets(targets.matrix, np.zeros(200, dtype=np.int32))
    y_true, y_pred = targets.matrix.toarray(), decided.toarray()
    assert micro_f1(inside, decided) == pytest.approx(f1_score(y_true, y_pred, average="micro"))
    assert macro_f1(inside, decided) == pytest.approx(f1_score(y_true, y_pred, average="macro"))


def test_a_concept_never_true_is_no_part_of_macro() -> None:
    targets, decided = SPACE.encode([("C1",)]), SPACE.encode([("C1", "C2")]).matrix
    assert np.isnan(concept_f1(targets, decided)).tolist() == [False, True, True]
    assert macro_f1(targets, decided) == 1.0
    nothing = SPACE.encode([()])
    assert math.isnan(macro_f1(nothing, decided))
    assert micro_f1(nothing, nothing.matrix) == 1.0
    assert micro_f1(nothing, decided) == 0.0


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


def test_every_true_pair_is_in_one_bucket() -> None:
    targets, decided, _, _ = random_case(3)
    n_train = np.arange(10) * 20
    buckets = recall_by_frequency(targets, decided, n_train=n_train)
    assert sum(pairs for _, pairs in buckets.values()) == targets.n_true.sum()


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
