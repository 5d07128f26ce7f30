"""How each edition reads its files."""

import csv

import pytest

from core.editions import EDITIONS, Edition, rules_of
from core.errors import ConfigError


def cells(year: int, text: str, *, truth: bool = False) -> list[list[str]]:
    return [row for _, row in rules_of(year).rows(text, truth=truth)]


def test_each_edition_stands_under_its_year() -> None:
    assert all(rules.year == year for year, rules in EDITIONS.items())
    assert list(EDITIONS) == [2017, 2018, 2019, 2020, 2022, 2023, 2025, 2026]


def test_the_editions_until_2020_have_one_rule() -> None:
    assert {**vars(EDITIONS[2017]), "year": 2020} == vars(EDITIONS[2020])


def test_an_empty_truth_counts_since_2022() -> None:
    counted = {year for year, rules in EDITIONS.items() if rules.empty_truth == "counted"}
    assert counted == {2022, 2023, 2025, 2026}


@pytest.mark.parametrize(("year", "nearest"), [(2021, "2020"), (2024, "2025")])
def test_a_year_without_public_evaluator_gets_the_nearest_one(year: int, nearest: str) -> None:
    with pytest.raises(ConfigError, match=f"edition {year}: no public evaluator .* {nearest} had"):
        rules_of(year)


def test_an_unknown_year_gets_the_list() -> None:
    with pytest.raises(ConfigError, match="edition 2016: not known; expected one of 2017, 2018"):
        rules_of(2016)


@pytest.mark.parametrize(
    ("year", "cell", "concepts"),
    [
        (2020, "", ()),
        (2020, "  ", ()),
        (2020, "C1;", ("C1", "")),
        (2020, "C1; c2 ", ("C1", " c2 ")),
        (2020, ";", ("", "")),
        (2022, "", ("",)),
        (2022, "  ", ("",)),
        (2022, "C1;", ("C1", "")),
        (2022, "C1; c2 ", ("C1", "c2")),
        (2026, "C1;C1", ("C1", "C1")),
    ],
)
def test_cells_are_split_as_the_evaluator_does(
    year: int, cell: str, concepts: tuple[str, ...]
) -> None:
    assert rules_of(year).split(cell) == concepts


@pytest.mark.parametrize(
    ("year", "text", "expected"),
    [
        (2020, "a\tC1;C2\nb\n", [["a", "C1;C2"], ["b"]]),
        (2020, 'a\t"C1\n', [["a", '"C1']]),
        (2022, "a|C1\tC2\n", [["a", "C1\tC2"]]),
        (2023, "a|C1\nb\tC2\n", [["a", "C1"], ["b\tC2"]]),
        (2023, "a\tC1\nb|C2\n", [["a", "C1"], ["b|C2"]]),
        (2025, 'a,"C1;C2"\n"b",\n', [["a", "C1;C2"], ["b", ""]]),
        (2025, "a|C1\n", [["a|C1"]]),
    ],
)
def test_lines_are_cut_at_the_separator_of_the_edition(
    year: int, text: str, expected: list[list[str]]
) -> None:
    assert cells(year, text) == expected


def test_the_truth_of_2022_is_cut_at_tabs_and_its_submission_at_bars() -> None:
    assert cells(2022, "a\tC1\n", truth=True) == [["a", "C1"]]
    assert cells(2022, "a|C1\n") == [["a", "C1"]]


@pytest.mark.parametrize("year", EDITIONS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_line_end_ends_a_line(year: int, end: str) -> None:
    assert cells(year, f"a{end}{end}b{end}") == [["a"], [], ["b"]]


def test_lines_are_numbered_through_quoted_line_breaks() -> None:
    rows = list(rules_of(2025).rows('ID,CUIs\n"a\nb",C1\nc,C2\n'))
    assert [line for line, _ in rows] == [1, 2, 4]


def test_only_since_2023_an_id_can_be_taken_for_a_header() -> None:
    assert [y for y in EDITIONS if rules_of(y).takes_for_header("img_ID_7")] == [2023, 2025, 2026]
    assert not rules_of(2025).takes_for_header("img_id_7")


def test_an_endless_cell_is_left_to_the_caller() -> None:
    with pytest.raises(csv.Error, match="field larger than field limit"):
        cells(2020, "a\t" + "C" * 140_000)


def test_an_edition_is_data() -> None:
    assert Edition(year=2030, separator=";").header is None
