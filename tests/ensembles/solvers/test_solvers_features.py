"""Standardised features against plain numpy on a copy."""

import numba
import numpy as np
import pytest

from ensembles.pairs import Floats
from ensembles.rows import take_rows
from ensembles.solvers.features import CHUNK, Standard

NAN = np.nan
NAMES = ("logit a", "logit b", "logit c", "rank a", "rank b", "rank c", "mean logit")


def filled_plainly(features: Floats) -> Floats:
    """A missing feature takes the mean of the row's known ones of its kind."""
    filled = features.copy()
    for own in (slice(0, 3), slice(3, 6)):
        mean = np.nanmean(features[:, own].astype(np.float64), axis=1).astype(np.float32)
        filled[:, own] = np.where(np.isnan(features[:, own]), mean[:, None], features[:, own])
    return filled


def drawn(n: int) -> Floats:
    rng = np.random.default_rng(0)
    features = (rng.standard_normal((n, 7)) * 3 + 5).astype(np.float32)
    missing = rng.integers(0, 3, n)
    gone = rng.random(n) < 0.3
    features[gone, missing[gone]] = NAN
    features[gone, 3 + missing[gone]] = NAN
    features[:, 6] = 2.5  # never varies
    return features


def test_a_source_that_does_not_cover_a_pair_gets_the_mean_of_those_that_do() -> None:
    features = np.array([[1, NAN, 3, 0, NAN, 2, 9], [1, 2, 3, 4, 5, 6, 7]], dtype=np.float32)
    unscaled = Standard.plain(7)
    standard = Standard.of_names(NAMES, mean=unscaled.mean, scale=unscaled.scale)
    assert standard.of_rows(features).tolist() == [[1, 2, 3, 0, 1, 2, 9], [1, 2, 3, 4, 5, 6, 7]]
    assert np.isnan(features).sum() == 2  # the features themselves stay


def test_mean_and_deviation_are_those_of_a_filled_copy() -> None:
    features = drawn(CHUNK + 1000)
    chosen = np.arange(len(features)) % 3 > 0
    filled = filled_plainly(features[chosen]).astype(np.float64)
    standard = Standard.of(take_rows(features, chosen), NAMES)
    np.testing.assert_allclose(standard.mean, filled.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(standard.scale[:6], filled.std(axis=0)[:6], rtol=1e-6)
    assert standard.scale[6] == 1.0
    expected = (filled - standard.mean) / standard.scale
    found = standard.of_rows(take_rows(features, chosen))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_two_threads_give_the_bits_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    features = drawn(3 * CHUNK)
    made = []
    for n_threads in (1, 2):
        monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", n_threads)
        standard = Standard.of(features, NAMES)
        made.append((standard.mean, standard.scale, standard.of_rows(features)))
    for one, two in zip(*made, strict=True):
        np.testing.assert_array_equal(one, two)
