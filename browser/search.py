"""What is looked for, as it stands in an address, and the images that fit."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from urllib.parse import urlencode

import numpy as np
import numpy.typing as npt

from browser.judgements import Judgement
from browser.library import Bools, Library, Rows, rows_with
from core.categories import CATEGORIES
from core.errors import LabelSpaceError
from core.images import SPLITS

ROLES: Mapping[str, str] = {
    "true": "is true",
    "decided": "is decided",
    "right": "is right",
    "missed": "was missed",
    "invented": "was invented",
}
"""What a concept may be of an image, in words."""

ERRORS: Mapping[str, str] = {
    "missed": "something missed",
    "invented": "something invented",
    "perfect": "nothing missed or invented",
    "nothing-right": "nothing right",
    "undecided": "nothing decided",
}
"""What may have gone wrong with an image, in words."""

KINDS: Mapping[str, str] = {
    "doubted": "category doubted",
    "guessed": "category guessed",
    "duplicates": "near-duplicates",
    "grouped": "in a group",
    "marked": "marked for review",
    "unlabelled": "without labels",
    "unreadable": "unreadable",
}
"""Further kinds of images, in words."""

ORDERS: Mapping[str, str] = {
    "table": "as in the corpus",
    "worst": "lowest F1 first",
    "best": "highest F1 first",
    "unsure": "lowest expected F1 first",
    "sure": "highest expected F1 first",
    "surprising": "surest and yet wrong first",
    "disagreement": "members disagree most first",
    "far": "farthest from train first",
    "missed": "most missed first",
    "invented": "most invented first",
    "concepts": "most true concepts first",
}
"""How images may be ordered, in words."""


class QueryError(ValueError):
    """An address that means nothing; the message is one line."""


class ConceptUnclearError(QueryError):
    """A concept was typed of which none or several fit.

    Attributes:
        candidates: CUIs of the first that fit.
    """

    def __init__(self, text: str, *, candidates: Sequence[str]) -> None:
        """With one line."""
        super().__init__(text)
        self.candidates = tuple(candidates)


@dataclass(frozen=True, kw_only=True)
class Query:
    """What is looked for; an empty field asks for nothing.

    Attributes:
        text: part of an id.
        split: one of `SPLITS`.
        category: one of `CATEGORIES`, or `none`.
        concept: a CUI.
        role: what the concept is, one of `ROLES`; without a concept, what any one is.
        error: one of `ERRORS`.
        kind: one of `KINDS`.
        group: the images of a group.
        low, high: bounds of the expected F1, in percent.
        order: one of `ORDERS`.
        run: the ensemble or submission that is looked at; the newest ensemble if empty.
    """

    text: str = ""
    split: str = ""
    category: str = ""
    concept: str = ""
    role: str = ""
    error: str = ""
    kind: str = ""
    group: str = ""
    low: str = ""
    high: str = ""
    order: str = ""
    run: str = ""

    @classmethod
    def of(cls, given: Mapping[str, str]) -> "Query":
        """The query of an address.

        Raises:
            QueryError: a value is none of those that are known.
        """
        query = cls.as_given(given)
        for name, known in (
            ("split", SPLITS),
            ("category", (*map(str, CATEGORIES), "none")),
            ("role", ROLES),
            ("error", ERRORS),
            ("kind", KINDS),
            ("order", ORDERS),
        ):
            value = getattr(query, name)
            if value and value not in known:
                raise QueryError(f"{name}={value}: expected one of {', '.join(known)}")
        low, high = (_percent(name, getattr(query, name)) for name in ("low", "high"))
        if query.low and query.high and low > high:
            raise QueryError(
                f"expected F1 from {query.low} to {query.high} percent: no number is in between"
            )
        return query

    @classmethod
    def as_given(cls, given: Mapping[str, str]) -> "Query":
        """The same whatever the values mean, for a form that is shown again."""
        return cls(**{f.name: given.get(f.name, "").strip()[:300] for f in fields(cls)})

    def changed(self, **changes: str) -> "Query":
        """The same with other values."""
        return replace(self, **changes)

    @property
    def given(self) -> dict[str, str]:
        """What is not empty, by name."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name))}

    def url(self, address: str, /, **more: object) -> str:
        """The address of a page with this query, and with further values."""
        values = self.given | {name: str(value) for name, value in more.items() if value != ""}
        return f"{address}?{urlencode(values)}" if values else address

    @property
    def is_search(self) -> bool:
        """Whether it leaves any image out."""
        return bool(set(self.given) - {"order", "run"})


@dataclass(frozen=True, kw_only=True)
class Known:
    """What images are found by, beside the library: all of it may be missing.

    Attributes:
        judgement: what was decided.
        similarity: (N,) cosine to the nearest training image, NaN where it is not known.
        marked: rows that are marked for review.
    """

    judgement: Judgement | None = None
    similarity: npt.NDArray[np.float32] | None = None
    marked: frozenset[int] = frozenset()


