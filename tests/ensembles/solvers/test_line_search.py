"""Every search is compared with scoring each threshold anew."""

import numpy as np
import numpy.typing as npt
import pytest

from core.editions import EmptyTruth
from core.labels import Targets
from core.metrics import image_f1
from ensembles.pairs import Bools, Floats, LabelledPairs, to_csr
from ensembles.solvers.line_search import NEVER, best_concept_thresholds, search_threshold

WHEN_EMPTY: dict[EmptyTruth, float] = {"left out": 0.0, "counted": 1.0}
Sums = npt.NDArray[np.float64]


def problem(seed: int, *, n_images: int = 12, n_concepts: int = 5) -> tuple[Floats, Targets]:
    """Probabilities with many ties, two images without truth, some truth outside the space."""
    rng = np.random.default_rng(seed)
    truth = rng.random((n_images, n_concepts)) < 0.4
    truth[:2] = False
    probs = np.round(np.clip(0.3 * truth + 0.7 * rng.random(truth.shape), 0, 1), 1)
    rows, columns = np.nonzero(truth)
    matrix = to_csr(rows.astype(np.int32), columns.astype(np.int32), shape=truth.shape)
    n_outside = rng.integers(0, 2, n_images).astype(np.int32)
    n_outside[:2] = 0
    return probs.astype(np.float32), Targets(matrix=matrix, n_outside=n_outside)


def f1_sum(targets: Targets, decided: Bools, empty_truth: EmptyTruth) -> float:
    rows, columns = np.nonzero(decided)
    csr = to_csr(rows.astype(np.int32), columns.astype(np.int32), shape=decided.shape)
    return float(np.nansum(image_f1(targets, csr, empty_truth=empty_truth)))


def search(
    pairs: LabelledPairs, reference: Sums, caution: float, when_empty: float
) -> tuple[float, float]:
    order = pairs.by_prob
    return search_threshold(
        pairs.rows[order],
        pairs.probs[order],
        pairs.true[order],
        pairs.n_true,
        reference,
        caution,
        when_empty,
    )


def ascend(
    pairs: LabelledPairs,
    base: Floats,
    *,
    caution: float,
    min_true: int,
    sweeps: int,
    when_empty: float,
) -> tuple[Floats, int]:
    order = pairs.by_concept
    return best_concept_thresholds(
        pairs.concept_starts,
        pairs.rows[order],
        pairs.probs[order],
        pairs.true[order],
        pairs.n_true,
        base,
        caution,
        min_true,
        sweeps,
        when_empty,
    )


def test_the_threshold_of_a_hand_worked_case_lies_between_the_pairs_it_parts() -> None:
    # Image 0: concepts at .9 (true) and .4 (false); image 1: .6 (true) and .5 (true).
    # From 0.9: 1 + 0, from 0.6: 1 + 2/3, from 0.5: 1 + 1, from 0.4: 2/3 + 1.
    probs = np.array([[0.9, 0.4], [0.6, 0.5]], dtype=np.float32)
    truth = to_csr(
        np.array([0, 1, 1], dtype=np.int32), np.array([0, 0, 1], dtype=np.int32), shape=(2, 2)
    )
    pairs = LabelledPairs.of(probs, Targets(matrix=truth, n_outside=np.zeros(2, dtype=np.int32)))
    threshold, total = search(pairs, np.zeros(2), 0.0, 0.0)
    assert threshold == pytest.approx(0.45)
    assert total == pytest.approx(2.0)


@pytest.mark.parametrize("empty_truth", ["left out", "counted"])
@pytest.mark.parametrize("seed", range(10))
def test_no_other_threshold_for_all_pairs_scores_higher(seed: int, empty_truth: EmptyTruth) -> None:
    probs, targets = problem(seed)
    pairs = LabelledPairs.of(probs, targets)
    threshold, total = search(pairs, np.zeros(12), 0.0, WHEN_EMPTY[empty_truth])
    values = [NEVER, *np.unique(probs[probs > 0])]
    sums = [f1_sum(targets, probs >= np.float32(v), empty_truth) for v in values]
    assert total == pytest.approx(max(sums), abs=1e-9)
    decided = (probs >= np.float32(threshold)) & (probs > 0)
    assert f1_sum(targets, decided, empty_truth) == pytest.approx(max(sums), abs=1e-9)


def test_nothing_is_decided_where_every_decision_is_wrong() -> None:
    probs = np.array([[0.9]], dtype=np.float32)
    nothing = to_csr(np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.int32), shape=(1, 1))
    targets = Targets(matrix=nothing, n_outside=np.array([1], dtype=np.int32))
    assert search(LabelledPairs.of(probs, targets), np.zeros(1), 0.0, 0.0) == (NEVER, 0.0)


