"""What `stats` finds out about concepts: by category, among each other, from train to valid."""

import numpy as np

from reports.pages.figures import percent
from reports.pages.markdown import picture, plain, table
from reports.statistics.counts import Counted
from reports.statistics.drift import Against, Drift
from reports.statistics.figures import SIGNIFICANT, TOP, drifting, strongest
from reports.statistics.relations import KINDS, Relation

_SHOWN = 15  # rows of a table of concepts or pairs; the csv has all


def relation_section(counted: Counted, relation: Relation) -> list[str]:
    """Constant, exclusive and shared concepts, and what the category tells of each."""
    columns = strongest(relation, _SHOWN)
    total, by_chance = relation.bits.sum(), relation.chance.sum()
    score = counted.constant_f1
    exclusive = int(np.isin(relation.kinds, (0, 2)).sum())
    return [
        "## Concepts and categories",
        f"Counted on {counted.relation_split}, {relation.n_images.sum():,} images with a category."
        " Constant: on every image of a category with at least 20 images. Exclusive: on images of"
        f" one category only. {exclusive:,} concepts are exclusive;"
        f" {relation.expected_exclusive:,.1f} would be if the categories were dealt to the images"
        " at random, as a concept of a single image always is.",
        table(["kind", "concepts", "assignments", "share of them"], _kind_rows(relation)),
        table(["category", "images", "constant concepts"], _constant_rows(counted, relation)),
        *(
            [
                f"Images of valid that get the constant concepts of their category and nothing"
                f" else score a sample F1 of {score} (95 % interval over groups, n = {score.n:,})."
            ]
            if score
            else []
        ),
        "Mutual information says how many bits the category tells of a concept. By chance: the"
        " exact expectation were categories dealt to the images at random (Vinh et al., 2010); with"
        " many images of one patient chance reaches higher. Told: share of the concept's own"
        " entropy, above chance. Summed over the concepts, the category tells"
        f" {total:.2f} of {relation.entropy.sum():.2f} bits, {by_chance:.2f} by chance.",
        table(
            ["concept", "images", "kind", "bits", "by chance", "told"],
            [_information_cells(counted, relation, column) for column in columns.tolist()],
        ),
        picture("concepts-by-category", "Concepts by category"),
    ]


def _kind_rows(relation: Relation) -> list[list[str]]:
    total = int(relation.support.sum())
    rows = []
    for number, kind in enumerate(KINDS):
        here = relation.kinds == number
        n = int(relation.support[here].sum())
        rows.append([kind, f"{here.sum():,}", f"{n:,}", percent(n / total) if total else "-"])
    return rows


def _constant_rows(counted: Counted, relation: Relation) -> list[list[str]]:
    rows = []
    for row, name in enumerate(relation.categories):
        constant = [
            concept(counted, column) for column in np.flatnonzero(relation.constant[row]).tolist()
        ]
        rows.append([name, f"{relation.n_images[row]:,}", ", ".join(constant) or "none"])
    return rows


def _information_cells(counted: Counted, relation: Relation, column: int) -> list[str]:
    numbers = (relation.bits[column], relation.chance[column])
    return [
        concept(counted, column),
        f"{relation.support[column]:,}",
        KINDS[relation.kinds[column]],
        *(f"{value:.4f}" for value in numbers),
        "-" if np.isnan(relation.told[column]) else percent(relation.told[column]),
    ]


def pairs_section(counted: Counted) -> list[str]:
    """Pairs of concepts on most images, and those with the highest lift."""
    pairs = counted.pairs
    header = ["concepts", "images", "groups", "lift", "PMI (bits)"]
    parts = [
        "## Concepts that stand together",
        f"Pairs on at least 20 images of at least 5 groups: {len(pairs):,}. Lift: how many times"
        " more images have both than if the two were independent; PMI its logarithm.",
    ]
    if len(pairs):
        for title, values in (("Most images", pairs.n_images), ("Highest lift", pairs.lift)):
            rows = [_pair_cells(counted, i) for i in pairs.top(values, _SHOWN).tolist()]
            parts += [f"{title}:", table(header, rows)]
    if len(counted.images.most_frequent(2)) > 1:
        parts += [
            f"The {TOP} most frequent concepts; cells of less than 10 % have no number.",
            picture("co-occurrence", "Concepts that stand together"),
        ]
    return parts


def _pair_cells(counted: Counted, number: int) -> list[str]:
    pairs = counted.pairs
    both = (concept(counted, int(side[number])) for side in (pairs.first, pairs.second))
    return [
        " + ".join(both),
        f"{pairs.n_images[number]:,}",
        f"{pairs.n_groups[number]:,}",
        f"{pairs.lift[number]:.2f}",
        f"{np.log2(pairs.lift[number]):+.2f}",
    ]


def drift_section(counted: Counted, drift: Drift) -> list[str]:
    """Valid beside train, as a whole and concept by concept, against chance."""
    columns = drifting(drift, _SHOWN)
    n_tested, n_differ = int((~np.isnan(drift.q)).sum()), int((drift.q < SIGNIFICANT).sum())
    rows = [["distance of concepts", *_against_cells(drift.concepts, "{:.4f}")]]
    if drift.categories:
        rows.append(["distance of categories", *_against_cells(drift.categories, "{:.4f}")])
    rows.append(["concepts never in train", *_against_cells(drift.unseen, "{:,.0f}")])
    n_valid = int(drift.support[1].sum())
    unseen = percent(drift.n_unseen_assignments / n_valid) if n_valid else "-"
    parts = [
        "## Valid beside train",
        f"{drift.n_images[0]:,} and {drift.n_images[1]:,} labelled images of {drift.n_groups:,}"
        " groups. Chance: whole groups dealt to two splits of these sizes at random, 200 times."
        " Distance: of Jensen and Shannon, 0 for equal distributions and 1 for distributions"
        " without anything in common. Concepts of valid that never stand in train have"
        f" {drift.n_unseen_assignments:,} assignments there ({unseen}).",
        table(["valid beside train", "found", "by chance [95 %]", "p"], rows),
        f"{n_tested:,} concepts are frequent enough to be compared one by one, and"
        f" {n_differ:,} of them differ at a false discovery rate of {100 * SIGNIFICANT:g} %"
        " (Benjamini and Hochberg; z from the variance between groups; d is the standardised"
        " difference).",
    ]
    if len(columns):
        cells = [_drift_cells(counted, drift, column) for column in columns.tolist()]
        parts.append(table(["concept", "train", "valid", "d", "z", "q"], cells))
    return [*parts, picture("drift", "Shares in train and valid")]


def _drift_cells(counted: Counted, drift: Drift, column: int) -> list[str]:
    return [
        concept(counted, column),
        *(percent(share) for share in drift.shares[:, column]),
        f"{drift.standardised[column]:+.2f}",
        f"{drift.z[column]:+.1f}",
        f"{drift.q[column]:.2g}",
    ]


def _against_cells(found: Against, form: str) -> list[str]:
    value, mean, low, high = (
        "-" if np.isnan(n) else form.format(n)
        for n in (found.value, found.mean, found.low, found.high)
    )
    chance = "-" if np.isnan(found.mean) else f"{mean} [{low}, {high}]"
    return [value, chance, "-" if np.isnan(found.p) else f"{found.p:.3f}"]


def concept(counted: Counted, column: int) -> str:
    """CUI and name in a cell."""
    return plain(" ".join(cell for cell in counted.cells(column) if cell))
