"""Which images of a comparison are looked at, as it stands in an address."""

from collections.abc import Mapping
from dataclasses import dataclass

from browser.compare import Comparison
from browser.library import Rows
from browser.pages.grid import PER_PAGE, with_cui
from browser.search import Query, QueryError
from browser.state import State

SHOWN: Mapping[str, str] = {
    "worse": "became worse",
    "better": "became better",
    "changed": "changed",
}
"""Which images are shown, in words."""

_TABLES = ("order", "by", "every")


@dataclass(frozen=True, kw_only=True)
class ChangedImages:
    """Images that a second judgement changes against a first one, those of a kind.

    Attributes:
        first, second: names of ensembles or submissions.
        show: one of `SHOWN`.
        category: of the images, "" for all.
        concept: CUI of a concept that was added or dropped, "" for any.
        tables: how the tables of the comparison's page are sorted, by name.
    """

    first: str
    second: str
    show: str
    category: str
    concept: str
    tables: Mapping[str, str]

    @classmethod
    def of(cls, given: Mapping[str, str], state: State) -> "ChangedImages":
        """Those of an address: without names the two newest, without a kind those became worse.

        Where no image is judged, they are those that changed.

        Raises:
            QueryError: a value is none of those that are known.
        """
        names = state.run_names
        second = given.get("second", "") or names[0]
        first = given.get("first", "") or next((name for name in names if name != second), second)
        show = given.get("show", "")
        if show and show not in SHOWN:
            raise QueryError(f"show={show}: expected one of {', '.join(SHOWN)}")
        asked = Query.of(
            with_cui({k: given.get(k, "") for k in ("category", "concept")}, state.library)
        )
        if not show:
            is_judged = state.comparison(first, second).interval is not None
            show = "worse" if is_judged else "changed"
        return cls(
            first=first,
            second=second,
            show=show,
            category=asked.category,
            concept=asked.concept,
            tables={name: given[name] for name in _TABLES if given.get(name)},
        )

    @property
    def is_part(self) -> bool:
        """Whether it leaves a category or a concept out."""
        return bool(self.category or self.concept)

    def rows(self, comparison: Comparison, *, show: str = "") -> Rows:
        """Rows of the images, those that changed most first.

        Args:
            comparison: of the two.
            show: in place of the own kind.
        """
        library = comparison.library
        rows = comparison.images(show or self.show)
        if self.category:
            rows = rows[library.is_category(self.category)[rows]]
        if self.concept:
            column = int(library.labels.columns([self.concept])[0])
            rows = rows[comparison.with_change_of(column)[rows]]
        return rows

    @property
    def given(self) -> dict[str, str]:
        """What is not empty, by name, as it stands in an address."""
        return {name: value for name, value in self._values.items() if value}

    @property
    def _values(self) -> dict[str, str]:
        own = {"first": self.first, "second": self.second, "show": self.show}
        return {**own, "category": self.category, "concept": self.concept, **self.tables}

    def address(self, path: str, **changes: object) -> str:
        """The address of a page that goes by them, with some values changed or added."""
        return Query().url(path, **(self._values | changes))

    def back(self, place: int) -> str:
        """The address of the comparison, where its page shows the image of a place, from 1."""
        page = max(0, place - 1) // PER_PAGE + 1
        return self.address("/compare", page=page if page > 1 else "") + "#images"
