"""What can be wrong in one line."""

from pathlib import Path

import pytest

from core.editions import EDITIONS, rules_of
from ensembles.faults import Fault, cell_reasons, id_reasons, whole_faults


def reasons_of(cells: list[str], year: int, *, lenient: bool = False) -> list[tuple[str, str]]:
    return list(cell_reasons(cells, rules_of(year), lenient=lenient))


def many(n: int) -> str:
    return ";".join(f"C{i}" for i in range(n))


def test_a_fault_reads_as_file_line_and_reason() -> None:
    assert str(Fault(Path("run.txt"), 7, "blank line")) == "run.txt:7: blank line"
    assert str(Fault(Path("run.txt"), None, "2 missing")) == "run.txt: 2 missing"


@pytest.mark.parametrize("year", EDITIONS)
@pytest.mark.parametrize("cell", ["C1", "C0040405;C0024485", "", many(100)])
def test_a_plain_list_has_no_fault_in_any_edition(year: int, cell: str) -> None:
    assert reasons_of(["a", cell], year) == []


# Cell, and for each rule whether a word of the reason is rejected (r), warned of (w) or absent (-):
# 2020, its public script, 2022, 2023, 2025, 2026.
TRAPS = [
    ("C1;", "empty concept", "wwwwwr"),
    (";C1", "empty concept", "wwwwwr"),
    ("C1;C1", "stand twice", "rwrrrr"),
    ("C1;;", "stand twice", "rwrrrr"),
    ("C1; C1", "stand twice", "rwrrrr"),
    ("C1;c1", "only in case", "wwwwww"),
    ("C1;c2", "not C and digits", "-----r"),
    ("C1;XYZ", "not C and digits", "wwwwwr"),
    ('"C1"', "not C and digits", "wwwwwr"),
    ("C1; C2", "make them other concepts", "ww----"),
    (" C1", "around the concepts", "-----r"),
    ("C1 ", "around the concepts", "-----r"),
    (" ", "around the concepts", "-----r"),
    (many(101), "101 concepts; at most 100", "rwrrrr"),
]


@pytest.mark.parametrize(("cell", "word", "fate"), TRAPS)
def test_each_trap_in_the_concepts_meets_its_fate_in_each_edition(
    cell: str, word: str, fate: str
) -> None:
    rules = [
        (2020, False),
        (2020, True),
        (2022, False),
        (2023, False),
        (2025, False),
        (2026, False),
    ]
    letter = {"rejected": "r", "warning": "w"}
    found = ""
    for year, lenient in rules:
        severities = {
            how for how, why in reasons_of(["a", cell], year, lenient=lenient) if word in why
        }
        assert len(severities) <= 1
        found += letter[severities.pop()] if severities else "-"
    assert found == fate


@pytest.mark.parametrize("year", EDITIONS)
def test_a_third_cell_is_rejected(year: int) -> None:
    [(how, why), *_] = reasons_of(["a", "C1", "x"], year)
    assert how == "rejected"
    assert why.startswith("cells: 3; expected an id and its concepts")


def test_an_id_alone_is_fine_until_2020_suspect_since_2022_and_rejected_in_2026() -> None:
    assert reasons_of(["a"], 2020) == []
    for year in (2022, 2023, 2025):
        [(how, why)] = reasons_of(["a"], year)
        assert how == "warning"
        assert "scores 0, an empty cell 1" in why
    [(how, why)] = reasons_of(["a"], 2026)
    assert (how, why[:8]) == ("rejected", "cells: 1")


@pytest.mark.parametrize(
    ("year", "line", "expected"),
    [
        (2020, "a,C1", "',' is no separator here, expected TAB"),
        (2022, "a\tC1", "TAB is no separator here, expected '|'"),
        (2023, "a,C1", "',' is no separator here, expected '|' or TAB"),
        (2025, "a|C1", "'|' is no separator here, expected ','"),
    ],
)
def test_another_separator_is_pointed_out(year: int, line: str, expected: str) -> None:
    assert reasons_of([line], year) == [("warning", f"one cell; {expected}")]


