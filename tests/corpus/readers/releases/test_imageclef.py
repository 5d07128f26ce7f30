import shutil
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from core.errors import CorpusError
from corpus.readers.releases.imageclef import (
    EDITION_2022,
    EDITION_2023,
    EDITION_2025,
    EditionLayout,
    is_edition,
    is_imageclef_2020,
    is_imageclef_2026,
    read_edition,
    read_imageclef_2020,
    read_imageclef_2026,
)

RADBENCH = Path(__file__).parents[5] / "shared" / "radbench"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    for name in (
        "train/DRCT/R_1.jpg",
        "train/DRCT/R_10.jpg",
        "train/DRXR/R_2.JPG",
        "valid/DRCT/R_3.jpeg",
        "valid/DRXR/R_4.png",
        "test/DRCT/R_5.jpg",
        "test/DRXR/R_6.jpg",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "Training-Concepts.txt").write_text("R_10\tC2;C1\nR_1\tC1\nR_2\tC3\n")
    (tmp_path / "Validation-Concepts.txt").write_text("R_3\tC1\nR_4\tC3\n")
    return tmp_path


GAPS = tuple(
    f"{split}: no image of DRAN, DRCO, DRMR, DRPE, DRUS" for split in ("train", "valid", "test")
)


def test_folders_give_splits_and_categories_and_lists_the_concepts(corpus: Path) -> None:
    reading = read_imageclef_2020(corpus)
    table = reading.table
    assert (reading.layout, reading.edition) == ("ImageCLEF 2019/20", 2020)
    assert table.image_ids == ("R_1", "R_2", "R_10", "R_3", "R_4", "R_5", "R_6")
    assert table.splits == ("train",) * 3 + ("valid",) * 2 + ("test",) * 2
    assert table.categories == ("DRCT", "DRXR", "DRCT", "DRCT", "DRXR", "DRCT", "DRXR")
    assert table.concepts == (("C1",), ("C3",), ("C2", "C1"), ("C1",), ("C3",), None, None)
    assert table.groups == table.image_ids
    assert reading.names == {}
    assert reading.notes == GAPS


def test_two_readings_of_a_corpus_are_the_same(corpus: Path) -> None:
    first, second = read_imageclef_2020(corpus), read_imageclef_2020(corpus)
    assert first.table.image_ids == second.table.image_ids
    assert first.table.concepts == second.table.concepts
    assert first.notes == second.notes


def test_the_truth_of_test_is_not_read(corpus: Path) -> None:
    (corpus / "Test-Concepts.txt").write_text("R_5\tC1\nR_6\tC3\n")
    reading = read_imageclef_2020(corpus)
    assert not reading.table.of(split="test").labelled.any()
    assert reading.notes[0] == "Test-Concepts.txt: not read, the test images stay unlabelled"


def test_names_and_groups_are_read_where_they_are(corpus: Path) -> None:
    (corpus / "string_concepts.csv").write_text("C1\tChest\n")
    group_of = {1: "p1", 2: "p0", 3: "q1", 4: "q0", 5: "r1", 6: "r0", 10: "p0"}
    (corpus / "groups.csv").write_text(
        "image_id,split,category,group,source\n"
        + "".join(f"R_{n},,,{group_of[n]},s{n}\n" for n in group_of)
    )
    reading = read_imageclef_2020(corpus)
    assert reading.names == {"C1": "Chest"}
    by_number = [group_of[int(image_id[2:])] for image_id in reading.table.image_ids]
    assert list(reading.table.groups) == by_number
    assert reading.table.metadata["source"] == ("s1", "s2", "s10", "s3", "s4", "s5", "s6")


def test_metadata_is_read_beside_the_splits_and_is_missing_without_a_row(corpus: Path) -> None:
    (corpus / "groups.csv").write_text("image_id,group,sex\nR_1,p,F\nR_2,q,\n")
    (corpus / "metadata.csv").write_text("image_id,age,sex\nR_2,61,M\nR_1,7,M\nR_5,30,\nR_77,1,F\n")
    reading = read_imageclef_2020(corpus)
    assert reading.table.image_ids == ("R_1", "R_2", "R_10", "R_3", "R_4", "R_5", "R_6")
    assert reading.table.groups[:2] == ("p", "q")
    assert reading.table.metadata == {
        "sex": ("F", "M", "", "", "", "", ""),  # groups.csv counts where both have a value
        "age": ("7", "61", "", "", "", "30", ""),
    }
    assert "metadata.csv: 1 row without an image, left out: ['R_77']" in reading.notes


