"""The page of one image: what is true and decided, what each member says, what is near."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from browser.compare import ConceptChange
from browser.judgements import Judgement
from browser.library import Library, Rows
from browser.members import STACKED, Limit, MemberAnswers, worth_showing
from browser.pages.changed import SHOWN, ChangedImages
from browser.pages.grid import Tile, tile, with_cui
from browser.search import Query, find
from browser.state import State

CALIBRATED = "calibrated"
"""The name of the ensemble's probabilities after calibration."""

_MOST_NEAR = 8
_OWN = ("readable", "valid_half")  # columns that `prepare` adds for later stages


@dataclass(frozen=True, kw_only=True)
class ShownConcept:
    """A concept of an image.

    Attributes:
        cui, name: its id and name.
        kind: `right`, `missed`, `invented`, `decided` or `true` where nothing can be compared, or
            `other`.
        number: what the ensemble decides by, else the mean of the members; NaN where it is not
            known.
        is_known: whether it is in the label space, and so has a page.
        limit: from which number on it is decided; None where that is not by thresholds.
        bars: what each column of the table of members says, NaN where it does not cover the
            concept.
    """

    cui: str
    name: str
    kind: str
    number: float
    is_known: bool
    limit: Limit | None = None
    bars: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ShownMember:
    """A column of the table of members.

    Attributes:
        name: as ensembles call it.
        is_used: whether the ensemble that is looked at was made of it; None where there is none.
        run: of another run that the ensemble was made of in its place, "" without.
    """

    name: str
    is_used: bool | None = None
    run: str = ""


@dataclass(frozen=True, kw_only=True)
class InComparison:
    """An image among those of a comparison.

    Attributes:
        asked: which images these are.
        kind: in words.
        f1: of the first and of the second, NaN where it is not known.
        changes: concepts that were added or dropped.
        is_known: whether both decided it.
        back: address of the comparison.
    """

    asked: ChangedImages
    kind: str
    f1: tuple[float, float]
    changes: Sequence[ConceptChange]
    is_known: bool
    back: str


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
    asked = None
    if given.get("first") and given.get("second"):  # opened from a comparison
        asked = ChangedImages.of(given, state)
        query = Query(run=given.get("run", "") or asked.second)
        found = asked.rows(state.comparison(asked.first, asked.second))
    else:
        query = Query.of(with_cui(given, library))
        found = find(query, library, known=state.known(query))
    judgement = state.judgement(query.run)
    concepts, names = _concepts(row, state, judgement)
    before, after, at = _beside(row, found, library)

    def address(image_id: str) -> str:
        if asked is None:
            return query.url("/image", id=image_id)
        return asked.address("/image", id=image_id, run=given.get("run", ""))

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
        "members": _members(names, state, judgement),
        "numbers": _numbers(names, state, judgement, split=table.splits[row]),
        "has_limits": any(c.limit and c.limit.whose != "given" for c in concepts),
        "address": address,
        "against": _against(row, asked, state, at) if asked is not None else None,
        "kept": (asked.given if asked is not None else query.changed(run="").given)
        | {"id": library.image_ids[row]},
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
        "n_found": len(found),
        "heat": state.heat_detector.name if state.shows_images and state.heat_detector else "",
    }