def id_reason(image_id: str, year: int, *, lenient: bool = False) -> list[tuple[str, str]]:
    rules = rules_of(year)
    given = id_reasons(image_id, rules, expected={"a", "b"}, first_line={"b": 3}, lenient=lenient)
    return list(given)


def test_a_known_new_image_has_no_fault() -> None:
    assert id_reason("a", 2020) == []


def test_an_image_twice_is_rejected_but_by_the_public_script() -> None:
    expected = "image 'b' stands twice, first on line 3"
    assert id_reason("b", 2020) == [("rejected", expected)]
    assert id_reason("b", 2020, lenient=True) == [("warning", expected)]


@pytest.mark.parametrize(
    ("image_id", "remedy"),
    [
        ("c", "set$"),
        ("\ufeffa", "remove the byte order mark"),
        (" a", "remove the blanks or quotes"),
        ('"a"', "remove the blanks or quotes"),
        ("a\tC1", "TAB does not separate"),
        ("a,C1", "',' does not separate"),
        ("ID", "has no header"),
    ],
)
def test_an_unknown_image_is_rejected_with_the_likely_reason(image_id: str, remedy: str) -> None:
    [(how, why)] = id_reason(image_id, 2022)
    assert how == "rejected"
    assert "is not in the test set" in why
    assert remedy.rstrip("$") in why
    assert not remedy.endswith("$") or why.endswith("set")


def test_a_quoted_comma_is_no_wrong_separator() -> None:
    [(_, why)] = id_reason("a,b", 2025)
    assert why.endswith("is not in the test set")


def test_an_unknown_image_of_great_length_is_shown_in_part() -> None:
    [(_, why)] = id_reason("x" * 500, 2022)
    assert len(why) < 100


def test_images_are_not_looked_for_where_they_are_not_known() -> None:
    rules = rules_of(2022)
    assert list(id_reasons("z", rules, expected=None, first_line={}, lenient=False)) == []


def test_an_image_taken_for_a_header_is_told_of() -> None:
    [(how, why)] = id_reason("x_ID_1", 2025)
    assert how == "warning"
    assert "takes the line for a header and never scores it" in why
    assert [how for how, _ in id_reason("x_ID_1", 2026)] == ["warning", "rejected"]
    assert [how for how, _ in id_reason("x_ID_1", 2022)] == ["rejected"]


def whole(found: list[str], expected: list[str] | None, year: int) -> list[str]:
    positions = None if expected is None else {i: n for n, i in enumerate(expected)}
    lines = {i: n for n, i in enumerate(found, start=2)}
    faults = whole_faults(Path("f"), rules_of(year), expected=positions, first_line=lines)
    return [f"{fault.severity} {fault}" for fault in faults]


def test_missing_images_are_counted_and_named() -> None:
    assert whole(["b"], ["a", "b", "c"], 2020) == [
        "rejected f: 2 of 3 images are missing: ['a', 'c']"
    ]


def test_the_order_matters_in_2026_only() -> None:
    assert whole(["b", "a", "c"], ["a", "b", "c"], 2025) == []
    [order] = whole(["b", "a", "c"], ["a", "b", "c"], 2026)
    assert order.startswith("rejected f:2: images must stand in the order of the truth: 'b' where")
    assert order.endswith("'a' belongs (2 of 3 are misplaced)")


def test_missing_and_unknown_images_do_not_misplace_the_others() -> None:
    assert whole(["x", "b", "c"], ["a", "b", "c"], 2026) == [
        "rejected f: 1 of 3 images are missing: ['a']"
    ]


def test_what_was_not_looked_for_is_said() -> None:
    [said] = whole(["a"], None, 2026)
    assert said.startswith("warning f: unknown, missing and misplaced images were not looked for")
