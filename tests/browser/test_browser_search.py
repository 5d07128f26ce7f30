"""What an address asks for, and which images fit."""

from dataclasses import replace

import numpy as np
import pytest

from browser.judgements import Judgement
from browser.library import Library
from browser.search import ERRORS, KINDS, ORDERS, ROLES, Known, Query, QueryError, complete, find
from core.runs.fused import Doubt


def found(library: Library, known: Known, **given: str) -> list[int]:
    return [int(row) for row in find(Query.of(given), library, known=known)]


@pytest.fixture
def known(judgement: Judgement) -> Known:
    similarity = np.array([0.9, 0.8, 0.5, np.nan, 0.7, 0.6], dtype=np.float32)
    return Known(judgement=judgement, similarity=similarity, marked=frozenset({5}))


def test_nothing_asked_for_is_every_image_in_order(library: Library) -> None:
    assert found(library, Known()) == [0, 1, 2, 3, 4, 5]
    assert not Query().is_search


@pytest.mark.parametrize(
    ("given", "rows"),
    [
        ({"split": "test"}, [4, 5]),
        ({"category": "DRXR"}, [2, 3, 5]),
        ({"category": "none"}, []),
        ({"text": "AGE_3"}, [3]),
        ({"group": "g1"}, [0, 1]),
        ({"concept": "C1"}, [0, 1]),
        ({"concept": "C2", "role": "decided"}, [0, 1, 2]),
        ({"concept": "C2", "role": "right"}, [0, 2]),
        ({"concept": "C1", "role": "missed"}, [1]),
        ({"concept": "C3", "role": "invented"}, [3]),
        ({"role": "true"}, [0, 1, 2]),  # without a concept: of any concept
        ({"role": "decided"}, [0, 1, 2, 3, 4]),
        ({"role": "right"}, [0, 2]),
        ({"role": "missed"}, [1, 2]),
        ({"role": "invented", "split": "valid"}, [3]),
        ({"error": "missed"}, [1, 2]),
        ({"error": "invented"}, [1, 3]),
        ({"error": "perfect"}, [0]),
        ({"error": "nothing-right"}, [1, 3]),
        ({"error": "undecided"}, [5]),
        ({"kind": "guessed"}, [5]),
        ({"kind": "grouped"}, [0, 1]),
        ({"kind": "duplicates"}, [0, 2]),
        ({"kind": "unlabelled"}, [4, 5]),
        ({"kind": "unreadable"}, []),
        ({"kind": "marked"}, [5]),
        ({"low": "50", "high": "70"}, [2, 4]),
        ({"high": "30"}, [3]),
        ({"split": "train", "concept": "C2", "error": "missed"}, [2]),
    ],
)
def test_images_fit(library: Library, known: Known, given: dict[str, str], rows: list[int]) -> None:
    assert found(library, known, **given) == rows
    assert Query.of(given).is_search


@pytest.mark.parametrize(
    ("order", "rows"),
    [
        ("worst", [1, 3, 2, 0, 4, 5]),  # F1 1, 0, 2/3, 0; the others have none and come last
        ("best", [0, 2, 1, 3, 4, 5]),
        ("unsure", [3, 1, 2, 4, 0, 5]),
        ("sure", [0, 4, 2, 1, 3, 5]),
        ("surprising", [1, 3, 2, 0, 4, 5]),  # 1 - 0.9, 0 - 0.4, 2/3 - 0.6, 0 - 0.2
        ("disagreement", [4, 1, 2, 0, 3, 5]),
        ("far", [2, 5, 4, 1, 0, 3]),
        ("missed", [1, 2, 0, 3, 4, 5]),
        ("invented", [1, 3, 0, 2, 4, 5]),
        ("concepts", [0, 2, 1, 3, 4, 5]),
        ("table", [0, 1, 2, 3, 4, 5]),
    ],
)
def test_orders(library: Library, known: Known, order: str, rows: list[int]) -> None:
    assert found(library, known, order=order) == rows


def test_every_word_of_a_choice_is_known_to_a_search(library: Library, known: Known) -> None:
    library = replace(library, doubts={1: Doubt("DRCT", "DRXR", 0.99)})
    for name, values in (("error", ERRORS), ("kind", KINDS), ("order", ORDERS)):
        for value in values:
            found(library, known, **{name: value})
    for role in ROLES:
        found(library, known, concept="C1", role=role)
    assert found(library, known, kind="doubted") == [1]


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"split": "dev"}, "split=dev: expected one of train, valid, test"),
        ({"order": "random"}, "order=random: expected one of table"),
        ({"low": "1e999"}, "low=1e999: expected percent"),
        ({"high": "nan"}, "high=nan: expected percent"),
        ({"low": "70", "high": "30"}, "from 70 to 30 percent: no number is in between"),
    ],
)
def test_strange_values_are_refused(given: dict[str, str], line: str) -> None:
    with pytest.raises(QueryError, match=line):
        Query.of(given)


def test_bounds_may_be_equal_and_a_form_may_be_shown_again_as_it_was_filled() -> None:
    assert Query.of({"low": "50", "high": "50"}).low == "50"
    assert Query.of({"low": "50"}).high == ""  # no bound is no bound of 0
    given = {"split": "dev", "low": "70", "high": "30", "concept": "lung"}
    assert Query.as_given(given).given == given


def test_what_is_not_known_is_said(library: Library) -> None:
    for given, line in (
        ({"concept": "C9"}, "not a concept of this corpus"),
        ({"error": "missed"}, "run `ensemble --submit` first"),
        ({"concept": "C1", "role": "missed"}, "nothing was decided"),
        ({"role": "missed"}, "role=missed: nothing was decided"),
        ({"low": "3"}, "nothing was decided"),
        ({"order": "far"}, "distances are not known"),
        ({"order": "worst"}, "nothing was decided"),
    ):
        with pytest.raises(QueryError, match=line):
            found(library, Known(), **given)
    with pytest.raises(QueryError, match="run `stats --duplicates` first"):
        found(replace(library, duplicates=None), Known(), kind="duplicates")


def test_an_address_gives_the_query_back() -> None:
    query = Query.of({"concept": "C1", "text": "a&b=c é", "page": "3"})
    assert query.url("/image", id="x y") == "/image?text=a%26b%3Dc+%C3%A9&concept=C1&id=x+y"
    assert query.changed(text="", concept="").url("/") == "/"


def test_concepts_are_completed_by_all_words_those_that_begin_so_first(library: Library) -> None:
    assert complete("lu no", library) == [("C2", "Lung nodule")]
    assert complete("c", library) == [("C1", "Chest"), ("C3", "C3"), ("C2", "Lung nodule")]
    assert complete("  ", library) == []
    assert len(complete("c", library, most=1)) == 1
