"""The pages of concepts and of categories."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from browser.concepts import (
    ORDERS,
    ConceptCounts,
    by_category,
    calibration,
    count_concepts,
    f1_interval,
    instead,
    threshold_of,
    together,
)
from browser.judgements import Judgement
from browser.library import CATEGORY_NAMES, Bools, Library, rows_with
from browser.pages.grid import ResultPage, tile, with_cui
from browser.pages.headings import Heading, SortColumn, checked_order, headings, in_order
from browser.search import Query, QueryError
from browser.state import State
from core.categories import CATEGORIES
from core.images import SPLITS
from core.metrics import Interval

_PER_PAGE, _SHOWN, _IN_CATEGORY = 100, 8, 25
_NAMES = tuple(map(str, CATEGORIES))

_SORTS = (
    SortColumn(key="name", words="Concept", falls=False, kind="words"),
    SortColumn(key="true", words="True"),
    SortColumn(key="right", words="✓ Right", kind="right"),
    SortColumn(key="missed", words="− Missed", kind="missed"),
    SortColumn(key="invented", words="+ Invented", kind="invented"),
    SortColumn(key="lowest", words="F1", falls=False),
)


@dataclass(frozen=True, kw_only=True)
class ConceptTable:
    """A table of concepts, sorted by a click on its headings.

    Attributes:
        library: with L concepts.
        counts: of all of them.
        is_decided: whether anything was decided, so that more than true ones are counted.
        columns: of the concepts that are shown, in their order.
        order: that they are in.
        link: gives the address of the page in another order.
    """

    library: Library
    counts: ConceptCounts
    is_decided: bool
    columns: Sequence[int]
    order: str
    link: Callable[[str], str]

    @property
    def cuis(self) -> Sequence[str]:
        """L CUIs."""
        return self.library.labels.cuis

    @cached_property
    def f1(self) -> npt.NDArray[np.float64]:
        """(L,) F1."""
        return self.counts.f1

    @property
    def headings(self) -> list[Heading]:
        """Of its columns."""
        own = _SORTS if self.is_decided else _SORTS[:2]
        return headings(own, order=self.order, link=self.link)


def table(state: State, given: Mapping[str, str]) -> dict[str, Any]:
    """Values of the page of all concepts: how often each is true, right, missed, invented."""
    library = state.library
    values = {name: value for name, value in given.items() if name not in ("order", "role")}
    query = Query.of(values)
    judgement = state.judgement(query.run)
    order = checked_order(given.get("order", "") or "true", ORDERS, name="order")
    images = np.ones(len(library), dtype=np.bool_)
    if query.category:
        images &= library.is_category(query.category)
    if query.split:
        images &= library.split_codes == SPLITS.index(query.split)
    counts = count_concepts(library, judgement, images=images)
    columns = counts.ordered(order, library)
    words = query.text.lower().split()
    if words:
        names = library.searchable_names
        fit = [all(word in names[c][1] for word in words) for c in columns.tolist()]
        columns = columns[np.array(fit, dtype=np.bool_)]
    window = ResultPage.of(given, n=len(columns), each=_PER_PAGE)
    return {
        "query": query,
        "order": order,
        "orders": ORDERS | ({} if order in ORDERS else {order: "the other way round"}),
        "judgement": judgement,
        "table": ConceptTable(
            library=library,
            counts=counts,
            is_decided=judgement is not None,
            columns=columns[window.shown].tolist(),
            order=order,
            link=lambda to: query.url("/concepts", order=to),
        ),
        "n_found": len(columns),
        "window": window,
    }


def one_concept(state: State, given: Mapping[str, str]) -> dict[str, Any]:
    """Values of the page of a concept."""
    library = state.library
    values = with_cui({"concept": given.get("cui", "")}, library)
    cui = values["concept"]
    query = Query.of({"run": given.get("run", "")})
    judgement = state.judgement(query.run)
    column = int(library.labels.columns([cui])[0])
    of_categories = by_category(library, column)
    found: dict[str, Any] = {
        "query": query.changed(concept=cui),
        "cui": cui,
        "judgement": judgement,
        "splits": SPLITS,
        "by_category": of_categories,
        "are_labelled": [
            bool(library.labelled[library.split_codes == code].any()) for code in range(len(SPLITS))
        ],
        "n_true": int(sum(sum(counts) for _, counts, _ in of_categories)),
        "n_labelled": int(library.labelled.sum()),
        "together": together(library, column),
        "examples": [],
        "bins": [],
        "thresholds": [],
        "instead": [],
    }
    if judgement is None:
        rows = rows_with(library.truth, column)[:_SHOWN].tolist()
        examples = [tile(row, state, judgement=None) for row in rows]
        return found | {"examples": [("Images that have it", "true", examples)]}
    kinds = {
        "right": rows_with(judgement.right, column),
        "missed": rows_with(judgement.missed, column),
        "invented": rows_with(judgement.invented, column),
    }
    categories = [name for name, counts, _ in of_categories if sum(counts)]
    probs, true = _said(state, judgement, column)
    return found | {
        "interval": f1_interval(judgement, column),
        "n_of": {kind: len(rows) for kind, rows in kinds.items()},
        "instead": instead(judgement, column),
        "thresholds": threshold_of(
            judgement, cui, categories=categories, deciding=state.deciding(judgement)
        ),
        "bins": calibration(probs[~np.isnan(probs)], true[~np.isnan(probs)]),
        "examples": [
            (title, kind, [tile(row, state, judgement=judgement) for row in rows])
            for title, kind, rows in (
                ("Right, the surest first", "right", _first(kinds["right"], -probs)),
                ("Missed, the least likely first", "missed", _first(kinds["missed"], probs)),
                ("Invented, the surest first", "invented", _first(kinds["invented"], -probs)),
            )
        ],
    }


def _first(rows: Any, values: Any) -> list[int]:
    return [int(row) for row in rows[np.argsort(values[rows], kind="stable")][:_SHOWN]]


def _said(state: State, judgement: Judgement, column: int) -> tuple[Any, Bools]:
    """(N,) probability of a concept before calibration, NaN where not known; (N,) its truth."""
    library = state.library
    probs = np.full(len(library), np.nan, dtype=np.float32)
    true = np.zeros(len(library), dtype=np.bool_)
    true[rows_with(library.truth, column)] = True
    source = state.stacked(judgement.name)
    found = source.matrix(library.corpus.scored, library) if source is not None else None
    if found is not None:
        rows, matrix = found
        probs[rows] = 0.0
        probs[rows[rows_with(matrix, column)]] = matrix.data[matrix.indices == column]
    return probs, true


@dataclass(frozen=True, kw_only=True)
class CategoryLine:
    """A category in the table of all.

    Attributes:
        name: of `CATEGORIES`, or `none`.
        counts: images by split.
        doubted: images whose category is doubted.
        score: mean F1 with its interval; None where nothing is judged.
    """

    name: str
    counts: Sequence[int]
    doubted: int
    score: Interval | None

    def value(self, key: str) -> float | str:
        """What the line is sorted by."""
        if key in SPLITS:
            return self.counts[SPLITS.index(key)]
        f1 = self.score.value if self.score else float("nan")
        name = CATEGORY_NAMES.get(self.name, "~").lower()  # no category comes last
        values: dict[str, float | str] = {"category": name, "doubted": self.doubted, "f1": f1}
        return values[key]


def categories(state: State, given: Mapping[str, str]) -> dict[str, Any]:
    """Values of the page of all categories."""
    library = state.library
    query = Query.of({"run": given.get("run", "")})
    judgement = state.judgement(query.run)
    lines = []
    for name in (*_NAMES, "none"):
        images = library.is_category(name)
        if not images.any():
            continue
        counts = [int((library.split_codes[images] == s).sum()) for s in range(len(SPLITS))]
        doubted = sum(bool(images[row]) for row in library.doubts or ())
        score = judgement.scores[name] if judgement else None
        lines.append(CategoryLine(name=name, counts=counts, doubted=doubted, score=score))
    columns = [
        SortColumn(key="category", words="Category", falls=False),
        *(SortColumn(key=split, words=split) for split in SPLITS),
        SortColumn(key="doubted", words="Doubted"),
        *([SortColumn(key="f1", words="Mean F1", falls=False)] if judgement else []),
    ]
    order = given.get("order", "") or "category"
    checked_order(order, [column.key for column in columns], name="order")
    return {
        "query": query,
        "judgement": judgement,
        "order": order,
        "lines": in_order(lines, columns, order=order, value=CategoryLine.value),
        "headings": headings(
            columns, order=order, link=lambda to: query.url("/categories", order=to)
        ),
    }


def one_category(state: State, given: Mapping[str, str]) -> dict[str, Any]:
    """Values of the page of a category."""
    library = state.library
    name = given.get("name", "")
    if name not in (*_NAMES, "none"):
        raise QueryError(f"name={name}: expected one of {', '.join(_NAMES)}, none")
    query = Query.of({"category": name, "run": given.get("run", "")})
    judgement = state.judgement(query.run)
    images = library.is_category(name)
    counts = count_concepts(library, judgement, images=images)
    rows = np.flatnonzero(images)
    worst: list[int] = []
    if judgement is not None:
        own = rows[~np.isnan(judgement.f1[rows])]
        worst = own[np.argsort(judgement.f1[own], kind="stable")][:_SHOWN].tolist()
    order = given.get("order", "") or ("missed" if judgement is not None else "true")
    checked_order(order, ORDERS, name="order")
    columns = counts.ordered(order, library)
    return {
        "query": query,
        "name": name,
        "judgement": judgement,
        "n_images": len(rows),
        "splits": [
            (split, int((library.split_codes[rows] == s).sum())) for s, split in enumerate(SPLITS)
        ],
        "score": judgement.scores[name] if judgement is not None else None,
        "order": order,
        "n_concepts": len(columns),
        "table": ConceptTable(
            library=library,
            counts=counts,
            is_decided=judgement is not None,
            columns=columns[:_IN_CATEGORY].tolist(),
            order=order,
            link=lambda to: Query(run=query.run).url("/category", name=name, order=to),
        ),
        "doubted": [row for row in library.doubts or () if images[row]],
        "tiles": [tile(row, state, judgement=judgement) for row in worst],
    }
