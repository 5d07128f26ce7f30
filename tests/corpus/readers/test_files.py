import zipfile
from pathlib import Path

import pytest

from core.errors import CorpusError
from corpus.readers.files import (
    find_file,
    image_files,
    images_by_category,
    images_of_split,
    natural_key,
    require_file,
)


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_names_sort_by_their_numbers() -> None:
    names = ["b1", "a10", "a9", "a", "a09", "10", "9"]
    assert sorted(names, key=natural_key) == ["9", "10", "a", "a09", "a9", "a10", "b1"]


def test_endings_of_images_are_taken_in_any_case_and_at_any_depth(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "2.JPG", "a/3.jpeg", "a/b/4.Png")
    paths, notes = image_files(tmp_path)
    assert sorted(path.name for path in paths) == ["1.jpg", "2.JPG", "3.jpeg", "4.Png"]
    assert not notes


def test_files_that_are_no_images_are_counted_unless_left_by_a_system(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", ".DS_Store", "Thumbs.db", "a/desktop.ini", "2.txt", "noending")
    touch(tmp_path, ".cache/3.jpg", "__MACOSX/1.jpg", "a/__MACOSX/._4.jpg", "._1.jpg")
    paths, (note,) = image_files(tmp_path)
    assert [path.name for path in paths] == ["1.jpg"]
    assert note.text == (
        f"{tmp_path}: 2 files without an image's ending, left out: ['2.txt', 'noending']"
    )
    assert not note.grave


def test_every_kind_of_file_that_can_be_decoded_is_an_image(tmp_path: Path) -> None:
    names = ["a.jfif", "b.bmp", "c.gif", "d.webp", "e.TIF", "f.tiff", "g.jp2", "h.dcm"]
    touch(tmp_path, *names)
    paths, notes = image_files(tmp_path)
    assert [path.name for path in paths] == names
    assert not notes
    assert [i.image_id for i in images_of_split(tmp_path, "train")[0]] == list("abcdefgh")


def test_dicom_files_without_an_ending_are_known_by_their_content(tmp_path: Path) -> None:
    for name in ("IM0001", "1.2.840.113619.2"):
        (tmp_path / name).write_bytes(bytes(128) + b"DICM" + bytes(8))
    touch(tmp_path, "LICENSE", "3.14")
    images, (note,) = images_of_split(tmp_path, "train")
    assert [image.image_id for image in images] == ["1.2.840.113619.2", "IM0001"]
    assert note.text.endswith("left out: ['3.14', 'LICENSE']")
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(tmp_path / "IM0001", "IM0001")
    assert image_files(archive)[0] == [archive / "IM0001"]


def test_a_link_upwards_is_followed_once(tmp_path: Path) -> None:
    touch(tmp_path, "train/DRCT/a.jpg", "train/DRXR/b.jpg", "valid/v.jpg")
    (tmp_path / "train/DRCT/up").symlink_to("..")  # train itself
    (tmp_path / "train/DRCT/above").symlink_to("../..")  # what train lies in
    (tmp_path / "train/DRCT/aside").symlink_to("../DRXR")
    images, (note,) = images_by_category(tmp_path / "train", "train")
    assert {i.image_id: i.category for i in images} == {"a": "DRCT", "b": "DRXR"}
    assert note.text == (
        f"{tmp_path}/train: 3 links to a folder that was read already, not followed:"
        " ['DRCT/above', 'DRCT/aside', 'DRCT/up']"
    )


def test_linked_folders_and_files_are_followed_and_broken_links_counted(tmp_path: Path) -> None:
    touch(tmp_path, "store/DRCT/a.jpg", "store/b.jpg", "train/DRMR/c.jpg")
    (tmp_path / "train/DRCT").symlink_to(tmp_path / "store/DRCT")
    (tmp_path / "train/b.jpg").symlink_to(tmp_path / "store/b.jpg")
    (tmp_path / "train/gone.jpg").symlink_to(tmp_path / "store/gone.jpg")
    images, notes = images_by_category(tmp_path / "train", "train")
    assert {i.image_id: i.category for i in images} == {"a": "DRCT", "b": "", "c": "DRMR"}
    assert notes[0].grave
    assert notes[0].text == (
        f"{tmp_path}/train: 1 link to a file that is not there, left out: ['gone.jpg']"
    )


def test_links_that_go_round_in_a_circle_are_broken_ones(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    (tmp_path / "b").symlink_to("c")
    (tmp_path / "c").symlink_to("b")
    paths, (note,) = image_files(tmp_path)
    assert [path.name for path in paths] == ["a.jpg"]
    assert note.text == f"{tmp_path}: 2 links to a file that is not there, left out: ['b', 'c']"


def test_a_folder_that_may_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(folder)

    monkeypatch.setattr("corpus.readers.files.os.scandir", refuse)
    with pytest.raises(
        CorpusError, match=rf"^{tmp_path}: may not be read; change its permissions$"
    ):
        image_files(tmp_path)


def test_two_categories_on_the_way_to_an_image_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "train/DRCT/DRXR/a.jpg")
    with pytest.raises(CorpusError, match=r"a\.jpg: folders of two categories on its way, DRCT an"):
        images_by_category(tmp_path / "train", "train")


def test_a_category_unpacked_into_itself_is_taken_once(tmp_path: Path) -> None:
    touch(tmp_path, "train/DRCT/DRCT/a.jpg", "train/DRCT/b.jpg")
    images, (note,) = images_by_category(tmp_path / "train", "train")
    assert [image.category for image in images] == ["DRCT", "DRCT"]
    assert note.text == "train: a category's folder inside itself, taken once: DRCT/DRCT (1)"


def test_a_missing_folder_has_no_images(tmp_path: Path) -> None:
    assert images_of_split(tmp_path / "test", "test") == ([], [])


def test_paths_are_absolute_even_for_a_relative_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "train/DRCT/a.jpg")
    monkeypatch.chdir(tmp_path)
    (image,), _ = images_by_category(Path("train"), "train")
    assert image.path == tmp_path / "train/DRCT/a.jpg"
    assert (image.image_id, image.split, image.category) == ("a", "train", "DRCT")


