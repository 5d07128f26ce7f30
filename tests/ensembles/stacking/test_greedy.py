"""Greedy selection, against a search in plain lines."""

from pathlib import Path

import numba
import numpy as np
import pytest
from scipy.special import expit, logit

from core.errors import PredictionsError
from ensembles.pairs import Bools, Floats
from ensembles.stacking.candidates import Candidates
from ensembles.stacking.greedy import LOWEST, N_THRESHOLDS, STEP, GreedyStacker, score_picks
from ensembles.stacking.registry import load_stacker

NAN = np.nan
NAMES = ("logit a", "logit b", "logit c", "rank a", "rank b", "rank c", "mean logit")


def candidates(logits: Floats, rows: np.ndarray, *, n_images: int) -> Candidates:
    """Pairs of three members; the ranks say nothing."""
    mean = np.nanmean(logits, axis=1)
    return Candidates(
        rows=rows.astype(np.int32),
        columns=np.zeros(len(rows), dtype=np.int32),
        shape=(n_images, 1),
        features=np.column_stack([logits, logits * NAN, mean]).astype(np.float32),
        feature_names=NAMES,
    )


def simulated(
    noises: tuple[float, float, float], n_images: int = 200, *, seed: int = 0
) -> tuple[Candidates, Bools]:
    """Eight pairs an image, seen by three members under noise; every image has a true pair."""
    rng = np.random.default_rng(seed)
    rows = np.repeat(np.arange(n_images), 8)
    true = rng.random(len(rows)) < 0.3
    true[::8] = True
    noise = rng.standard_normal((len(rows), 3)) * noises
    logits = (np.where(true, 1.0, -1.0)[:, None] + noise).astype(np.float32)
    return candidates(logits, rows, n_images=n_images), true


def sample_f1_in_plain_lines(values: Floats, true: Bools, rows: np.ndarray) -> float:
    best = 0.0
    for t in range(N_THRESHOLDS):
        decided = values >= LOWEST + t * STEP
        total, n_images = 0.0, len(np.unique(rows))
        for i in np.unique(rows):
            own = rows == i
            n_both = (decided & true)[own].sum()
            total += 2 * n_both / (decided[own].sum() + true[own].sum())
        best = max(best, total / n_images)
    return best


def test_the_scores_of_all_picks_are_those_of_a_search_in_plain_lines() -> None:
    rng = np.random.default_rng(0)
    rows = np.repeat(np.arange(30), 4)
    logits = rng.normal(-1, 3, (120, 3)).astype(np.float32)
    logits[rng.random((120, 3)) < 0.3] = NAN
    true = rng.random(120) < 0.4
    true[::4] = True
    rest = rng.standard_normal(120).astype(np.float32)
    n_covering = rng.integers(0, 3, 120).astype(np.float32)
    total = np.where(n_covering > 0, rng.normal(-1, 3, 120), 0).astype(np.float32)
    n_true = np.bincount(rows, true)
    found = score_picks(np.arange(31) * 4, logits, true, rest, n_true, total, n_covering)
    for m in range(3):
        z = logits[:, m]
        n_after = n_covering + ~np.isnan(z)
        values = np.where(
            n_after > 0, (total + np.nan_to_num(z)) / np.maximum(n_after, 1), rest
        ).astype(np.float32)
        expected = sample_f1_in_plain_lines(values, true, rows)
        assert found[m] == pytest.approx(expected, abs=1e-12)


def test_who_knows_has_a_say_and_who_guesses_has_none() -> None:
    pairs, true = simulated((0.8, 0.8, 30.0))
    a, b, c = GreedyStacker(share=1.0).fit(pairs, true).weights_
    assert a + b + c == pytest.approx(1.0)
    assert min(a, b) > 0.2
    assert c < 0.05


def test_it_beats_the_mean_where_a_member_spoils_it() -> None:
    pairs, true = simulated((0.8, 1.0, 10.0))
    others, their_truth = simulated((0.8, 1.0, 10.0), seed=1)
    learned = logit(GreedyStacker().fit(pairs, true).predict(others))
    plain = others.feature("mean logit")
    better = sample_f1_in_plain_lines(learned, their_truth, others.rows)
    assert better > sample_f1_in_plain_lines(plain, their_truth, others.rows) + 0.1


def test_a_member_that_does_not_cover_a_pair_has_no_say() -> None:
    stacker = GreedyStacker()
    stacker.feature_names_ = NAMES
    stacker.weights_ = np.array([0.25, 0.75, 0.0])
    logits = np.array([[1.0, 2.0, 9.0], [1.0, NAN, 9.0], [NAN, NAN, 3.0]], dtype=np.float32)
    probs = stacker.predict(candidates(logits, np.arange(3), n_images=3))
    # 0.25 x 1 + 0.75 x 2; 1 alone; nobody with a weight: the mean of those that do
    np.testing.assert_allclose(probs, expit([1.75, 1.0, 3.0]), rtol=1e-6)


def test_pairs_below_all_thresholds_change_nothing_but_the_time() -> None:
    pairs, true = simulated((0.8, 1.0, 2.0))
    low = np.full((400, 3), -7.0, dtype=np.float32)
    low[:, 1] = NAN
    logits = np.concatenate([np.asarray(pairs.features)[:, :3], low])
    rows = np.concatenate([pairs.rows, np.repeat(np.arange(200), 2)])
    order = np.argsort(rows, kind="stable")
    more = candidates(logits[order], rows[order], n_images=200)
    none = np.concatenate([true, np.zeros(400, dtype=np.bool_)])[order]
    found = GreedyStacker().fit(more, none).weights_
    np.testing.assert_array_equal(found, GreedyStacker().fit(pairs, true).weights_)


def test_two_threads_pick_what_one_picks(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs, true = simulated((1.5, 1.6, 1.7))
    found = []
    for n_threads in (1, 2):
        monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", n_threads)
        found.append(GreedyStacker().fit(pairs, true).weights_)
    np.testing.assert_array_equal(found[0], found[1])


def test_the_seed_decides_and_nothing_else() -> None:
    pairs, true = simulated((1.5, 1.6, 1.7))
    first, again, other = (GreedyStacker(seed=s).fit(pairs, true).weights_ for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_saved_one_predicts_the_same(tmp_path: Path) -> None:
    pairs, true = simulated((0.8, 2.0, 3.0))
    stacker = GreedyStacker().fit(pairs, true)
    stacker.save(tmp_path)
    np.testing.assert_array_equal(load_stacker(tmp_path).predict(pairs), stacker.predict(pairs))


def test_pairs_of_which_none_is_true_are_refused() -> None:
    pairs, true = simulated((1.0, 1.0, 1.0))
    with pytest.raises(PredictionsError, match="0 of 1600 candidate pairs are true"):
        GreedyStacker().fit(pairs, np.zeros_like(true))
