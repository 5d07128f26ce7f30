from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.errors import CorpusError
from corpus.readers.layouts import LAYOUTS, read_corpus

# The files that make each layout, and the words for it.
SMALL: dict[str, tuple[dict[str, Any], str]] = {
    "2020": (
        {
            "train/DRCT/a.jpg": "",
            "valid/DRCT/v.jpg": "",
            "Training-Concepts.txt": "a\tC1\n",
            "Validation-Concepts.txt": "v\tC1\n",
        },
        "ImageCLEF 2019/20",
    ),
    "2021": (
        {
            "Training-Images/a.jpg": "",
            "Validation-Images/v.jpg": "",
            "Training_Set_Concepts.csv": "a,C1\n",
            "Validation_Set_Concepts.csv": "v,C1\n",
        },
        "ImageCLEF 2021",
    ),
    "2022": (
        {
            "train/a.jpg": "",
            "valid/v.jpg": "",
            "concept_detection_train.csv": "ID\tcuis\na\tC1\n",
            "concept_detection_valid.csv": "ID\tcuis\nv\tC1\n",
            "concepts.csv": "concept\tconcept_name\nC1\tChest\n",
        },
        "ImageCLEF 2022",
    ),
    "2023": (
        {
            "images/train/a.jpg": "",
            "images/valid/v.jpg": "",
            "concept_detection_train_labels.csv": "ID\tcuis\na\tC1\n",
            "concept_detection_valid_labels.csv": "ID\tcuis\nv\tC1\n",
        },
        "ImageCLEF 2023",
    ),
    "2025": (
        {
            "train/a.jpg": "",
            "valid/v.jpg": "",
            "train_concepts.csv": "ID,CUIs\na,C1\n",
            "valid_concepts.csv": "ID,CUIs\nv,C1\n",
        },
        "ImageCLEF 2024/25",
    ),
    "2026": (
        {
            "dev_concept/images/x_train_1.jpg": "",
            "dev_concept/images/x_valid_1.jpg": "",
            "dev_concept/concepts.csv": "ID,CUIs\nx_train_1,C1\nx_valid_1,C1\n",
        },
        "ImageCLEF 2026",
    ),
    "roco": (
        {
            "data/train/radiology/images/a.jpg": "",
            "data/train/radiology/cuis.txt": "a\t\tC1\n",
            "data/validation/radiology/images/v.jpg": "",
            "data/validation/radiology/cuis.txt": "v\t\tC1\n",
        },
        "ROCO v1",
    ),
    "parquet": (
        {
            f"data/{split}-00000-of-00001.parquet": {
                "image": [{"bytes": b"x", "path": None}],
                "image_id": [image_id],
                "cui": [["C1"]],
            }
            for split, image_id in (("train", "a"), ("validation", "v"))
        },
        "Hugging Face parquet",
    ),
    "manifest": (
        {
            "somewhere/a.jpg": "",
            "v.jpg": "",
            "manifest.csv": "path,split,concepts\nsomewhere/a.jpg,train,C1\nv.jpg,valid,C1\n",
        },
        "manifest",
    ),
}


def lay(root: Path, name: str) -> Path:
    for file, content in SMALL[name][0].items():
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, dict):
            pq.write_table(pa.table(content), path)
        else:
            path.write_text(content, encoding="utf-8")
    return root


def test_every_layout_has_a_corpus_in_these_tests() -> None:
    assert set(SMALL) == set(LAYOUTS)


@pytest.mark.parametrize("name", SMALL)
def test_a_layout_is_recognised_and_no_other_fits(tmp_path: Path, name: str) -> None:
    lay(tmp_path, name)
    assert [other for other, layout in LAYOUTS.items() if layout.fits(tmp_path)] == [name]
    reading = read_corpus(tmp_path)
    assert reading.layout == LAYOUTS[name].title == SMALL[name][1]
    assert len(reading.table.of(split="train")) == len(reading.table.of(split="valid")) == 1
    assert reading.table.concepts == (("C1",), ("C1",))


