from pathlib import Path

import pytest

from corpus.readers.releases.places import places_of, split_of_name


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("Training-Images", "train"),
        ("train_images", "train"),
        ("images_train", "train"),
        ("VAL", "valid"),
        ("dev", "valid"),
        ("Validation-Images", "valid"),
        ("ImageCLEFmedical_Caption_2025_test_images", "test"),
        ("2026_test", "test"),
        ("ROCOv2_train_images", "train"),
        ("dev_concept", None),
        ("synthetic_test", None),
        ("images", None),
        ("trainings", None),
    ],
)
def test_a_name_tells_its_split(name: str, split: str | None) -> None:
    assert split_of_name(name) == split


def test_an_archive_counts_where_no_folder_of_its_split_has_anything(tmp_path: Path) -> None:
    for name in ("train", "valid_images"):
        (tmp_path / name).mkdir()
    (tmp_path / "train/a.jpg").touch()
    for name in ("train_images.zip", "VALID.ZIP", "test.zip", "captions.zip"):
        (tmp_path / name).touch()
    places = places_of(tmp_path, tmp_path / "nowhere")
    assert places.of_split == {
        "train": (tmp_path / "train",),
        "valid": (tmp_path / "valid_images", tmp_path / "VALID.ZIP"),
        "test": (tmp_path / "test.zip",),
    }
    assert [note.text for note in places.notes] == [
        "train_images.zip: not read, train/ lies beside it"
    ]


def test_a_folder_and_a_link_to_it_are_read_once(tmp_path: Path) -> None:
    (tmp_path / "train_images").mkdir()
    (tmp_path / "train_images/a.jpg").touch()
    (tmp_path / "train").symlink_to("train_images")
    places = places_of(tmp_path)
    assert places.of_split["train"] == (tmp_path / "train",)
    assert [note.text for note in places.notes] == [
        f"train_images/: the same folder as {tmp_path / 'train'}, read once"
    ]
