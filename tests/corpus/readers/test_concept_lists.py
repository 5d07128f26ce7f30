from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import CorpusError
from corpus.readers.concept_lists import (
    COMMA_LIST,
    ROCO_LIST,
    TAB_LIST,
    ListForm,
    Mended,
    clean_concepts,
    read_concept_list,
    read_names,
)
from corpus.readers.tables.ids import by_image

Write = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_list(content: str | bytes) -> Path:
        path = tmp_path / "list.txt"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_list


def texts(path: Path, form: ListForm = TAB_LIST) -> list[str]:
    return [note.text for note in read_concept_list(path, form).notes]


@pytest.mark.parametrize(
    ("form", "content"),
    [
        (TAB_LIST, "a_1\tC2;C1\na_2\tC3\n"),
        (TAB_LIST, "ID\tcuis\na_1\tC2;C1\na_2\tC3"),
        (TAB_LIST, "\ufeffa_1\tC2;C1\r\na_2\tC3\r\n\r\n\n"),
        (COMMA_LIST, "ID,CUIs\na_1,C2;C1\na_2,C3\n"),
        (COMMA_LIST, '\ufeff"ID","CUIs"\r\n"a_1","C2;C1"\r\n"a_2","C3"\r\n'),
        (ROCO_LIST, "a_1\t\tC2\tC1\na_2\t\tC3\n"),
        (ROCO_LIST, "a_1\tC2\tC1\na_2\tC3\n"),
    ],
)
def test_every_form_gives_the_concepts_in_the_order_of_the_file(
    write: Write, form: ListForm, content: str
) -> None:
    found = read_concept_list(write(content), form)
    assert dict(found.concepts) == {"a_1": ("C2", "C1"), "a_2": ("C3",)}
    assert list(found.concepts) == ["a_1", "a_2"]
    assert found.notes == ()


@pytest.mark.parametrize(
    ("form", "content"),
    [
        (TAB_LIST, "a\t\nb\n"),
        (TAB_LIST, "a\t \nb\t\n"),
        (COMMA_LIST, "ID,CUIs\na,\nb\n"),
        (ROCO_LIST, "a\t\nb\t\t\n"),
    ],
)
def test_an_id_alone_is_an_image_without_concepts(
    write: Write, form: ListForm, content: str
) -> None:
    found = read_concept_list(write(content), form)
    assert dict(found.concepts) == {"a": (), "b": ()}


@pytest.mark.parametrize(
    ("form", "line"),
    [
        (TAB_LIST, "a,C1;C2"),
        (TAB_LIST, "a C1;C2"),
        (TAB_LIST, "a;C1;C2"),
        (TAB_LIST, "a|C1;C2"),
        (TAB_LIST, "a\tC1,x"),
        (TAB_LIST, "a\tC1 x"),
        (TAB_LIST, "a\tchest tube"),
        (TAB_LIST, "a\t[C1"),
        (TAB_LIST, "a\tC1\tC2"),
        (TAB_LIST, "\tC1;C2"),
        (COMMA_LIST, "a\tC1;C2"),
        (COMMA_LIST, "a;C1;C2"),
        (COMMA_LIST, "a,C1,C2"),
        (ROCO_LIST, "a\t\tC1;C2"),
        (ROCO_LIST, "a C1 C2"),
    ],
)
def test_a_wrong_separator_is_refused_with_line_finding_and_expectation(
    write: Write, form: ListForm, line: str
) -> None:
    good = f"b{form.separator}C1\n\n"
    with pytest.raises(CorpusError) as refused:
        read_concept_list(write(f"{good}{line}\n"), form)
    assert str(refused.value).endswith(f"list.txt: line 3: expected {form.shown}, found {line!r}")


def test_a_long_malformed_line_is_cut_in_the_message(write: Write) -> None:
    line = "a " + ";".join(["C0000001"] * 99)
    with pytest.raises(CorpusError, match=r"found 'a C0000001;C.{48}\.\.\.'$"):
        read_concept_list(write(line), TAB_LIST)


def test_an_image_that_stands_twice_is_refused_with_both_lines(write: Write) -> None:
    with pytest.raises(
        CorpusError, match=r"line 4: image 'a' stands twice, first in line 1; keep one"
    ):
        read_concept_list(write("a\tC1\n\nb\tC1\na\tC1\n"), TAB_LIST)


def test_a_repeated_concept_is_kept_once_and_counted(write: Write) -> None:
    path = write("a\tC1;C2;C1;C1\nb\tC3;C3\n")
    assert dict(read_concept_list(path, TAB_LIST).concepts) == {"a": ("C1", "C2"), "b": ("C3",)}
    assert texts(path) == ["list.txt: 3 concepts repeated for an image, kept once"]


def test_an_empty_concept_is_dropped_and_counted(write: Write) -> None:
    path = write("a\tC1;\nb\t;C2;;C3\nc\t;\n")
    found = read_concept_list(path, TAB_LIST)
    assert dict(found.concepts) == {"a": ("C1",), "b": ("C2", "C3"), "c": ()}
    # one after C1, one before C2, one between C2 and C3, and both sides of the bare separator
    assert texts(path) == ["list.txt: 5 empty concepts (a stray separator), dropped"]


