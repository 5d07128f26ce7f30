"""The page of one image: what is true and decided, what each member says, what is near."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from browser.judgements import Judgement
from browser.library import Library
from browser.members import STACKED, worth_showing
from browser.pages.grid import Tile, tile, with_cui
from browser.search import Query, find
from browser.state import State

_MOST_NEAR = 8
_OWN = ("readable", "valid_half")  # columns that `prepare` adds for later stages


@dataclass(frozen=True, kw_only=True)
class ShownConcept:
    """A concept of an image.

    Attributes:
        cui, name: its id and name.
        kind: `right`, `missed`, `invented`, `decided` or `true` where nothing can be compared, or
            `other`.
        number: probability, calibrated of a decided one, else that of the ensemble before
            calibration, or the mean of the members; NaN where it is not known.
        is_known: whether it is in the label space, and so has a page.
        bars: what each member says, NaN where it does not cover the concept.
    """

    cui: str
    name: str
    kind: str
    number: float
    is_known: bool
    bars: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class NearImage:
    """A training image beside the one that is looked at.

    Attributes:
        tile: the image.
        similarity: cosine of the pooled features.
        concepts: its concepts: name, CUI, whether the image that is looked at has it too.
    """

    tile: Tile
    similarity: float
    concepts: tuple[tuple[str, str, bool], ...]


def one_image(state: State, given: Mapping[str, str]) -> dict[str, Any]:
    """Values of the page."""
    library = state.library
    row = library.row_of[given.get("id", "")]
    query = Query.of(with_cui(given, library))
    judgement = state.judgement(query.run)
    concepts, names = _concepts(row, state, judgement)
    before, after, at, n_found = _beside(row, state, query)
    table = library.corpus.table
    shown = {c.cui for c in concepts if c.kind in ("right", "missed", "true")} or {
        c.cui for c in concepts if c.kind == "decided"
    }
    near = state.neighbours.of_image(row, most=_MOST_NEAR) if state.neighbours else []
    copies = (library.duplicates or {}).get(row, ())
    return {
        "query": query,
        "tile": tile(row, state, judgement=judgement),
        "concepts": concepts,
        "members": names,
        "numbers": _numbers(names, judgement),
        "judgement": judgement,
        "is_judged": judgement is not None and bool(judgement.judged[row]),
        "is_decided": judgement is not None and bool(judgement.known[row]),
        "is_labelled": bool(library.labelled[row]),
        "disagreement": float(judgement.disagreement[row]) if judgement else float("nan"),
        "similarity": float(state.similarity[row]) if state.similarity is not None else None,
        "near": [_near(other, value, shown, state, judgement) for other, value in near],
        "near_by": state.neighbours.source if state.neighbours else "",
        "copies": [_near(other, value, shown, state, judgement) for other, value in copies],
        "doubt": (library.doubts or {}).get(row),
        "group": table.groups[row],
        "group_size": int(library.group_sizes[row]),
        "fold": int(table.folds[row]),
        "metadata": {
            name: values[row]
            for name, values in table.metadata.items()
            if values[row] and name not in _OWN
        },
        "mark": state.review.marks.get(library.image_ids[row]),
        "before": before,
        "after": after,
        "at": at,
        "n_found": n_found,
        "heat": state.heat_detector.name if state.shows_images and state.heat_detector else "",
    }


def _concepts(
    row: int, state: State, judgement: Judgement | None
) -> tuple[list[ShownConcept], list[str]]:
    """The concepts of an image with all that is said of them, and the names of the members."""
    library = state.library
    cuis = library.labels.cuis
    split = _of_predictions(library, row)
    image_id = library.image_ids[row]
    said = {s.name: s.of_image(image_id, library, split=split) for s in state.members}
    source = state.stacked(judgement.name) if judgement is not None else None
    overall = source.of_image(image_id, library, split=split) if source is not None else None
    found = {name: probs for name, probs in said.items() if probs is not None}
    if overall is not None:
        found = {STACKED: overall, **found}
    ranking = overall
    if ranking is None and found:
        ranking = np.nanmean(np.stack(list(found.values())), axis=0)
    if ranking is None:
        ranking = np.zeros(len(cuis), dtype=np.float32)
    true = _columns(library.truth, row)
    decided = _columns(judgement.is_decided, row) if judgement is not None else []
    probs = dict(zip(decided, _values(judgement, row), strict=True)) if judgement else {}
    is_judged = judgement is not None and bool(judgement.judged[row])
    are_true, are_decided = set(true), set(decided)
    shown = [
        ShownConcept(
            cui=cuis[column],
            name=library.name_of(cuis[column]),
            kind=_kind(column in are_true, column in are_decided, is_judged=is_judged),
            number=probs.get(column, float(ranking[column]) if found else float("nan")),
            is_known=True,
            bars=tuple(float(each[column]) for each in found.values()),
        )
        for column in worth_showing(ranking, true=true, decided=decided)
    ]
    shown += [
        ShownConcept(
            cui=cui,
            name=library.name_of(cui),
            kind="missed" if is_judged else "true",
            number=float("nan"),
            is_known=False,
            bars=(float("nan"),) * len(found),
        )
        for cui in library.corpus.table.concepts[row] or ()
        if cui not in library.labels
    ]
    return shown, list(found)


def _numbers(members: Sequence[str], judgement: Judgement | None) -> dict[str, str]:
    """What the number beside a concept is, by kind; "" where there is none."""
    decided = "calibrated probability" if judgement is not None and judgement.has_probs else ""
    others = ""
    if members:
        others = "the ensemble's" if members[0] == STACKED else "the members' mean"
        others += " probability before calibration"
    kinds = ("right", "invented", "decided")
    return dict.fromkeys(kinds, decided) | dict.fromkeys(("missed", "true"), others)


def _kind(is_true: bool, is_decided: bool, *, is_judged: bool) -> str:
    if is_judged:
        return {
            (True, True): "right",
            (True, False): "missed",
            (False, True): "invented",
            (False, False): "other",
        }[is_true, is_decided]
    return "true" if is_true else "decided" if is_decided else "other"


def _columns(matrix: Any, row: int) -> list[int]:
    return [int(c) for c in matrix.indices[matrix.indptr[row] : matrix.indptr[row + 1]]]


def _values(judgement: Judgement, row: int) -> list[float]:
    if not judgement.has_probs:
        return [float("nan")] * int(judgement.counts["decided"][row])
    here = slice(judgement.decided.indptr[row], judgement.decided.indptr[row + 1])
    return [float(value) for value in judgement.decided.data[here]]


def _of_predictions(library: Library, row: int) -> str:
    """The name of the predictions that an image is in."""
    split = library.corpus.table.splits[row]
    if split == "test":
        return "test"
    return library.corpus.scored


def _beside(row: int, state: State, query: Query) -> tuple[str | None, str | None, int, int]:
    """Ids of the images before and after one in what was looked for, its place, how many fit."""
    rows = find(query, state.library, known=state.known(query))
    at = np.flatnonzero(rows == row)
    if not len(at):
        return None, None, 0, len(rows)
    place = int(at[0])
    ids = state.library.image_ids
    before = ids[rows[place - 1]] if place else None
    after = ids[rows[place + 1]] if place + 1 < len(rows) else None
    return before, after, place + 1, len(rows)


def _near(
    row: int, similarity: float, shown: set[str], state: State, judgement: Judgement | None
) -> NearImage:
    cuis = state.library.corpus.table.concepts[row] or ()
    return NearImage(
        tile=tile(row, state, judgement=judgement),
        similarity=similarity,
        concepts=tuple((state.library.name_of(cui), cui, cui in shown) for cui in cuis),
    )
