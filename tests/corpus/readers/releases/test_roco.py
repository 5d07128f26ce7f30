from pathlib import Path

import pytest

from core.errors import CorpusError
from corpus.readers.concept_lists import ROCO_LIST, read_concept_list
from corpus.readers.releases.roco import is_roco, read_roco

REAL_LIST = Path(__file__).parents[5] / "shared" / "roco" / "validation_cuis.txt"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    lines = {
        "train": "ROCO_00002\t\tC1\tC2\nROCO_00010\t\nROCO_00011\t\tC1\n",
        "validation": "ROCO_00001\t\tC1\n",
        "test": "ROCO_00003\t\tC1\n",
    }
    images = {"train": ["00002", "00010"], "validation": ["00001"], "test": ["00003"]}
    for split, text in lines.items():
        home = tmp_path / "data" / split / "radiology"
        (home / "images").mkdir(parents=True)
        (home / "cuis.txt").write_text(text)
        for number in images[split]:
            (home / "images" / f"ROCO_{number}.jpg").touch()
    outside = tmp_path / "data/train/non-radiology/images"
    outside.mkdir(parents=True)
    (outside / "ROCO_00099.jpg").touch()
    return tmp_path / "data"


@pytest.mark.parametrize("above", [True, False])
def test_the_radiology_images_are_read_from_the_repository_or_its_data(
    data: Path, above: bool
) -> None:
    source = data.parent if above else data
    assert is_roco(source)
    reading = read_roco(source)
    assert (reading.layout, reading.edition, reading.names) == ("ROCO v1", 2020, {})
    assert reading.table.image_ids == ("ROCO_00002", "ROCO_00010", "ROCO_00001", "ROCO_00003")
    assert reading.table.splits == ("train", "train", "valid", "test")
    assert reading.table.concepts == (("C1", "C2"), (), ("C1",), None)
    assert reading.notes == (
        "test/radiology/cuis.txt: not read, the test images stay unlabelled",
        "cuis.txt: 1 image of train without a file, left out: ['ROCO_00011']",
        "train: 1 image known to have no concept, kept: ['ROCO_00010']",
    )


@pytest.mark.parametrize("name", ["data", "all_data"])
def test_the_revised_lists_and_the_folder_of_kaggle_are_read(data: Path, name: str) -> None:
    for path in data.rglob("cuis.txt"):
        path.rename(path.with_name("cuis_tp_revised.txt"))
    data.rename(data.parent / name)
    assert is_roco(data.parent)
    reading = read_roco(data.parent)
    assert reading.table.concepts == (("C1", "C2"), (), ("C1",), None)
    assert reading.notes[0].startswith("test/radiology/cuis_tp_revised.txt: not read")


def test_several_revisions_of_a_list_are_refused(data: Path) -> None:
    home = data / "train/radiology"
    (home / "cuis.txt").rename(home / "cuis_a.txt")
    (home / "cuis_b.txt").touch()
    with pytest.raises(CorpusError, match=r"several revisions of cuis\.txt: \['cuis_a\.txt', "):
        read_roco(data)


def test_images_not_yet_downloaded_are_asked_for(data: Path) -> None:
    (data / "validation/radiology/images/ROCO_00001.jpg").unlink()
    with pytest.raises(CorpusError, match=r"images: no image; download them with .*fetch.py"):
        read_roco(data)


def test_a_missing_list_is_named(data: Path) -> None:
    (data / "train/radiology/cuis.txt").unlink()
    with pytest.raises(CorpusError, match=r"train/radiology/cuis.txt: no such file"):
        read_roco(data)


def test_groups_are_honoured(data: Path) -> None:
    (data / "groups.csv").write_text("image_id,group\nROCO_00002,p\nROCO_00010,p\n")
    assert read_roco(data).table.groups[:2] == ("p", "p")


@pytest.mark.skipif(not REAL_LIST.is_file(), reason="the real list is not beside the project")
def test_a_real_list_is_read_whole() -> None:
    found = read_concept_list(REAL_LIST, ROCO_LIST)
    sets = list(found.concepts.values())
    assert len(sets) == 8180
    assert len({cui for concepts in sets for cui in concepts}) == 3266
    assert round(sum(map(len, sets)) / len(sets), 1) == 8.6
    assert found.notes == ()
