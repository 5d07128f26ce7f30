"""Predictions and their folders."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.errors import AlignmentError, LabelSpaceError, LeakageError, PredictionsError
from core.labels import LabelSpace
from core.predictions import Predictions, SparsePredictions, read_predictions, restrict
from tests.core.storage.unlisted import forget_files

SPACE = LabelSpace(("C1", "C3"))


@pytest.fixture
def ct() -> Predictions:
    return Predictions(
        source="DRCT",
        image_ids=("a", "b", "c"),
        labels=SPACE,
        probs=np.array([[0.0, 1.0], [0.25, 0.5], [0.75, 0.125]], dtype=np.float32),
        fitted_on=frozenset({"x", "y"}),
    )


@pytest.mark.parametrize(
    "probs",
    [
        np.zeros((2, 2), dtype=np.float32),
        np.zeros((3, 3), dtype=np.float32),
        np.zeros(3, dtype=np.float32),
        np.zeros((3, 2), dtype=np.float64),
    ],
)
def test_a_wrong_shape_or_type_is_refused(ct: Predictions, probs: np.ndarray) -> None:
    with pytest.raises(PredictionsError, match=r"DRCT: expected probabilities of shape \(3, 2\)"):
        replace(ct, probs=probs)


@pytest.mark.parametrize("bad", [-0.001, 1.001, float("nan"), float("inf"), -3.0])
def test_what_is_no_probability_is_refused(ct: Predictions, bad: float) -> None:
    probs = ct.probs.copy()
    probs[1, 1] = bad
    with pytest.raises(PredictionsError, match=r"DRCT: probabilities must lie in \[0, 1\]"):
        replace(ct, probs=probs)


def test_an_image_that_stands_twice_is_refused(ct: Predictions) -> None:
    with pytest.raises(PredictionsError, match=r"images stand twice: \['a'\]"):
        replace(ct, image_ids=("a", "b", "a"))


def test_no_images_are_allowed(ct: Predictions) -> None:
    empty = replace(ct, image_ids=(), probs=np.empty((0, 2), dtype=np.float32))
    assert len(empty) == 0
    assert empty.out_of_sample


def test_out_of_sample_is_computed_from_the_images_fitted_on(ct: Predictions) -> None:
    assert ct.out_of_sample
    ct.require_out_of_sample()
    seen = replace(ct, fitted_on=frozenset({"x", "b"}))
    assert not seen.out_of_sample
    with pytest.raises(LeakageError, match=r"DRCT: 1 of 3 images were used to fit it: \['b'\]"):
        seen.require_out_of_sample()


def test_rows_come_in_the_order_asked_for(ct: Predictions) -> None:
    rows = ct.rows(["c", "a"])
    assert rows.image_ids == ("c", "a")
    assert rows.probs.tolist() == [[0.75, 0.125], [0.0, 1.0]]
    assert rows.fitted_on == ct.fitted_on


def test_the_same_rows_are_the_same_predictions(ct: Predictions) -> None:
    assert ct.rows(["a", "b", "c"]) is ct


def test_rows_of_unknown_images_are_refused(ct: Predictions) -> None:
    with pytest.raises(AlignmentError, match=r"DRCT: 1 of 2 images have no row: \['z'\]"):
        ct.rows(["a", "z"])


def test_rows_asked_for_twice_are_refused(ct: Predictions) -> None:
    with pytest.raises(PredictionsError, match="stand twice"):
        ct.rows(["a", "a"])


def test_widening_puts_each_concept_in_its_column(ct: Predictions) -> None:
    wide = ct.widen(LabelSpace(("C0", "C3", "C1")), fill=0.5)
    assert wide.probs.tolist() == [[0.5, 1.0, 0.0], [0.5, 0.5, 0.25], [0.5, 0.125, 0.75]]
    assert wide.probs.dtype == np.float32
    assert ct.probs.shape == (3, 2)


def test_widening_to_the_same_space_changes_nothing(ct: Predictions) -> None:
    assert ct.widen(LabelSpace(("C1", "C3")), fill=0.5) is ct


def test_widening_refuses_to_drop_a_concept(ct: Predictions) -> None:
    with pytest.raises(LabelSpaceError, match=r"DRCT: cannot be widened: .*\['C3'\]"):
        ct.widen(LabelSpace(("C1", "C2")), fill=0.0)


def test_a_saved_folder_is_read_back(ct: Predictions, tmp_path: Path) -> None:
    ct.save(tmp_path / "test", preset="default")
    read = Predictions.load(tmp_path / "test")
    assert (read.source, read.image_ids, read.labels) == ("DRCT", ct.image_ids, SPACE)
    assert read.fitted_on == ct.fitted_on
    assert np.array_equal(read.probs, ct.probs)
    meta = json.loads((tmp_path / "test/meta.json").read_text(encoding="utf-8"))
    assert meta["preset"] == "default"
    assert meta["n_images"] == 3
    assert meta["out_of_sample"] is True


def test_a_source_fitted_on_nothing_is_read_back(ct: Predictions, tmp_path: Path) -> None:
    replace(ct, fitted_on=frozenset()).save(tmp_path / "test")
    assert Predictions.load(tmp_path / "test").fitted_on == frozenset()


def test_ids_with_strange_characters_are_read_back(ct: Predictions, tmp_path: Path) -> None:
    strange = replace(ct, image_ids=("a\u2028b", "c\x85", "ü"))
    strange.save(tmp_path / "test")
    assert Predictions.load(tmp_path / "test").image_ids == strange.image_ids


def test_labels_changed_later_are_noticed(ct: Predictions, tmp_path: Path) -> None:
    ct.save(tmp_path / "test")
    forget_files(tmp_path / "test")
    LabelSpace(("C1", "C2")).save(tmp_path / "test/labels.txt")
    with pytest.raises(PredictionsError, match=r"labels\.txt was changed"):
        Predictions.load(tmp_path / "test")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(PredictionsError, match="test: no such folder"):
        Predictions.load(tmp_path / "test")


def test_an_unfinished_folder_is_refused(ct: Predictions, tmp_path: Path) -> None:
    ct.save(tmp_path / "test")
    (tmp_path / "test/meta.json").unlink()
    with pytest.raises(PredictionsError, match=r"not finished \(meta\.json is missing\)"):
        Predictions.load(tmp_path / "test")


@pytest.mark.parametrize("name", ["image_ids.txt", "fitted_on.txt"])
def test_a_missing_list_is_named(ct: Predictions, name: str, tmp_path: Path) -> None:
    ct.save(tmp_path / "test")
    forget_files(tmp_path / "test")
    (tmp_path / "test" / name).unlink()
    with pytest.raises(PredictionsError, match=f"{name}: no such file"):
        Predictions.load(tmp_path / "test")


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"hello"])
def test_an_array_that_was_cut_short_is_refused(
    ct: Predictions, content: bytes, tmp_path: Path
) -> None:
    ct.save(tmp_path / "test")
    forget_files(tmp_path / "test")
    (tmp_path / "test/probs.npy").write_bytes(content)
    with pytest.raises(PredictionsError, match=r"probs\.npy: cannot be read as an array"):
        Predictions.load(tmp_path / "test")


def test_a_list_of_other_length_than_the_array_is_refused(ct: Predictions, tmp_path: Path) -> None:
    ct.save(tmp_path / "test")
    forget_files(tmp_path / "test")
    (tmp_path / "test/image_ids.txt").write_text("a\nb\n", encoding="utf-8")
    with pytest.raises(PredictionsError, match=r"expected probabilities of shape \(2, 2\)"):
        Predictions.load(tmp_path / "test")


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
    forget_files(tmp_path / "far")
    return tmp_path / "far"


def test_a_saved_folder_is_read_back_in_the_form_it_has(folder: Path, tmp_path: Path) -> None:
    read = read_predictions(folder)
    assert isinstance(read, SparsePredictions)
    assert (read.source, read.image_ids, read.fitted_on) == (
        "far",
        WHOLE.image_ids,
        WHOLE.fitted_on,
    )
    np.testing.assert_array_equal(read.probs.toarray(), WHOLE.probs)
    WHOLE.save(tmp_path / "whole")
    assert isinstance(read_predictions(tmp_path / "whole"), Predictions)


def test_what_is_below_the_bound_becomes_0() -> None:
    assert SparsePredictions.of(WHOLE, at_least=0.5).probs.toarray().tolist() == [
        [0.5, 0, 0], [0, 0, 0], [0, 1, 0.75],
    ]  # fmt: skip


def test_half_precision_in_any_order_is_read(folder: Path) -> None:
    np.save(folder / "indices.npy", np.array([2, 0, 1, 2, 0]))
    np.save(folder / "values.npy", np.array([0.25, 0.5, 1, 0.75, 0.125], dtype=np.float16))
    np.testing.assert_array_equal(SparsePredictions.load(folder).probs.toarray(), WHOLE.probs)


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
    assert restrict(given, frozenset("abcd"), labels=WHOLE.labels) is given
    part = restrict(given, frozenset("ca"), labels=LabelSpace(("C3", "C1", "C9")))
    whole = (
        part
        if isinstance(part, Predictions)
        else replace(part.bare, labels=part.labels, probs=part.probs.toarray())
    )
    assert whole.image_ids == ("a", "c")
    assert whole.labels.cuis == ("C1", "C3")
    assert whole.probs.tolist() == [[0.5, 0.25], [0.125, 0.75]]