def test_the_names_of_2019_and_its_lack_of_categories_are_accepted(tmp_path: Path) -> None:
    for name in ("train/R_1.jpg", "valid/R_2.jpg", "test/R_3.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    prefix = "ImageCLEFmedCaption2019_"
    (tmp_path / f"{prefix}Training-Concepts.txt").write_text("R_1\tC1\n")
    (tmp_path / f"{prefix}Validation-Concepts.txt").write_text("R_2\tC1\n")
    (tmp_path / f"{prefix}String-Concepts.csv").write_text("C1\tChest\n")
    assert is_imageclef_2020(tmp_path)
    reading = read_imageclef_2020(tmp_path)
    assert reading.table.categories == ("", "", "")
    assert reading.names == {"C1": "Chest"}
    assert reading.notes == tuple(
        f"{split}: 1 image in no category's folder, category unknown: ['R_{n}']"
        for n, split in enumerate(("train", "valid", "test"), start=1)
    )


def test_a_missing_list_is_named(corpus: Path) -> None:
    (corpus / "Training-Concepts.txt").unlink()
    assert is_imageclef_2020(corpus)
    with pytest.raises(CorpusError, match=r"no file Training-Concepts\.txt; put it there"):
        read_imageclef_2020(corpus)


def test_without_a_list_of_valid_its_images_are_unlabelled(corpus: Path) -> None:
    (corpus / "Validation-Concepts.txt").unlink()
    assert read_imageclef_2020(corpus).table.concepts[3:5] == (None, None)
    shutil.rmtree(corpus / "valid")
    reading = read_imageclef_2020(corpus)
    assert reading.table.splits == ("train",) * 3 + ("test",) * 2
    assert (
        "valid: no image; looked for valid/, valid_images/ and valid_images.zip in"
        f" {corpus}" in reading.notes
    )


@pytest.mark.parametrize("name", ["validation", "Val", "Validation-Images", "valid_images"])
def test_a_folder_of_a_split_may_have_another_name(corpus: Path, name: str) -> None:
    (corpus / "valid").rename(corpus / name)
    assert read_imageclef_2020(corpus).table.splits[3:5] == ("valid", "valid")


def test_a_missing_folder_of_a_split_is_named(corpus: Path) -> None:
    (corpus / "valid").rename(corpus / "elsewhere")
    with pytest.raises(
        CorpusError,
        match=r"any of its 2 ids, first 'R_3'; check the folder of valid; looked for valid/, vali",
    ):
        read_imageclef_2020(corpus)


def test_images_by_other_names_than_the_list_has_are_shown(corpus: Path) -> None:
    (corpus / "Training-Concepts.txt").write_text("X_1\tC1\n")
    with pytest.raises(CorpusError, match=r"first 'X_1'; .* where files are named like 'R_1.jpg'"):
        read_imageclef_2020(corpus)


def test_an_image_in_two_splits_is_refused(corpus: Path) -> None:
    (corpus / "valid/DRCT/R_1.jpg").touch()
    with pytest.raises(CorpusError, match=r"image 'R_1' stands twice: .*R_1.jpg and .*R_1.jpg"):
        read_imageclef_2020(corpus)


def test_a_group_table_that_contradicts_a_folder_is_refused(corpus: Path) -> None:
    (corpus / "groups.csv").write_text("image_id,group,category\nR_1,1,DRMR\n")
    with pytest.raises(CorpusError, match=r"'R_1' has category 'DRMR', but its folder says 'DRCT'"):
        read_imageclef_2020(corpus)


def test_a_strict_reading_takes_a_whole_corpus_and_refuses_one_with_gaps(corpus: Path) -> None:
    assert read_imageclef_2020(corpus, strict=True).notes == GAPS
    (corpus / "train/DRXR/R_2.JPG").unlink()
    with pytest.raises(CorpusError, match=r"1 image of train without a file, left out: \['R_2'\]"):
        read_imageclef_2020(corpus, strict=True)


@pytest.mark.radbench
@pytest.mark.skipif(not RADBENCH.is_dir(), reason="the real images are not beside the project")
def test_real_images_are_read_whole() -> None:
    reading = read_imageclef_2020(RADBENCH, strict=True)
    table = reading.table
    assert Counter(table.splits) == {"train": 3274, "valid": 1015, "test": 1165}
    in_valid = Counter(table.of(split="valid").categories)
    assert in_valid == {
        "DRAN": 64,
        "DRCO": 30,
        "DRCT": 213,
        "DRMR": 269,
        "DRPE": 27,
        "DRUS": 172,
        "DRXR": 240,
    }
    train = table.of(split="train").concepts
    assert len({cui for concepts in train for cui in concepts or ()}) == 252
    assert not table.of(split="test").labelled.any()
    assert list(table.metadata) == ["source", "license"]
    assert all(Path(path).is_file() for path in table.paths)
    assert len(reading.notes) == 1
    assert "in valid never in train" in reading.notes[0]


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
    f"{_2023}_caption_prediction_valid_labels.csv": "ID\tcaption\nx_valid_1\ta heart\n",
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
    tmp_path: Path, edition: EditionLayout, files: dict[str, str], layout: str, year: int
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
    tmp_path: Path, edition: EditionLayout, files: dict[str, str], layout: str, year: int
) -> None:
    del layout, year
    lay(tmp_path, {name: text for name, text in files.items() if not name.endswith(".jpg")})
    lay(tmp_path, dict.fromkeys(["train/train/x_train_1.jpg", "images/x_valid_1.jpg"], ""))
    lay(tmp_path, {"test/images/x_test_1.jpg": ""})
    table = read_edition(tmp_path, edition).table
    assert table.image_ids == ("x_train_1", "x_valid_1", "x_test_1")
    assert table.splits == ("train", "valid", "test")