@pytest.mark.parametrize("caution", [0.5, 1.0, 2.0])
def test_a_cautious_threshold_maximises_the_gain_less_its_error(caution: float) -> None:
    for seed in range(10):
        probs, targets = problem(seed, n_images=30)
        pairs = LabelledPairs.of(probs, targets)
        reference = pairs.image_f1(pairs.probs >= np.float32(0.5), empty_truth="counted")
        _, best = search(pairs, reference, caution, 1.0)
        objectives = []
        for value in [NEVER, *np.unique(pairs.probs)]:
            change = pairs.image_f1(pairs.probs >= value, empty_truth="counted") - reference
            objectives.append(change.sum() - caution * np.sqrt((change**2).sum()))
        # the root turns rounding of 1e-15 in a sum that should be 0 into 3e-8
        assert best == pytest.approx(max(objectives), abs=1e-6)


def with_own(probs: Floats, base: Floats, own: Floats) -> Bools:
    """(N, L) decisions: the concept's own threshold, else the image's."""
    thresholds = np.where(np.isnan(own)[None, :], base[:, None], own[None, :])
    return np.asarray((probs >= thresholds) & (probs > 0))


@pytest.mark.parametrize("empty_truth", ["left out", "counted"])
@pytest.mark.parametrize("seed", range(10))
def test_after_the_ascent_no_threshold_of_one_concept_can_be_bettered(
    seed: int, empty_truth: EmptyTruth
) -> None:
    probs, targets = problem(seed)
    pairs = LabelledPairs.of(probs, targets)
    base = np.where(np.arange(12) % 2 == 0, 0.4, 0.6).astype(np.float32)
    own, sweeps = ascend(
        pairs, base, caution=0.0, min_true=0, sweeps=20, when_empty=WHEN_EMPTY[empty_truth]
    )
    assert sweeps < 20
    reached = f1_sum(targets, with_own(probs, base, own), empty_truth)
    start = f1_sum(targets, with_own(probs, base, np.full(5, np.nan)), empty_truth)
    assert reached >= start - 1e-9
    for concept in range(5):
        for value in [np.nan, NEVER, *np.unique(probs[:, concept])]:
            tried = own.copy()
            tried[concept] = value
            score = f1_sum(targets, with_own(probs, base, tried), empty_truth)
            assert score <= reached + 1e-8


@pytest.mark.parametrize("caution", [0.0, 1.0])
def test_one_concept_gets_the_threshold_with_the_best_objective_over_its_base(
    caution: float,
) -> None:
    for seed in range(20):
        probs, targets = problem(seed, n_images=40, n_concepts=1)
        pairs = LabelledPairs.of(probs, targets)
        base = np.where(np.arange(40) % 2 == 0, 0.2, 0.7).astype(np.float32)
        own, _ = ascend(pairs, base, caution=caution, min_true=0, sweeps=1, when_empty=1.0)
        start = pairs.image_f1(pairs.probs >= base[pairs.rows], empty_truth="counted")

        def objective(
            threshold: float, pairs: LabelledPairs = pairs, base: Floats = base, start: Sums = start
        ) -> float:
            limits = base[pairs.rows] if np.isnan(threshold) else np.float32(threshold)
            change = pairs.image_f1(pairs.probs >= limits, empty_truth="counted") - start
            return float(change.sum() - caution * np.sqrt((change**2).sum()))

        values = [np.nan, NEVER, *np.unique(pairs.probs).tolist()]
        assert objective(float(own[0])) == pytest.approx(max(map(objective, values)), abs=1e-9)


def test_a_concept_with_few_true_pairs_stays_at_the_base() -> None:
    probs, targets = problem(3, n_images=40)
    pairs = LabelledPairs.of(probs, targets)
    base = np.full(40, 0.95, dtype=np.float32)
    counts = np.bincount(pairs.columns[pairs.true], minlength=5)
    least = int(np.sort(counts)[2])
    own, _ = ascend(pairs, base, caution=0.0, min_true=least, sweeps=20, when_empty=0.0)
    np.testing.assert_array_equal(np.isnan(own), counts < least)


def test_the_order_of_the_images_changes_no_threshold() -> None:
    probs, targets = problem(5, n_images=40)
    base = np.full(40, 0.5, dtype=np.float32)
    shuffled = np.random.default_rng(0).permutation(40)
    found = [
        ascend(LabelledPairs.of(p, t), base, caution=1.0, min_true=0, sweeps=20, when_empty=0.0)[0]
        for p, t in ((probs, targets), (probs[shuffled], targets.rows(shuffled)))
    ]
    np.testing.assert_array_equal(found[0], found[1])


