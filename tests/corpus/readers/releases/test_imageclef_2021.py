from pathlib import Path

import pytest

from core.errors import CorpusError
from corpus.readers.releases.imageclef_2021 import is_imageclef_2021, read_imageclef_2021

MARK = "\ufeff"
TRAINING, VALIDATION = (
    f"ImageCLEF2021_ConceptDetection_{word}-Set" for word in ("Training", "Validation")
)


def lay(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")


@pytest.mark.parametrize(
    ("train", "valid", "test"),
    [
        (f"{TRAINING}/", f"{VALIDATION}/", ""),
        (f"{TRAINING}/{TRAINING}/", f"{VALIDATION}/{VALIDATION}/", "ImageCLEF2021_Test-Set/"),
        ("", "", ""),
    ],
)
def test_the_archives_of_2021_may_be_unpacked_in_any_way(
    tmp_path: Path, train: str, valid: str, test: str
) -> None:
    files = {
        f"{train}Training_Set_Concepts.csv": f"{MARK}synpic1,C1;C2\nsynpic2,C1\n",
        f"{valid}Validation_Set_Concepts.csv": f"{MARK}synpic3,C1\n",
        f"{train}Training-Images/synpic1.jpg": "",
        f"{train}Training-Images/synpic2.jpg": "",
        f"{valid}Validation-Images/synpic3.jpg": "",
        f"{test}Test-Images/synpic4.jpg": "",
    }
    lay(tmp_path, files)
    assert is_imageclef_2021(tmp_path)
    reading = read_imageclef_2021(tmp_path, strict=True)
    table = reading.table
    assert (reading.layout, reading.edition, reading.notes) == ("ImageCLEF 2021", 2020, ())
    assert table.image_ids == ("synpic1", "synpic2", "synpic3", "synpic4")
    assert table.splits == ("train", "train", "valid", "test")
    assert table.concepts == (("C1", "C2"), ("C1",), ("C1",), None)


def test_lists_at_the_top_and_images_in_the_archives_are_joined(tmp_path: Path) -> None:
    lay(
        tmp_path,
        {
            "Training_Set_Concepts.csv": "a,C1\n",
            f"{TRAINING}/Training-Images/a.jpg": "",
            "Test_Set_Concepts.csv": "t,C1\n",
        },
    )
    reading = read_imageclef_2021(tmp_path)
    assert reading.table.concepts == (("C1",),)
    assert reading.notes == (
        "Test_Set_Concepts.csv: not read, the test images stay unlabelled",
        "valid: no image; looked for Validation-Images/ in"
        f" {tmp_path} and the folders of 2021 in it",
        f"test: no image; looked for Test-Images/ in {tmp_path} and the folders of 2021 in it",
    )


def test_ids_of_two_splits_are_told_apart_by_the_split_but_for_test(tmp_path: Path) -> None:
    lay(
        tmp_path,
        {
            "Training_Set_Concepts.csv": "a,C1\nb,C2\n",
            "Validation_Set_Concepts.csv": "a,C2\n",
            **{f"Training-Images/{name}.jpg": "" for name in "ab"},
            "Validation-Images/a.jpg": "",
            "Test-Images/b.jpg": "",
        },
    )
    reading = read_imageclef_2021(tmp_path)
    assert reading.table.image_ids == ("train/a", "train/b", "valid/a", "b")
    assert reading.table.concepts == (("C1",), ("C2",), ("C2",), None)
    assert reading.notes == (
        "2 ids in more than one split, told apart as train/<id> and valid/<id>: ['a', 'b']",
    )


def test_without_a_list_of_train_nothing_is_read(tmp_path: Path) -> None:
    lay(tmp_path, {"Validation_Set_Concepts.csv": "a,C1\n"})
    assert is_imageclef_2021(tmp_path)
    with pytest.raises(CorpusError, match=r"no file Training_Set_Concepts\.csv; put it there"):
        read_imageclef_2021(tmp_path)
