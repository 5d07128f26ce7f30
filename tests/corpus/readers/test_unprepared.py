"""Corpora that are counted as they lie, bare concept lists among them."""

from pathlib import Path

import pytest

from core.categories import UNKNOWN
from core.errors import CorpusError
from core.runs.workspace import Corpus
from corpus.readers.unprepared import is_bare_list, named, read_bare_list, read_unprepared

CONCEPTS = {"i1": ("C1", "C2"), "i2": (), "i3": ("C3",)}

FORMS = {
    "2020": "i1\tC1;C2\ni2\ni3\tC3\n",
    "2022": "ID\tcuis\ni1\tC1;C2\ni2\t\ni3\tC3\n",
    "2025": "ID,CUIs\ni1,C1;C2\ni2,\ni3,C3\n",
    "ROCO": "i2\t\ni1\t\tC1\tC2\ni3\t\tC3\n",
}


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("ending", ["txt", "csv"])
def test_a_list_in_any_form_is_a_corpus_without_categories(
    form: str, ending: str, tmp_path: Path
) -> None:
    path = write(tmp_path / f"cuis.{ending}", FORMS[form])
    assert is_bare_list(path)
    corpus = read_unprepared(path)
    table = corpus.table
    assert corpus.name == "cuis (concept list)"
    assert dict(zip(table.image_ids, table.concepts, strict=True)) == CONCEPTS
    assert set(table.categories) == {UNKNOWN}
    assert table.groups == table.image_ids
    assert corpus.labels.cuis == ("C1", "C2", "C3")


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("Training-Concepts.txt", "train"),
        ("Validation-Concepts.txt", "valid"),
        ("validation_cuis.txt", "valid"),
        ("valid_concepts.csv", "valid"),
        ("Test-Concepts.txt", "test"),
        ("cuis.txt", "train"),
        ("latest.txt", "train"),
        ("train_and_test.txt", "train"),
    ],
)
def test_the_name_of_a_list_tells_its_split(name: str, split: str, tmp_path: Path) -> None:
    reading = read_bare_list(write(tmp_path / name, FORMS["2020"]))
    assert set(reading.table.splits) == {split}
    assert f"taken for {split}" in reading.notes[-1]
    told = name not in ("cuis.txt", "latest.txt", "train_and_test.txt")
    assert ("its name tells no split" in reading.notes[-1]) != told


def test_what_was_mended_in_a_list_is_noted(tmp_path: Path) -> None:
    reading = read_bare_list(write(tmp_path / "cuis.txt", "i1\tC1;C1\n"))
    assert reading.notes[0] == "cuis.txt: 1 concept repeated for an image, kept once"


def test_a_manifest_is_no_list(tmp_path: Path) -> None:
    assert not is_bare_list(write(tmp_path / "m.csv", "path,split,concepts\na.jpg,train,C1\n"))
    assert not is_bare_list(write(tmp_path / "m.parquet", ""))
    assert not is_bare_list(tmp_path)
    assert not is_bare_list(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty; expected a concept list"),
        (" \n\n", "empty; expected a concept list"),
        ("a list of\nsomething else\n", "not a concept list; expected lines like one of ID<TAB>"),
        ("ID\tCUIs\n", "no image in it"),
        ("i1\tC1;C2\ni2\tC1 x\n", "line 2: expected ID<TAB>CUI;CUI"),
        ("i1,C1\ni1,C2\n", "line 2: image 'i1' stands twice"),
    ],
)
def test_what_is_no_list_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=message):
        read_unprepared(write(tmp_path / "cuis.txt", text))


def test_a_picture_is_no_list(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(CorpusError, match="not readable as UTF-8 text"):
        read_unprepared(tmp_path / "a.jpg")


def test_a_missing_source_or_file_of_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="nowhere: no such file or folder"):
        read_unprepared(tmp_path / "nowhere")
    with pytest.raises(CorpusError, match=r"names.csv: no such file"):
        read_unprepared(
            write(tmp_path / "cuis.txt", FORMS["2020"]), names=tmp_path / "names.csv"
        )  # fmt: skip


def test_further_names_stand_behind_those_of_the_corpus(generated: Corpus, tmp_path: Path) -> None:
    path = write(tmp_path / "names.csv", "C01\tX-ray\nC02\tultrasound\n")
    corpus = named(generated, path)
    assert corpus.names == {"C01": "X-ray", "C02": "ultrasound"}
    again = named(corpus, write(tmp_path / "others.csv", "C01\tanother\n"))
    assert again.names["C01"] == "X-ray"
    with pytest.raises(CorpusError, match=r"none.csv: no such file"):
        named(generated, tmp_path / "none.csv")
