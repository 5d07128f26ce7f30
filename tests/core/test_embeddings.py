"""Embeddings and their folders."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.embeddings import Embeddings
from core.errors import AlignmentError, PredictionsError
from tests.core.storage.unlisted import forget_files


@pytest.fixture
def pooled() -> Embeddings:
    values = np.array([[1.0, -2.0, 3.0], [0.5, 0.0, 9.0]], dtype=np.float32)
    return Embeddings(source="lite0", image_ids=("a", "b"), values=values)


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((3, 3), dtype=np.float32),
        np.zeros(2, dtype=np.float32),
        np.zeros((2, 3), dtype=np.float64),
    ],
)
def test_a_wrong_shape_or_type_is_refused(pooled: Embeddings, values: np.ndarray) -> None:
    with pytest.raises(PredictionsError, match=r"lite0: expected features of shape \(2, D\)"):
        replace(pooled, values=values)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_are_refused(pooled: Embeddings, bad: float) -> None:
    values = pooled.values.copy()
    values[1, 2] = bad
    with pytest.raises(PredictionsError, match="lite0: features must be finite"):
        replace(pooled, values=values)


def test_large_finite_values_are_taken(pooled: Embeddings) -> None:
    # Their float32 sum would overflow to infinity: 6 x 3e38 > 3.4e38.
    values = np.full((2, 3), 3e38, dtype=np.float32)
    assert len(replace(pooled, values=values)) == 2


def test_an_image_that_stands_twice_is_refused(pooled: Embeddings) -> None:
    with pytest.raises(PredictionsError, match=r"lite0: images stand twice: \['a'\]"):
        replace(pooled, image_ids=("a", "a"))


def test_rows_come_in_the_order_asked_for(pooled: Embeddings) -> None:
    assert pooled.rows(["b", "a"]).values.tolist() == [[0.5, 0.0, 9.0], [1.0, -2.0, 3.0]]
    assert pooled.rows(["b"]).image_ids == ("b",)


def test_rows_of_unknown_images_are_refused(pooled: Embeddings) -> None:
    with pytest.raises(AlignmentError, match=r"lite0: 1 of 1 images have no row: \['z'\]"):
        pooled.rows(["z"])


def test_a_saved_folder_is_read_back(pooled: Embeddings, tmp_path: Path) -> None:
    pooled.save(tmp_path / "train")
    read = Embeddings.load(tmp_path / "train")
    assert (read.source, read.image_ids) == ("lite0", ("a", "b"))
    assert np.array_equal(read.values, pooled.values)
    assert read.rows(["b"]).values.tolist() == [[0.5, 0.0, 9.0]]


def test_an_unfinished_folder_is_refused(pooled: Embeddings, tmp_path: Path) -> None:
    pooled.save(tmp_path / "train")
    (tmp_path / "train/meta.json").unlink()
    with pytest.raises(PredictionsError, match="train: not finished"):
        Embeddings.load(tmp_path / "train")


def test_a_missing_array_is_named(pooled: Embeddings, tmp_path: Path) -> None:
    pooled.save(tmp_path / "train")
    forget_files(tmp_path / "train")
    (tmp_path / "train/values.npy").unlink()
    with pytest.raises(PredictionsError, match=r"values\.npy: cannot be read as an array"):
        Embeddings.load(tmp_path / "train")
