"""Headings that sort: where they lead, what they say, and the order that comes of it."""

import pytest

from browser.pages.headings import SortColumn, checked_order, headings, in_order
from browser.search import QueryError

COLUMNS = (
    SortColumn(key="name", words="Name", falls=False),
    SortColumn(key="n", words="Number", kind="right"),
)
LINES: list[dict[str, float | str]] = [
    {"name": "b", "n": 1.0},
    {"name": "a", "n": float("nan")},
    {"name": "c", "n": 3.0},
]


def sorted_names(order: str) -> str:
    found = in_order(LINES, COLUMNS, order=order, value=lambda line, key: line[key])
    return "".join(str(line["name"]) for line in found)


@pytest.mark.parametrize(
    ("order", "links", "directions"),
    [
        ("name", ["?-name", "?n"], ["ascending", ""]),
        ("-name", ["?name", "?n"], ["descending", ""]),
        ("n", ["?name", "?-n"], ["", "descending"]),  # of numbers the largest first
        ("-n", ["?name", "?n"], ["", "ascending"]),
        ("other", ["?name", "?n"], ["", ""]),
    ],
)
def test_a_second_click_turns_the_order_round(
    order: str, links: list[str], directions: list[str]
) -> None:
    found = headings(COLUMNS, order=order, link=lambda to: f"?{to}")
    assert [heading.href for heading in found] == links
    assert [heading.direction for heading in found] == directions
    assert [heading.words for heading in found] == ["Name", "Number"]


def test_what_has_no_value_comes_last_either_way() -> None:
    assert sorted_names("name") == "abc"
    assert sorted_names("-name") == "cba"
    assert sorted_names("n") == "cba"
    assert sorted_names("-n") == "bca"


def test_an_order_that_is_no_column_is_refused() -> None:
    assert checked_order("-n", ("name", "n"), name="order") == "-n"
    for order in ("x", "--n", "-", "", "n-"):
        with pytest.raises(QueryError, match=f"by={order}: expected one of name, n, -n"):
            checked_order(order, ("name", "n", "-n"), name="by")
