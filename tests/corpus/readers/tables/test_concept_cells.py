import pytest

from core.errors import CorpusError
from corpus.readers.tables.cells import category_at, is_gap, is_number, split_of
from corpus.readers.tables.concept_cells import (
    Seen,
    Writing,
    concept_notes,
    concepts_in,
    names_beside,
    writing_of,
)


def read(*cells: str) -> tuple[list[list[str]], list[str]]:
    """The concepts of the cells of a column, and what is said of them."""
    writing, seen = writing_of(cells), Seen()
    found = [concepts_in(cell, writing=writing, seen=seen) for cell in cells]
    return found, [note.text for note in concept_notes("m.csv", seen, writing=writing)]


def test_a_clean_column_is_read_as_it_stands_and_nothing_is_said() -> None:
    assert read("C1;C2", "c3", "") == ([["C1", "C2"], ["c3"], []], [])


@pytest.mark.parametrize(
    ("cell", "kind"),
    [
        ("['C1', 'C2']", "written as [...]"),
        ('["C1", "C2"]', "written as [...]"),
        ("['C1' 'C2']", "written as [...]"),  # numpy
        ("[C1, C2]", "written as [...]"),
        ("('C1', 'C2')", "written as [...]"),
        ("{'C1', 'C2'}", "written as [...]"),
        ("C1,C2", "between commas"),
        ("C1, C2", "between commas"),
        ("C1 C2", "between blanks"),
        ("C1|C2", "between bars"),
        ("'C1;C2'", "in quotes"),
        ("UMLS:C1;UMLS:C2", "written as addresses (http://..., UMLS:...)"),
        (
            "http://x.org/umls/id/C1;http://x.org/umls/id/C2",
            "written as addresses (http://..., UMLS:...)",
        ),
    ],
)
def test_a_list_is_read_however_it_is_written(cell: str, kind: str) -> None:
    found, said = read("C3;C4", cell)
    assert found == [["C3", "C4"], ["C1", "C2"]]
    assert said == [f"m.csv: concepts of 1 image {kind}, read as a list"]


@pytest.mark.parametrize("sign", [*"/+&:_.#~^$*\\><=\n", "->", " / ", "\uff1b", "\u3001", "\u2022"])
def test_codes_between_signs_that_no_code_has_are_read_as_a_list(sign: str) -> None:
    found, said = read(f"C0040405{sign}C0817096", f"C0040405{sign}C0817096{sign}C0024109")
    assert found == [["C0040405", "C0817096"], ["C0040405", "C0817096", "C0024109"]]
    assert said in (
        ["m.csv: concepts of 2 images between other signs, read as a list"],
        ["m.csv: concepts of 2 images between blanks, read as a list"],
    )


@pytest.mark.parametrize(
    "cell",
    [
        "C0040405:0.93;C0817096:0.2",
        "C0040405: CT",
        "C0040405_CT",
        "['C0040405=1']",
        "C0040405 and C0817096",
        "\u04210040405",  # a Cyrillic letter
        "\uff230040405",  # a wide one
        '[{"cui": "C0040405"}]',
    ],
)
def test_a_code_with_more_than_signs_beside_it_is_refused(cell: str) -> None:
    with pytest.raises(ValueError, match=r"\d{7}"):
        read(cell)


def test_codes_of_other_kinds_and_tags_with_signs_stay_as_they_are() -> None:
    cells = ["C34.1;C34-C36", "Lung/Opacity", "a_b", "ABC1234567", "C12345678"]
    assert read(*cells) == ([["C34.1", "C34-C36"], *([cell] for cell in cells[1:])], [])


@pytest.mark.parametrize(
    "cell",
    [
        "array(['C1', 'C2'], dtype=object)",
        "frozenset({'C1', 'C2'})",
        '"[\\"C1\\", \\"C2\\"]"',  # JSON in JSON
    ],
)
def test_a_list_may_lie_in_a_call_or_in_quotes(cell: str) -> None:
    found, _ = read(cell)
    assert found == [["C1", "C2"]]


def test_codes_in_one_entry_of_a_list_are_parted() -> None:
    found, _ = read("['C0040405;C0817096']", "[nan, 'C0024109']")
    assert found == [["C0040405", "C0817096"], ["C0024109"]]


def test_classes_that_are_numbers_lose_the_fraction_that_pandas_adds() -> None:
    found, said = read("0.0", "1.0", "2")
    assert found == [["0"], ["1"], ["2"]]
    assert said == ["m.csv: concepts that are numbers, kept as names of classes"]


