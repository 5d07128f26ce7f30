"""Section of the report on concepts: which are missed and which invented most often."""

from collections.abc import Mapping

import numpy as np

from core.errors import as_typed
from core.runs.decided import DECIDED
from core.storage.text import brief, code
from reports.ensemble.judged import Counts, JudgedImages
from reports.pages.markdown import Section, table

SHOWN = 10
"""Concepts of each kind that are shown."""


def concepts_section(judged: JudgedImages | None, *, names: Mapping[str, str]) -> Section:
    """The concepts with the most misses and the most inventions; how to get them where unknown.

    Args:
        judged: the scored images; None of a run that kept no decisions.
        names: names of concepts, where they are known.
    """
    heading = "Concepts missed and invented"
    if judged is None:
        return Section(heading=heading, paragraphs=[not_kept()])
    right, missed, invented = judged.by_concept
    return Section(
        heading=heading,
        paragraphs=[
            f"Over the {len(judged.images):,} scored images, each decided without its fold, as in"
            " the submission. *True* are images that have the concept; of these it is *right* where"
            " it was decided and *missed* where it was not; *invented* where it was decided of"
            " another. F1 is that of the concept, 2 right / (2 right + missed + invented).",
            *_most(judged, missed, names=names, word="missed"),
            *_most(judged, invented, names=names, word="invented"),
            _never(judged, right, missed, invented),
        ],
    )


def not_kept() -> str:
    """That a run of an earlier version lacks decisions, and what to do about it."""
    return (
        f"This run was made by an earlier version and kept no {code(DECIDED)}, what was decided of"
        f" each image. Remove its folder and run {code(as_typed('ensemble --submit'))} again: the"
        " decisions will be the same, and this section will be here."
    )


def _most(
    judged: JudgedImages, counts: Counts, *, names: Mapping[str, str], word: str
) -> list[str]:
    right, missed, invented = judged.by_concept
    found = sorted(np.flatnonzero(counts).tolist(), key=lambda column: (-counts[column], column))
    if not found:
        return [f"No concept was {word}."]
    header = ["concept", "CUI", "true", "right", "missed", "invented", "F1"]
    rows = []
    for column in found[:SHOWN]:
        cui = judged.labels.cuis[column]
        hits, misses, extra = (int(each[column]) for each in (right, missed, invented))
        f1 = 2 * hits / (2 * hits + misses + extra)
        row = [f"{n:,}" for n in (hits + misses, hits, misses, extra)]
        rows.append([brief(names.get(cui) or cui), brief(cui), *row, f"{f1:.3f}"])
    few = len(found) <= SHOWN
    title = f"Concepts {word}:" if few else f"The {SHOWN} concepts most often {word}:"
    return [title, table(header, rows)]


def _never(judged: JudgedImages, right: Counts, missed: Counts, invented: Counts) -> str:
    """How many concepts were never decided, and which true ones nobody could decide."""
    never = right + invented == 0
    true = missed[never] > 0
    text = (
        f"Of {len(judged.labels):,} concepts {int(never.sum()):,} were never decided, of which"
        f" {int(true.sum()):,} are true of a scored image ({int(missed[never].sum()):,} misses"
        f" of {int(missed.sum()):,})."
    )
    if n_outside := int(judged.targets.n_outside.sum()):
        text += (
            f" Further {n_outside:,} misses are of concepts that no image learnt from has,"
            " which are in neither table."
        )
    return text
