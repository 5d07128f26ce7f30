"""Manifests as people bring them, read whole."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from core.errors import CorpusError
from corpus.readers.manifest import manifest_truth, read_manifest, read_unsplit
from corpus.readers.reading import Reading
from corpus.readers.tables.ids import match_ids


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("img/a.jpg", "img/b.jpg", "img/v.png", "img/t.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def read(folder: Path, *lines: str, strict: bool = False, name: str = "manifest.csv") -> Reading:
    (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return read_manifest(folder, strict=strict)


def said(reading: Reading, start: str) -> list[str]:
    return [note for note in reading.notes if note.startswith(start)]


@pytest.mark.parametrize("name", ["manifest.csv", "MANIFEST.CSV", "manifest.tsv", "Manifest.txt"])
def test_a_manifest_is_found_by_its_name(folder: Path, name: str) -> None:
    reading = read(folder, "path,split,concepts", "img/a.jpg,train,C1", name=name)
    assert reading.table.image_ids == ("a",)


def test_a_file_of_any_name_is_a_manifest_by_its_content(folder: Path) -> None:
    (folder / "rows.dat").write_text("path;split;concepts\nimg/a.jpg;train;C1\n")
    assert read_manifest(folder / "rows.dat").table.image_ids == ("a",)
    (folder / "manifest.txt").write_text("d41d8cd9  img/a.jpg\n")  # checksums
    with pytest.raises(CorpusError, match="no manifest"):
        read_manifest(folder)


@pytest.mark.parametrize(
    ("written", "how"),
    [
        (r"img\a.jpg", r"with / for \: 'img\\a.jpg' is 'img/a.jpg'"),
        ("img/a", "with the ending that the file has: 'img/a' is 'img/a.jpg'"),
        ("img/a.JPG", "with the ending that the file has: 'img/a.JPG' is 'img/a.jpg'"),
        ("img/A.jpg", "in other letters than the file's name: 'img/A.jpg' is 'img/a.jpg'"),
        ("/home/x/img/a.jpg", "without folders that are not here: '/home/x/img/a.jpg' is 'img/a"),
        (r"C:\data\img\a.jpg", "without folders that are not here"),
        ("'img/a.jpg'", "without its quotes"),
        ("a.jpg", "by the name of the file alone: 'a.jpg' is 'img/a.jpg'"),
    ],
)
def test_a_path_is_found_where_it_lies_and_that_is_said(
    folder: Path, written: str, how: str
) -> None:
    reading = read(folder, "path,split,concepts", f"{written},train,C1")
    assert reading.table.paths == (str(folder / "img/a.jpg"),)
    assert said(reading, f"manifest.csv: 1 path read {how}")


def test_a_path_that_begins_with_file_is_one_of_this_machine(folder: Path) -> None:
    reading = read(folder, "path,split,concepts", f"file://{folder}/img/a.jpg,train,C1")
    assert said(reading, "manifest.csv: 1 path read without file://")


def test_an_address_is_refused(folder: Path) -> None:
    with pytest.raises(CorpusError, match=r"line 2: path 'https://x.org/a.jpg' is an address; dow"):
        read(folder, "path,split,concepts", "https://x.org/a.jpg,train,C1")


def test_a_path_that_could_be_two_files_is_refused(folder: Path) -> None:
    (folder / "img/a.png").touch()
    with pytest.raises(CorpusError, match=r"line 2: path 'a' could be \['a.jpg', 'a.png'\]; write"):
        read(folder, "path,split,concepts", "img/a,train,C1")
    (folder / "other").mkdir()
    (folder / "other/b.jpg").touch()
    with pytest.raises(CorpusError, match=r"line 2: path 'b.jpg' could be .*; write it with its"):
        read(folder, "path,split,concepts", "b.jpg,train,C1")


def test_a_file_beside_an_image_is_not_taken_for_it(folder: Path) -> None:
    (folder / "img/x.json").touch()
    with pytest.raises(CorpusError, match="no file for any of its 1 image"):
        read(folder, "path,split,concepts", "img/x.jpg,train,C1")


def test_a_file_that_is_missing_from_a_folder_is_not_taken_from_above_it(folder: Path) -> None:
    (folder / "x.jpg").touch()
    with pytest.raises(CorpusError, match="no file for any of its 1 image"):
        read(folder, "path,split,concepts", "img/x.jpg,train,C1")


def test_file_names_in_several_folders_give_ids_with_the_folder(folder: Path) -> None:
    for split in ("train", "valid"):
        (folder / split).mkdir()
        (folder / split / "1.jpg").write_text(split)
    reading = read(folder, "path,split,concepts", "train/1.jpg,train,C1", "valid/1.jpg,valid,C1")
    assert reading.table.image_ids == ("train/1", "valid/1")
    assert said(reading, "manifest.csv: 1 file name in several folders, so ids hold the folder")


def test_a_number_at_the_end_of_a_name_is_no_ending(folder: Path) -> None:
    for name in ("1.2.840.113", "1.2.840.114"):
        (folder / name).write_text(name)
    rows = ("1.2.840.113,train,C1", "1.2.840.114,train,C1", "img/a.jpg,train,C1")
    reading = read(folder, "path,split,concepts", *rows)
    assert reading.table.image_ids == ("1.2.840.113", "1.2.840.114", "a")
    assert not said(reading, "manifest.csv: 1 file name in several folders")


def test_a_file_under_two_ids_is_counted_and_grave_across_splits(folder: Path) -> None:
    rows = ("path,split,concepts,image_id", "img/a.jpg,train,C1,x", "img/a.jpg,train,C1,y")
    reading = read(folder, *rows)
    text = "manifest.csv: 1 image whose file stands under another id too: ['x, y']"
    assert text in reading.notes
    read(folder, *rows, strict=True)
    with pytest.raises(CorpusError, match=r"another id in another split: \['x, z'\]"):
        read(folder, *rows, "img/a.jpg,valid,C1,z", strict=True)


def test_ids_are_never_numbers_nor_words_for_nothing(folder: Path) -> None:
    ids = ["007", "1e5", "1.2.840.113", "NA"]
    names = ["a.jpg", "b.jpg", "v.png", "t.png"]
    rows = [f"img/{name},train,C1,{i}" for name, i in zip(names, ids, strict=True)]
    reading = read(folder, "path,split,concepts,image_id", *rows)
    assert set(reading.table.image_ids) == set(ids)
    frame = pd.DataFrame(
        {"path": [f"img/{n}" for n in names], "image_id": ids, "split": "train", "concepts": "C1"}
    )
    frame.to_parquet(folder / "rows.parquet")
    assert set(read_manifest(folder / "rows.parquet").table.image_ids) == set(ids)


def test_ids_that_differ_in_letters_alone_are_kept_and_said(folder: Path) -> None:
    rows = ["img/a.jpg,train,C1,x", "img/b.jpg,train,C1,X"]
    reading = read(folder, "path,split,concepts,image_id", *rows)
    assert set(reading.table.image_ids) == {"x", "X"}
    text = "manifest.csv: 1 id with others that differ in capitals or accents only, kept as"
    assert said(reading, text)


def test_splits_and_columns_by_other_names_are_said(folder: Path) -> None:
    reading = read(folder, "Image;Subset;labels", "img/a.jpg;Training;C1", "img/v.png;dev;C1")
    assert reading.table.splits == ("train", "valid")
    assert reading.notes[:3] == (
        "manifest.csv: separated by semicolons",
        "manifest.csv: columns by other names: 'Image' is path, 'Subset' is split,"
        " 'labels' is concepts",
        "manifest.csv: splits by other names: 'Training' is train (1), 'dev' is valid (1)",
    )


def test_a_manifest_without_splits_is_to_be_dealt(folder: Path) -> None:
    with pytest.raises(CorpusError, match=r"no column 'split' with .*deal .*manifest.csv'"):
        read(folder, "path,concepts", "img/a.jpg,C1", "img/b.jpg,C2")
    table = read_unsplit(folder).table
    assert (table.splits, table.concepts) == (("train", "train"), (("C1",), ("C2",)))


def test_splits_are_not_read_where_images_are_dealt_anew(folder: Path) -> None:
    read(folder, "path,split,concepts", "img/a.jpg,train,C1", "img/t.png,test,C1")
    reading = read_unsplit(folder)
    assert reading.table.splits == ("train", "train")
    assert "manifest.csv: column 'split' not read, the images are dealt anew" in reading.notes


def test_the_concepts_of_test_are_read_as_the_truth_alone(folder: Path) -> None:
    rows = ["img/a.jpg,train,C1", "img/t.png,test,c2;C1", "img/v.png,test,"]
    assert read(folder, "path,split,concepts", *rows).table.concepts == (("C1",), None, None)
    assert manifest_truth(folder) == {"t": ("C2", "C1"), "v": ()}
    read(folder, "path,split,concepts", *rows[:1], "img/t.png,test,")
    with pytest.raises(CorpusError, match="no test image has concepts; fill the column 'concepts'"):
        manifest_truth(folder)


def test_a_manifest_without_train_says_what_it_has(folder: Path) -> None:
    with pytest.raises(CorpusError, match=r"no image with split 'train'; found test \(1\)"):
        read(folder, "path,split,concepts", "img/t.png,test,")


def test_a_missing_column_of_concepts_is_named(folder: Path) -> None:
    with pytest.raises(CorpusError, match=r"no column 'concepts' \(nor concept, labels, .*found"):
        read(folder, "path,split,text", "img/a.jpg,train,C1")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "empty; expected a header with the columns path and split"),
        (["path,split,concepts"], "a header and no row below it; expected a row for each image"),
        (["path,split", ",train"], "line 2: no path; fill it, or remove the row"),
    ],
)
def test_a_manifest_without_images_is_refused(folder: Path, lines: list[str], message: str) -> None:
    with pytest.raises(CorpusError, match=rf"manifest.csv: {message}"):
        read(folder, *lines)


def test_a_word_for_nothing_is_no_concept_and_stops_a_strict_reading(folder: Path) -> None:
    rows = ("path,split,concepts", "img/a.jpg,train,C1", "img/b.jpg,train,nan")
    reading = read(folder, *rows)
    assert reading.table.concepts == (("C1",), ())
    assert said(reading, "manifest.csv, train: 1 image with a word for nothing as the only concept")
    with pytest.raises(CorpusError, match=r"strict.*word for nothing.*'nan' \(1\)"):
        read(folder, *rows, strict=True)


def test_words_for_a_missing_group_category_or_value_are_counted(folder: Path) -> None:
    reading = read(
        folder,
        "path,split,concepts,group,category,age,license",
        "img/a.jpg,train,C1,nan,unknown,nan,unknown",
        "img/b.jpg,train,C1,nan,CT,unknown,CC0",
        "img/v.png,train,C1,p,CT,61,None",
    )
    assert reading.table.groups == ("a", "b", "p")
    assert reading.table.categories == ("", "DRCT", "DRCT")
    # `unknown` is missing among numbers and a value among words; `None` is Python's
    assert reading.table.metadata == {"age": ("", "", "61"), "license": ("unknown", "CC0", "")}
    assert "manifest.csv: 2 cells of group read as missing: 'nan' (2)" in reading.notes
    assert "manifest.csv: 1 cell of category read as missing: 'unknown' (1)" in reading.notes
    assert said(reading, "manifest.csv: 2 cells of age read as missing: ")


def test_a_group_with_and_without_a_fraction_is_one(folder: Path) -> None:
    rows = ["img/a.jpg,train,C1,7.0", "img/b.jpg,train,C1,7", "img/v.png,train,C1,8"]
    reading = read(folder, "path,split,concepts,group", *rows)
    assert reading.table.groups == ("7", "7", "8")
    assert said(reading, "manifest.csv: 1 group written as 1.0 where others are written as 1")


def test_a_column_that_sounds_like_a_group_is_pointed_to(folder: Path) -> None:
    reading = read(folder, "path,split,concepts,Patient ID", "img/a.jpg,train,C1,9")
    assert reading.table.metadata == {"Patient ID": ("9",)}
    assert said(reading, "manifest.csv: column 'Patient ID' is metadata; call it group to keep")


def test_columns_of_0_and_1_are_concepts_where_no_column_is_called_so(folder: Path) -> None:
    reading = read(
        folder,
        "path,split,Sex,Lung Opacity,C0000001,age",
        "img/a.jpg,train,F,1.0,0,1",
        "img/b.jpg,train,M,-1,,2",
        "img/v.png,valid,M,0,1,3",
    )
    assert reading.table.concepts == (("LUNG_OPACITY",), (), ("C0000001",))
    assert reading.names == {"LUNG_OPACITY": "Lung Opacity"}
    assert list(reading.table.metadata) == ["Sex", "age"]
    assert reading.notes[:3] == (
        "manifest.csv: no column 'concepts'; 2 columns of 0 and 1 taken for concepts:"
        " ['Lung Opacity', 'C0000001']; if some are no concepts, write those that are into a"
        " column concepts",
        "manifest.csv: 1 cell of them -1 (uncertain), counted as not there",
        "manifest.csv: 1 cell of them blank (not mentioned), counted as not there",
    )


def test_columns_of_0_and_1_beside_concepts_are_metadata(folder: Path) -> None:
    reading = read(folder, "path,split,concepts,icu,male", "img/a.jpg,train,C1,1,0")
    assert reading.table.metadata == {"icu": ("1",), "male": ("0",)}


def test_one_column_of_0_and_1_is_no_list_of_concepts(folder: Path) -> None:
    with pytest.raises(CorpusError, match="no column 'concepts'"):
        read(folder, "path,split,icu", "img/a.jpg,train,1")


def test_columns_of_true_and_false_are_concepts_too(folder: Path) -> None:
    reading = read(folder, "path,split,C1,C2", "img/a.jpg,train,True,False")
    assert reading.table.concepts == (("C1",),)


def test_the_csv_of_nih_is_read(folder: Path) -> None:
    reading = read(
        folder,
        "Image Index,Finding Labels,Follow-up #,split,Unnamed: 4",
        "a.jpg,Cardiomegaly|Emphysema,0,train,",
        "b.jpg,No Finding,1,train,",
    )
    assert reading.table.concepts == (("CARDIOMEGALY", "EMPHYSEMA"), ("NO_FINDING",))


def test_the_csv_of_padchest_is_read(folder: Path) -> None:
    reading = read(
        folder,
        ",ImageID,ImageDir,Labels,split",
        "0,a.jpg,0,\"['chest tube', 'edema']\",train",
        "1,b.jpg,0,[],train",
    )
    assert reading.table.image_ids == ("a.jpg", "b.jpg")
    assert reading.table.concepts == (("CHEST_TUBE", "EDEMA"), ())
    assert "manifest.csv: no column 'path': image_id names files, taken for it" in reading.notes


def test_a_row_for_each_concept_is_joined_and_said(folder: Path) -> None:
    reading = read(
        folder,
        "image_id,path,split,label,x_min",
        "i,img/a.jpg,train,mass,1",
        "i,img/a.jpg,train,edema,2",
        "j,img/b.jpg,train,,",
    )
    assert reading.table.concepts == (("MASS", "EDEMA"), ())
    assert reading.table.metadata == {"x_min": ("", "")}
    assert said(reading, "manifest.csv: a row for each concept of an image: 3 rows of 2 images")
    assert said(reading, "manifest.csv: values that differ between the rows of an image, left out")


@pytest.mark.parametrize(
    "row", ["i,img/a.jpg,valid,C2", "i,img/b.jpg,train,C2", "i,img/a.jpg,train,C2;C3"]
)
def test_rows_of_an_image_that_contradict_each_other_are_refused(folder: Path, row: str) -> None:
    with pytest.raises(CorpusError, match="line 3: image 'i' stands twice, first in line 2"):
        read(folder, "image_id,path,split,concepts", "i,img/a.jpg,train,C1", row)


def test_names_of_concepts_come_from_a_column_or_a_file_beside(folder: Path) -> None:
    rows = ("path,split,concepts,concept_names", "img/a.jpg,train,C1;C2,CT;scan")
    assert read(folder, *rows).names == {"C1": "CT", "C2": "scan"}
    (folder / "concept_names.csv").write_text("CUI;name\nC2;picture\n")
    assert read(folder, *rows).names == {"C1": "CT", "C2": "picture"}


def packed(folder: Path, **columns: Any) -> Path:
    path = folder / "manifest.parquet"
    pd.DataFrame({"split": ["train", "valid"], "concepts": [["C1"], ["C1"]], **columns}).to_parquet(
        path
    )
    return path


@pytest.mark.parametrize(
    "cells", [[b"1", b"2"], [{"bytes": b"1", "path": "x.jpg"}, {"bytes": b"2"}]]
)
def test_images_in_parquet_are_read_from_its_rows(folder: Path, cells: list[Any]) -> None:
    path = packed(folder, image=cells, image_id=["i", "j"])
    reading = read_manifest(folder)
    assert reading.table.paths == (f"{path}/0", f"{path}/1")
    assert reading.table.image_ids == ("i", "j")
    assert "manifest.parquet: column 'image' of images: 2 images read from it" in reading.notes


def test_images_in_parquet_are_left_out_where_their_files_are_there(folder: Path) -> None:
    packed(folder, image=[b"1", b"2"], path=["img/a.jpg", "img/v.png"], thumb=[b"", b""])
    reading = read_manifest(folder)
    assert reading.table.image_ids == ("a", "v")
    assert said(reading, "manifest.parquet: 1 column of bytes left out: ['thumb']")
    assert said(reading, "manifest.parquet: column 'image' of images: left out, the files of path")


def test_a_named_index_of_parquet_is_the_column(folder: Path) -> None:
    frame = pd.DataFrame({"path": ["img/a.jpg", "img/b.jpg"], "split": "train", "concepts": "C1"})
    path = folder / "manifest.parquet"
    frame.set_index(pd.Index(["x", "y"], name="image_id")).to_parquet(path)
    assert read_manifest(folder).table.image_ids == ("x", "y")
    frame.set_index(pd.RangeIndex(5, 7, name="image_id")).to_parquet(path)
    assert read_manifest(folder).table.image_ids == ("5", "6")
    frame.set_index(pd.Index([4, 2])).to_parquet(path)
    assert read_manifest(folder).table.image_ids == ("a", "b")
    frame.set_index(pd.Index(["x", "y"])).to_parquet(path)
    with pytest.raises(CorpusError, match="the index has no name, but 'x' in it; call it image_id"):
        read_manifest(folder)


def test_values_of_parquet_are_sensible_text(folder: Path) -> None:
    packed(
        folder,
        path=["img/a.jpg", "img/v.png"],
        group=[3.0, 4.0],
        date=[pd.Timestamp("2020-01-01"), pd.Timestamp("2020-01-01 10:30")],
        flag=[True, False],
        kind=pd.Categorical(["u", "v"]),
        large=pd.array([2**60 + 1, None], dtype="Int64"),
        short=pd.array([0.1, 2.0], dtype="float32"),
    )
    table = read_manifest(folder).table
    assert table.groups == ("3", "4")
    assert table.metadata == {
        "date": ("2020-01-01", "2020-01-01 10:30:00"),
        "flag": ("True", "False"),
        "kind": ("u", "v"),
        "large": (str(2**60 + 1), ""),
        "short": ("0.1", "2"),
    }


@pytest.mark.parametrize(
    ("said_ids", "expected"),
    [
        (["a.jpg", "b"], {"a.jpg": "a"}),
        (["train/a.JPG"], {"train/a.JPG": "a"}),
        (["A"], {"A": "a"}),
        (["7", "8.0"], {"7": "007", "8.0": "8"}),
        (["a.jpg", "a"], {}),  # the second is the image's already
        (["a.jpg", "a.png"], {}),  # either could be it
        (["x"], {}),
    ],
)
def test_ids_in_another_form_are_matched_where_one_image_has_them(
    said_ids: list[str], expected: dict[str, str]
) -> None:
    assert match_ids(said_ids, {"a", "b", "007", "8"})[0] == expected


def test_ids_that_two_images_could_have_are_matched_to_none() -> None:
    assert match_ids(["7"], {"007", "07"}) == ({}, [])