def test_padded_and_lower_case_entries_are_rewritten_and_counted(write: Write) -> None:
    path = write("a\tc1; C2 ;C3\n b\tC1\n")
    found = read_concept_list(path, TAB_LIST)
    assert dict(found.concepts) == {"a": ("C1", "C2", "C3"), "b": ("C1",)}
    assert texts(path) == ["list.txt: 3 entries in lower case or with blanks, rewritten"]


def test_a_concept_in_both_cases_is_one_concept() -> None:
    assert clean_concepts(["C1", "c1"]) == (("C1",), Mended(1, 0, 1))


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"none.txt: no such file"):
        read_concept_list(tmp_path / "none.txt", TAB_LIST)


@pytest.mark.parametrize("content", ["", "\n\n", "ID\tcuis\n"])
def test_a_list_without_an_image_is_refused(write: Write, content: str) -> None:
    with pytest.raises(CorpusError, match="no image in it; expected lines ID<TAB>CUI;CUI"):
        read_concept_list(write(content), TAB_LIST)


def test_a_list_that_is_not_text_is_refused(write: Write) -> None:
    with pytest.raises(CorpusError, match=r"list.txt: line 1: not readable as UTF-8 text"):
        read_concept_list(write(b"a\tC\xff\n"), TAB_LIST)


@pytest.mark.parametrize(
    "content",
    [
        "C1\tAxial\nC2\tChest, upper\n",
        "concept\tconcept_name\nC1\tAxial\nC2\tChest, upper\n",
        '\ufeffCUI,Canonical name\r\nC1,Axial\r\nC2,"Chest, upper"\r\n',
    ],
)
def test_names_are_read_with_tabs_or_commas_and_with_or_without_a_header(
    write: Write, content: str
) -> None:
    assert read_names(write(content)) == ({"C1": "Axial", "C2": "Chest, upper"}, [])


def test_lines_that_name_nothing_new_are_counted(write: Write) -> None:
    names, (note,) = read_names(write("C1\tAxial\nC2\nC1\tAxial\nC1\tTransverse\n"))
    assert names == {"C1": "Axial"}
    # C2 has no name, and Transverse is C1's second one; the repeated first one is no loss
    assert note.text == "list.txt: 2 lines without a name or with a second one, left out"


def test_no_file_gives_no_names() -> None:
    assert read_names(None) == ({}, [])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,C1;C2\nb,C3\n", "list.txt: separated by commas"),
        ("a|C1;C2\nb|C3\n", "list.txt: separated by bars"),
        ("a\tC1,C2\nb\tC3\n", "list.txt: concepts of 1 image between commas, read as a list"),
        ("a\t['C1', 'C2']\nb\tC3\n", "list.txt: concepts of 1 image written as [...], read as a"),
        ('"a"\t"C1;C2"\n"b"\t"C3"\n', ""),
    ],
)
def test_a_list_in_another_form_is_read_and_said(write: Write, content: str, said: str) -> None:
    path = write(content)
    assert dict(read_concept_list(path, TAB_LIST).concepts) == {"a": ("C1", "C2"), "b": ("C3",)}
    assert [text.startswith(said) for text in texts(path)] == ([True] if said else [])


def test_a_list_in_utf_16_is_read(write: Write) -> None:
    path = write("a\tC1\n".encode("utf-16"))
    assert dict(read_concept_list(path, TAB_LIST).concepts) == {"a": ("C1",)}
    assert texts(path) == ["list.txt: read as UTF-16"]


@pytest.mark.parametrize(
    ("form", "line"), [(TAB_LIST, "a\tnan"), (COMMA_LIST, "a,NULL"), (ROCO_LIST, "a\t\tNone")]
)
def test_a_word_for_nothing_in_a_list_is_no_concept(
    write: Write, form: ListForm, line: str
) -> None:
    found = read_concept_list(write(f"{line}\nb{form.separator}C1\n"), form)
    assert dict(found.concepts) == {"a": (), "b": ("C1",)}
    (note,) = found.notes
    assert note.grave
    assert "1 image with a word for nothing as the only concept" in note.text


def test_ids_of_a_list_may_have_the_ending_of_the_file(write: Write) -> None:
    found = read_concept_list(write("a.jpg\tC1\nb\tC2\n"), TAB_LIST)
    concepts, notes = by_image(found.concepts, {"a", "b"}, file=found.path.name)
    assert dict(concepts) == {"a": ("C1",), "b": ("C2",)}
    assert [n.text for n in notes] == ["list.txt: 1 id with a folder or an ending: 'a.jpg' is 'a'"]


def test_names_may_be_separated_by_semicolons_and_words_for_nothing_are_no_names(
    write: Write,
) -> None:
    names, (note,) = read_names(write("CUI;name\nC1;Chest, upper\nC2;nan\n"))
    assert names == {"C1": "Chest, upper"}
    assert "1 line without a name" in note.text
