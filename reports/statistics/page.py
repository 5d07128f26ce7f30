"""The page of `stats`: tables in Markdown, figures by relative links, and what they mean."""

from collections.abc import Sequence

import numpy as np

from core.categories import Category
from reports.pages.markdown import picture, plain, table
from reports.statistics.counts import Counted
from reports.statistics.figures import CUT, SIGNIFICANT, TOP
from reports.statistics.labels import LabelSummary, summarise
from reports.statistics.relations import KINDS
from reports.stats_findings import drift_section, pairs_section, relation_section


def page(counted: Counted) -> str:
    """The page as Markdown; it shows the figures of `reports.statistics.figures.draw`."""
    parts = [
        f"# {counted.corpus.name} in numbers",
        "\n".join(f"- {line}" for line in (*overview(counted), *counted.corpus.notes)),
        "Tables are in full in the csv files beside this page, figures as SVG and PNG.",
        *(_images(counted) if counted.image_counts.known else ()),
        *_labels(counted),
        *(relation_section(counted, counted.relation) if counted.relation else ()),
        *pairs_section(counted),
        *(drift_section(counted, counted.drift) if counted.drift else ()),
    ]
    return "\n\n".join(parts) + "\n"


def overview(counted: Counted) -> list[str]:
    """What was counted, in a few lines."""
    n = counted.image_counts
    splits = zip(n.splits, n.n_images.sum(axis=1).tolist(), strict=True)
    lines = [f"images: {', '.join(f'{total:,} {split}' for split, total in splits)}"]
    name, images = list(counted.parts.items())[-1]
    labels = summarise(images)
    lines.append(
        f"{name}: {labels.n_assignments:,} assignments of {labels.n_concepts:,} concepts to"
        f" {labels.n_images:,} images, LC {labels.cardinality:.2f}, LD {labels.density:.4f}"
    )
    if relation := counted.relation:
        numbers = [int((relation.kinds == kind).sum()) for kind in range(len(KINDS))]
        kinds = ", ".join(f"{n:,} {kind}" for n, kind in zip(numbers, KINDS, strict=True))
        lines.append(f"concepts and categories in {counted.relation_split}: {kinds}")
    if counted.constant_f1:
        lines.append(f"constant concepts alone, sample F1 on valid: {counted.constant_f1}")
    if drift := counted.drift:
        lines.append(
            f"valid beside train: {int((drift.q < SIGNIFICANT).sum()):,} of"
            f" {int((~np.isnan(drift.q)).sum()):,} tested concepts differ,"
            f" {drift.unseen.value:,.0f} concepts never in train"
        )
    return [*lines, *_left_out(counted)]


def _images(counted: Counted) -> list[str]:
    n = counted.image_counts
    header = ["split", *(name or "none" for name in n.categories), "total"]
    rows = [
        [split, *(f"{value:,}" for value in (*row, sum(row)))]
        for split, row in zip(n.splits, n.n_images.tolist(), strict=True)
    ]
    totals = n.n_images.sum(axis=0).tolist()
    rows.append(["total", *(f"{value:,}" for value in (*totals, sum(totals)))])
    terms = [[name, Category(name).meaning] for name in n.known]
    return [
        "## Images by category",
        "Tables 1 and 2 of the paper.",
        table(["category", "is"], terms),
        table(header, rows),
        picture("images-by-category", "Images by category and split"),
    ]


def _labels(counted: Counted) -> list[str]:
    images = counted.images
    rows = [[name, *_summary_cells(summarise(part))] for name, part in counted.parts.items()]
    header = ["images of", "images", "without concept", "assignments", "concepts"]
    header += ["LC", "LD", "median", "most"]
    parts = [
        "## Labels",
        "Label cardinality LC is the mean number of concepts of an image, label density LD that"
        f" mean divided by all {len(images.labels):,} concepts (formulas 3 and 4 of the paper).",
        table(header, rows),
        "## The most frequent concepts",
        f"Figures 2 and 3 of the paper: the {TOP} most frequent concepts of a split.",
    ]
    parts += [picture(f"top-concepts-{s}", f"Most frequent concepts, {s}") for s in images.splits]
    parts += ["## Concepts an image", f"Figures 4 and 5 of the paper, cut at {CUT} concepts."]
    parts += [picture(f"concepts-an-image-{s}", f"Concepts an image, {s}") for s in images.splits]
    return [
        *parts,
        "## Encoding",
        "Table 3 of the paper. The concepts, sorted alphabetically, are the columns; the vector of"
        f" an image has {len(images.labels):,} places, 1 where the image has the concept and 0"
        " elsewhere.",
        table(["image", "places with a 1, from 1 on"], _encoded(counted)),
    ]


def _encoded(counted: Counted) -> list[list[str]]:
    images = counted.images
    rows = []
    for row in range(min(3, len(images))):
        begin, end = images.matrix.indptr[row : row + 2]
        places = (images.matrix.indices[begin:end] + 1).tolist()
        rows.append([plain(images.table.image_ids[row]), ", ".join(map(str, places)) or "none"])
    return rows


def _left_out(counted: Counted) -> list[str]:
    """What the corpus has no numbers for, in a line each."""
    lines = []
    if not counted.relation:
        lines.append("fewer than two categories: concepts are not set against them")
    elif counted.relation.n_left_out:
        lines.append(
            f"{counted.relation.n_left_out:,} images without a category are left out of it"
        )
    if not counted.drift:
        lines.append("not both train and valid with concepts: they are not compared")
    return lines


def _summary_cells(summary: LabelSummary) -> Sequence[str]:
    counts = (summary.n_images, summary.n_without, summary.n_assignments, summary.n_concepts)
    means = [f"{summary.cardinality:.2f}", f"{summary.density:.4f}", f"{summary.median:g}"]
    return [*(f"{value:,}" for value in counts), *means, f"{summary.largest:,}"]