def test_the_category_is_that_of_the_folder_and_unknown_without_one(tmp_path: Path) -> None:
    # The name of the split's own folder and of those above it say nothing.
    train = tmp_path / "DRXR" / "train"
    touch(train, "DRCT/a.jpg", "drmr/b.jpg", "images/DRUS/c.jpg", "d.jpg", "misc/e.jpg")
    images, notes = images_by_category(train, "train")
    assert notes == []
    assert {i.image_id: i.category for i in images} == {
        "a": "DRCT",
        "b": "DRMR",
        "c": "DRUS",
        "d": "",
        "e": "",
    }


def test_a_file_is_found_by_the_end_of_its_name(tmp_path: Path) -> None:
    touch(tmp_path, "ImageCLEFmedCaption2019_Training-Concepts.txt", "._Training-Concepts.txt")
    found = find_file(tmp_path, "training-concepts.txt")
    assert found == tmp_path / "ImageCLEFmedCaption2019_Training-Concepts.txt"
    assert find_file(tmp_path, "Validation-Concepts.txt") is None
    assert find_file(tmp_path / "nowhere", "Validation-Concepts.txt") is None


def test_two_files_that_could_be_meant_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a_concepts.csv", "b_concepts.csv")
    with pytest.raises(CorpusError, match=r"2 files could be concepts.csv: \['a_concepts.csv'"):
        find_file(tmp_path, "concepts.csv")


def test_a_missing_file_is_named_with_its_folder(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=rf"^{tmp_path}: no file Training-Concepts.txt; put"):
        require_file(tmp_path, "Training-Concepts.txt")