def one_concept(
    probs: list[float],
    true: list[bool],
    *,
    n_true: list[int],
    base: float,
    caution: float,
    when_empty: float = 0.0,
) -> tuple[float, int]:
    """Threshold of the only concept, of which every image has a pair, and the sweeps."""
    found, sweeps = best_concept_thresholds(
        np.array([0, len(probs)]),
        np.arange(len(probs), dtype=np.int32),
        np.array(probs, dtype=np.float32),
        np.array(true),
        np.array(n_true),
        np.full(len(probs), base, dtype=np.float32),
        caution,
        0,
        20,
        when_empty,
    )
    return float(found[0]), sweeps


def test_a_pair_at_the_base_is_decided_there() -> None:
    # The first is right already, so one image gains: 1 - .8 * 1 = .2 for a threshold of .6. Were
    # it not, two would: 2 - .8 * sqrt(2), and .7 would pay as well.
    found, sweeps = one_concept([0.7, 0.6], [True, True], n_true=[1, 1], base=0.7, caution=0.8)
    assert found == pytest.approx(0.6)
    assert sweeps == 2  # the second moves nothing
    assert np.isnan(one_concept([0.7], [True], n_true=[1], base=0.7, caution=0.0)[0])


def test_a_gain_of_nothing_moves_no_threshold() -> None:
    # A wrong concept more: 0 stays 0. Deciding it nowhere changes nothing either.
    found, sweeps = one_concept([0.5], [False], n_true=[1], base=0.7, caution=0.0)
    assert np.isnan(found)
    assert sweeps == 1
    # On an empty truth it costs 1, where such images count.
    costly = one_concept([0.5], [False], n_true=[0], base=0.7, caution=0.0, when_empty=1.0)
    assert np.isnan(costly[0])
    dropped = one_concept([0.8], [False], n_true=[0], base=0.7, caution=0.0, when_empty=1.0)
    assert dropped[0] == NEVER


def test_of_equal_thresholds_the_highest_is_found() -> None:
    # The second pair is wrong on an image of which nothing was right: 1 + 0 either way.
    found, total = search_threshold(
        np.array([0, 1], dtype=np.int32),
        np.array([0.9, 0.5], dtype=np.float32),
        np.array([True, False]),
        np.array([1, 1]),
        np.zeros(2),
        0.0,
        0.0,
    )
    assert found == pytest.approx(0.7)
    assert total == pytest.approx(1.0)


@pytest.mark.parametrize("steps", [0, 1])
def test_between_neighbouring_numbers_there_is_only_the_higher_one(steps: int) -> None:
    # Their middle is rounded to the even one of the two, once the lower and once the higher.
    low = np.float32(0.5)
    for _ in range(steps):
        low = np.nextafter(low, np.float32(1))
    high = np.nextafter(low, np.float32(1))
    found, _ = search_threshold(
        np.array([0, 1], dtype=np.int32),
        np.array([high, low], dtype=np.float32),
        np.array([True, False]),
        np.array([1, 0]),
        np.zeros(2),
        0.0,
        1.0,
    )
    assert found == float(high)


def test_a_concept_without_pairs_is_passed_over() -> None:
    # C1 and C3 have none, C2 and C4 one each that is right below the base.
    found, _ = best_concept_thresholds(
        np.array([0, 0, 1, 1, 2]),
        np.array([0, 1], dtype=np.int32),
        np.array([0.5, 0.4], dtype=np.float32),
        np.array([True, True]),
        np.array([1, 1]),
        np.full(2, 0.7, dtype=np.float32),
        0.0,
        0,
        20,
        0.0,
    )
    np.testing.assert_allclose(found, [np.nan, 0.5, np.nan, 0.4])


def test_deciding_nothing_costs_its_error_as_well() -> None:
    # One image of three concepts scored .5. Nothing scores 0: -.5 - 2 * .5 = -1.5. One that is
    # right scores 2*1/(1+3) = .5 again: no change.
    rows, probs = np.array([0], dtype=np.int32), np.array([0.9], dtype=np.float32)
    for n_pairs, expected in ((1, (0.9, 0.0)), (0, (NEVER, -1.5))):
        found = search_threshold(
            rows[:n_pairs],
            probs[:n_pairs],
            np.array([True])[:n_pairs],
            np.array([3]),
            np.array([0.5]),
            2.0,
            0.0,
        )
        assert found == pytest.approx(expected)