def _concepts(
    row: int, state: State, judgement: Judgement | None
) -> tuple[list[ShownConcept], list[str]]:
    """The concepts of an image with all that is said of them, and the names of what says it."""
    library = state.library
    cuis, category = library.labels.cuis, library.categories[row]
    split, own_split = _of_predictions(library, row), library.corpus.table.splits[row]
    image_id = library.image_ids[row]
    said = {s.name: s.of_image(image_id, library, split=split) for s in state.members}
    source = state.stacked(judgement.name) if judgement is not None else None
    overall = source.of_image(image_id, library, split=split) if source is not None else None
    found = {name: probs for name, probs in said.items() if probs is not None}
    true = _columns(library.truth, row)
    decided = _columns(judgement.is_decided, row) if judgement is not None else []
    kept = dict(zip(decided, _values(judgement, row), strict=True)) if judgement else {}
    deciding = state.deciding(judgement) if judgement is not None else None
    numbers = ranking = overall
    if overall is not None:
        found = {STACKED: overall, **found}
        calibrated = deciding.calibrated(overall, library) if deciding is not None else None
        if calibrated is not None:
            calibrated[decided] = list(kept.values())
            found = {CALIBRATED: calibrated, **found}
            if deciding is not None and not deciding.has_limits(own_split):
                numbers = calibrated
    elif found:
        ranking = np.nanmean(np.stack(list(found.values())), axis=0)
        numbers = ranking.copy()
        if judgement is not None and judgement.has_probs:
            numbers[decided] = list(kept.values())
    if ranking is None or numbers is None:
        ranking = np.zeros(len(cuis), dtype=np.float32)
        numbers = np.full(len(cuis), np.nan, dtype=np.float32)
        numbers[decided] = list(kept.values())
    limited = deciding if overall is not None else None
    is_judged = judgement is not None and bool(judgement.judged[row])
    are_true, are_decided = set(true), set(decided)
    shown = [
        ShownConcept(
            cui=cuis[column],
            name=library.name_of(cuis[column]),
            kind=_kind(column in are_true, column in are_decided, is_judged=is_judged),
            number=float(numbers[column]),
            is_known=True,
            limit=limited.limit(cuis[column], category=category, split=own_split)
            if limited is not None
            else None,
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


def _members(names: Sequence[str], state: State, judgement: Judgement | None) -> list[ShownMember]:
    """Columns of the table of members, with those that the ensemble was made of."""
    if judgement is None or judgement.run is None:
        return [ShownMember(name=name) for name in names]
    meta = judgement.run.meta
    own: Mapping[str, str] = meta.get("members") or {}
    alone = [name for name in own if name == meta.get("stacker")]  # one member was the best
    members: dict[str, MemberAnswers] = {member.name: member for member in state.members}
    shown = []
    for name in names:
        if name not in members:
            shown.append(ShownMember(name=name, is_used=True))
            continue
        # A run is named by its folder and the time when it was made; the prior may have no name.
        run = str(own.get(name, "")).partition(" ")[0]
        is_other = bool(run) and run != members[name].run
        is_used = name in (alone or own) and not is_other
        shown.append(ShownMember(name=name, is_used=is_used, run=run if is_other else ""))
    return shown


def _numbers(
    names: Sequence[str], state: State, judgement: Judgement | None, *, split: str
) -> dict[str, str]:
    """What the number beside a concept is, by kind; "" where there is none."""
    calibrated = "calibrated probability"
    others = "the members' mean probability before calibration" if names else ""
    decided = calibrated if judgement is not None and judgement.has_probs else others
    if STACKED in names:
        deciding = state.deciding(judgement) if judgement is not None else None
        by_limits = deciding is None or deciding.has_limits(split)
        is_before = by_limits or CALIBRATED not in names
        decided = others = (
            "the ensemble's probability before calibration" if is_before else calibrated
        )
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


def _beside(row: int, found: Rows, library: Library) -> tuple[str | None, str | None, int]:
    """Ids of the images before and after one in what was found, and its place, 0 without one."""
    at = np.flatnonzero(found == row)
    if not len(at):
        return None, None, 0
    place = int(at[0])
    ids = library.image_ids
    before = ids[found[place - 1]] if place else None
    after = ids[found[place + 1]] if place + 1 < len(found) else None
    return before, after, place + 1


def _against(row: int, asked: ChangedImages, state: State, place: int) -> InComparison:
    comparison = state.comparison(asked.first, asked.second)
    return InComparison(
        asked=asked,
        kind=SHOWN[asked.show],
        f1=(float(comparison.first.f1[row]), float(comparison.second.f1[row])),
        changes=comparison.changes(row),
        is_known=bool(comparison.both[row]),
        back=asked.back(place),
    )


def _near(
    row: int, similarity: float, shown: set[str], state: State, judgement: Judgement | None
) -> NearImage:
    cuis = state.library.corpus.table.concepts[row] or ()
    return NearImage(
        tile=tile(row, state, judgement=judgement),
        similarity=similarity,
        concepts=tuple((state.library.name_of(cui), cui, cui in shown) for cui in cuis),
    )
