from pathlib import Path

import numba
import numpy as np
import pytest
from scipy.special import expit

from core.errors import PredictionsError
from ensembles.pairs import Bools
from ensembles.stacking.candidates import Candidates
from ensembles.stacking.forest import LightGBMStacker


def simulated(n: int = 2000) -> tuple[Candidates, Bools]:
    """Pairs whose mean log odds are right but for a threshold on another feature."""
    rng = np.random.default_rng(0)
    mean, other = rng.normal(-1, 1, (2, n)).astype(np.float32)
    true = rng.random(n) < expit(mean + np.where(other > 0, 3.0, 0.0))
    candidates = Candidates(
        rows=np.arange(n, dtype=np.int32),
        columns=np.zeros(n, dtype=np.int32),
        shape=(n, 1),
        features=np.column_stack([mean, other]),
        feature_names=("mean logit", "support"),
    )
    return candidates, np.asarray(true)


def test_the_forest_finds_what_the_mean_misses() -> None:
    candidates, true = simulated()
    probs = LightGBMStacker().fit(candidates, true).predict(candidates)
    added = np.log(probs / (1 - probs)) - candidates.feature("mean logit")
    step = candidates.feature("support") > 0
    assert added[step].mean() > 2.0
    assert abs(added[~step].mean()) < 0.5


def test_without_rounds_it_is_the_mean() -> None:
    candidates, true = simulated()
    probs = (
        LightGBMStacker(learning_rate=1e-12, n_rounds=1).fit(candidates, true).predict(candidates)
    )
    np.testing.assert_allclose(probs, expit(candidates.feature("mean logit")), rtol=1e-5)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_two_runs_agree_to_the_last_bit_with_any_number_of_threads(n_threads: int) -> None:
    candidates, true = simulated()
    first, second = (
        LightGBMStacker(n_rounds=10, n_threads=n).fit(candidates, true).predict(candidates)
        for n in (1, n_threads)
    )
    np.testing.assert_array_equal(first, second)


def test_of_more_pairs_as_many_as_are_wanted_are_drawn() -> None:
    candidates, true = simulated()
    drawn = LightGBMStacker(max_pairs=1500).fit(candidates, true)
    number = np.sort(np.random.default_rng(0).choice(2000, 1500, replace=False))
    chosen = np.zeros(2000, dtype=np.bool_)
    chosen[number] = True
    taken = LightGBMStacker().fit(candidates.take(chosen), true[chosen])
    np.testing.assert_array_equal(drawn.predict(candidates), taken.predict(candidates))


def test_two_threads_predict_what_one_predicts(monkeypatch: pytest.MonkeyPatch) -> None:
    candidates, true = simulated()
    stacker = LightGBMStacker().fit(candidates, true)
    found = []
    for n_threads in (1, 2):
        monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", n_threads)
        found.append(stacker.predict(candidates))
    np.testing.assert_array_equal(found[0], found[1])


def test_another_seed_draws_another_forest() -> None:
    candidates, true = simulated()
    first = LightGBMStacker().fit(candidates, true).predict(candidates)
    second = LightGBMStacker(seed=1).fit(candidates, true).predict(candidates)
    assert (first != second).any()


def test_few_pairs_give_a_forest_without_a_split_and_no_word() -> None:
    candidates, true = simulated(40)
    probs = LightGBMStacker().fit(candidates, true).predict(candidates)
    np.testing.assert_allclose(probs, expit(candidates.feature("mean logit")), atol=1e-6)


def test_no_pairs_have_no_probabilities() -> None:
    candidates, true = simulated()
    stacker = LightGBMStacker().fit(candidates, true)
    assert stacker.predict(candidates.take(np.zeros(2000, dtype=np.bool_))).shape == (0,)


def test_a_missing_forest_is_refused(tmp_path: Path) -> None:
    candidates, true = simulated()
    LightGBMStacker().fit(candidates, true).save(tmp_path)
    (tmp_path / "lightgbm.txt").unlink()
    with pytest.raises(PredictionsError, match=r"lightgbm\.txt: not a forest"):
        LightGBMStacker.load(tmp_path)
