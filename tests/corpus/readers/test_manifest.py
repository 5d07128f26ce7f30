import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from core.errors import CorpusError
from core.images import ImageTable
from corpus.readers.manifest import is_manifest, read_manifest


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "ct").mkdir()
    for name in ("ct/a.jpg", "ct/b.jpg", "v.png", "t.png"):
        (tmp_path / name).touch()
    return tmp_path


def manifest(folder: Path, *lines: str) -> Path:
    path = folder / "manifest.csv"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_every_column_goes_where_it_belongs(images: Path) -> None:
    path = manifest(
        images,
        "path,split,image_id,category,concepts,group,scanner",
        f"{images}/ct/b.jpg,train,x10,DRCT,C1;C2,p1,A",
        "ct/a.jpg,train,x9,DRCT,,p1,",
        "v.png,valid,,,C1,,B",
        "t.png,test,,,,,",
    )
    reading = read_manifest(path)
    table = reading.table
    assert (reading.layout, reading.edition, reading.names) == ("manifest", 2025, {})
    assert table.image_ids == ("x9", "x10", "v", "t")
    assert table.paths == tuple(f"{images}/{n}" for n in ("ct/a.jpg", "ct/b.jpg", "v.png", "t.png"))
    assert table.splits == ("train", "train", "valid", "test")
    assert table.categories == ("DRCT", "DRCT", "", "")
    assert table.groups == ("p1", "p1", "v", "t")
    assert table.metadata == {"scanner": ("", "A", "B", "")}
    # an empty cell is an image known to have none, except in test, where nothing is known
    assert table.concepts == ((), ("C1", "C2"), ("C1",), None)
    assert reading.notes[0] == "train: no image of DRAN, DRCO, DRMR, DRPE, DRUS, DRXR"
    assert "train: 1 image known to have no concept, kept: ['x9']" in reading.notes


def test_a_folder_with_a_manifest_is_as_good_as_the_file(images: Path) -> None:
    manifest(images, "path,split,concepts", "ct/a.jpg,train,C1")
    assert is_manifest(images)
    assert read_manifest(images).table.image_ids == ("a",)


def test_a_manifest_without_concepts_teaches_nothing(images: Path) -> None:
    path = manifest(images, "path,split", "ct/a.jpg,train", "v.png,valid")
    with pytest.raises(CorpusError, match=r"none of 1 training image has concepts"):
        read_manifest(path)


def test_concepts_of_test_are_not_read(images: Path) -> None:
    path = manifest(images, "path,split,concepts", "ct/a.jpg,train,C1", "t.png,test,C1")
    reading = read_manifest(path)
    assert reading.table.concepts == (("C1",), None)
    assert reading.notes[0] == (
        "manifest.csv: concepts of 1 test image not read, but by `score --truth manifest`: ['t']"
    )


def test_mended_concepts_are_counted_for_each_split(images: Path) -> None:
    path = manifest(images, "path,split,concepts", "ct/a.jpg,train,c1;", "v.png,valid,C1;C1")
    reading = read_manifest(path)
    assert reading.table.concepts == (("C1",), ("C1",))
    assert reading.notes[:3] == (
        "manifest.csv, train: 1 empty concept (a stray separator), dropped",
        "manifest.csv, train: 1 entry in lower case or with blanks, rewritten",
        "manifest.csv, valid: 1 concept repeated for an image, kept once",
    )


def test_rows_without_a_file_are_counted_and_refused_by_a_strict_reading(images: Path) -> None:
    path = manifest(images, "path,split,concepts", "ct/a.jpg,train,C1", "gone.jpg,test,")
    reading = read_manifest(path)
    assert reading.table.image_ids == ("a",)
    assert reading.notes[0] == (
        "manifest.csv: 1 image without a file, left out: ['gone']; the first was looked for at"
        f" {images}/gone.jpg"
    )
    with pytest.raises(CorpusError, match=r"strict.*1 image without a file, left out: \['gone'\]"):
        read_manifest(path, strict=True)


def test_a_manifest_may_name_categories_as_people_do(images: Path) -> None:
    path = manifest(
        images, "path,split,category,concepts", "ct/a.jpg,train,CT,C1", "ct/b.jpg,train,x ray,C1"
    )
    reading = read_manifest(path)
    assert reading.table.categories == ("DRCT", "DRXR")
    assert (
        "manifest.csv: categories by plain names: 'CT' is DRCT (1), 'x ray' is DRXR (1)"
        in reading.notes
    )


