"""The image table."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.errors import AlignmentError, CorpusError
from core.images import ImageTable
from core.labels import LabelSpace


@pytest.fixture
def table() -> ImageTable:
    return ImageTable(
        image_ids=("a", "b", "c", "d"),
        paths=("a.png", "b,1.png", "c.png", 'd"1".png'),
        categories=("DRCT", "DRXR", "", "DRCT"),
        splits=("train", "train", "valid", "test"),
        folds=np.array([0, 1, -1, -1], dtype=np.int16),
        groups=("p1", "p1", "p2", "p3"),
        concepts=(("C2", "C1"), (), ("C3",), None),
        metadata={"age": ("40", "", "7", "61")},
    )


def test_an_image_without_concepts_is_labelled_and_one_with_unknown_concepts_is_not(
    table: ImageTable,
) -> None:
    assert table.labelled.tolist() == [True, True, True, False]
    assert len(table) == 4


def test_rows_come_in_the_order_asked_for(table: ImageTable) -> None:
    assert table.row_numbers(["c", "a"]).tolist() == [2, 0]


def test_rows_of_unknown_images_are_refused(table: ImageTable) -> None:
    with pytest.raises(AlignmentError, match=r"1 of 2 images are not in .*: \['x'\]"):
        table.row_numbers(["a", "x"])


def test_taking_by_number_reorders_every_column(table: ImageTable) -> None:
    taken = table.take(np.array([3, 0]))
    assert taken.image_ids == ("d", "a")
    assert taken.folds.tolist() == [-1, 0]
    assert taken.concepts == (None, ("C2", "C1"))
    assert taken.metadata == {"age": ("61", "40")}


def test_taking_by_mask_keeps_the_order(table: ImageTable) -> None:
    taken = table.take(np.array([False, True, False, True]))
    assert taken.image_ids == ("b", "d")


def test_a_split_and_a_category_can_be_asked_for_together(table: ImageTable) -> None:
    assert table.of(split="train").image_ids == ("a", "b")
    assert table.of(category="DRCT").image_ids == ("a", "d")
    assert table.of(split="train", category="DRCT").image_ids == ("a",)
    assert table.of(category="").image_ids == ("c",)
    assert len(table.of(split="valid", category="DRPE")) == 0
    assert table.of().image_ids == table.image_ids


def test_other_folds_leave_the_old_table_alone(table: ImageTable) -> None:
    other = table.with_folds(np.array([1, 0, 2, 2], dtype=np.int16))
    assert other.folds.tolist() == [1, 0, 2, 2]
    assert table.folds.tolist() == [0, 1, -1, -1]


def test_targets_are_in_row_order_with_concepts_outside_counted(table: ImageTable) -> None:
    targets = table.take(np.array([2, 0])).targets(LabelSpace(("C1", "C2")))
    assert targets.matrix.toarray().astype(int).tolist() == [[0, 0], [1, 1]]
    assert targets.n_outside.tolist() == [1, 0]


def test_targets_of_images_with_unknown_concepts_are_refused(table: ImageTable) -> None:
    with pytest.raises(AlignmentError, match=r"concepts of 1 of 4 images .*: \['d'\]"):
        table.targets(LabelSpace(("C1",)))


def test_columns_of_different_length_are_refused(table: ImageTable) -> None:
    with pytest.raises(CorpusError, match="differ in length"):
        replace(table, groups=("p1",))
    with pytest.raises(CorpusError, match="'age': 1"):
        replace(table, metadata={"age": ("40",)})


def test_an_image_twice_in_a_split_is_refused(table: ImageTable) -> None:
    with pytest.raises(CorpusError, match="image 'a' stands twice, in train; keep one"):
        replace(table, image_ids=("a", "a", "c", "d"))


def test_an_image_in_two_splits_is_refused_with_both_named(table: ImageTable) -> None:
    with pytest.raises(CorpusError, match="image 'b' stands twice, in train and in valid"):
        replace(table, image_ids=("a", "b", "b", "d"))


def test_an_unknown_category_is_refused(table: ImageTable) -> None:
    with pytest.raises(CorpusError, match=r"unknown category \['CT'\]; expected one of DRAN"):
        replace(table, categories=("CT", "DRXR", "", "DRCT"))


def test_an_unknown_split_is_refused(table: ImageTable) -> None:
    with pytest.raises(CorpusError, match=r"unknown split \['dev'\]; expected one of test, train"):
        replace(table, splits=("dev", "train", "valid", "test"))


def test_a_saved_table_is_read_back(table: ImageTable, tmp_path: Path) -> None:
    table.save(tmp_path / "images.csv")
    read = ImageTable.load(tmp_path / "images.csv")
    assert replace(read, folds=table.folds).metadata == table.metadata
    assert (read.image_ids, read.paths, read.categories, read.splits, read.groups) == (
        table.image_ids,
        table.paths,
        table.categories,
        table.splits,
        table.groups,
    )
    assert read.concepts == table.concepts
    assert read.folds.tolist() == table.folds.tolist()
    assert read.folds.dtype == np.int16


def told(table: ImageTable) -> ImageTable:
    return replace(table, taught_categories=("", "", "DRUS", ""))


def test_a_category_from_labels_counts_for_training_images_alone(table: ImageTable) -> None:
    taught = told(table)
    assert taught.categories == table.categories
    assert len(taught.of(category="DRUS")) == 0
    learnt = taught.take(taught.labelled).as_training_images()
    assert learnt.categories == ("DRCT", "DRXR", "DRUS")
    assert learnt.of(category="DRUS").image_ids == ("c",)
    assert learnt.as_training_images() is learnt
    assert taught.take(np.array([2, 0])).taught_categories == ("DRUS", "")


def test_images_without_labels_are_none_to_learn_from(table: ImageTable) -> None:
    with pytest.raises(AlignmentError, match=r"1 of 4 images have no concepts to learn .*'d'"):
        told(table).as_training_images()


def test_a_taught_category_is_one_of_the_seven(table: ImageTable) -> None:
    with pytest.raises(CorpusError, match=r"unknown category \['CT'\]"):
        replace(table, taught_categories=("CT", "", "", ""))
    with pytest.raises(CorpusError, match="differ in length"):
        replace(table, taught_categories=("DRCT",))


def test_taught_categories_are_read_back_and_take_a_column_only_where_there_are_some(
    table: ImageTable, tmp_path: Path
) -> None:
    for name, written in (("with", told(table)), ("without", table)):
        written.save(tmp_path / name)
        read = ImageTable.load(tmp_path / name)
        assert read.taught_categories == written.taught_categories
        assert read.metadata == table.metadata
        assert ("taught_category" in (tmp_path / name).read_text()) == (name == "with")


def captioned(table: ImageTable) -> ImageTable:
    return replace(table, taught_captions=("a chest", "", "a liver", ""))


def test_captions_are_given_out_with_training_images_alone(table: ImageTable) -> None:
    taught = captioned(table)
    assert taught.captions == ()
    assert taught.of(split="test").captions == taught.of(category="DRCT").captions == ()
    learnt = taught.take(taught.labelled).as_training_images()
    assert learnt.captions == ("a chest", "", "a liver")
    assert learnt.taught_captions == ()
    assert learnt.as_training_images() is learnt
    assert learnt.take(np.array([2, 0])).captions == ("a liver", "a chest")
    assert taught.take(np.array([2, 0])).taught_captions == ("a liver", "a chest")


def test_an_image_without_known_concepts_has_no_caption(table: ImageTable) -> None:
    with pytest.raises(CorpusError, match=r"1 images whose concepts are not known .*'d'"):
        replace(table, taught_captions=("", "", "", "a secret"))
    with pytest.raises(CorpusError, match="differ in length"):
        replace(table, taught_captions=("a chest",))


def test_captions_are_read_back_and_take_a_column_only_where_there_are_some(
    table: ImageTable, tmp_path: Path
) -> None:
    for name, written in (("with", captioned(told(table))), ("without", table)):
        written.save(tmp_path / name)
        read = ImageTable.load(tmp_path / name)
        assert read.taught_captions == written.taught_captions
        assert read.taught_categories == written.taught_categories
        assert read.metadata == table.metadata
        assert ("taught_caption" in (tmp_path / name).read_text()) == (name == "with")


def test_saving_twice_gives_equal_bytes(table: ImageTable, tmp_path: Path) -> None:
    table.save(tmp_path / "1.csv")
    ImageTable.load(tmp_path / "1.csv").save(tmp_path / "2.csv")
    assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "2.csv").read_bytes()


def test_a_table_without_images_is_read_back(table: ImageTable, tmp_path: Path) -> None:
    table.of(split="valid", category="DRPE").save(tmp_path / "images.csv")
    read = ImageTable.load(tmp_path / "images.csv")
    assert len(read) == 0
    assert read.metadata == {"age": ()}


HEADER = "image_id,path,category,split,fold,group,labelled,concepts\n"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "expected columns image_id, path"),
        (b"id,path\n", "expected columns image_id, path"),
        (HEADER.encode() + b"a,a.png,DRCT,train,0,p,1,C1\nb,b.png\n", "line 3 has not 8 columns"),
        (HEADER.encode() + b"a,a.png,DRCT,train,one,p,1,C1\n", "not a small whole number"),
        (HEADER.encode() + b"a,a.png,DRCT,train,70000,p,1,C1\n", "not a small whole number"),
        (HEADER.encode() + b"\xe9,a.png,DRCT,train,0,p,1,C1\n", "not UTF-8"),
    ],
)
def test_a_file_that_is_no_image_table_is_refused(
    content: bytes, reason: str, tmp_path: Path
) -> None:
    (tmp_path / "images.csv").write_bytes(content)
    with pytest.raises(CorpusError, match=reason):
        ImageTable.load(tmp_path / "images.csv")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"images\.csv: no such file"):
        ImageTable.load(tmp_path / "images.csv")
