from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from core.errors import AlignmentError, PredictionsError
from ensembles.pairs import Bools
from ensembles.stacking.candidates import Candidates
from ensembles.stacking.linear import LogisticStacker, MeanStacker
from ensembles.stacking.registry import STACKERS, load_stacker

NAMES = ("logit a", "logit b", "rank a", "rank b", "mean logit", "support")


def simulated(n_images: int = 300, *, seed: int = 0) -> tuple[Candidates, Bools]:
    """Pairs of six concepts: source a knows, source b guesses, concept 5 is truer than it looks.

    Source b covers every other image.
    """
    rng = np.random.default_rng(seed)
    n = 6 * n_images
    rows = np.repeat(np.arange(n_images, dtype=np.int32), 6)
    columns = np.tile(np.arange(6, dtype=np.int32), n_images)
    a, b, support = rng.normal(-0.5, 1.5, (3, n))
    true = rng.random(n) < expit(a + np.where(columns == 5, 2.0, 0.0))
    b[rows % 2 == 1] = np.nan
    mean = np.where(np.isnan(b), a, (a + b) / 2)
    features = np.column_stack([a, b, -a, -b, mean, support]).astype(np.float32)
    candidates = Candidates(
        rows=rows,
        columns=columns,
        shape=(n_images, 6),
        features=features,
        feature_names=NAMES,
    )
    return candidates, np.asarray(true)


def log_loss(true: Bools, probs: np.ndarray) -> float:
    return float(-np.mean(np.log(np.where(true, probs, 1 - probs))))


def test_the_mean_stacker_is_the_sigmoid_of_the_mean_log_odds() -> None:
    candidates, true = simulated(2)
    probs = MeanStacker().fit(candidates, true).predict(candidates)
    assert probs.dtype == np.float32
    np.testing.assert_allclose(probs, expit(candidates.feature("mean logit")), rtol=1e-6)


@pytest.mark.parametrize("name", STACKERS)
def test_a_stacker_gives_a_probability_for_every_pair(name: str) -> None:
    candidates, true = simulated()
    probs = STACKERS[name]().fit(candidates, true).predict(candidates)
    assert probs.shape == (len(candidates),)
    assert probs.dtype == np.float32
    assert probs.min() >= 0.0
    assert probs.max() <= 1.0


@pytest.mark.parametrize("name", ["logistic", "lightgbm", "lightgbm-large"])
def test_what_is_learned_beats_the_mean_on_other_images(name: str) -> None:
    candidates, true = simulated(600)
    others, their_truth = simulated(600, seed=1)
    learned = STACKERS[name]().fit(candidates, true).predict(others)
    plain = MeanStacker().fit(candidates, true).predict(others)
    assert log_loss(their_truth, learned) < log_loss(their_truth, plain) - 0.02


def test_the_logistic_stacker_is_scikit_learn_s_on_standardised_features() -> None:
    candidates, true = simulated()
    covered = np.flatnonzero(~np.isnan(np.asarray(candidates.features)).any(axis=1))
    mask = np.zeros(len(candidates), dtype=np.bool_)
    mask[covered] = True
    known, truth = candidates.take(mask), true[mask]
    found = LogisticStacker(ridge=5.0).fit(known, truth).predict(known)
    x = np.asarray(known.features).astype(np.float64)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    reference = LogisticRegression(C=0.2, tol=1e-9, max_iter=2000).fit(x, truth)
    np.testing.assert_allclose(found, reference.predict_proba(x)[:, 1], atol=2e-5)


def test_offsets_mend_a_concept_that_is_truer_than_it_looks() -> None:
    candidates, true = simulated(600)
    plain = LogisticStacker().fit(candidates, true)
    mended = LogisticStacker(offset_ridge=5.0).fit(candidates, true)
    assert not plain.offsets_.any()
    assert mended.offsets_.argmax() == 5
    assert mended.offsets_[5] > 1.0
    others, their_truth = simulated(600, seed=1)
    assert log_loss(their_truth, mended.predict(others)) < log_loss(
        their_truth, plain.predict(others)
    )


def test_a_feature_that_never_varies_does_no_harm() -> None:
    candidates, true = simulated()
    features = np.array(candidates.features)
    features[:, NAMES.index("support")] = 3.0
    flat = replace(candidates, features=features)
    assert np.isfinite(LogisticStacker().fit(flat, true).predict(flat)).all()


@pytest.mark.parametrize("name", STACKERS)
def test_a_saved_stacker_predicts_the_same_to_the_last_bit(name: str, tmp_path: Path) -> None:
    candidates, true = simulated()
    stacker = STACKERS[name]().fit(candidates, true)
    stacker.save(tmp_path)
    again = load_stacker(tmp_path)
    assert type(again) is type(stacker)
    np.testing.assert_array_equal(again.predict(candidates), stacker.predict(candidates))


def test_offsets_are_saved_too(tmp_path: Path) -> None:
    candidates, true = simulated()
    stacker = LogisticStacker(offset_ridge=5.0).fit(candidates, true)
    stacker.save(tmp_path)
    again = load_stacker(tmp_path)
    np.testing.assert_array_equal(again.predict(candidates), stacker.predict(candidates))


@pytest.mark.parametrize("name", ["logistic", "lightgbm"])
def test_features_of_other_sources_are_refused(name: str) -> None:
    candidates, true = simulated()
    stacker = STACKERS[name]().fit(candidates, true)
    renamed = replace(candidates, feature_names=("logit z", *NAMES[1:]))
    with pytest.raises(AlignmentError, match=r"different: \['logit a', 'logit z'\]"):
        stacker.predict(renamed)


@pytest.mark.parametrize("name", ["logistic", "lightgbm"])
def test_targets_without_a_true_pair_are_refused(name: str) -> None:
    candidates, true = simulated()
    with pytest.raises(PredictionsError, match="0 of 1800 candidate pairs are true"):
        STACKERS[name]().fit(candidates, np.zeros_like(true))


def test_an_unknown_or_incomplete_stacker_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "stacker.json"
    path.write_text('{"stacker": "magic"}', encoding="utf-8")
    with pytest.raises(PredictionsError, match="unknown stacker 'magic'; expected one of mean, gr"):
        load_stacker(tmp_path)
    path.write_text('{"stacker": "logistic"}', encoding="utf-8")
    with pytest.raises(PredictionsError, match=r"not a saved stacker \(KeyError: 'settings'\)"):
        load_stacker(tmp_path)