def test_groups_csv_beside_a_manifest_is_honoured(images: Path) -> None:
    (images / "groups.csv").write_text("image_id,group,site\na,p,S\nb,p,T\n")
    path = manifest(images, "path,split,concepts", "ct/a.jpg,train,C1", "ct/b.jpg,train,C1")
    table = read_manifest(path).table
    assert table.groups == ("p", "p")
    assert table.metadata == {"site": ("S", "T")}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ["where;split", "ct/a.jpg;train"],
            r"no column \['path'\]; expected path \(or image, file",
        ),
        (["path,split", "ct/a.jpg,some"], "line 2: split 'some'; expected one of train"),
        (["path,split", ",train"], "line 2: no path"),
        (
            ["path,split,category", "ct/a.jpg,train,film"],
            r"line 2: category 'film'; expected nothing or one of DRAN \(angiography, .*X-ray",
        ),
        (["path,split,concepts", 'ct/a.jpg,train,"C1,x"'], "line 2: expected concepts as CUI;CUI"),
        (["path,split", "ct/a.jpg,train", "ct/a.jpg,valid"], "line 3: image 'a' stands twice"),
        (["path,split,fold", "ct/a.jpg,train,1"], "column 'fold' is the image table's own"),
        (
            ["path,split", "gone.jpg,train"],
            r"no file for any of its 1 image; paths are taken from /.*: 'gone.jpg' was looked",
        ),
    ],
)
def test_a_malformed_manifest_is_refused(images: Path, lines: list[str], message: str) -> None:
    with pytest.raises(CorpusError, match=rf"manifest\.csv: {message}"):
        read_manifest(manifest(images, *lines))


def test_what_is_no_manifest_is_refused(images: Path) -> None:
    assert not is_manifest(images / "v.png")
    with pytest.raises(CorpusError, match=r"v.png: no manifest; expected a .csv or .parquet file"):
        read_manifest(images / "v.png")


def test_two_manifests_in_a_folder_are_refused(images: Path) -> None:
    (images / "manifest.parquet").touch()
    manifest(images, "path,split")
    with pytest.raises(CorpusError, match=r"\['manifest.csv', 'manifest.parquet'\]; name one"):
        is_manifest(images)


def test_parquet_says_the_same_as_csv_and_its_nulls_are_unknown(images: Path) -> None:
    frame = pd.DataFrame(
        {
            "path": ["ct/a.jpg", "ct/b.jpg", "v.png"],
            "split": ["train", "train", "valid"],
            "concepts": ["C1;C2", None, ""],
            "year": [2001, 2002, 2003],
        }
    )
    frame.to_parquet(images / "rows.parquet", engine="pyarrow")
    reading = read_manifest(images / "rows.parquet")
    assert reading.table.concepts == (("C1", "C2"), None, ())
    assert reading.table.metadata == {"year": ("2001", "2002", "2003")}
    assert reading.notes[0] == (
        "train: 1 of 2 images without an entry in rows.parquet, unlabelled: ['b']"
    )


def test_parquet_may_hold_lists_of_concepts(images: Path) -> None:
    frame = pd.DataFrame(
        {"path": ["ct/a.jpg", "v.png"], "split": ["train", "valid"], "concepts": [["C1", "C2"], []]}
    )
    frame.to_parquet(images / "manifest.parquet", engine="pyarrow")
    assert read_manifest(images).table.concepts == (("C1", "C2"), ())


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([34, None, 7], ("34", "", "7")),  # pandas makes floats of them
        ([0.5, 2.0, float("nan")], ("0.5", "2", "")),
        (pd.array([1, None, 3], dtype="Int64"), ("1", "", "3")),
        ([True, False, True], ("True", "False", "True")),
        (pd.array([True, None, False], dtype="boolean"), ("True", "", "False")),
        (pd.array([" a", None, "<NA>"], dtype="string"), ("a", "", "")),
        (pd.Categorical(["u", None, "v"]), ("u", "", "v")),
        ([["x", "y"], [], None], ("x;y", "", "")),
        ([[1, 2], [2.0, None], [3]], ("1;2", "2;", "3")),
    ],
)
def test_further_columns_of_parquet_are_kept_and_nulls_are_missing(
    images: Path, values: Any, expected: tuple[str, ...]
) -> None:
    frame = pd.DataFrame(
        {
            "path": ["ct/a.jpg", "ct/b.jpg", "v.png"],
            "split": ["train", "train", "valid"],
            "concepts": ["C1", "C1", "C1"],
            "further": values,
        }
    )
    frame.to_parquet(images / "manifest.parquet", engine="pyarrow")
    table = read_manifest(images).table
    assert table.metadata == {"further": expected}
    table.save(images / "images.csv")
    assert ImageTable.load(images / "images.csv").metadata == {"further": expected}


def test_a_row_of_parquet_is_named_by_its_number(images: Path) -> None:
    frame = pd.DataFrame({"path": ["ct/a.jpg", "v.png"], "split": ["train", None]})
    frame.to_parquet(images / "manifest.parquet", engine="pyarrow")
    with pytest.raises(CorpusError, match=r"manifest.parquet: row 2: split ''; expected one of"):
        read_manifest(images)


def test_a_file_that_is_no_parquet_is_refused(images: Path) -> None:
    (images / "manifest.parquet").write_text("path,split\n")
    with pytest.raises(CorpusError, match=r"manifest.parquet: cannot be read as parquet"):
        read_manifest(images)


def test_a_missing_pyarrow_is_asked_for(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pd.DataFrame({"path": [], "split": []}).to_parquet(images / "manifest.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(CorpusError, match=r"parquet needs pyarrow: pip install 'radfuse"):
        read_manifest(images)
