"""The page of many images: what is looked for, and a grid of what fits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from browser.judgements import Judgement
from browser.library import Library
from browser.search import (
    ERRORS,
    KINDS,
    ORDERS,
    ROLES,
    ConceptUnclearError,
    Known,
    Query,
    QueryError,
    complete,
    find,
)
from browser.state import State

PER_PAGE, _CANDIDATES = 48, 12


@dataclass(frozen=True, kw_only=True)
class Tile:
    """An image in a grid.

    Attributes:
        row: of the library.
        image_id: its id.
        category: its category, guessed or given; "" for none.
        split: its split.
        right, missed, invented: concepts of each kind; None where that is not known.
        f1: of the decided set, NaN where it is not known.
        expected: expected F1, NaN where it is not known.
        mark: for review, "" without.
        note: that was written with the mark.
        is_guess: whether the category is a guess.
    """

    row: int
    image_id: str
    category: str
    split: str
    right: int | None
    missed: int | None
    invented: int | None
    f1: float
    expected: float
    mark: str
    note: str
    is_guess: bool


@dataclass(frozen=True)
class ResultPage:
    """A page of results.

    Attributes:
        page: its number, from 1.
        n_pages: of all results, at least 1.
        each: results on a page.
    """

    page: int
    n_pages: int
    each: int

    @classmethod
    def of(cls, given: Mapping[str, str], *, n: int, each: int = PER_PAGE) -> "ResultPage":
        """The page that an address asks for, or the nearest one that is there.

        Raises:
            QueryError: it is no number.
        """
        text = given.get("page", "1")
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise QueryError(f"page={text}: expected a number")
        n_pages = max(1, -(-n // each))
        return cls(page=min(max(int(text), 1), n_pages), n_pages=n_pages, each=each)

    @property
    def first(self) -> int:
        """Place of its first result among all, from 0."""
        return (self.page - 1) * self.each

    @property
    def shown(self) -> slice:
        """Its results among all."""
        return slice(self.first, self.first + self.each)


def tile(row: int, state: State, *, judgement: Judgement | None) -> Tile:
    """An image as a grid shows it."""
    library = state.library
    judged = judgement is not None and bool(judgement.judged[row])
    counts = judgement.counts if judgement is not None else {}
    mark = state.review.marks.get(library.image_ids[row])
    return Tile(
        row=row,
        image_id=library.image_ids[row],
        category=library.categories[row],
        split=library.corpus.table.splits[row],
        right=int(counts["right"][row]) if judged else None,
        missed=int(counts["missed"][row]) if judged else None,
        invented=int(counts["invented"][row]) if judged else None,
        f1=float(judgement.f1[row]) if judgement is not None else float("nan"),
        expected=float(judgement.expected_f1[row]) if judgement is not None else float("nan"),
        mark=mark.mark if mark else "",
        note=mark.note if mark else "",
        is_guess=bool(library.guessed[row]),
    )


def with_cui(given: Mapping[str, str], library: Library) -> dict[str, str]:
    """An address' values with a CUI in place of a concept as it was typed.

    That is its name, `name (CUI)` as fields show it, or words of which no other concept has all.

    Raises:
        ConceptUnclearError: no concept, or more than one, fits.
    """
    values = dict(given)
    typed = values.get("concept", "").strip()
    if not typed or typed in library.labels:
        return values
    _, _, last = typed.removesuffix(")").rpartition("(")
    if typed.endswith(")") and last in library.labels:
        return values | {"concept": last}
    found = complete(typed, library, most=_CANDIDATES + 1)
    same = [cui for cui, name in found if name.lower() == typed.lower()]
    if not same and len(found) == 1:
        same = [found[0][0]]
    if len(same) != 1:
        told = f"concept {typed!r}: no concept of this corpus fits"
        if found:
            told = f"{len(found)} concepts fit {typed!r}:"
        if len(found) > _CANDIDATES:
            told = f"More than {_CANDIDATES} concepts fit {typed!r}; the first are:"
        raise ConceptUnclearError(
            told,
            candidates=[cui for cui, _ in found[:_CANDIDATES]],
        )
    return values | {"concept": same[0]}


def images(state: State, given: Mapping[str, str]) -> dict[str, Any]:
    """Values of the page."""
    query = Query.of(with_cui(given, state.library))
    known = state.known(query)
    rows = find(query, state.library, known=known)
    window = ResultPage.of(given, n=len(rows))
    shown = rows[window.shown].tolist()
    return form(state) | {
        "query": query,
        "tiles": [tile(row, state, judgement=known.judgement) for row in shown],
        "n_found": len(rows),
        "window": window,
        "more": {row: _ordered_by(row, query, known) for row in shown},
        "judgement": known.judgement,
        "mean_f1": mean_f1(known.judgement, rows) if known.judgement is not None else None,
    }


def form(state: State) -> dict[str, Any]:
    """What may be chosen in the form."""
    return {
        "is_decided": bool(state.run_names),
        "roles": ROLES,
        "errors": ERRORS,
        "kinds": _kinds(state.library),
        "orders": ORDERS,
    }


def refusal(
    state: State, given: Mapping[str, str], *, error: QueryError, path: str
) -> dict[str, Any]:
    """Values of the page in place of one that an address does not mean.

    It has a link with each concept that fits, and the form as it was filled.

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


def _kinds(library: Library) -> list[tuple[str, str]]:
    """Kinds in words, with those that nobody looked for."""
    missing = {"duplicates"} if library.duplicates is None else set()
    missing |= {"doubted"} if library.doubts is None else set()
    return [
        (kind, f"{words} (not looked for)" if kind in missing else words)
        for kind, words in KINDS.items()
    ]


def _ordered_by(row: int, query: Query, known: Known) -> str:
    """The value that an image stands in its place for, where a tile does not show it anyway."""
    if query.order == "far" and known.similarity is not None:
        return f"similarity {known.similarity[row]:.2f}"
    if known.judgement is None:
        return ""
    if query.order in ("unsure", "sure", "surprising"):
        return f"expected F1 {known.judgement.expected_f1[row]:.2f}"
    if query.order == "disagreement":
        return f"members differ by {known.judgement.disagreement[row]:.2f}"
    return ""


def mean_f1(judgement: Judgement, rows: Any) -> tuple[float, int] | None:
    """Mean F1 of some images, and of how many; None where none is judged."""
    values = judgement.f1[rows]
    values = values[values == values]
    return (float(values.mean()), len(values)) if len(values) else None
