"""Headings of tables that sort by a click: links to the same page in another order."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar

from browser.search import QueryError

Line = TypeVar("Line")


@dataclass(frozen=True, kw_only=True)
class SortColumn:
    """A column that a table may be sorted by.

    Attributes:
        key: the order that its heading gives; with `-` before it the other way round.
        words: the heading.
        falls: whether the first click has the largest value first.
        kind: class of the heading's colour, "" for none.
    """

    key: str
    words: str
    falls: bool = True
    kind: str = ""


@dataclass(frozen=True, kw_only=True)
class Heading:
    """A heading as it is shown.

    Attributes:
        words: its text.
        href: address of the page sorted by it, or the other way round where it is already.
        direction: `ascending`, `descending`, or "" where the table is sorted by another column.
        kind: as in `SortColumn`.
    """

    words: str
    href: str
    direction: str
    kind: str


def headings(
    columns: Sequence[SortColumn], *, order: str, link: Callable[[str], str]
) -> list[Heading]:
    """Headings of a table that is in an order.

    Args:
        columns: of the table.
        order: it is in, a key with or without `-` before it.
        link: gives the address of the page in another order.
    """
    found = []
    for column in columns:
        is_sorted = order.removeprefix("-") == column.key
        turned = order.startswith("-")
        direction = "descending" if column.falls != turned else "ascending"
        found.append(
            Heading(
                words=column.words,
                href=link(f"-{column.key}" if is_sorted and not turned else column.key),
                direction=direction if is_sorted else "",
                kind=column.kind,
            )
        )
    return found


def checked_order(order: str, keys: Collection[str], *, name: str) -> str:
    """The order, if it is a key, or `-` and a key.

    Raises:
        QueryError: it is not.
    """
    columns = [key for key in keys if not key.startswith("-")]
    if order not in columns and order.removeprefix("-") not in columns:
        raise QueryError(f"{name}={order}: expected one of {', '.join(keys)}")
    return order


def in_order(
    lines: Sequence[Line],
    columns: Sequence[SortColumn],
    *,
    order: str,
    value: Callable[[Line, str], float | str],
) -> list[Line]:
    """Lines of a table in an order; NaN last either way, equal ones as they were.

    Args:
        lines: of the table.
        columns: of the table.
        order: a key of a column, with or without `-` before it.
        value: of a line, by key.
    """
    key = order.removeprefix("-")
    falls = next(column.falls for column in columns if column.key == key)
    known = [line for line in lines if value(line, key) == value(line, key)]
    unknown = [line for line in lines if value(line, key) != value(line, key)]
    backwards = falls != order.startswith("-")
    return [*sorted(known, key=lambda line: value(line, key), reverse=backwards), *unknown]
