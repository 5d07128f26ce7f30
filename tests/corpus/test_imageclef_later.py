from pathlib import Path

import pytest

from core.errors import CorpusError
from corpus.imageclef_later import (
    EDITION_2022,
    EDITION_2023,
    EDITION_2025,
    Edition,
    is_edition,
    is_imageclef_2026,
    read_edition,
    read_imageclef_2026,
)


def lay(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return root


CORPUS_2022 = {
    "train/x_train_1.jpg": "",
    "valid/x_valid_1.jpg": "",
    "test/x_test_1.jpg": "",
    "8a1f_ImageCLEFmedCaption_2022_concept_detection_train.csv": "ID\tcuis\nx_train_1\tC1;C2\n",
    "77b0_ImageCLEFmedCaption_2022_concept_detection_valid.csv": "ID\tcuis\nx_valid_1\tC1\n",
    "concepts.csv": "concept\tconcept_name\nC1\tChest\n",
}
_2023 = "ImageCLEFmedical_Caption_2023"
CORPUS_2023 = {
    "images/train/x_train_1.jpg": "",
    "images/valid/x_valid_1.jpg": "",
    "images/test/x_test_1.jpg": "",
    f"{_2023}_concept_detection_train_labels.csv": "ID\tcuis\nx_train_1\tC1;C2\n",
    f"{_2023}_concept_detection_valid_labels.csv": "ID\tcuis\nx_valid_1\tC1\n",
    f"{_2023}_caption_prediction_train_labels.csv": "ID\tcaption\nx_train_1\ta chest\n",
    f"{_2023}_cui_mapping.csv": "C1\tChest\n",
}
CORPUS_2025 = {
    "train/x_train_1.jpg": "",
    "valid/x_valid_1.jpg": "",
    "test/x_test_1.jpg": "",
    "train_concepts.csv": "ID,CUIs\nx_train_1,C1;C2\n",
    "valid_concepts.csv": "ID,CUIs\nx_valid_1,C1\n",
    "train_concepts_manual.csv": "ID,CUIs\nx_train_1,C1\n",
    "cui_mapping.csv": "CUI,Canonical name\nC1,Chest\n",
}
CORPUS_2026 = {
    "dev_concept/images/x_2026_train_10.jpg": "",
    "dev_concept/images/x_2026_train_9.jpg": "",
    "dev_concept/images/x_2026_valid_1.jpg": "",
    "dev_concept/concepts.csv": (
        "ID,CUIs\nx_2026_train_10,C1\nx_2026_valid_1,C1\nx_2026_train_9,C1;C2\n"
    ),
    "dev_concept/cui_mapping.csv": "CUI,Canonical name\nC1,Chest\n",
    "dev_caption/images/x_2026_train_9.jpg": "",
    "test/images/x_2026_test_1.jpg": "",
}

EDITIONS = [
    (EDITION_2022, CORPUS_2022, "ImageCLEF 2022", 2022),
    (EDITION_2023, CORPUS_2023, "ImageCLEF 2023", 2023),
    (EDITION_2025, CORPUS_2025, "ImageCLEF 2024/25", 2025),
]


@pytest.mark.parametrize(("edition", "files", "layout", "year"), EDITIONS)
def test_an_edition_is_recognised_and_read_whole(
    tmp_path: Path, edition: Edition, files: dict[str, str], layout: str, year: int
) -> None:
    lay(tmp_path, files)
    fitting = [e for e in (EDITION_2022, EDITION_2023, EDITION_2025) if is_edition(tmp_path, e)]
    assert fitting == [edition]
    reading = read_edition(tmp_path, edition, strict=True)
    table = reading.table
    assert (reading.layout, reading.edition) == (layout, year)
    assert table.image_ids == ("x_train_1", "x_valid_1", "x_test_1")
    assert table.splits == ("train", "valid", "test")
    assert table.categories == ("", "", "")
    assert table.concepts == (("C1", "C2"), ("C1",), None)
    assert reading.names == {"C1": "Chest"}
    assert reading.notes == ()


@pytest.mark.parametrize(("edition", "files", "layout", "year"), EDITIONS)
def test_images_may_lie_deeper_or_all_together(
    tmp_path: Path, edition: Edition, files: dict[str, str], layout: str, year: int
) -> None:
    del layout, year
    lay(tmp_path, {name: text for name, text in files.items() if not name.endswith(".jpg")})
    lay(tmp_path, dict.fromkeys(["train/train/x_train_1.jpg", "images/x_valid_1.jpg"], ""))
    lay(tmp_path, {"test/images/x_test_1.jpg": ""})
    table = read_edition(tmp_path, edition).table
    assert table.image_ids == ("x_train_1", "x_valid_1", "x_test_1")
    assert table.splits == ("train", "valid", "test")


def test_the_truth_of_test_is_not_read(tmp_path: Path) -> None:
    lay(tmp_path, {**CORPUS_2025, "test_concepts.csv": "ID,CUIs\nx_test_1,C1\n"})
    reading = read_edition(tmp_path, EDITION_2025)
    assert reading.table.concepts[-1] is None
    assert reading.notes == ("test_concepts.csv: not read, the test images stay unlabelled",)


def test_groups_and_categories_of_a_table_are_honoured(tmp_path: Path) -> None:
    lay(tmp_path, CORPUS_2025)
    lay(tmp_path, {"groups.csv": "image_id,group,category\nx_train_1,p,DRCT\nx_test_1,q,DRMR\n"})
    table = read_edition(tmp_path, EDITION_2025).table
    assert table.groups == ("p", "x_valid_1", "q")
    assert table.categories == ("DRCT", "", "DRMR")


def test_an_id_that_does_not_tell_its_split_is_refused(tmp_path: Path) -> None:
    lay(tmp_path, {**CORPUS_2023, "images/lost.jpg": ""})
    with pytest.raises(CorpusError, match=r"images/lost.jpg: the id does not say _train_, _valid_"):
        read_edition(tmp_path, EDITION_2023)


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    lay(tmp_path, CORPUS_2025)
    (tmp_path / "valid_concepts.csv").unlink()
    assert is_edition(tmp_path, EDITION_2025)
    with pytest.raises(CorpusError, match=r"no file valid_concepts.csv; put it there"):
        read_edition(tmp_path, EDITION_2025)


def test_the_list_of_another_edition_is_refused_at_its_first_line(tmp_path: Path) -> None:
    lay(tmp_path, {**CORPUS_2025, "train_concepts.csv": "ID\tCUIs\nx_train_1\tC1\n"})
    with pytest.raises(CorpusError, match=r"line 1: expected ID,CUI;CUI, found 'ID\\tCUIs'"):
        read_edition(tmp_path, EDITION_2025)


@pytest.mark.parametrize(("below", "test"), [("", ["x_2026_test_1"]), ("dev_concept", [])])
def test_2026_is_read_from_the_folder_above_or_from_dev_concept(
    tmp_path: Path, below: str, test: list[str]
) -> None:
    lay(tmp_path, CORPUS_2026)
    assert is_imageclef_2026(tmp_path / below)
    reading = read_imageclef_2026(tmp_path / below, strict=True)
    assert (reading.layout, reading.edition) == ("ImageCLEF 2026", 2026)
    assert reading.table.image_ids == (
        "x_2026_train_9",
        "x_2026_train_10",
        "x_2026_valid_1",
        *test,
    )
    assert reading.table.concepts[:3] == (("C1", "C2"), ("C1",), ("C1",))
    assert reading.names == {"C1": "Chest"}
    assert reading.notes == (() if test else ("test: no image",))


def test_2026_counts_what_needs_mending_once(tmp_path: Path) -> None:
    content = "ID,CUIs\nx_2026_train_9,C1;C1\nx_2026_valid_1,C1;C1\nx_2026_test_1,C1\n"
    lay(tmp_path, {**CORPUS_2026, "dev_concept/concepts.csv": content})
    assert read_imageclef_2026(tmp_path).notes == (
        "concepts.csv: 2 concepts repeated for an image, kept once",
        "concepts.csv: 1 test image, left unlabelled",
        "train: 1 of 2 images without an entry in concepts.csv, unlabelled: ['x_2026_train_10']",
    )


def test_2026_refuses_an_id_without_a_split(tmp_path: Path) -> None:
    lay(tmp_path, {**CORPUS_2026, "dev_concept/concepts.csv": "ID,CUIs\nx_9,C1\n"})
    with pytest.raises(CorpusError, match=r"concepts.csv: id 'x_9' does not say _train_, _valid_"):
        read_imageclef_2026(tmp_path)
