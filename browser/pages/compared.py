"""The page that holds two ensembles or submissions side by side."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from browser.compare import CategoryChange, Comparison, ConceptChange
from browser.library import CATEGORY_NAMES
from browser.pages.changed import SHOWN, ChangedImages
from browser.pages.grid import ResultPage, Tile, tile
from browser.pages.headings import SortColumn, checked_order, headings, in_order
from browser.search import Query, QueryError
from browser.state import State
from core.errors import ConceptError

_CONCEPTS, _CHANGES = 20, 8

_COUNTS = ("hits gained", "hits lost", "inventions added", "inventions taken back")
_SORTS = (
    SortColumn(key="name", words="Concept", falls=False),
    SortColumn(key="gained", words="✓ hits gained", kind="right"),
    SortColumn(key="lost", words="− hits lost", kind="missed"),
    SortColumn(key="invented", words="+ inventions added", kind="invented"),
    SortColumn(key="mended", words="✓ inventions taken back", kind="right"),
    SortColumn(key="balance", words="Balance", falls=False),
)
_MOVED = "moved"  # the order of those that moved most, either way

_CATEGORY_SORTS = (
    SortColumn(key="category", words="Category", falls=False),
    SortColumn(key="judged", words="Judged"),
    SortColumn(key="first", words="F1 of the first"),
    SortColumn(key="second", words="F1 of the second"),
    SortColumn(key="gain", words="Difference", falls=False),
    SortColumn(key="better", words="Better", kind="right"),
    SortColumn(key="worse", words="Worse", kind="missed"),
    SortColumn(key="changed", words="Changed"),
)


@dataclass(frozen=True, kw_only=True)
class MovedConcept:
    """A concept that was decided otherwise on judged images.

    Attributes:
        cui, name: its id and name.
        counts: of images, in the order of the columns between name and balance.
        balance: hits gained and inventions taken back, less hits lost and inventions added.
    """

    cui: str
    name: str
    counts: tuple[int, ...]
    balance: int

    def value(self, key: str) -> float | str:
        """What it is sorted by."""
        if key in ("name", "balance"):
            return self.name.lower() if key == "name" else self.balance
        return self.counts[[column.key for column in _SORTS].index(key) - 1]


@dataclass(frozen=True, kw_only=True)
class ChangedImage:
    """An image that was decided otherwise.

    Attributes:
        tile: as the second decided it.
        f1: of the first and of the second, NaN where it is not judged.
        changes: the first concepts that were added or dropped.
        n_further: how many more were.
    """

    tile: Tile
    f1: tuple[float, float]
    changes: tuple[ConceptChange, ...]
    n_further: int


def compare(state: State, given: Mapping[str, str]) -> dict[str, Any]:
    """Values of the page; without two things to compare it says how to get them."""
    names = state.run_names
    values: dict[str, Any] = {"query": Query(), "names": names, "comparison": None}
    if len(names) < 2:
        return values
    asked = ChangedImages.of(given, state)
    order = given.get("order", "") or _MOVED
    checked_order(order, [_MOVED, *(column.key for column in _SORTS)], name="order")
    by = given.get("by", "") or "category"
    checked_order(by, [column.key for column in _CATEGORY_SORTS], name="by")
    comparison = state.comparison(asked.first, asked.second)
    try:
        settings = comparison.settings
    except ConceptError as error:
        raise QueryError(str(error)) from None
    n_of = {name: len(comparison.images(name)) for name in SHOWN}
    rows = asked.rows(comparison)
    window = ResultPage.of(given, n=len(rows))
    moved = _moved(comparison, asked.category)
    in_full = _in_order(moved, order)
    return values | {
        "comparison": comparison,
        "first": asked.first,
        "second": asked.second,
        "show": asked.show,
        "shown": SHOWN,
        "shown_options": [
            (name, f"{words} ({len(asked.rows(comparison, show=name)):,})")
            for name, words in SHOWN.items()
        ],
        "titles": list(state.titles.items()),
        "asked": asked,
        "settings": settings,
        "order": order,
        "at": lambda **more: asked.address("/compare", **more),
        "images": [_changed(row, state, comparison) for row in rows[window.shown].tolist()],
        "n_found": len(rows),
        "n_of": n_of,
        "n_even": n_of["changed"] - n_of["better"] - n_of["worse"],
        "n_both": int(comparison.both.sum()),
        "window": window,
        "means": (comparison.mean_of(comparison.first), comparison.mean_of(comparison.second))
        if comparison.interval
        else None,
        "totals": {name: int(comparison.by_concept[name].sum()) for name in _COUNTS},
        "concepts": in_full if given.get("every") else in_full[:_CONCEPTS],
        "n_moved": len(moved),
        "headings": headings(
            _SORTS,
            order=order,
            link=lambda to: asked.address("/compare", order=to) + "#moved",
        ),
        "categories": in_order(
            comparison.by_category, _CATEGORY_SORTS, order=by, value=_category_value
        ),
        "category_headings": headings(
            _CATEGORY_SORTS,
            order=by,
            link=lambda to: asked.address("/compare", by=to) + "#categories",
        ),
        "query": Query(run=asked.second),
    }


def _changed(row: int, state: State, comparison: Comparison) -> ChangedImage:
    changes = comparison.changes(row)
    return ChangedImage(
        tile=tile(row, state, judgement=comparison.second),
        f1=(float(comparison.first.f1[row]), float(comparison.second.f1[row])),
        changes=tuple(changes[:_CHANGES]),
        n_further=max(0, len(changes) - _CHANGES),
    )


def _moved(comparison: Comparison, category: str) -> list[MovedConcept]:
    """Concepts that were decided otherwise on a judged image, of a category or "" of any."""
    library = comparison.library
    counts = comparison.by_concept
    if category:
        counts = comparison.by_concept_of(library.is_category(category))
    gained, lost, added, back = (counts[name] for name in _COUNTS)
    balance = gained - lost - added + back
    return [
        MovedConcept(
            cui=library.labels.cuis[c],
            name=library.name_of(library.labels.cuis[c]),
            counts=tuple(int(each[c]) for each in (gained, lost, added, back)),
            balance=int(balance[c]),
        )
        for c in np.flatnonzero(gained + lost + added + back).tolist()
    ]


def _in_order(moved: list[MovedConcept], order: str) -> list[MovedConcept]:
    if order.removeprefix("-") == _MOVED:
        return sorted(moved, key=lambda concept: (-abs(concept.balance), -sum(concept.counts)))
    return in_order(moved, _SORTS, order=order, value=MovedConcept.value)


def _category_value(line: CategoryChange, key: str) -> float | str:
    interval = line.interval
    values: dict[str, float | str] = {
        "category": CATEGORY_NAMES.get(line.name, "~").lower(),  # no category comes last
        "judged": interval.n if interval else 0,
        "first": line.means[0],
        "second": line.means[1],
        "gain": interval.value if interval else float("nan"),
        "better": line.n_better,
        "worse": line.n_worse,
        "changed": line.n_changed,
    }
    return values[key]