def find(query: Query, library: Library, *, known: Known) -> Rows:
    """Rows of the images that fit, in the query's order; equal ones as in the corpus.

    Raises:
        QueryError: it asks for a concept that is not in the label space, for a group that is not
            there, or for what was decided where nothing was.
    """
    keep = np.ones(len(library), dtype=np.bool_)
    if query.text:
        keep &= np.char.find(library.lower_ids, query.text.lower()) >= 0
    if query.split:
        keep &= library.split_codes == SPLITS.index(query.split)
    if query.category:
        keep &= library.is_category(query.category)
    if query.group:
        keep &= np.array(library.corpus.table.groups, dtype=np.str_) == query.group
    if query.concept or query.role:
        keep &= _with_concept(query, library, known.judgement)
    if query.error:
        keep &= _with_error(query.error, _decided(known.judgement, f"error={query.error}"))
    if query.kind:
        keep &= _of_kind(query.kind, library, known)
    if query.low or query.high:
        expected = _decided(known.judgement, "a bound of the expected F1").expected_f1 * 100
        low, high = _percent("low", query.low or "0"), _percent("high", query.high or "100")
        keep &= np.nan_to_num(expected, nan=-1.0) >= low
        keep &= np.nan_to_num(expected, nan=101.0) <= high
    rows = np.flatnonzero(keep)
    if not query.order or query.order == "table":
        return rows
    values = _order(query.order, library, known)[rows].astype(np.float64)
    return rows[np.argsort(values, kind="stable")]  # NaN last


def _percent(name: str, value: str) -> float:
    if not value:
        return 0.0
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 100:
        raise QueryError(f"{name}={value}: expected percent, 0 to 100")
    return number


def _decided(judgement: Judgement | None, asked: str) -> Judgement:
    if judgement is None:
        raise QueryError(f"{asked}: nothing was decided so far; run `ensemble --submit` first")
    return judgement


def _with_concept(query: Query, library: Library, judgement: Judgement | None) -> Bools:
    """(N,) whether the concept, or without one any concept, is what it should be of an image."""
    role = query.role or "true"
    decided = None if role == "true" else _decided(judgement, f"role={role}")
    if not query.concept:
        if decided is not None:
            return np.asarray(decided.counts[role] > 0)
        return np.asarray(np.diff(library.truth.indptr) + library.n_outside > 0)
    try:
        column = int(library.labels.columns([query.concept])[0])
    except LabelSpaceError:
        raise QueryError(f"concept={query.concept}: not a concept of this corpus") from None
    matrix = library.truth
    if decided is not None:
        matrix = {
            "decided": decided.is_decided,
            "right": decided.right,
            "missed": decided.missed,
            "invented": decided.invented,
        }[role]
    found = np.zeros(len(library), dtype=np.bool_)
    found[rows_with(matrix, column)] = True
    return found


def _with_error(error: str, judgement: Judgement) -> Bools:
    counts, judged = judgement.counts, judgement.judged
    found: dict[str, Callable[[], Bools]] = {
        "missed": lambda: judged & (counts["missed"] > 0),
        "invented": lambda: judged & (counts["invented"] > 0),
        "perfect": lambda: judged & (counts["missed"] + counts["invented"] == 0),
        "nothing-right": lambda: judged & (counts["right"] == 0),
        "undecided": lambda: judgement.known & (counts["decided"] == 0),
    }
    return found[error]()


def _of_kind(kind: str, library: Library, known: Known) -> Bools:
    if kind == "guessed":
        return library.guessed
    if kind == "grouped":
        return library.group_sizes > 1
    if kind == "unlabelled":
        return ~library.labelled
    rows: list[int] = []
    if kind == "doubted":
        if library.doubts is None:
            raise QueryError(
                "kind=doubted: nobody looked for them, or their list is damaged; run `fuse` first"
            )
        rows = list(library.doubts)
    elif kind == "marked":
        rows = list(known.marked)
    elif kind == "duplicates":
        if library.duplicates is None:
            raise QueryError(
                "kind=duplicates: they were not looked for; run `stats --duplicates` first"
            )
        rows = list(library.duplicates)
    elif kind == "unreadable":
        readable = set(library.corpus.readable_ids)
        rows = [row for row, name in enumerate(library.image_ids) if name not in readable]
    found = np.zeros(len(library), dtype=np.bool_)
    found[rows] = True
    return found


def _order(order: str, library: Library, known: Known) -> npt.NDArray[np.floating]:
    """(N,) values of which the lowest comes first."""
    if order == "concepts":
        return -np.diff(library.truth.indptr).astype(np.float64)
    if order == "far":
        if known.similarity is None:
            raise QueryError(
                "order=far: distances are not known: still being computed, or there are no features"
            )
        return known.similarity
    judgement = _decided(known.judgement, f"order={order}")
    if order in ("missed", "invented"):
        return np.where(judgement.judged, -judgement.counts[order], np.nan)
    return {
        "worst": judgement.f1,
        "best": -judgement.f1,
        "unsure": judgement.expected_f1,
        "sure": -judgement.expected_f1,
        "surprising": judgement.f1 - judgement.expected_f1,
        "disagreement": -judgement.disagreement,
    }[order]


def complete(text: str, library: Library, *, most: int = 20) -> list[tuple[str, str]]:
    """CUI and name of concepts that fit what was typed so far: all words, in any order.

    Those whose name begins with it come first, then the most frequent.
    """
    words = text.lower().split()
    if not words:
        return []
    frequency = np.bincount(library.truth.indices, minlength=len(library.labels))
    found = [
        (not name.startswith(text.lower().strip()), -int(frequency[column]), cui)
        for column, (cui, name) in enumerate(library.searchable_names)
        if all(word in name for word in words)
    ]
    return [(cui, library.name_of(cui)) for *_, cui in sorted(found)[:most]]
