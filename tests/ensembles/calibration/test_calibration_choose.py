"""Calibrations by concept: recovered where there is support, shared where there is none."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import expit

from core.errors import ConfigError, PredictionsError
from core.labels import LabelSpace
from ensembles.calibration.choose import (
    CALIBRATIONS,
    choose_calibration,
    fit_kind,
    from_json,
    reliability,
)
from ensembles.calibration.isotonic import IsotonicCalibration, fit_isotonic
from ensembles.calibration.temperature import Calibration, Calibrator
from ensembles.calibration.vector import VectorCalibration, fit_vector
from ensembles.pairs import Bools, Floats, Ints, LabelledPairs
from ensembles.solvers.logistic import logit
from tests.ensembles.made_pairs import scored

LABELS = LabelSpace(tuple(f"C{i:02d}" for i in range(40)))


def drawn(
    n: int, biases: npt.NDArray[np.float64], *, seed: int = 0
) -> tuple[Floats, Bools, Ints, npt.NDArray[np.float64]]:
    """Pairs whose concept's log odds are off by a bias, and their true probabilities."""
    rng = np.random.default_rng(seed)
    columns = np.sort(rng.integers(0, len(biases), n)).astype(np.int32)
    x = rng.normal(-1.5, 1.5, n)
    truth = expit(x + biases[columns])
    return expit(x).astype(np.float32), rng.random(n) < truth, columns, truth


def as_pairs(probs: Floats, true: Bools, columns: Ints, *, n_images: int) -> LabelledPairs:
    """The pairs dealt to images in turn."""
    rows = (np.arange(len(probs)) % n_images).astype(np.int32)
    order = np.lexsort((columns, rows))
    n_true = np.bincount(rows, weights=true, minlength=n_images).astype(np.int64)
    return LabelledPairs(
        rows=rows[order],
        columns=columns[order],
        probs=probs[order],
        true=true[order],
        n_true=n_true,
        shape=(n_images, len(LABELS)),
    )


def fitted(kind: str, probs: Floats, true: Bools, columns: Ints) -> Calibrator:
    return CALIBRATIONS[kind](probs, true, columns=columns, labels=LABELS)


def test_biases_of_concepts_are_found_and_those_of_rare_ones_drawn_to_all() -> None:
    biases = np.where(np.arange(40) % 2 == 0, 1.0, -1.0)
    probs, true, columns, truth = drawn(40_000, biases)
    few = np.flatnonzero(columns == 39)[12:]  # of concept 39 a dozen pairs
    keep = np.setdiff1d(np.arange(len(probs)), few)
    found = fit_vector(probs[keep], true[keep], columns=columns[keep], labels=LABELS)
    error = np.abs(found.of_pairs(probs, columns, labels=LABELS) - truth)
    assert error[columns < 39].mean() < 0.02
    plain = fitted("temperature", probs[keep], true[keep], columns[keep])
    plain_error = np.abs(plain.of_pairs(probs, columns, labels=LABELS) - truth)
    assert plain_error[columns < 39].mean() > 0.1


def test_concepts_that_do_not_differ_share_a_calibration() -> None:
    probs, true, columns, _ = drawn(20_000, np.zeros(40))
    found = fit_vector(probs, true, columns=columns, labels=LABELS)
    own = np.array(list(found.by_concept.values()))
    assert own[:, 0].std() < 0.05
    assert own[:, 1].std() < 0.1
    assert own.mean(axis=0).tolist() == pytest.approx([1.0, 0.0], abs=0.1)


def test_a_bent_distortion_is_straightened_by_isotonic_calibration_alone() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(-1, 2, 60_000)
    truth = expit(np.where(x < 0, 2 * x, 0.3 * x))
    columns = np.sort(rng.integers(0, 40, len(x))).astype(np.int32)
    probs, true = expit(x).astype(np.float32), rng.random(len(x)) < truth
    errors = {
        kind: np.abs(
            fitted(kind, probs, true, columns).of_pairs(probs, columns, labels=LABELS) - truth
        ).mean()
        for kind in CALIBRATIONS
    }
    assert errors["isotonic"] < 0.02 < errors["temperature"]


def test_isotonic_functions_rise_everywhere_and_a_rare_concept_takes_the_shared_one() -> None:
    probs, true, columns, _ = drawn(8000, np.linspace(-1, 1, 40))
    true = true & ((columns != 7) | (np.cumsum(columns == 7) < 30))
    found = fit_isotonic(probs, true, columns=columns, labels=LABELS)
    grid = np.linspace(1e-6, 1 - 1e-6, 5000, dtype=np.float32)
    for column in (0, 7):
        at = np.full(5000, column, dtype=np.int32)
        assert (np.diff(found.of_pairs(grid, at, labels=LABELS).astype(np.float64)) > 0).all()
    assert "C07" not in found.by_concept
    assert found.by_concept["C39"][0] == pytest.approx(
        true[columns == 39].sum() / (true[columns == 39].sum() + 50)
    )


