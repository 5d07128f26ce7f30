"""Categories that the labels of images tell: of which images, from which list."""

from pathlib import Path

import pytest
from PIL import Image

from core.errors import CorpusError
from corpus.readers.layouts import read_corpus
from corpus.readers.modality import taught_categories

CT, MR, XR, ANGIO = "C0040405", "C0024485", "C1306645", "C0002978"


def release(
    folder: Path, lists: dict[str, str], images: tuple[str, ...] = ("train_1", "train_2", "train_3")
) -> Path:
    """A release since 2024: images of train, one of valid and one of test, and lists."""
    for name in (*images, "valid_1", "test_1"):
        home = folder / name.partition("_")[0]
        home.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(home / f"{name}.jpg")
    for name, text in lists.items():
        (folder / name).write_text(f"ID,CUIs\n{text}")
    return folder


LISTS = {
    "train_concepts.csv": f"train_1,C1;{CT}\ntrain_2,C1;{ANGIO};{MR}\ntrain_3,C1\n",
    "valid_concepts.csv": f"valid_1,C1;{CT}\n",
}


def test_labelled_images_have_a_category_to_learn_by_and_none_to_predict_by(tmp_path: Path) -> None:
    reading = read_corpus(release(tmp_path, LISTS))
    table = reading.table
    assert table.categories == ("",) * 5
    assert table.taught_categories == ("DRCT", "DRMR", "", "DRCT", "")
    assert reading.notes == (
        "train: categories to learn by: 0 named, 2 read from the concepts (DRCT 1, DRMR 1),"
        " 1 image without a modality concept: ['train_3']",
    )


def test_what_people_chose_counts_before_the_other_concepts(tmp_path: Path) -> None:
    manual = {"train_concepts_manual.csv": f"train_1,{XR}\ntrain_3,{ANGIO}\nelsewhere,{CT}\n"}
    reading = read_corpus(release(tmp_path, LISTS | manual))
    assert reading.table.taught_categories == ("DRXR", "DRMR", "DRAN", "DRCT", "")
    assert reading.table.concepts[0] == ("C1", CT)  # the list is read for the category alone
    assert reading.notes == (
        "train: categories to learn by: 0 named, 2 read from the manual list,"
        " 1 read from the concepts (DRAN 1, DRMR 1, DRXR 1), 0 images without a modality concept",
    )


def test_what_is_odd_in_a_manual_list_is_said_and_not_grave(tmp_path: Path) -> None:
    manual = {"train_concepts_manual.csv": f"train_1,{XR}\ntrain_2,nan\ntrain_3,{ANGIO};\n"}
    notes = read_corpus(release(tmp_path, LISTS | manual), strict=True).notes
    assert notes[:2] == (
        "train_concepts_manual.csv: 1 image with a word for nothing as the only concept, read as no"
        " concept: 'nan' (1)",
        "train_concepts_manual.csv: 1 empty concept (a stray separator), dropped",
    )


def test_the_manual_list_of_test_is_not_read(tmp_path: Path) -> None:
    manual = {"test_concepts_manual.csv": "not a list;;\n"}
    assert read_corpus(release(tmp_path, LISTS | manual)).table.taught_categories[-1] == ""


def test_a_manual_list_of_2026_holds_train_and_valid(tmp_path: Path) -> None:
    home = tmp_path / "dev_concept"
    for name in ("x_train_1", "x_valid_1"):
        (home / "images").mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(home / "images" / f"{name}.jpg")
    (home / "concepts.csv").write_text("ID,CUIs\nx_train_1,C1\nx_valid_1,C1\n")
    (home / "concepts_manual.csv").write_text(
        f"ID,CUIs\nx_train_1,{CT}\nx_valid_1,{MR}\nx_test_1,{XR}\n"
    )
    assert read_corpus(tmp_path).table.taught_categories == ("DRCT", "DRMR")
    with (home / "concepts_manual.csv").open("a") as file:
        file.write("x_train_2,nan\n")
    assert "concepts_manual.csv: 1 image with a word" in read_corpus(tmp_path).notes[0]


def test_a_malformed_manual_list_is_refused(tmp_path: Path) -> None:
    folder = release(tmp_path, LISTS | {"train_concepts_manual.csv": "train_1,a b\n"})
    with pytest.raises(CorpusError, match=r"train_concepts_manual.csv: line 2: expected ID,CUI"):
        read_corpus(folder)


def test_the_named_category_counts_and_contradictions_are_counted(tmp_path: Path) -> None:
    folder = release(tmp_path, LISTS)
    (folder / "groups.csv").write_text(
        "image_id,group,category\ntrain_1,1,US\ntrain_2,2,MR\ntrain_3,3,MR\nvalid_1,4,XR\n"
    )
    reading = read_corpus(folder)
    assert reading.table.categories == ("DRUS", "DRMR", "DRMR", "DRXR", "")
    assert reading.table.taught_categories == ()
    assert (
        "2 images whose concepts tell another category than is named; the named one counts:"
        " ['train_1: DRUS, not DRCT', 'valid_1: DRXR, not DRCT']" in reading.notes
    )
    assert not any("to learn by" in note for note in reading.notes)


def test_images_without_labels_or_with_a_category_are_told_none() -> None:
    concepts, manual = ((CT,), (CT,), None), {"c": (XR,)}
    told = taught_categories("abc", ("", "DRMR", ""), concepts=concepts, manual=manual)
    assert told == ("DRCT", "", "")
    assert taught_categories("a", ("",), concepts=(("C1",),), manual={}) == ()
