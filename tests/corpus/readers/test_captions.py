"""Captions: read where releases and tables have them, of images that are learnt from alone."""

from pathlib import Path

import pytest

from core.images import ImageTable
from corpus.deal import DealConfig, deal, write_manifest
from corpus.readers.layouts import read_corpus
from corpus.readers.reading import Reading
from corpus.readers.unsplit import read_archive

IDS = ("train_1", "train_2", "valid_1", "test_1")


def lay(folder: Path, files: dict[str, str]) -> Path:
    """Files by name, those of images empty."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def release(folder: Path, files: dict[str, str]) -> Path:
    """A release since 2024: two images of train, one each of valid and test, and lists."""
    images = {f"{name.partition('_')[0]}/{name}.jpg": "" for name in IDS}
    lists = {
        "train_concepts.csv": "ID,CUIs\ntrain_1,C1\ntrain_2,C1\n",
        "valid_concepts.csv": "ID,CUIs\nvalid_1,C1\n",
    }
    return lay(folder, images | lists | files)


def captions_of(table: ImageTable) -> dict[str, str]:
    pairs = zip(table.image_ids, table.taught_captions, strict=True)
    return {image_id: caption for image_id, caption in pairs if caption}


def notes_on(reading: Reading, word: str = "caption") -> list[str]:
    return [note for note in reading.notes if word in note]


def test_a_release_has_a_file_a_split_and_that_of_test_is_not_opened(tmp_path: Path) -> None:
    home = release(
        tmp_path,
        {
            "train_captions.csv": 'ID,Caption\ntrain_1,"CT, of the\nchest"\ntrain_2,"An ""x"""\n',
            "valid_captions.csv": "ID,Caption\nvalid_1,A liver\n",
        },
    )
    (home / "test_captions.csv").write_bytes(b"\x00\xff no text at all")
    reading = read_corpus(home, strict=True)
    assert captions_of(reading.table) == {
        "train_1": "CT, of the chest",
        "train_2": 'An "x"',
        "valid_1": "A liver",
    }
    assert reading.table.metadata == {}
    assert notes_on(reading) == [
        "test_captions.csv: not read, captions of test images are no input"
    ]


@pytest.mark.parametrize(
    ("text", "caption"),
    [
        ("ID;Caption\ntrain_1;A liver, axial\n", "A liver, axial"),
        ("ID;Caption\ntrain_1;A liver; axial\n", "A liver; axial"),
        (",ID,Caption\n0,train_1,A liver\n", "A liver"),
        (";ID;Caption\n0;train_1;A liver\n", "A liver"),
        ("train_1,A liver; axial\n", "A liver; axial"),
    ],
)
def test_semicolons_and_an_index_before_the_ids_are_understood(
    tmp_path: Path, text: str, caption: str
) -> None:
    reading = read_corpus(release(tmp_path, {"train_captions.csv": text}))
    assert captions_of(reading.table) == {"train_1": caption}


def test_lines_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    lines = [
        "ID,Caption", "train_1,A chest, with commas", "train_1,another", "train_2,", ",no id",
        "stranger,A knee", "test_1,told of test", "",
    ]  # fmt: skip
    reading = read_corpus(release(tmp_path, {"train_captions.csv": "\n".join(lines)}))
    assert captions_of(reading.table) == {"train_1": "A chest, with commas"}
    assert notes_on(reading) == [
        "train_captions.csv: 3 lines without an id, without a caption or with a second one,"
        " left out",
        "train_captions.csv: 1 caption without an image, left out: ['stranger']",
        "train_captions.csv: 1 caption of images of test or without concepts, not read: ['test_1']",
        "train: 1 of 2 labelled images without a caption: ['train_2']",
        "valid: 1 of 1 labelled image without a caption: ['valid_1']",
    ]


def test_a_file_that_is_no_text_is_noted_and_concepts_are_read_without_it(tmp_path: Path) -> None:
    home = release(tmp_path, {"valid_captions.csv": 'ID,Caption\nvalid_1,"never closed\n'})
    (home / "train_captions.csv").write_bytes(b"ID,Caption\ntrain_1,\xff\xfe\n")
    reading = read_corpus(home)
    assert reading.table.taught_captions == ()
    told = notes_on(reading)
    assert len(told) == 2
    assert all(note.startswith("captions not read: ") for note in told)
    assert "a quote is opened and never closed" in told[1]


@pytest.mark.parametrize("text", ["", "ID,Caption\n"])
def test_a_file_without_a_caption_is_noted(tmp_path: Path, text: str) -> None:
    reading = read_corpus(release(tmp_path, {"train_captions.csv": text}))
    assert reading.table.taught_captions == ()
    assert notes_on(reading) == ["train_captions.csv: no caption in it"]


