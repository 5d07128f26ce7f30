"""The pages of concepts and of categories."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from browser.concepts import (
    ORDERS,
    by_category,
    calibration,
    count_concepts,
    f1_interval,
    instead,
    threshold_of,
    together,
)
from browser.judgements import Judgement
from browser.library import Bools, rows_with
from browser.pages.grid import ResultPage, tile, with_cui
from browser.search import Query, QueryError
from browser.state import State
from core.categories import CATEGORIES
from core.images import SPLITS

_PER_PAGE, _SHOWN = 100, 12
_NAMES = tuple(map(str, CATEGORIES))


def table(state: State, given: Mapping[str, str]) -> dict[str, Any]:
    """Values of the page of all concepts: how often each is true, right, missed, invented."""
    library = state.library
    values = {name: value for name, value in given.items() if name != "order"}
    query = Query.of(values)
    judgement = state.judgement(query.run)
    order = given.get("order", "") or "true"
    if order not in ORDERS:
        raise QueryError(f"order={order}: expected one of {', '.join(ORDERS)}")
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
        "orders": ORDERS,
        "splits": SPLITS,
        "judgement": judgement,
        "counts": counts,
        "f1": counts.f1,
        "columns": columns[window.shown].tolist(),
        "cuis": library.labels.cuis,
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
        "thresholds": threshold_of(judgement, cui, categories=categories),
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
        lines.append((name, counts, doubted, judgement.scores[name] if judgement else None))
    return {"query": query, "judgement": judgement, "lines": lines, "splits": SPLITS}


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
    shown = {
        title: [
            (library.labels.cuis[c], int(values[c]))
            for c in counts.ordered(order, library)[:10].tolist()
            if values[c]
        ]
        for title, order, values in (
            ("Most frequent", "true", counts.true),
            ("Most often missed", "missed", counts.missed),
            ("Most often invented", "invented", counts.invented),
        )
    }
    return {
        "query": query,
        "name": name,
        "judgement": judgement,
        "n_images": len(rows),
        "counts": counts,
        "splits": [
            (split, int((library.split_codes[rows] == s).sum())) for s, split in enumerate(SPLITS)
        ],
        "score": judgement.scores[name] if judgement is not None else None,
        "lists": shown,
        "doubted": [row for row in library.doubts or () if images[row]],
        "tiles": [tile(row, state, judgement=judgement) for row in worst],
    }
