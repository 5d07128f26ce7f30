"""Out-of-fold predictions, joined from a folder a fold."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.errors import LabelSpaceError, LeakageError, PredictionsError
from core.labels import LabelSpace
from core.predictions import Part, Predictions, SparsePredictions, restrict
from core.runs.out_of_fold import (
    fold_folders,
    join_folds,
    load_folds,
    prior_out_of_fold,
    read_folds,
    save_folds,
)
from core.runs.workspace import Corpus
from tests.conftest import relabelled

SPACE = LabelSpace(("C1", "C3"))


def part(ids: str, fitted_on: str, *, first: float) -> Predictions:
    values = np.linspace(first, first + 0.1, 2 * len(ids), dtype=np.float32)
    return Predictions(
        source="head",
        image_ids=tuple(ids),
        labels=SPACE,
        probs=values.reshape(-1, 2),
        fitted_on=frozenset(fitted_on),
    )


FOLDS = [part("ab", "cde", first=0.1), part("cd", "abe", first=0.4), part("e", "abcd", first=0.7)]


@pytest.fixture
def joined() -> Predictions:
    return join_folds(FOLDS)


def test_every_image_is_held_against_what_its_own_part_was_fitted_on(joined: Predictions) -> None:
    assert joined.image_ids == tuple("abcde")
    assert joined.fitted_on == frozenset("abcde")  # all of them, yet none by what predicts it
    assert joined.out_of_sample
    joined.require_out_of_sample()
    plain = replace(joined, parts=())
    with pytest.raises(LeakageError, match="5 of 5 images were used to fit it"):
        plain.require_out_of_sample()


def test_a_planted_leak_in_one_part_is_found(joined: Predictions) -> None:
    first, *others = joined.parts
    seen = replace(joined, parts=(replace(first, fitted_on=frozenset("bcde")), *others))
    assert not seen.out_of_sample
    with pytest.raises(LeakageError, match=r"head: 1 of 5 images were used to fit it: \['b'\]"):
        seen.require_out_of_sample()
    with pytest.raises(LeakageError, match=r"head: 1 of 5 images were used"):
        SparsePredictions.of(seen, at_least=0.0).require_out_of_sample()
    with pytest.raises(LeakageError, match=r"head: 1 of 2 images were used to fit it: \['b'\]"):
        join_folds([replace(FOLDS[0], fitted_on=frozenset("bcde")), *FOLDS[1:]])


def test_groups_count_within_each_part(joined: Predictions) -> None:
    joined.require_groups_apart({"a": "p", "b": "p", "c": "q", "d": "q", "e": ""})
    with pytest.raises(LeakageError, match=r"head: 2 of 5 images share a group .*: \['b', 'c'\]"):
        joined.require_groups_apart({"a": "p", "b": "q", "c": "q"})
    sparse = SparsePredictions.of(joined, at_least=0.0)
    with pytest.raises(LeakageError, match="share a group"):
        sparse.require_groups_apart({"a": "p", "d": "p"})


def test_rows_wider_labels_and_restriction_keep_the_parts(joined: Predictions) -> None:
    some = joined.rows(("d", "a"))
    assert some.out_of_sample
    assert [sorted(p.image_ids) for p in some.parts] == [["a"], ["d"]]
    wide = joined.widen(LabelSpace(("C1", "C2", "C3")), fill=0.0)
    assert wide.parts == joined.parts
    assert wide.out_of_sample
    for whole in (joined, SparsePredictions.of(joined, at_least=0.0)):
        less = restrict(whole, frozenset("bce"), labels=LabelSpace(("C3",)))
        assert [p.fitted_on for p in less.fitted_parts] == [f.fitted_on for f in FOLDS]
        less.require_out_of_sample()


def test_the_rows_of_one_part_are_plain_predictions_again(joined: Predictions) -> None:
    for fold in FOLDS:
        own = joined.rows(fold.image_ids)
        assert own.parts == ()
        assert own.fitted_on == fold.fitted_on
        np.testing.assert_array_equal(own.probs, fold.probs)
    assert [p.image_ids for p in joined.by_part()] == [f.image_ids for f in FOLDS]
    nothing = joined.rows(())
    assert (len(nothing), nothing.fitted_on) == (0, frozenset())


def test_folds_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(LeakageError, match=r"1 images stand in two folds: \['b'\]"):
        join_folds([*FOLDS, part("b", "x", first=0.2)])
    other = replace(FOLDS[1], labels=LabelSpace(("C1", "C4")))
    with pytest.raises(LabelSpaceError, match="head: a fold has other concepts"):
        join_folds([FOLDS[0], other])


def test_parts_must_have_every_image_once(joined: Predictions) -> None:
    with pytest.raises(PredictionsError, match="found 4 images, 4 of them different"):
        replace(joined, parts=joined.parts[:2])
    twice = Part(image_ids=frozenset("ea"), fitted_on=frozenset("bcd"))
    with pytest.raises(PredictionsError, match="found 6 images, 5 of them different"):
        replace(joined, parts=(*joined.parts[:2], twice))
    with pytest.raises(PredictionsError, match="fitted on other images than the whole"):
        replace(joined, fitted_on=frozenset("ab"))


def test_folds_on_disk_are_read_as_one(joined: Predictions, tmp_path: Path) -> None:
    save_folds(joined, tmp_path, name="labelled")
    save_folds(FOLDS[0], tmp_path, name="test")
    names = [f"labelled-{k}of3" for k in (1, 2, 3)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*names, "test"]
    assert Predictions.load(tmp_path / names[1]).out_of_sample
    read = load_folds(tmp_path, "labelled")
    assert read.parts == joined.parts
    np.testing.assert_array_equal(read.probs, joined.probs)
    assert load_folds(tmp_path, "test").parts == ()
    with pytest.raises(PredictionsError, match="no such folder"):
        load_folds(tmp_path, "valid")
    with pytest.raises(ValueError, match="a part at a time"):
        joined.save(tmp_path / "whole")
    with pytest.raises(ValueError, match="a part at a time"):
        SparsePredictions.of(joined, at_least=0.0).save(tmp_path / "whole")


def test_sparse_folds_are_read_as_one(joined: Predictions, tmp_path: Path) -> None:
    for number, fold in enumerate(FOLDS):
        home = tmp_path / f"labelled-{number + 1}of3"
        SparsePredictions.of(fold, at_least=0.0).save(home)
    read = read_folds(tmp_path, "labelled")
    assert isinstance(read, SparsePredictions)
    assert read.fitted_parts == joined.parts
    np.testing.assert_array_equal(read.probs.toarray(), joined.probs)
    save_folds(joined, tmp_path / "dense", name="labelled")
    assert isinstance(read_folds(tmp_path / "dense", "labelled"), Predictions)
    (tmp_path / "labelled-2of3").rename(tmp_path / "away")
    FOLDS[1].save(tmp_path / "labelled-2of3")
    with pytest.raises(PredictionsError, match="some folds of labelled are sparse, some are not"):
        read_folds(tmp_path, "labelled")


def test_a_missing_fold_is_refused(joined: Predictions, tmp_path: Path) -> None:
    save_folds(joined, tmp_path, name="labelled", suffix="-withheld")
    assert len(fold_folders(tmp_path, "labelled", suffix="-withheld")) == 3
    assert fold_folders(tmp_path, "labelled") == [tmp_path / "labelled"]
    (tmp_path / "labelled-2of3-withheld").rename(tmp_path / "away")
    with pytest.raises(PredictionsError, match="labelled-2of3-withheld"):
        load_folds(tmp_path, "labelled", suffix="-withheld")
    (tmp_path / "away").rename(tmp_path / "labelled-2of4-withheld")
    with pytest.raises(PredictionsError, match="a fold beside those of"):
        load_folds(tmp_path, "labelled", suffix="-withheld")


def test_folds_without_images_leave_no_part() -> None:
    empty = replace(FOLDS[0], image_ids=(), probs=FOLDS[0].probs[:0])
    assert join_folds([FOLDS[1], empty]) is FOLDS[1]
    assert len(join_folds([empty, empty])) == 0


def test_the_prior_of_an_image_is_counted_without_its_fold(
    corpus: Corpus, crossfitted: Corpus
) -> None:
    before = prior_out_of_fold(crossfitted)
    before.require_out_of_sample()
    assert set(before.image_ids) == set(crossfitted.table.of(split="labelled").image_ids)
    after = prior_out_of_fold(relabelled(crossfitted, 1))
    changed = (np.asarray(before.probs) != np.asarray(after.probs)).any(axis=1)
    folds = crossfitted.table.folds[crossfitted.table.row_numbers(before.image_ids)]
    np.testing.assert_array_equal(changed, folds != 1)
    held_out = prior_out_of_fold(corpus)
    assert held_out.image_ids == corpus.table.of(split="valid").image_ids
    assert held_out.fitted_on == set(corpus.table.of(split="train").image_ids)