def test_the_truth_of_test_is_not_read_since_2022(tmp_path: Path) -> None:
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


def test_a_missing_list_is_named_since_2022(tmp_path: Path) -> None:
    lay(tmp_path, CORPUS_2025)
    (tmp_path / "train_concepts.csv").unlink()
    assert is_edition(tmp_path, EDITION_2025)
    with pytest.raises(CorpusError, match=r"no file train_concepts.csv; put it there"):
        read_edition(tmp_path, EDITION_2025)


def test_a_list_of_another_edition_is_refused_where_its_lines_differ(tmp_path: Path) -> None:
    lay(tmp_path, {**CORPUS_2025, "train_concepts.csv": "ID\tCUIs\nx_train_1\tC1\tC2\n"})
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
    places = f"test/images/, test/, test_images/ and test_images.zip in {tmp_path / below}"
    assert reading.notes == (() if test else (f"test: no image; looked for {places}",))


@pytest.mark.parametrize("place", ["test/images", "test", "test_images", "Test-Images/a/b"])
def test_the_test_images_of_2026_lie_in_one_of_several_places(tmp_path: Path, place: str) -> None:
    lay(tmp_path, {n: text for n, text in CORPUS_2026.items() if not n.startswith("test")})
    lay(tmp_path, {f"{place}/x_2026_test_1.jpg": ""})
    reading = read_imageclef_2026(tmp_path)
    assert reading.table.image_ids[-1] == "x_2026_test_1"
    assert reading.notes == ()


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


ROCOV2 = {
    **{f"{s}_concepts.csv": f"ID,CUIs\nROCOv2_2023_{s}_1,C1\n" for s in ("train", "valid", "test")},
    "train_concepts_manual.csv": "ID,CUIs\nROCOv2_2023_train_1,C0040405\n",
    "test_concepts_manual.csv": "ID,CUIs\nROCOv2_2023_test_1,C0040405\n",
    "train_captions.csv": 'ID,Caption\nROCOv2_2023_train_1,"CT, of the chest"\n',
    "cui_mapping.csv": 'CUI,Canonical name\nC1,"Foramen Ovale, Patent"\n',
    "license_information.csv": (
        "ID,PMCID,Attribution,Link\n"
        'ROCOv2_2023_train_1,PMC1,"CC BY [Muacevic et al., 2022]",https://x\n'
        "ROCOv2_2023_test_1,PMC3,CC BY,https://y\n"
    ),
}
IMAGES = {split: f"ROCOv2_2023_{split}_1.jpg" for split in ("train", "valid", "test")}


def check_rocov2(folder: Path) -> None:
    reading = read_edition(folder, EDITION_2025)
    table = reading.table
    assert (reading.layout, reading.edition) == ("ROCOv2", 2025)
    assert table.image_ids == tuple(f"ROCOv2_2023_{s}_1" for s in ("train", "valid", "test"))
    assert table.splits == ("train", "valid", "test")
    assert table.concepts == (("C1",), ("C1",), None)
    assert table.taught_categories == ("DRCT", "", "")
    assert reading.names == {"C1": "Foramen Ovale, Patent"}
    assert table.metadata == {"PMCID": ("PMC1", "", "PMC3")}
    assert reading.notes[:2] == (
        "test_concepts.csv: not read, the test images stay unlabelled",
        "test_concepts_manual.csv: not read; score takes it by --secondary-truth",
    )
    assert "license_information.csv: 1 image without a row, values missing: ['ROCOv2_" in "".join(
        reading.notes
    )


@pytest.mark.parametrize("place", ["{s}", "{s}_images/{s}", "{s}_images", "images/{s}_images"])
def test_rocov2_is_read_wherever_its_images_lie(tmp_path: Path, place: str) -> None:
    lay(tmp_path, ROCOV2)
    lay(tmp_path, {f"{place.format(s=s)}/{name}": "" for s, name in IMAGES.items()})
    check_rocov2(tmp_path)


