"""Manifests that a program or a person left in an unusual state."""

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.errors import CorpusError
from corpus.readers.manifest import read_manifest
from corpus.readers.reading import Reading


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("img/a.jpg", "img/b.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def read(folder: Path, *lines: str, strict: bool = False) -> Reading:
    (folder / "manifest.csv").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return read_manifest(folder, strict=strict)


def packed(folder: Path, **columns: Any) -> Reading:
    pd.DataFrame({"split": "train", "concepts": "C1", **columns}).to_parquet(
        folder / "manifest.parquet"
    )
    return read_manifest(folder)


def test_invisible_signs_are_dropped_and_counted(folder: Path) -> None:
    row = "img/a.jpg,train\u200b,C1\u2060;\u00adC2"
    reading = read(folder, "path,split,concepts", row)
    assert reading.table.concepts == (("C1", "C2"),)
    assert reading.notes[0] == (
        "manifest.csv: 3 invisible signs (blanks without width and the like), dropped"
    )


def test_cells_that_excel_is_to_keep_as_text_are_that_text(folder: Path) -> None:
    reading = read(folder, "image_id,path,split,concepts", '"=""007""",img/a.jpg,train,C1')
    assert reading.table.image_ids == ("007",)
    assert reading.notes[0] == (
        'manifest.csv: 1 cell written as ="..." to keep their zeros (Excel), read without that'
    )


def test_a_column_of_splits_is_the_split_whatever_its_name(folder: Path) -> None:
    rows = ("path,phase,concepts", "img/a.jpg,Training,C1", "img/b.jpg,dev,C1")
    reading = read(folder, *rows)
    assert reading.table.splits == ("train", "valid")
    assert "manifest.csv: column 'phase' holds the splits" in reading.notes
    with pytest.raises(CorpusError, match="no column 'split'"):  # which of the two?
        read(folder, "path,phase,old,concepts", "img/a.jpg,train,train,C1", "img/b.jpg,val,val,C1")


def test_a_column_of_0_and_1_with_another_cell_is_no_concept_and_grave(folder: Path) -> None:
    values = ["1,0,0"] * 9 + ["0,1,1", "0,1,maybe"]
    rows = [f"{k},img/a.jpg,train,{value}" for k, value in enumerate(values)]
    header = "image_id,path,split,edema,mass,cyst"
    reading = read(folder, header, *rows)
    assert reading.table.concepts[0] == ("EDEMA",)
    assert (
        "manifest.csv: column 'cyst' holds 0 and 1 but for 1 cell, 'maybe' in line 12: no concept,"
        " but metadata"
    ) in reading.notes
    with pytest.raises(CorpusError, match="column 'cyst' holds 0 and 1 but for 1 cell"):
        read(folder, header, *rows, strict=True)


def test_a_column_of_codes_counts_before_one_of_words(folder: Path) -> None:
    rows = ("path,split,Labels,labelCUIS", "img/a.jpg,train,['normal'],['C0205307']")
    reading = read(folder, *rows)
    assert reading.table.concepts == (("C0205307",),)
    assert reading.table.metadata["Labels"] == ("['normal']",)
    assert "manifest.csv: columns by other names: 'labelCUIS' is concepts" in reading.notes[0]


@pytest.mark.parametrize(
    ("written", "how"),
    [
        ("/img/a.jpg", "without folders that are not here"),
        (r"\\server\share\img\a.jpg", "without folders that are not here"),
        ("a", "by the name of the file alone"),
        ("A.JPG", "by the name of the file alone"),
    ],
)
def test_a_path_without_its_root_or_ending_is_found(folder: Path, written: str, how: str) -> None:
    reading = read(folder, "path,split,concepts", f"{written},train,C1")
    assert reading.table.paths == (str(folder / "img/a.jpg"),)
    assert f"manifest.csv: 1 path read {how}: {written!r} is 'img/a.jpg'" in reading.notes


def test_a_folder_is_no_image(folder: Path) -> None:
    with pytest.raises(CorpusError, match="no file for any of its 1 image"):
        read(folder, "path,split,concepts", "img/,train,C1")


def test_bytes_that_are_text_are_read_as_text(folder: Path) -> None:
    reading = packed(folder, path=[b"img/a.jpg", b"img/b.jpg"], image_id=[b"x", b"y"])
    assert reading.table.image_ids == ("x", "y")
    assert "manifest.parquet: 2 columns of bytes that are UTF-8, read as text" in reading.notes


def test_images_in_parquet_that_are_paths_alone_are_those_files(folder: Path) -> None:
    cells = [{"bytes": None, "path": name} for name in ("img/a.jpg", "img/b.jpg")]
    reading = packed(folder, image=cells)
    assert reading.table.image_ids == ("a", "b")
    assert reading.table.paths[0] == str(folder / "img/a.jpg")


def test_images_in_parquet_without_ids_have_the_names_beside_them(folder: Path) -> None:
    cells = [{"bytes": b"1", "path": "x/c.jpg"}, {"bytes": b"2", "path": "d.jpg"}]
    reading = packed(folder, image=cells)
    assert reading.table.image_ids == ("c", "d")
    text = "manifest.parquet: ids are the names beside the bytes in 'image'"
    assert text in reading.notes
    with pytest.raises(CorpusError, match="row 2: no bytes in 'image' and no path"):
        packed(folder, image=[b"1", None])


def test_a_column_of_parquet_that_stands_twice_is_refused(folder: Path) -> None:
    table = pa.table([["img/a.jpg"], ["img/b.jpg"]], names=["path", "path"])
    pq.write_table(table, folder / "manifest.parquet")
    with pytest.raises(CorpusError, match="column 'path' stands twice; keep one"):
        read_manifest(folder)
