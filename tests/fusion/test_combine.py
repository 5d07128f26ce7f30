"""Answers made of answers, worked by hand."""

import numpy as np
import pytest

from core.runs.workspace import Corpus
from fusion.combine import blend, with_constants


def test_the_mean_of_log_odds_lies_between() -> None:
    first, second = np.array([[0.5, 0.9]], np.float32), np.array([[0.9, 0.9]], np.float32)
    # odds 1 and 9: their geometric mean is 3, so 3 / 4
    np.testing.assert_allclose(blend(first, second, 0.5), [[0.75, 0.9]], atol=1e-6)
    np.testing.assert_allclose(blend(first, second, 0.0), first, atol=1e-6)
    np.testing.assert_allclose(blend(first, second, 1.0), second, atol=1e-6)


def test_what_no_neighbour_has_is_not_impossible() -> None:
    sure, none = np.array([[0.999]], np.float32), np.array([[0.0]], np.float32)
    assert blend(sure, none, 0.5)[0, 0] == pytest.approx(0.5, abs=1e-3)


def test_a_constant_concept_is_as_sure_as_the_category(generated: Corpus) -> None:
    probs = np.full((3, len(generated.labels)), 0.2, np.float32)
    likely = np.zeros((3, 7), np.float32)
    likely[0, 2], likely[1, 2], likely[1, 6] = 1, 0.6, 0.4  # DRCT; perhaps DRXR
    found = with_constants(probs, likely, generated.prior, at_least=20)
    columns = generated.labels.columns(["C00", "C01"])  # on every CT, on every X-ray
    np.testing.assert_allclose(found[:, columns], [[1, 0.2], [0.6, 0.4], [0.2, 0.2]])
    untouched = np.setdiff1d(np.arange(probs.shape[1]), columns)
    assert (found[:, untouched] == np.float32(0.2)).all()


def test_a_category_of_few_images_makes_nothing_sure(generated: Corpus) -> None:
    probs = np.full((1, len(generated.labels)), 0.2, np.float32)
    likely = np.eye(7, dtype=np.float32)[[2]]
    np.testing.assert_array_equal(
        with_constants(probs, likely, generated.prior, at_least=999), probs
    )
