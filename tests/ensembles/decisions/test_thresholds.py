import json
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from core.editions import EmptyTruth
from core.errors import AlignmentError, ConfigError, LabelSpaceError
from core.labels import LabelSpace, Targets
from core.metrics import sample_f1
from ensembles.decisions.thresholds import (
    LevelChoice,
    Thresholds,
    Tuning,
    choose_thresholds,
    tune_by_category,
    tune_by_concept,
    tune_global,
)
from ensembles.pairs import Floats, LabelledPairs, to_csr
from ensembles.solvers.line_search import NEVER
from tests.ensembles.made_pairs import scored

LABELS = LabelSpace(("C1", "C2", "C3"))
THRESHOLDS = Thresholds(
    global_=0.3,
    by_category={"DRCT": 0.1},
    by_concept={"C3": float(np.float32(0.7)), "C1": NEVER},
    scores={"global": 0.5},
)


def test_the_concept_s_own_threshold_comes_before_the_category_s_and_the_global_one() -> None:
    probs = np.array([[0.9, 0.2, 0.6], [0.9, 0.2, 0.8]], dtype=np.float32)
    pairs = LabelledPairs.of(probs, LABELS.encode([("C1",), ("C2",)]))
    decided = THRESHOLDS.decided(pairs, categories=["DRCT", "DRXR"], labels=LABELS)
    # CT: C1 never, C2 from .1, C3 from .7; X-ray: C1 never, C2 from .3, C3 from .7
    assert decided.reshape(2, 3).tolist() == [[False, True, False], [False, False, True]]


def test_images_of_other_categories_take_the_global_threshold() -> None:
    values = THRESHOLDS.of_images(["DRCT", "", "DRXR"])
    assert values.tolist() == pytest.approx([0.1, 0.3, 0.3])


def test_concepts_without_their_own_threshold_have_none() -> None:
    values = THRESHOLDS.of_concepts(LABELS)
    assert values[[0, 2]].tolist() == pytest.approx([NEVER, 0.7])
    assert np.isnan(values[1])


def test_a_concept_of_another_label_space_is_refused() -> None:
    with pytest.raises(LabelSpaceError, match="1 of 2 concepts are not in the label space"):
        THRESHOLDS.of_concepts(LabelSpace(("C1", "C2")))


def test_the_level_is_the_finest_one_with_thresholds_of_its_own() -> None:
    assert Thresholds(global_=0.3).level == "global"
    assert Thresholds(global_=0.3, by_category={"DRCT": 0.2}).level == "category"
    assert THRESHOLDS.level == "concept"


def test_thresholds_survive_json_to_the_last_bit() -> None:
    again = Thresholds.from_json(json.loads(json.dumps(THRESHOLDS.to_json())))
    assert again == THRESHOLDS


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan")])
def test_a_threshold_that_takes_everything_is_refused(bad: float) -> None:
    with pytest.raises(ConfigError, match=r"must be above 0; not so: \['C2'\]"):
        Thresholds(global_=0.2, by_concept={"C2": bad})


SIX_LABELS = LabelSpace(tuple(f"C{i}" for i in range(6)))
TUNING = Tuning()


def simulated(
    n_images: int, *, seed: int = 0, shift: npt.NDArray[np.float64] | None = None
) -> tuple[Floats, Targets]:
    """Calibrated probabilities of six concepts, their log odds shifted by (N, L)."""
    rng = np.random.default_rng(seed)
    truth = rng.random((n_images, 6)) < 0.3
    truth[np.arange(n_images), rng.integers(0, 6, n_images)] = True
    logits = 2.0 * rng.standard_normal(truth.shape) + 4.0 * truth - 2.0
    probs = 1 / (1 + np.exp(-(logits + (0.0 if shift is None else shift))))
    rows, columns = np.nonzero(truth)
    matrix = to_csr(rows.astype(np.int32), columns.astype(np.int32), shape=truth.shape)
    return probs.astype(np.float32), Targets(
        matrix=matrix, n_outside=np.zeros(n_images, dtype=np.int32)
    )


def score(probs: Floats, targets: Targets, thresholds: Floats | float) -> float:
    rows, columns = np.nonzero(probs >= np.float32(thresholds))
    csr = to_csr(rows.astype(np.int32), columns.astype(np.int32), shape=probs.shape)
    return sample_f1(targets, csr, empty_truth="left out")


def choose(
    probs: Floats, targets: Targets, categories: list[str], tuning: Tuning = TUNING
) -> tuple[str, dict[str, float]]:
    choice = chosen(probs, targets, categories, tuning)
    scores = choice.thresholds.scores
    assert choice.level == choice.thresholds.level
    assert list(choice.image_f1) == list(scores) == ["global", "category", "concept"]
    for level, image_f1 in choice.image_f1.items():
        assert np.nanmean(image_f1) == pytest.approx(scores[level])
    return choice.level, dict(scores)