@pytest.mark.parametrize(
    ("files", "caption"),
    [
        (
            {
                "train/x_train_1.jpg": "",
                "CLEF_2022_concept_detection_train.csv": "ID\tcuis\nx_train_1\tC1\n",
                "CLEF_2022_caption_prediction_train.csv": 'ID\tcaption\nx_train_1\tA "b", c\n',
            },
            'A "b", c',
        ),
        (
            {
                "images/train/x_train_1.jpg": "",
                "CLEF_concept_detection_train_labels.csv": "ID\tcuis\nx_train_1\tC1\n",
                "CLEF_caption_prediction_train_labels.csv": "ID\tcaption\nx_train_1\tA chest\n",
            },
            "A chest",
        ),
        (
            {
                "dev_concept/images/x_train_1.jpg": "",
                "dev_concept/concepts.csv": "ID,CUIs\nx_train_1,C1\n",
                "dev_caption/captions.csv": 'ID,Caption\nx_train_1,"A, b"\nx_train_9,A knee\n',
            },
            "A, b",
        ),
        (
            {
                "data/train/radiology/images/x_1.jpg": "",
                "data/train/radiology/cuis.txt": "x_1\t\tC1\n",
                "data/train/radiology/captions.txt": "x_1\t A chest, of ROCO \n",
            },
            "A chest, of ROCO",
        ),
        (
            {
                "train/DRCT/x_1.jpg": "",
                "Training-Concepts.txt": "x_1\tC1\n",
                "train_captions.csv": "ID,Caption\nx_1,drawn\n",
            },
            "drawn",
        ),
        (
            {
                "Training-Images/synpic1.jpg": "",
                "Validation-Images/synpic1.jpg": "",
                "Training_Set_Concepts.csv": "synpic1,C1\n",
                "Validation_Set_Concepts.csv": "synpic1,C1\n",
                "train_captions.csv": "ID,Caption\nsynpic1,of train\n",
            },
            "of train",
        ),
        (
            {
                "a.jpg": "",
                "manifest.csv": "path,split,concepts,Captions\na.jpg,train,C1,A chest\n",
            },
            "A chest",
        ),
    ],
    ids=["2022", "2023", "2026", "roco", "2020", "2021", "manifest"],
)
def test_every_layout_keeps_captions(tmp_path: Path, files: dict[str, str], caption: str) -> None:
    table = read_corpus(lay(tmp_path, files)).table
    assert list(captions_of(table).values()) == [caption]
    assert table.metadata == {}


MANIFEST = (
    "path,split,concepts,caption,captions,age\n"
    "a.jpg,train,C1,A chest,other,50\nb.jpg,train,,nan,other,60\nv.jpg,valid,C1,A heart,other,\n"
    "t.jpg,test,C1,the answer,other,70\n"
)


def test_a_column_of_captions_is_no_metadata_and_that_of_test_is_not_kept(tmp_path: Path) -> None:
    images = {f"{name}.jpg": "" for name in "abvt"}
    reading = read_corpus(lay(tmp_path, {**images, "manifest.csv": MANIFEST}))
    assert captions_of(reading.table) == {"a": "A chest", "v": "A heart"}
    assert set(reading.table.metadata) == {"age"}
    text = "manifest.csv: 1 caption of images of test or without concepts, not read: ['t']"
    assert text in reading.notes
    assert "manifest.csv: column 'captions' not read beside 'caption'" in reading.notes
    assert "the answer" not in str(reading.table)


def test_a_column_of_metadata_csv_is_one_too_and_a_file_of_captions_counts_first(
    tmp_path: Path,
) -> None:
    home = release(
        tmp_path,
        {
            "metadata.csv": "image_id,caption,age\ntrain_1,told here,1\ntrain_2,here alone,2\n",
            "train_captions.csv": "ID,Caption\ntrain_1,A chest\n",
        },
    )
    table = read_corpus(home).table
    assert captions_of(table) == {"train_1": "A chest", "train_2": "here alone"}
    assert set(table.metadata) == {"age"}


def test_a_dealt_archive_keeps_its_captions_but_those_of_its_test(tmp_path: Path) -> None:
    images = {f"{k}.jpg": "" for k in range(20)}
    lines = [f"{k}.jpg,C{k % 2},caption {k}" for k in range(20)]
    home = lay(tmp_path, {**images, "all.csv": "\n".join(["path,concepts,caption", *lines])})
    table = deal(read_archive(home / "all.csv"), config=DealConfig(valid=0.2, test=0.2))
    write_manifest(table, home / "dealt.csv")
    read = read_corpus(home / "dealt.csv").table
    learnt = [i for i, s in zip(read.image_ids, read.splits, strict=True) if s != "test"]
    assert len(learnt) == 16
    assert captions_of(read) == {image_id: f"caption {image_id}" for image_id in learnt}
    assert read.metadata == {}