@pytest.mark.parametrize(
    "word",
    [
        *("nan", "NaN", "None", "NULL", "NA", "N/A", "<NA>", "n.a.", "nil", r"\N", "undefined"),
        *("unknown", "not available", "#NV", "#VALUE!", "-", "---", ".", "0", "0.0", '""', "'nan'"),
        *("[]", "[nan]", "set()", "array([], dtype=object)", "np.array([])", "no concepts"),
    ],
)
def test_a_word_for_nothing_is_no_concept_and_grave(word: str) -> None:
    seen = Seen()
    assert concepts_in(word, writing=Writing(), seen=seen) == []
    (note,) = concept_notes("m.csv", seen, writing=Writing())
    assert note.text.startswith("m.csv: 1 image with a word for nothing as the only concept, read")
    assert note.grave


def test_a_word_for_nothing_among_concepts_is_dropped_and_counted() -> None:
    found, said = read("C1;nan", "['C1', None]")
    assert found == [["C1"], ["C1"]]
    assert "m.csv: 2 words for nothing among other concepts, dropped: 'nan' (2)" in said


def test_an_empty_list_among_lists_is_an_image_without_concepts() -> None:
    found, said = read("['C1']", "[]")
    assert found == [["C1"], []]
    assert said == ["m.csv: concepts of 1 image written as [...], read as a list"]


def test_zero_is_a_class_among_other_numbers() -> None:
    found, said = read("0", "3", "1;2")
    assert found == [["0"], ["3"], ["1", "2"]]
    assert said == ["m.csv: concepts that are numbers, kept as names of classes"]


def test_tags_with_blanks_are_written_with_underscores_and_said() -> None:
    found, said = read("chest tube;Edema", "No Finding")
    assert found == [["CHEST_TUBE", "Edema"], ["NO_FINDING"]]
    assert said == [
        "m.csv: 2 concepts with blanks inside, written with _: 'chest tube' is CHEST_TUBE",
        "m.csv: 'No Finding' (1) kept as a concept; leave the cell empty for none",
    ]


def test_a_comma_parts_tags_where_no_cell_has_a_semicolon() -> None:
    assert read("chest tube, edema", "edema")[0] == [["CHEST_TUBE", " edema"], ["edema"]]
    assert read("opacity, left", "edema;mass")[0] == [["OPACITY_LEFT"], ["edema", "mass"]]


@pytest.mark.parametrize("cell", ["['C1'", "{'C1': 1}", "[['C1']]", "C1,x", "C1 x", "C1 x;y"])
def test_a_cell_that_is_not_understood_is_refused(cell: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read(cell)


def test_names_run_parallel_to_concepts() -> None:
    names, (note,) = names_beside(
        [(["c1", "C2"], "CT; scan"), (["C1"], "other"), (["C3"], "a;b"), ([""], "")], where="m.csv"
    )
    assert names == {"C1": "CT", "C2": "scan"}
    assert note.text == (
        "m.csv: 1 cell with more or fewer names than concepts, passed over: ['a;b']"
    )


@pytest.mark.parametrize(
    ("word", "split"),
    [
        ("Train", "train"),
        ("training", "train"),
        ("val", "valid"),
        ("VALIDATION", "valid"),
        ("dev", "valid"),
        ("testing", "test"),
    ],
)
def test_splits_have_many_names(word: str, split: str) -> None:
    assert split_of(word, where="m.csv") == split


@pytest.mark.parametrize("word", ["", "0", "nan", "fold1"])
def test_a_split_of_another_name_is_refused(word: str) -> None:
    with pytest.raises(CorpusError, match=f"m.csv: line 2: split '{word}'; expected one of train"):
        split_of(word, where="m.csv: line 2")


def test_a_category_that_is_a_word_for_nothing_is_unknown() -> None:
    assert [category_at("m.csv", word) for word in ("nan", "unknown", "None", "CT")] == [
        "",
        "",
        "",
        "DRCT",
    ]


def test_words_that_only_programs_write_are_gaps_everywhere_others_among_numbers() -> None:
    assert [is_gap(word) for word in ("nan", "None", "NULL", "unknown", "none")] == [
        True,
        True,
        True,
        False,
        False,
    ]
    assert is_gap("unknown", numbers=True)
    assert is_number("45,5")
    assert not is_number("nan")