def chosen(
    probs: Floats, targets: Targets, categories: list[str], tuning: Tuning = TUNING
) -> LevelChoice:
    return choose_thresholds(
        probs,
        scored(targets, SIX_LABELS, categories=categories, folds=np.arange(len(targets)) % 4),
        tuning=tuning,
    )


def test_settings_are_those_of_the_documentation() -> None:
    assert Tuning() == Tuning(caution=2.0, min_true=5, margin=0.5, nomissing=False)


def test_the_global_threshold_takes_every_gain() -> None:
    # From .9 the first image scores 1, the second 0. From .5 the first has two wrong concepts and
    # scores 2*1/(1+3) = .5, the second finds one of four: 2*1/(4+1) = .4. Less a standard error,
    # 1 - 1 would be below .9 - sqrt(.25 + .16) = .26.
    probs = np.array([[0.9, 0.5, 0.5], [0.5, 0.0, 0.0]], dtype=np.float32)
    targets = LABELS.encode([("C1",), ("C1", "C7", "C8", "C9")])
    found = tune_global(LabelledPairs.of(probs, targets), empty_truth="left out")
    assert found == pytest.approx(0.7)


def test_images_without_truth_weigh_on_the_global_threshold_only_where_they_count() -> None:
    # One image is right, two have no truth: left out 1 against 0, counted 1 against 2.
    probs = np.full((3, 1), 0.8, dtype=np.float32)
    pairs = LabelledPairs.of(probs, LabelSpace(("C1",)).encode([("C1",), (), ()]))
    assert tune_global(pairs, empty_truth="left out") == pytest.approx(0.8)
    assert tune_global(pairs, empty_truth="counted") == NEVER
    # three right ones against two: a set that is empty as it should be scores 1
    probs = np.full((5, 1), 0.8, dtype=np.float32)
    pairs = LabelledPairs.of(probs, LabelSpace(("C1",)).encode([("C1",)] * 3 + [()] * 2))
    assert tune_global(pairs, empty_truth="counted") == pytest.approx(0.8)


def test_a_category_with_a_pair_at_the_start_gains_nothing_by_that_pair() -> None:
    probs = np.full((2, 1), 0.5, dtype=np.float32)
    pairs = LabelledPairs.of(probs, LabelSpace(("C1",)).encode([("C1",), ("C1",)]))
    for start, expected in ((0.5, {}), (0.6, {"DRCT": 0.5})):
        own = tune_by_category(
            pairs, ["DRCT", "DRCT"], start=start, empty_truth="left out", caution=0.0
        )
        assert own == pytest.approx(expected)


def test_a_concept_needs_min_true_true_pairs() -> None:
    probs = np.full((4, 1), 0.5, dtype=np.float32)
    pairs = LabelledPairs.of(probs, LabelSpace(("C1",)).encode([("C1",)] * 4))
    start = np.full(4, 0.6, dtype=np.float32)
    for min_true, expected in ((4, 0.5), (5, np.nan)):
        own = tune_by_concept(
            pairs, start=start, empty_truth="left out", caution=0.0, min_true=min_true
        )
        np.testing.assert_allclose(own, [expected])


def test_the_global_threshold_beats_a_fine_grid() -> None:
    probs, targets = simulated(200)
    best = tune_global(LabelledPairs.of(probs, targets), empty_truth="left out")
    grid = [score(probs, targets, t) for t in np.linspace(0.01, 0.99, 99)]
    assert score(probs, targets, best) >= max(grid)


def test_a_category_with_shifted_probabilities_gets_its_own_threshold() -> None:
    shift = np.where(np.arange(400) % 2 == 0, 0.0, 3.0)[:, None]
    probs, targets = simulated(400, shift=shift)
    categories = ["DRCT", "DRXR"] * 200
    pairs = LabelledPairs.of(probs, targets)
    own = tune_by_category(pairs, categories, start=0.4, empty_truth="left out", caution=2.0)
    assert "DRXR" in own
    assert own["DRXR"] > 0.6
    alone = tune_global(pairs.of_images(np.arange(400) % 2 == 1), empty_truth="left out")
    free = tune_by_category(pairs, categories, start=0.4, empty_truth="left out", caution=0.0)
    assert free["DRXR"] == alone


def test_a_category_whose_best_threshold_is_the_start_gets_none() -> None:
    probs, targets = simulated(300)
    pairs = LabelledPairs.of(probs, targets)
    start = tune_global(pairs, empty_truth="left out")
    assert (
        tune_by_category(pairs, ["DRCT"] * 300, start=start, empty_truth="left out", caution=2.0)
        == {}
    )


def test_a_concept_with_shifted_probabilities_gets_its_own_threshold() -> None:
    shift = np.where(np.arange(6) == 2, 4.0, 0.0)[None, :]
    probs, targets = simulated(400, shift=shift)
    pairs = LabelledPairs.of(probs, targets)
    base = np.full(400, 0.4, dtype=np.float32)
    own = tune_by_concept(pairs, start=base, empty_truth="left out", caution=2.0, min_true=5)
    assert own[2] > 0.8
    before = score(probs, targets, 0.4)
    assert score(probs, targets, np.where(np.isnan(own), 0.4, own).astype(np.float32)) > before