def test_knots_worked_by_hand() -> None:
    found = IsotonicCalibration(
        shared=((-1.0, 1.0), (0.0, 3.0)), by_concept={"C01": (0.5, ((0.0,), (4.0,)))}
    )
    logits = np.array([-2.0, 0.0, 2.0])
    probs = expit(logits).astype(np.float32)
    shared = found.of_pairs(probs, np.zeros(3, np.int32), labels=LABELS)
    np.testing.assert_allclose(logit(shared), [-1.0, 1.5, 4.0], atol=1e-4)
    # half of its own function x + 4, half of the shared one
    own = found.of_pairs(probs, np.ones(3, np.int32), labels=LABELS)
    np.testing.assert_allclose(logit(own), [0.5, 2.75, 5.0], atol=1e-4)


@pytest.mark.parametrize("kind", list(CALIBRATIONS))
def test_every_kind_can_be_inverted_saved_and_leaves_the_ends_alone(
    kind: str, tmp_path: Path
) -> None:
    probs, true, columns, _ = drawn(20_000, np.linspace(-1, 1, 40))
    found = fitted(kind, probs, true, columns)
    back = found.inverse(0.02, labels=LABELS)
    forth = found.of_pairs(back, np.arange(40, dtype=np.int32), labels=LABELS)
    np.testing.assert_allclose(forth, 0.02, rtol=1e-3)
    ends = np.array([0.0, 1.0], dtype=np.float32)
    at = np.array([0, 39], dtype=np.int32)
    assert found.of_pairs(ends, at, labels=LABELS).tolist() == [0.0, 1.0]
    assert from_json(json.loads(json.dumps(found.to_json()))) == found


def test_the_calibration_that_pays_is_kept() -> None:
    offset = np.where(np.arange(40) % 2 == 0, 1.0, -1.0)
    probs, true, columns, _ = drawn(20_000, offset)
    folds = np.arange(500) % 5
    pairs = as_pairs(probs, true, columns, n_images=500)
    images = scored(LABELS.encode([()] * 500), LABELS, folds=folds)
    chosen = choose_calibration(pairs, images, margin=1.0)
    assert chosen.kind == "vector"
    assert list(chosen.log_loss) == ["temperature", "vector", "isotonic"]
    assert chosen.log_loss["vector"] < chosen.log_loss["temperature"]
    held_out = folds[pairs.rows] == 2
    own = fit_kind("vector", pairs.of_images(folds != 2), labels=LABELS)
    np.testing.assert_array_equal(
        chosen.calibrated[held_out],
        own.of_pairs(pairs.probs[held_out], pairs.columns[held_out], labels=LABELS),
    )
    never = choose_calibration(pairs, images, margin=1e6)
    assert never.kind == "temperature"


def test_the_simplest_is_kept_where_nothing_differs() -> None:
    probs, true, columns, _ = drawn(4000, np.zeros(40))
    pairs = as_pairs(probs, true, columns, n_images=100)
    images = scored(LABELS.encode([()] * 100), LABELS, folds=np.arange(100) % 5)
    chosen = choose_calibration(pairs, images, margin=1.0)
    assert chosen.kind == "temperature"


def test_what_cannot_be_calibrated_or_read_is_refused() -> None:
    probs = np.array([0.2, 0.4], dtype=np.float32)
    for kind in CALIBRATIONS:
        with pytest.raises(PredictionsError, match="0 of 2 candidate pairs are true"):
            fitted(kind, probs, np.zeros(2, np.bool_), np.zeros(2, np.int32))
    with pytest.raises(ConfigError, match="unknown calibration 'beta'"):
        from_json({"kind": "beta"})
    assert from_json({"temperature": 2.0, "bias": 0.0}) == Calibration(temperature=2.0)


def test_concepts_of_another_label_space_are_refused() -> None:
    calibration = VectorCalibration(shared=Calibration(), by_concept={"C99": (1.0, 0.0)})
    with pytest.raises(Exception, match="C99"):
        calibration.inverse(0.5, labels=LABELS)


def test_bins_of_reliability_worked_by_hand() -> None:
    probs = np.array([0.001, 0.002, 0.5, 0.55, 1.0], dtype=np.float32)
    bins = reliability(probs, np.array([False, False, True, False, True]))
    assert bins[:, [0, 1, 4]].tolist() == [[0.0, 0.005, 2], [0.5, 0.6, 2], [0.9, 1.0, 1]]
    assert bins[:, 3].tolist() == [0.0, 0.5, 1.0]
    assert bins[:, 2] == pytest.approx([0.0015, 0.525, 1.0])
