"""Section of the report on rare concepts: what adjusting by the prior costs and brings."""

from collections.abc import Sequence

import numpy as np

from core.labels import frequency_buckets
from core.runs.ensemble import ONE_THRESHOLD, SUBMITTED, EnsembleRun, PriorPoint
from reports.pages.figures import percent
from reports.pages.markdown import Section, table

RARE = "6-20"
"""Images learnt from of the concepts whose precision is shown, and which the sentence is about."""


def rare_sections(run: EnsembleRun) -> Sequence[Section]:
    """Recall by frequency under rising strengths of the adjustment; nothing for earlier runs."""
    if not run.record.prior:
        return []
    strength = float(run.meta.get("prior_adjustment", 0.0))
    of_threshold = _by_strength(run.record.prior, ONE_THRESHOLD)
    paragraphs = [
        "Recall of true pairs of image and concept, by how many of the images learnt from have the"
        " concept, and what is left of it in sample F1. `prior_adjustment` takes that part of the"
        " log of a concept's share of those images from its log odds before anything is decided;"
        " probabilities that are told stay as they are, and the forecast goes by them. Each line"
        " has one exact threshold for all concepts, chosen without the fold that it is judged on;"
        " own thresholds of frequent concepts, which a submission may have, take some of the cost"
        " back. In brackets the difference to the line of 0, paired, with its 95 % interval.",
        _table(of_threshold),
        _meaning(of_threshold),
    ]
    submitted = _by_strength(run.record.prior, SUBMITTED)
    if submitted:
        paragraphs += [
            f"**The submission is adjusted by {strength:g}.** By the rule that it is decided by,"
            " and by the one that would have been chosen without adjustment:",
            _table(submitted),
        ]
    else:
        paragraphs.append("The submission is not adjusted.")
    return [Section(heading="Rare concepts", paragraphs=paragraphs)]


Measures = dict[tuple[str, str], PriorPoint]


def _by_strength(points: Sequence[PriorPoint], decided_by: str) -> dict[float, Measures]:
    found: dict[float, Measures] = {}
    for point in points:
        if point.decided_by == decided_by:
            found.setdefault(point.strength, {})[point.measure, point.bucket] = point
    return found


def _table(found: dict[float, Measures]) -> str:
    names = [bucket.name for bucket in frequency_buckets()]
    first = next(iter(found.values()))
    header = [
        "adjustment",
        f"sample F1, n = {first['F1', ''].n:,}",
        *(f"recall, {name} images, n = {first['recall', name].n:,}" for name in names),
        f"precision, {RARE} images",
    ]
    rows = []
    for strength, own in found.items():
        cells = [own["F1", ""], *(own["recall", name] for name in names)]
        rows.append([f"{strength:g}", *map(_cell, cells), _cell(own["precision", RARE])])
    return table(header, rows)


def _cell(point: PriorPoint) -> str:
    if np.isnan(point.value):
        return "-"
    value = f"{point.value:.4f}" if point.measure == "F1" else f"{point.value:.3f}"
    if point.gain is None:
        return value
    digits = 4 if point.measure == "F1" else 3
    low, high, gain = (
        f"{n:+.{digits}f}" for n in (point.gain.low, point.gain.high, point.gain.value)
    )
    return f"{value} ({gain} [{low}, {high}])"


def _meaning(found: dict[float, Measures]) -> str:
    """The frontier in a sentence: the strength that costs least among those that help for sure."""
    rare = {strength: own["recall", RARE] for strength, own in found.items()}
    helping = [
        strength
        for strength, point in rare.items()
        if point.gain is not None and point.gain.low > 0
    ]
    if not helping:
        return (
            f"No strength finds more concepts of {RARE} images than chance explains: there is"
            " nothing to be had by this setting here."
        )
    strength = helping[0]
    cost = found[strength]["F1", ""].gain
    assert cost is not None
    chance = ", which chance can bring" if cost.low <= 0 <= cost.high else ""
    return (
        f"At {strength:g} more concepts of {RARE} images are found,"
        f" {percent(rare[strength].value)} of their true pairs in place of"
        f" {percent(rare[0.0].value)}, for {cost.value:+.4f} in sample F1{chance}. Higher strengths"
        f" find more and cost more; `ensemble --set prior_adjustment={strength:g}` decides by it."
    )
