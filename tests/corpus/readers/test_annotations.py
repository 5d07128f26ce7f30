from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import CorpusError
from corpus.readers.annotations import annotation_notes, read_annotations, read_groups
from corpus.readers.files import FoundImage
from corpus.readers.tables.ids import by_image


def groups(folder: Path, content: str) -> Path:
    (folder / "groups.csv").write_text(content, encoding="utf-8")
    return folder


FOUND = [
    FoundImage(image_id="a", path=Path("a.jpg"), split="train", category="DRCT"),
    FoundImage(image_id="b", path=Path("b.jpg"), split="valid"),
]


def test_a_folder_without_the_file_has_no_groups(tmp_path: Path) -> None:
    assert read_groups(tmp_path) == []


def test_a_folder_named_twice_is_read_once(tmp_path: Path) -> None:
    assert len(read_groups(groups(tmp_path, "image_id,group\na,1\n"), tmp_path)) == 1


def test_columns_without_a_meaning_of_their_own_are_metadata(tmp_path: Path) -> None:
    content = (
        '\ufeffimage_id,split,category,group,source,license\r\na,train,DRCT,7,x,"CC0, 1"\r\n\r\n'
    )
    (said,) = read_groups(groups(tmp_path, content))
    assert said.columns == ("source", "license")
    assert said.value("a", "group") == "7"
    assert said.value("a", "license") == "CC0, 1"
    assert said.value("b", "license") == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("patient;age\na;1\n", r"no column \['image_id', 'group'\]; expected image_id, group,"),
        ("image_id,patient\na,1\n", r"no column \['group'\]"),
        ("", r"no column \['image_id', 'group'\].*; found \[\]"),
        ("image_id,group,x,x\na,1,2,3\n", "column 'x' stands twice; keep one"),
        ("image_id,group,fold\na,1,2\n", "column 'fold' is the image table's own; rename it"),
        ("image_id,group,valid_half\na,1,2\n", "column 'valid_half' is the image table's own"),
        ("image_id,group,readable\na,1,2\n", "column 'readable' is the image table's own; rename"),
        ("image_id,group\na,1\nb\n", "line 3: expected 2 columns, found 1"),
        ("image_id,group\na,1\nb,2,3\n", "line 3: expected 2 columns, found 3"),
        ("image_id,group\na,1\n\na,2\n", "line 4: image 'a' stands twice, first in line 2"),
    ],
)
def test_a_malformed_file_is_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(CorpusError, match=f"groups.csv: {message}"):
        read_groups(groups(tmp_path, content))


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "groups.csv").write_bytes(b"image_id,group\n\xff,1\n")
    with pytest.raises(CorpusError, match=r"groups.csv: line 2: not readable as UTF-8 text"):
        read_groups(tmp_path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a,1,valid,DRCT", "image 'a' has split 'valid', but its folder says 'train'"),
        ("a,1,train,DRMR", "image 'a' has category 'DRMR', but its folder says 'DRCT'"),
        ("a,1,train,MRI", "image 'a' has category 'DRMR', but its folder says 'DRCT'"),
    ],
)
def test_a_row_that_contradicts_the_folders_is_refused(
    tmp_path: Path, row: str, message: str
) -> None:
    (said,) = read_groups(groups(tmp_path, f"image_id,group,split,category\n{row}\n"))
    with pytest.raises(CorpusError, match=f"groups.csv: {message}"):
        annotation_notes(FOUND, said)


def test_categories_may_go_by_plain_names_which_is_said(tmp_path: Path) -> None:
    text = "image_id,group,category\na,1,CT\nb,2,ct\nc,3,Computed Tomography\nd,4,CT\ne,5,\n"
    (said,) = read_groups(groups(tmp_path, text))
    assert [said.value(i, "category") for i in "abcde"] == ["DRCT"] * 4 + [""]
    assert [note.text for note in said.notes] == [
        "groups.csv: categories by plain names: 'CT' is DRCT (2), 'ct' is DRCT (1),"
        " 'Computed Tomography' is DRCT (1)"
    ]
    assert said.notes[0] in annotation_notes(FOUND, said)


@pytest.mark.parametrize("name", ["groups.csv", "metadata.csv"])
def test_a_name_of_no_category_is_refused_with_its_line_and_the_known_ones(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text("image_id,group,category\na,1,MR\nb,1,cat photo\n")
    with pytest.raises(
        CorpusError, match=rf"{name}: line 3: category 'cat photo'; expected nothing or one of DRAN"
    ):
        read_annotations(tmp_path)


def test_images_without_a_row_and_rows_without_an_image_are_counted(tmp_path: Path) -> None:
    (said,) = read_groups(groups(tmp_path, "image_id,group\na,1\nx,2\ny,3\n"))
    assert [note.text for note in annotation_notes(FOUND, said)] == [
        "groups.csv: 1 image without a row, ungrouped: ['b']",
        "groups.csv: 2 rows without an image, left out: ['x', 'y']",
    ]


def test_metadata_csv_needs_no_groups_and_its_gaps_are_counted(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("image_id,age,view\na,61,AP\nx,7,PA\n")
    (said,) = read_annotations(tmp_path, tmp_path)
    assert said.columns == ("age", "view")
    assert (said.value("a", "age"), said.value("b", "age")) == ("61", "")
    assert [note.text for note in annotation_notes(FOUND, said)] == [
        "metadata.csv: 1 image without a row, values missing: ['b']",
        "metadata.csv: 1 row without an image, left out: ['x']",
    ]


def test_groups_csv_comes_before_metadata_csv(tmp_path: Path) -> None:
    (groups(tmp_path, "image_id,group\na,1\n") / "metadata.csv").write_text("image_id,age\na,61\n")
    assert [said.path.name for said in read_annotations(tmp_path)] == ["groups.csv", "metadata.csv"]


def test_a_metadata_csv_without_ids_is_refused(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("picture_of,age\na.jpg,61\n")
    with pytest.raises(
        CorpusError, match=r"metadata.csv: no column \['image_id'\]; expected image"
    ):
        read_annotations(tmp_path)


def test_ids_of_a_table_may_have_the_ending_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_bytes(
        b"\xef\xbb\xbfimage_id;age\r\na.jpg;61\r\nimg/b.png;7\r\n"
    )
    (said,) = read_annotations(tmp_path)
    rows, noted = by_image(said.rows, {"a", "b"}, file="metadata.csv")
    joined = replace(said, rows=rows, notes=(*said.notes, *noted))
    assert (joined.value("a", "age"), joined.value("b", "age")) == ("61", "7")
    assert [note.text for note in annotation_notes(FOUND, joined)] == [
        "metadata.csv: separated by semicolons",
        "metadata.csv: 2 ids with a folder or an ending: 'a.jpg' is 'a'",
    ]


@pytest.mark.parametrize("name", ["ID", "image", "filename", "ImageID", "Image Index"])
def test_the_ids_of_a_table_have_many_names(tmp_path: Path, name: str) -> None:
    (said,) = read_groups(groups(tmp_path, f"{name},Group\na,1\n"))
    assert said.value("a", "group") == "1"
    assert said.notes[0].text.startswith(f"groups.csv: columns by other names: '{name}' is image")


def test_splits_of_a_table_have_many_names(tmp_path: Path) -> None:
    (said,) = read_groups(groups(tmp_path, "image_id,group,split\na,1,Training\nb,2,val\n"))
    assert [said.value(i, "split") for i in "ab"] == ["train", "valid"]
