"""Compiled features against numpy in plain lines."""

import numba
import numpy as np
import pytest

from core.labels import LabelSpace
from ensembles.background import Background
from ensembles.pair_features import (
    fill_log_ranks,
    fill_mass_and_support,
    fill_prior,
    fill_summaries,
)
from ensembles.stacking.candidates import make_candidates
from ensembles.stacking.sources import Source

RNG = np.random.default_rng(0)
STARTS = np.array([0, 3, 3, 10, 40])
N = 40
LOGITS = np.round(RNG.normal(-2, 2, (N, 5)), 1).astype(np.float32)  # with ties
LOGITS[RNG.random((N, 5)) < 0.3] = np.nan
LOGITS[:, 0] = RNG.normal(-2, 2, N)  # one covers all
COLUMNS = np.concatenate(
    [np.sort(RNG.choice(50, n, replace=False)) for n in np.diff(STARTS)]
).astype(np.int32)
ROWS = np.repeat(np.arange(4), np.diff(STARTS))


def test_ranks_count_the_higher_values_of_the_image() -> None:
    values = LOGITS[:, 1]
    out = np.empty(N, dtype=np.float32)
    logs = np.log1p(np.arange(31)).astype(np.float32)
    fill_log_ranks(STARTS, np.ascontiguousarray(values), logs, out)
    expected = [
        np.nan if np.isnan(values[k]) else np.log1p((values[ROWS[k] == ROWS] > values[k]).sum())
        for k in range(N)
    ]
    np.testing.assert_allclose(out, expected, rtol=1e-6)


def test_summaries_are_numpy_s_without_the_missing() -> None:
    out = np.empty((N, 6), dtype=np.float32)
    fill_summaries(LOGITS, out)
    z = LOGITS.astype(np.float64)
    expected = [
        np.nanmean(z, axis=1),
        np.nanmax(z, axis=1),
        np.nanmin(z, axis=1),
        np.nanstd(z, axis=1),
        (~np.isnan(z)).sum(axis=1),
    ]
    np.testing.assert_allclose(out[:, :5], np.column_stack(expected), rtol=1e-5, atol=1e-6)


def test_the_prior_is_the_mixture_of_the_categories() -> None:
    weights = RNG.dirichlet(np.ones(3), 4).astype(np.float32)
    prior = RNG.random((3, 50)).astype(np.float32)
    out = np.empty(N, dtype=np.float32)
    fill_prior(STARTS, COLUMNS, weights, prior, out)
    np.testing.assert_allclose(out, (weights @ prior)[ROWS, COLUMNS], rtol=1e-5)


def test_support_is_the_weighted_mean_over_the_other_pairs_of_the_image() -> None:
    probs = RNG.random(N).astype(np.float32)
    given, rate = RNG.random((50, 50)).astype(np.float32), RNG.random(50).astype(np.float32)
    out = np.empty((N, 2), dtype=np.float32)
    fill_mass_and_support(STARTS, COLUMNS, probs, given, rate, out)
    for k in range(N):
        others = (ROWS[k] == ROWS) & (np.arange(N) != k)
        total = 1e-3 * rate[COLUMNS[k]] + probs[others] @ given[COLUMNS[others], COLUMNS[k]]
        assert out[k, 0] == pytest.approx(probs[ROWS[k] == ROWS].sum(), rel=1e-5)
        assert out[k, 1] == pytest.approx(total / (1e-3 + probs[others].sum()), rel=1e-5)


def test_two_threads_make_the_candidates_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = LabelSpace(tuple(f"C{c}" for c in range(8)))
    truth = labels.encode([[f"C{i % 8}"] for i in range(600)])
    background = Background.of(truth, ["DRCT"] * 600)
    numbers = np.arange(600, dtype=np.int32)
    sources = [
        Source(name=n, probs=RNG.random((600, 8), np.float32), rows=numbers, columns=numbers[:8])
        for n in "ab"
    ]
    made = []
    for n_threads in (1, 2):
        monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", n_threads)
        weights = background.category_weights(["DRCT"] * 600)
        made.append(
            make_candidates(
                sources, background=background, category_weights=weights, floor=0.5, top=2
            )
        )
    np.testing.assert_array_equal(made[0].rows, made[1].rows)
    np.testing.assert_array_equal(made[0].columns, made[1].columns)
    np.testing.assert_array_equal(np.asarray(made[0].features), np.asarray(made[1].features))
