"""`stats`: a corpus in numbers, one Markdown page with csv, SVG and PNG beside it.

Tables, figures by relative links, and what they mean: of concepts by category, among each other,
from train to valid.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from core.categories import Category
from core.errors import ConfigError, first_few
from core.runs.workspace import Corpus
from core.storage.drafts import draft_folder, replace_folder
from core.storage.folders import META, is_complete, read_meta, write_json
from core.storage.text import plain
from reports.pages.figures import percent, save_figure, style
from reports.pages.markdown import picture, table
from reports.statistics.counts import CorpusStatistics
from reports.statistics.drift import Against, Drift
from reports.statistics.figures import CUT, SIGNIFICANT, TOP, draw, drifting, strongest
from reports.statistics.labels import LabelSummary, summarise
from reports.statistics.relations import KINDS, Relation
from reports.statistics.tables import write_tables


def page(statistics: CorpusStatistics) -> str:
    """The page as Markdown; it shows the figures of `reports.statistics.figures.draw`."""
    notes = statistics.corpus.notes
    parts = [
        f"# {plain(statistics.corpus.name)} in numbers",
        "\n".join(f"- {line}" for line in (*overview(statistics), *map(plain, notes))),
        "Tables are in full in the csv files beside this page, figures as SVG and PNG.",
        *(_images(statistics) if statistics.image_counts.known else ()),
        *_labels(statistics),
        *(relation_section(statistics, statistics.relation) if statistics.relation else ()),
        *pairs_section(statistics),
        *(drift_section(statistics, statistics.drift) if statistics.drift else ()),
    ]
    return "\n\n".join(parts) + "\n"


def overview(statistics: CorpusStatistics) -> list[str]:
    """What was counted, in a few lines."""
    n = statistics.image_counts
    splits = zip(n.splits, n.n_images.sum(axis=1).tolist(), strict=True)
    lines = [f"images: {', '.join(f'{total:,} {split}' for split, total in splits)}"]
    table = statistics.corpus.table
    told = [split for split, text in zip(table.splits, table.taught_captions, strict=False) if text]
    if told:
        n_told = [f"{told.count(split):,} {split}" for split in n.splits if split in told]
        lines.append(f"images with a caption to learn by: {', '.join(n_told)}")
    name, images = list(statistics.parts.items())[-1]
    labels = summarise(images)
    lines.append(
        f"{name}: {labels.n_assignments:,} assignments of {labels.n_concepts:,} concepts to"
        f" {labels.n_images:,} images, {labels.cardinality:.2f} concepts an image (label"
        f" cardinality), {labels.density:.4f} of all concepts (label density)"
    )
    if relation := statistics.relation:
        alone, every = (relation.kinds == 0) | (relation.kinds == 2), relation.constant.any(axis=0)
        lines.append(
            f"concepts in {statistics.relation_split}: {int(alone.sum()):,} on images of one"
            f" category alone, {int((relation.kinds >= 0).sum() - alone.sum()):,} of several;"
            f" {int(every.sum()):,} on every image of a category with at least"
            " 20 images (constant)"
        )
        if statistics.constant_f1 and every.any():
            lines.append(f"constant concepts alone, sample F1 on valid: {statistics.constant_f1}")
    if drift := statistics.drift:
        lines.append(
            f"valid beside train: {int((drift.q < SIGNIFICANT).sum()):,} of the"
            f" {int((~np.isnan(drift.q)).sum()):,} concepts that are frequent enough to compare"
            f" differ beyond chance, {drift.unseen.value:,.0f} concepts never in train"
        )
    return [*lines, *_left_out(statistics)]


def _images(statistics: CorpusStatistics) -> list[str]:
    n = statistics.image_counts
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


def _labels(statistics: CorpusStatistics) -> list[str]:
    images = statistics.images
    rows = [[name, *_summary_cells(summarise(part))] for name, part in statistics.parts.items()]
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
        table(["image", "places with a 1, from 1 on"], _encoded(statistics)),
    ]


def _encoded(statistics: CorpusStatistics) -> list[list[str]]:
    images = statistics.images
    rows = []
    for row in range(min(3, len(images))):
        begin, end = images.matrix.indptr[row : row + 2]
        places = (images.matrix.indices[begin:end] + 1).tolist()
        rows.append([images.table.image_ids[row], ", ".join(map(str, places)) or "none"])
    return rows


def _left_out(statistics: CorpusStatistics) -> list[str]:
    """What the corpus has no numbers for, in a line each."""
    lines = []
    if not statistics.relation:
        lines.append("fewer than two categories: concepts are not set against them")
    elif statistics.relation.n_left_out:
        lines.append(
            f"{statistics.relation.n_left_out:,} images without a category are left out of it"
        )
    if not statistics.drift:
        lines.append("not both train and valid with concepts: they are not compared")
    return lines


def _summary_cells(summary: LabelSummary) -> Sequence[str]:
    counts = (summary.n_images, summary.n_without, summary.n_assignments, summary.n_concepts)
    means = [f"{summary.cardinality:.2f}", f"{summary.density:.4f}", f"{summary.median:g}"]
    return [*(f"{value:,}" for value in counts), *means, f"{summary.largest:,}"]


PAGE = "stats.md"


def write_stats(corpus: Corpus, folder: Path) -> list[str]:
    """Count a corpus and write `stats.md` with its tables and figures.

    The same corpus gives the same bytes; an older folder of `stats` is replaced.

    Args:
        corpus: what to count; its images are not opened.
        folder: where the page goes.

    Returns:
        The overview in lines, the path of the page first.

    Raises:
        ConfigError: the folder holds what `stats` did not write.
        CorpusError: no image of the corpus has a concept.
    """
    _refuse_foreign(folder)
    statistics = CorpusStatistics.of(corpus)
    with draft_folder(folder) as draft:
        with style():
            for name, figure in draw(statistics).items():
                save_figure(figure, draft, name=name)
        write_tables(statistics, draft)
        (draft / PAGE).write_text(page(statistics), encoding="utf-8")
        files = sorted(path.name for path in draft.iterdir())
        write_json(draft / META, {"corpus": corpus.fingerprint, "files": files})
        replace_folder(folder, draft)
    return [str(folder / PAGE), corpus.name, *(f"  {line}" for line in overview(statistics))]


def _refuse_foreign(folder: Path) -> None:
    """Refuse to replace a folder in which something else lies."""
    if not folder.exists():
        return
    ours = {META, *(read_meta(folder, "files")["files"] if is_complete(folder) else ())}
    if foreign := sorted(path.name for path in folder.iterdir() if path.name not in ours):
        raise ConfigError(
            f"{folder}: would be replaced, but holds what `stats` did not write:"
            f" {first_few(foreign)}; move that away"
        )


_SHOWN = 15  # rows of a table of concepts or pairs; the csv has all


def relation_section(statistics: CorpusStatistics, relation: Relation) -> list[str]:
    """Constant, exclusive and shared concepts, and what the category tells of each."""
    columns = strongest(relation, _SHOWN)
    total, by_chance = relation.bits.sum(), relation.chance.sum()
    score = statistics.constant_f1
    exclusive = int(np.isin(relation.kinds, (0, 2)).sum())
    return [
        "## Concepts and categories",
        f"Counted on {statistics.relation_split}, {relation.n_images.sum():,} images with a"
        " category."
        " Constant: on every image of a category with at least 20 images. Exclusive: on images of"
        f" one category only. {exclusive:,} concepts are exclusive;"
        f" {relation.expected_exclusive:,.1f} would be if the categories were dealt to the images"
        " at random, as a concept of a single image always is.",
        table(["kind", "concepts", "assignments", "share of them"], _kind_rows(relation)),
        table(["category", "images", "constant concepts"], _constant_rows(statistics, relation)),
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
            [_information_cells(statistics, relation, column) for column in columns.tolist()],
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


def _constant_rows(statistics: CorpusStatistics, relation: Relation) -> list[list[str]]:
    rows = []
    for row, name in enumerate(relation.categories):
        constant = [
            concept(statistics, column)
            for column in np.flatnonzero(relation.constant[row]).tolist()
        ]
        rows.append([name, f"{relation.n_images[row]:,}", ", ".join(constant) or "none"])
    return rows


def _information_cells(statistics: CorpusStatistics, relation: Relation, column: int) -> list[str]:
    numbers = (relation.bits[column], relation.chance[column])
    return [
        concept(statistics, column),
        f"{relation.support[column]:,}",
        KINDS[relation.kinds[column]],
        *(f"{value:.4f}" for value in numbers),
        "-" if np.isnan(relation.told[column]) else percent(relation.told[column]),
    ]


def pairs_section(statistics: CorpusStatistics) -> list[str]:
    """Pairs of concepts on most images, and those with the highest lift."""
    pairs = statistics.pairs
    header = ["concepts", "images", "groups", "lift", "PMI (bits)"]
    parts = [
        "## Concepts that stand together",
        f"Pairs on at least 20 images of at least 5 groups: {len(pairs):,}. Lift: how many times"
        " more images have both than if the two were independent; PMI its logarithm.",
    ]
    if len(pairs):
        for title, values in (("Most images", pairs.n_images), ("Highest lift", pairs.lift)):
            rows = [_pair_cells(statistics, i) for i in pairs.top(values, _SHOWN).tolist()]
            parts += [f"{title}:", table(header, rows)]
    if len(statistics.images.most_frequent(2)) > 1:
        parts += [
            f"The {TOP} most frequent concepts; cells of less than 10 % have no number.",
            picture("co-occurrence", "Concepts that stand together"),
        ]
    return parts


def _pair_cells(statistics: CorpusStatistics, number: int) -> list[str]:
    pairs = statistics.pairs
    both = (concept(statistics, int(side[number])) for side in (pairs.first, pairs.second))
    return [
        " + ".join(both),
        f"{pairs.n_images[number]:,}",
        f"{pairs.n_groups[number]:,}",
        f"{pairs.lift[number]:.2f}",
        f"{np.log2(pairs.lift[number]):+.2f}",
    ]


def drift_section(statistics: CorpusStatistics, drift: Drift) -> list[str]:
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
        cells = [_drift_cells(statistics, drift, column) for column in columns.tolist()]
        parts.append(table(["concept", "train", "valid", "d", "z", "q"], cells))
    return [*parts, picture("drift", "Shares in train and valid")]


def _drift_cells(statistics: CorpusStatistics, drift: Drift, column: int) -> list[str]:
    return [
        concept(statistics, column),
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


def concept(statistics: CorpusStatistics, column: int) -> str:
    """CUI and name in a cell."""
    return " ".join(cell for cell in statistics.cells(column) if cell)
