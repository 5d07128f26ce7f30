"""The page that holds two ensembles or submissions side by side."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from browser.pages.grid import ResultPage, tile
from browser.search import Query, QueryError
from browser.state import State

SHOWN = {"worse": "became worse", "better": "became better", "changed": "changed"}
"""Which images are shown, in words."""

_CONCEPTS = 20


def compare(state: State, given: Mapping[str, str]) -> dict[str, Any]:
    """Values of the page; without two things to compare it says how to get them."""
    names = state.run_names
    values: dict[str, Any] = {"query": Query(), "names": names, "comparison": None}
    if len(names) < 2:
        return values
    second = given.get("second", "") or names[0]
    first = given.get("first", "") or next(name for name in names if name != second)
    show = given.get("show", "") or "worse"
    if show not in SHOWN:
        raise QueryError(f"show={show}: expected one of {', '.join(SHOWN)}")
    comparison = state.comparison(first, second)
    if comparison.interval is None and "show" not in given:
        show = "changed"
    found = {name: comparison.images(name) for name in SHOWN}
    rows = found[show]
    window = ResultPage.of(given, n=len(rows))
    counts = comparison.by_concept
    balance = (
        counts["hits gained"]
        - counts["hits lost"]
        - counts["inventions added"]
        + counts["inventions taken back"]
    )
    cuis = state.library.labels.cuis
    moved = np.flatnonzero(sum(counts.values()) > 0)
    order = moved[np.lexsort((moved, -np.abs(balance[moved])))][:_CONCEPTS]
    return values | {
        "comparison": comparison,
        "first": first,
        "second": second,
        "show": show,
        "shown": SHOWN,
        "tiles": [
            (
                tile(row, state, judgement=comparison.second),
                float(comparison.gain[row]),
                int(comparison.added[row]),
                int(comparison.dropped[row]),
            )
            for row in rows[window.shown].tolist()
        ],
        "n_found": len(rows),
        "n_of": {name: len(own) for name, own in found.items()},
        "n_both": int(comparison.both.sum()),
        "window": window,
        "means": (comparison.mean_of(comparison.first), comparison.mean_of(comparison.second))
        if comparison.interval
        else None,
        "concepts": [
            (
                cuis[c],
                {k: int(v[c]) for k, v in counts.items()},
                int(balance[c]),
            )
            for c in order.tolist()
        ],
        "query": Query.of({"run": second}),
    }