def test_more_caution_leaves_fewer_concepts_with_their_own_threshold() -> None:
    probs, targets = simulated(300)
    pairs = LabelledPairs.of(probs, targets)
    base = np.full(300, 0.3, dtype=np.float32)
    counts = [
        int(
            np.isfinite(
                tune_by_concept(
                    pairs, start=base, empty_truth="left out", caution=caution, min_true=5
                )
            ).sum()
        )
        for caution in (0.0, 1.0, 50.0)
    ]
    assert counts[0] >= counts[1] >= counts[2] == 0


def test_calibrated_probabilities_keep_the_global_threshold() -> None:
    probs, targets = simulated(400)
    level, scores = choose(probs, targets, ["DRCT", "DRXR"] * 200)
    assert level == "global"
    assert set(scores) == {"global", "category", "concept"}


def test_a_shift_of_a_category_is_found_and_pays_on_held_out_images() -> None:
    shift = np.where(np.arange(400) % 2 == 0, 0.0, 3.0)[:, None]
    probs, targets = simulated(400, shift=shift)
    level, scores = choose(probs, targets, ["DRCT", "DRXR"] * 200)
    assert level == "category"
    assert scores["category"] > scores["global"] + 0.02


def test_a_shift_of_concepts_is_found_without_categories() -> None:
    shift = np.where(np.arange(6) % 2 == 0, 0.0, 3.0)[None, :]
    probs, targets = simulated(400, shift=shift)
    level, scores = choose(probs, targets, [""] * 400)
    assert level == "concept"
    assert scores["concept"] > scores["global"] + 0.02


def test_an_unreachable_margin_keeps_the_global_threshold() -> None:
    shift = np.where(np.arange(6) % 2 == 0, 0.0, 3.0)[None, :]
    probs, targets = simulated(400, shift=shift)
    level, _ = choose(probs, targets, [""] * 400, replace(TUNING, margin=1e6))
    assert level == "global"


def test_thresholds_of_a_level_that_does_not_pay_are_known_and_told() -> None:
    shift = np.where(np.arange(6) % 2 == 0, 0.0, 3.0)[None, :]
    probs, targets = simulated(400, shift=shift)
    choice = chosen(probs, targets, [""] * 400, replace(TUNING, margin=1e6))
    assert choice.level == "global"
    assert not choice.thresholds.by_concept
    assert choice.tried["concept"].by_concept
    assert choice.tried["concept"].global_ == choice.thresholds.global_
    written = choice.to_json()
    assert written["level"] == "global"
    assert list(written["levels"]) == ["global", "category", "concept"]
    assert written["levels"]["concept"]["by_concept"] == choice.tried["concept"].by_concept


def test_filling_images_left_without_a_concept_only_helps_where_empty_truth_is_left_out() -> None:
    probs, targets = simulated(200, seed=3)
    plain = choose(probs, targets, [""] * 200)[1]
    filled = choose(probs, targets, [""] * 200, replace(TUNING, nomissing=True))[1]
    assert filled["global"] >= plain["global"]


def test_two_runs_choose_the_same_thresholds() -> None:
    probs, targets = simulated(150, seed=7)
    runs = [
        choose_thresholds(
            probs,
            scored(targets, SIX_LABELS, categories=["DRCT"] * 150, folds=np.arange(150) % 3),
            tuning=replace(TUNING, caution=0.0),
        )
        for _ in range(2)
    ]
    assert runs[0].thresholds == runs[1].thresholds
    np.testing.assert_array_equal(runs[0].image_f1["concept"], runs[1].image_f1["concept"])


@pytest.mark.parametrize(("empty_truth", "expected"), [("left out", 1.0), ("counted", 0.6)])
def test_images_without_truth_count_as_the_edition_has_it(
    empty_truth: EmptyTruth, expected: float
) -> None:
    # Of ten images six are sure and right. The others have no truth and look just as sure: left
    # out they cost nothing, counted each of them costs an image.
    probs = np.full((10, 1), 0.9, dtype=np.float32)
    targets = LabelSpace(("C1",)).encode([("C1",)] * 6 + [()] * 4)
    choice = choose_thresholds(
        probs,
        scored(targets, LabelSpace(("C1",)), folds=np.arange(10) % 2, empty_truth=empty_truth),
        tuning=Tuning(),
    )
    image_f1 = choice.image_f1[choice.level]
    assert choice.thresholds.global_ < NEVER
    assert np.nanmean(image_f1) == pytest.approx(expected)
    assert np.isnan(image_f1).sum() == (4 if empty_truth == "left out" else 0)


def test_images_without_folds_are_refused() -> None:
    probs, targets = simulated(10)
    with pytest.raises(AlignmentError, match="10 of 10 images have no fold"):
        choose_thresholds(
            probs,
            scored(targets, SIX_LABELS, folds=np.full(10, -1)),
            tuning=TUNING,
        )
