"""Where new images are found, and what tells their category."""

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
