"""The page in place of one that an address does not mean: why, what was meant, the form again."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from browser.pages.grid import form
from browser.search import ConceptUnclearError, Query, QueryError
from browser.state import State


def refusal(
    state: State, given: Mapping[str, str], error: QueryError, *, path: str
) -> dict[str, Any]:
    """Values of the page: links with each concept that fits, all fields as they were filled.

    Args:
        state: that is looked at.
        given: the address' values.
        error: why they mean nothing.
        path: of the page that was asked for.
    """
    field = "cui" if path == "/concept" else "concept"
    kept = {name: value for name, value in given.items() if value and name != "page"}
    candidates = error.candidates if isinstance(error, ConceptUnclearError) else ()
    found: dict[str, Any] = {
        "text": str(error),
        "candidates": [(cui, f"{path}?{urlencode(kept | {field: cui})}") for cui in candidates],
        "has_form": path == "/",
        "kept": "",
    }
    if not found["has_form"]:
        return found
    return found | form(state) | {"query": Query.as_given(given)}
