"""Tables in Markdown."""

import pytest

from reports.pages.markdown import table


def test_the_first_column_stands_left_and_the_others_right() -> None:
    assert table(["source", "F1", "n"], [["prior", "0.5", "12"], ["routed", "0.75", "9"]]) == (
        "| source |   F1 |   n |\n"
        "| :----- | ---: | --: |\n"
        "| prior  |  0.5 |  12 |\n"
        "| routed | 0.75 |   9 |"
    )


def test_a_table_without_rows_is_its_header() -> None:
    # No column is narrower than three characters, which the rule needs.
    assert table(["a", "b"], []) == "| a   |   b |\n| :-- | --: |"


def test_every_line_is_as_wide_as_the_others() -> None:
    lines = table(["", "sample F1"], [["a long name", ""], ["b", "1"]]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert {line.count("|") for line in lines} == {3}


@pytest.mark.parametrize("row", [["a"], ["a", "b", "c"]])
def test_a_row_of_another_length_is_a_bug(row: list[str]) -> None:
    with pytest.raises((IndexError, ValueError), match=r"index out of range|zip\(\) argument"):
        table(["source", "F1"], [row])
