"""Predictions of which only the probable pairs are stored."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.errors import LeakageError, PredictionsError
from core.labels import LabelSpace
from core.predictions import Predictions
from core.sparse_predictions import SparsePredictions, read_predictions, within

WHOLE = Predictions(
    source="far",
    image_ids=("a", "b", "c"),
    labels=LabelSpace(("C1", "C2", "C3")),
    probs=np.array([[0.5, 0.0, 0.25], [0.0, 0.0, 0.0], [0.125, 1.0, 0.75]], dtype=np.float32),
    fitted_on=frozenset({"x"}),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    SparsePredictions.of(WHOLE, at_least=0.1).save(tmp_path / "far")
    return tmp_path / "far"


def test_a_saved_folder_is_read_back_in_the_form_it_has(folder: Path, tmp_path: Path) -> None:
    read = read_predictions(folder)
    assert isinstance(read, SparsePredictions)
    assert (read.source, read.image_ids, read.fitted_on) == (
        "far",
        WHOLE.image_ids,
        WHOLE.fitted_on,
    )
    np.testing.assert_array_equal(read.dense.probs, WHOLE.probs)
    WHOLE.save(tmp_path / "whole")
    assert isinstance(read_predictions(tmp_path / "whole"), Predictions)


def test_what_is_below_the_bound_becomes_0() -> None:
    assert SparsePredictions.of(WHOLE, at_least=0.5).dense.probs.tolist() == [
        [0.5, 0, 0], [0, 0, 0], [0, 1, 0.75],
    ]  # fmt: skip


def test_half_precision_in_any_order_is_read(folder: Path) -> None:
    np.save(folder / "indices.npy", np.array([2, 0, 1, 2, 0]))
    np.save(folder / "values.npy", np.array([0.25, 0.5, 1, 0.75, 0.125], dtype=np.float16))
    np.testing.assert_array_equal(SparsePredictions.load(folder).dense.probs, WHOLE.probs)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("indices", [0, 3, 0, 1, 2], "not a CSR matrix"),
        ("indices", [0, 0, 0, 1, 2], "a concept stands twice in a row"),
        ("indptr", [0, 2, 5], "not a CSR matrix"),
        ("values", [0.5, 0.25, 0.1, 1.5, 0.75], r"must lie in \[0, 1\]"),
        ("values", [0.5, np.nan, 0.1, 1.0, 0.75], r"must lie in \[0, 1\]"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    name: str, content: list[float], message: str, folder: Path
) -> None:
    np.save(folder / f"{name}.npy", np.array(content))
    with pytest.raises(PredictionsError, match=message):
        SparsePredictions.load(folder)


def test_a_source_that_saw_its_images_is_refused() -> None:
    sparse = SparsePredictions.of(WHOLE, at_least=0.1)
    sparse.require_out_of_sample()
    seen = replace(WHOLE, fitted_on=frozenset({"b"}))
    with pytest.raises(LeakageError, match="far: 1 of 3 images were used"):
        SparsePredictions.of(seen, at_least=0.1).require_out_of_sample()


@pytest.mark.parametrize("sparse", [False, True])
def test_images_and_concepts_from_elsewhere_are_cut_off(sparse: bool) -> None:
    given = SparsePredictions.of(WHOLE, at_least=0.1) if sparse else WHOLE
    assert within(given, frozenset("abcd"), WHOLE.labels) is given
    part = within(given, frozenset("ca"), LabelSpace(("C3", "C1", "C9")))
    whole = part if isinstance(part, Predictions) else part.dense
    assert whole.image_ids == ("a", "c")
    assert whole.labels.cuis == ("C1", "C3")
    assert whole.probs.tolist() == [[0.5, 0.25], [0.125, 0.75]]