@pytest.mark.parametrize(
    ("name", "inner"),
    [
        ("{s}_images.zip", "{s}/"),
        ("{s}_images.zip", ""),
        ("{s}.zip", "a/b/"),
        ("ROCOv2_{s}_images.ZIP", "{s}_images/"),
    ],
)
def test_rocov2_is_read_with_its_images_still_zipped(tmp_path: Path, name: str, inner: str) -> None:
    lay(tmp_path, ROCOV2)
    for split, image in IMAGES.items():
        with zipfile.ZipFile(tmp_path / name.format(s=split), "w") as archive:
            archive.writestr(inner.format(s=split) + image, b"x")
            archive.writestr(f"__MACOSX/{image}", b"junk")
            archive.writestr(inner.format(s=split) + f"._{image}", b"junk")
            archive.writestr(inner.format(s=split) + "Thumbs.db", b"junk")
    check_rocov2(tmp_path)


def test_an_archive_that_is_unpacked_beside_is_not_read(tmp_path: Path) -> None:
    lay(tmp_path, {**ROCOV2, **{f"{s}_images/{s}/{name}": "" for s, name in IMAGES.items()}})
    with zipfile.ZipFile(tmp_path / "train_images.zip", "w") as archive:
        archive.writestr(f"train/{IMAGES['train']}", b"x")
    reading = read_edition(tmp_path, EDITION_2025)
    assert reading.notes[0] == "train_images.zip: not read, train_images/ lies beside it"
    assert len(reading.table) == 3


def test_images_of_all_splits_in_one_zip_are_told_apart_by_id_or_list(tmp_path: Path) -> None:
    lay(tmp_path, {**CORPUS_2025, "train_concepts.csv": "ID,CUIs\nodd,C1\n"})
    shutil.rmtree(tmp_path / "train")
    shutil.rmtree(tmp_path / "valid")
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for name in ("images/odd.jpg", "images/x_valid_1.jpg"):
            archive.writestr(name, b"x")
    table = read_edition(tmp_path, EDITION_2025).table
    assert (table.image_ids, table.splits) == (
        ("odd", "x_valid_1", "x_test_1"),
        ("train", "valid", "test"),
    )


def test_a_damaged_archive_is_refused_in_one_line(tmp_path: Path) -> None:
    lay(tmp_path, {**ROCOV2, "train_images.zip": "half a download"})
    with pytest.raises(CorpusError, match=r"train_images.zip: not a whole zip \(.*\); download"):
        read_edition(tmp_path, EDITION_2025)


def test_a_file_on_licences_without_articles_is_passed_over(tmp_path: Path) -> None:
    lay(tmp_path, {**CORPUS_2025, "license_information.csv": "Name,Link\nx,y\n"})
    reading = read_edition(tmp_path, EDITION_2025)
    assert reading.notes == ("license_information.csv: no columns ID and PMCID, not read",)
    assert reading.table.metadata == {}


def test_the_articles_of_2026_are_read(tmp_path: Path) -> None:
    attribution = "ID,PMCID,License\nx_2026_train_9,PMC7,CC BY\n"
    lay(tmp_path, {**CORPUS_2026, "dev_concept/attribution.csv": attribution})
    table = read_imageclef_2026(tmp_path).table
    assert table.metadata == {
        "PMCID": ("PMC7", "", "", ""),
        "License": ("CC BY", "", "", ""),
    }


def test_a_category_that_a_table_tells_is_not_called_unknown(tmp_path: Path) -> None:
    for name in ("train/R_1.jpg", "train/R_2.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "Training-Concepts.txt").write_text("R_1\tC1\nR_2\tC1\n")
    (tmp_path / "metadata.csv").write_text("image_id,category\nR_1,CT\n")
    notes = read_imageclef_2020(tmp_path).notes
    assert "train: 1 image in no category's folder, category unknown: ['R_2']" in notes


def test_the_folder_of_all_images_may_be_written_in_capitals(tmp_path: Path) -> None:
    (tmp_path / "Images").mkdir()
    (tmp_path / "Images" / "x_train_1.jpg").touch()
    (tmp_path / "concept_detection_train_labels.csv").write_text("ID\tcuis\nx_train_1\tC1\n")
    assert read_edition(tmp_path, EDITION_2023).table.image_ids == ("x_train_1",)


def test_a_concept_list_whose_ids_tell_no_split_is_not_that_of_2026(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").touch()
    (tmp_path / "concepts.csv").write_text("ID,CUIs\na,C1\n")
    assert not is_imageclef_2026(tmp_path)  # but an archive that `deal` deals
    (tmp_path / "concepts.csv").write_text("ID,CUIs\na_train_1,C1\n")
    assert is_imageclef_2026(tmp_path)