@pytest.mark.parametrize(
    ("layout", "files"),
    [("2019", "2020"), ("2024", "2025"), ("rocov2", "2025"), ("2022", "2022"), ("2021", "2021")],
)
def test_a_layout_may_be_named_by_any_of_its_years(tmp_path: Path, layout: str, files: str) -> None:
    assert read_corpus(lay(tmp_path, files), layout=layout).layout == SMALL[files][1]


def test_a_manifest_is_recognised_by_its_file(tmp_path: Path) -> None:
    lay(tmp_path, "manifest").joinpath("manifest.csv").rename(tmp_path / "mine.CSV")
    assert read_corpus(tmp_path / "mine.CSV").layout == "manifest"


def test_strictness_reaches_the_reader(tmp_path: Path) -> None:
    lay(tmp_path, "2020").joinpath("train/DRCT/b.jpg").touch()
    assert "train: 1 of 2 images" in read_corpus(tmp_path).notes[0]
    with pytest.raises(CorpusError, match="refused by a strict reading"):
        read_corpus(tmp_path, strict=True)


def test_a_missing_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="nowhere: no such file or folder"):
        read_corpus(tmp_path / "nowhere")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=rf"^{tmp_path}: the folder is empty$"):
        read_corpus(tmp_path)


def test_a_folder_without_a_layout_is_refused_with_all_that_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "cats").mkdir()
    with pytest.raises(CorpusError) as refused:
        read_corpus(tmp_path)
    assert str(refused.value) == (
        f"{tmp_path}: no layout of a corpus; looked for"
        " Training-Concepts.txt, train/<DRXX>/ (ImageCLEF 2019/20);"
        " Training_Set_Concepts.csv (ImageCLEF 2021);"
        " concept_detection_train.csv (ImageCLEF 2022);"
        " concept_detection_train_labels.csv (ImageCLEF 2023);"
        " train_concepts.csv (ImageCLEF 2024/25);"
        " dev_concept/concepts.csv (ImageCLEF 2026);"
        " data/train/radiology/cuis.txt (ROCO v1);"
        " data/train-00000-of-00001.parquet (Hugging Face parquet);"
        " manifest.csv, manifest.tsv, manifest.parquet (manifest)"
    )


def test_a_corpus_one_folder_below_is_pointed_to(tmp_path: Path) -> None:
    lay(tmp_path / "unpacked", "2020")
    with pytest.raises(CorpusError, match=rf"there is one in {tmp_path}/unpacked$"):
        read_corpus(tmp_path)


def test_a_corpus_two_folders_below_is_pointed_to(tmp_path: Path) -> None:
    lay(tmp_path / "ROCOv2/v2", "2025")
    with pytest.raises(CorpusError, match=rf"there is one in {tmp_path}/ROCOv2/v2$"):
        read_corpus(tmp_path)


def test_an_archive_is_to_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "corpus.zip").touch()
    with pytest.raises(
        CorpusError, match=r"corpus.zip: a manifest ends in .csv or .tsv or .*; unpack"
    ):
        read_corpus(tmp_path / "corpus.zip")


def test_archives_in_a_folder_without_a_layout_are_named(tmp_path: Path) -> None:
    (tmp_path / "ImageCLEF2020.zip").touch()
    with pytest.raises(
        CorpusError, match=r"no layout of a corpus, but 1 archive \['ImageCLEF2020.zip'\]: unpack"
    ):
        read_corpus(tmp_path)


def test_a_folder_that_two_layouts_fit_is_refused_until_one_is_named(tmp_path: Path) -> None:
    lay(lay(tmp_path, "2022"), "2025")
    with pytest.raises(
        CorpusError,
        match=r"more than one layout fits: 2022 \(ImageCLEF 2022\), 2025 \(ImageC.*--layout 2022",
    ):
        read_corpus(tmp_path)
    assert read_corpus(tmp_path, layout="2025").edition == 2025


def test_an_unknown_layout_is_refused_with_those_known(tmp_path: Path) -> None:
    with pytest.raises(
        CorpusError, match=r"no layout '2018'; known: 2020, 2021, .*, 2019, 2024, roc"
    ):
        read_corpus(tmp_path, layout="2018")


def test_a_file_read_as_a_folder_layout_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch()
    with pytest.raises(CorpusError, match="Training-Concepts"):
        read_corpus(tmp_path / "a.csv", layout="2020")
