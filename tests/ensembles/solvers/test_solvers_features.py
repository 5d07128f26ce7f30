"""Standardised features against plain numpy on a copy."""

import numba
import numpy as np
import pytest

from ensembles.pairs import Floats
from ensembles.solvers.features import CHUNK, RowView, Standard, take_rows, with_places

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


MATRIX = np.arange(12, dtype=np.float32).reshape(4, 3)
MASK = np.array([True, False, True, True])


def test_some_rows_read_like_the_array_of_them() -> None:
    some, copied = take_rows(MATRIX, MASK), MATRIX[MASK]
    assert some.shape == copied.shape
    assert len(some) == 3
    np.testing.assert_array_equal(np.asarray(some), copied)
    np.testing.assert_array_equal(some[1:], copied[1:])
    np.testing.assert_array_equal(some[:, 2], copied[:, 2])
    np.testing.assert_array_equal(some[np.array([2, 0])], copied[[2, 0]])
    np.testing.assert_array_equal(some[np.ix_([2, 0], [1])], copied[np.ix_([2, 0], [1])])
    assert np.asarray(some, dtype=np.float64).dtype == np.float64


def test_some_of_some_rows_share_the_matrix() -> None:
    some = take_rows(take_rows(MATRIX, MASK), np.array([2, 1]))
    np.testing.assert_array_equal(np.asarray(some), MATRIX[[3, 2]])
    matrix, places = with_places(some)
    assert matrix is MATRIX
    assert places.tolist() == [3, 2]
    assert with_places(MATRIX)[1].tolist() == [0, 1, 2, 3]


def test_what_an_array_of_rows_cannot_give_is_refused() -> None:
    some = RowView(MATRIX, np.array([0], dtype=np.int32))
    with pytest.raises(IndexError, match="expected rows, or rows and columns"):
        some[..., 0]
    with pytest.raises(ValueError, match="without a copy"):
        np.asarray(some, copy=False)
