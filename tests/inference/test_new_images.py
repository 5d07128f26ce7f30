"""Where new images are found, and what tells their category."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.errors import ConfigError, CorpusError
from inference.archive.join import TableTarget
from inference.images import find_images


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Two folders of pictures, one called by a category."""
    home = tmp_path / "archive"
    for place in ("DRCT/a.png", "DRCT/sub/b.png", "other/c.png", "other/a.png"):
        path = home / place
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(path)
    return home


def told(*places: object, category: str | None = None) -> dict[str, tuple[str, str]]:
    """Category and what told it, by id."""
    found = find_images(list(map(str, places)), category=category)
    return {i.image_id: (i.category, i.told_by) for i in found.images}


def test_the_nearest_folder_tells_the_category(archive: Path) -> None:
    assert told(archive) == {
        str(archive / "DRCT" / "a.png"): ("DRCT", "folder"),  # two are called a
        "b": ("DRCT", "folder"),
        "c": ("", ""),
        str(archive / "other" / "a.png"): ("", ""),
    }


def test_the_category_that_is_asked_for_counts_before_all_others(archive: Path) -> None:
    assert told(archive / "DRCT", category="x-ray") == {
        "a": ("DRXR", "--category"),
        "b": ("DRXR", "--category"),
    }
    with pytest.raises(ConfigError, match="--category dog: expected one of"):
        find_images([str(archive)], category="dog")


def test_an_image_named_twice_is_taken_once(archive: Path) -> None:
    places = (archive / "other", archive / "other" / "c.png", archive / "other" / "*.png")
    assert set(told(*places)) == {"a", "c"}


@pytest.mark.parametrize(("pattern", "ids"), [
    ("other/*.png", {"a", "c"}),
    ("**/b.png", {"b"}),
    ("DR*", {"a", "b"}),
])  # fmt: skip
def test_a_pattern_stands_for_what_it_fits(archive: Path, pattern: str, ids: set[str]) -> None:
    assert set(told(archive / pattern)) == ids


def test_a_table_lists_images_with_category_and_further_columns(archive: Path) -> None:
    table = archive / "list.csv"
    table.write_text("path,id,category,age\nDRCT/a.png,one,MRI,40\nother/c.png,two,,\n")
    one, two = find_images([str(table)]).images
    assert (one.image_id, one.category, one.told_by) == ("one", "DRMR", "manifest")
    assert one.cells["age"] == "40"
    assert (two.image_id, two.category, two.told_by) == ("two", "", "")


def test_images_stay_in_their_zip(archive: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed.zip"
    with zipfile.ZipFile(packed, "w") as file:
        file.write(archive / "DRCT" / "a.png", "DRCT/a.png")
    assert told(packed) == {"a": ("DRCT", "folder")}
    assert told(packed / "DRCT" / "a.png") == {"a": ("DRCT", "folder")}


def test_a_table_that_is_named_is_read_as_one(archive: Path) -> None:
    table = archive / "list.csv"
    table.write_text("path\nDRCT/a.png\n")
    assert set(told(table)) == {"a"}
    table.write_text("DRCT/a.png\n")
    with pytest.raises(CorpusError, match="no column"):
        find_images([str(table)])
    assert set(told(archive / "l*")) == {"list.csv"}  # may be any text, and will not be read


def test_names_that_become_paths_are_counted(archive: Path) -> None:
    (note,) = find_images([str(archive)]).notes
    assert note.text == "2 images have a name that others have too; their id is the path"


def test_what_is_not_there_is_said(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for place, reason in {
        "nowhere": "no such file or folder",
        "archive/*.gif": "no image fits it",
        "empty": "no image in it",
    }.items():
        with pytest.raises(CorpusError, match=reason):
            find_images([str(tmp_path / place)])


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet", "submission"])
def test_what_cannot_be_written_is_refused_before_anything_is_decided(
    form: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    for out, reason in (
        *([] if form == "parquet" else [(tmp_path, "is a folder; name a file in it")]),
        (tmp_path / "file" / "out", r"cannot be written \((not a directory|file exists)\)"),
    ):
        with pytest.raises(ConfigError, match=f"--out {out}: {reason}"):
            TableTarget(out=out, form=form).check()


def test_nothing_else_is_lost_for_a_table(archive: Path) -> None:
    (archive / "list.csv").write_text("path\nDRCT/a.png\n")
    (archive / "images.zip").touch()
    os.mkfifo(archive / "pipe")
    for name, form, reason in (
        ("pipe", "csv", "is a device or a pipe"),
        ("list.csv", "csv", ".* is to be read, and would be replaced"),
        ("images.csv", "submission", ".*images.zip is to be read"),
        ("images.zip", "submission", "name a .csv; its zip"),
        ("x" * 240, "csv", r"cannot be written \(file name too long\)"),  # with .skipped.csv
        ("x" * 300, "csv", r"cannot be written \(file name too long\)"),
    ):
        out = archive / name
        with pytest.raises(ConfigError, match=f"--out {out}: {reason}"):
            TableTarget(out=out, form=form).check(
                [str(archive / "list.csv"), str(archive / "images.zip")]
            )


def test_a_look_at_the_place_leaves_what_others_write(tmp_path: Path) -> None:
    draft = tmp_path / ".decided.csv.tmp"
    draft.write_text("half")
    TableTarget(out=tmp_path / "decided.csv", form="csv").check()
    assert draft.read_text() == "half"
