"""The figures of `stats`: which there are for a corpus, and what each shows."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from core.categories import Category
from reports.pages import figures
from reports.statistics.cooccurrence import cluster_order, conditional
from reports.statistics.counts import CorpusStatistics
from reports.statistics.drift import Drift
from reports.statistics.labels import LabelledImages, histogram
from reports.statistics.relations import Relation

TOP = 30
"""Concepts that Figures 2 and 3 of the paper show."""

CUT = 50
"""Concepts an image at which Figures 4 and 5 of the paper end."""

SIGNIFICANT = 0.05
"""False discovery rate from which on a difference between the splits is called one."""

_NAMED = 12  # concepts that the scatter names


def draw(statistics: CorpusStatistics) -> Mapping[str, Figure]:
    """Every figure that the corpus has the numbers for, by the name of its files."""
    images = statistics.images
    drawn = {}
    if statistics.image_counts.known:
        drawn["images-by-category"] = _images(statistics)
    for split in images.splits:
        part = images.split(split)
        drawn[f"top-concepts-{split}"] = _top(statistics, part, split)
        drawn[f"concepts-an-image-{split}"] = _an_image(part, split)
    if statistics.relation:
        drawn["concepts-by-category"] = _by_category(statistics, statistics.relation)
    if len(images.most_frequent(2)) > 1:
        drawn["co-occurrence"] = _together(statistics)
    if statistics.drift:
        drawn["drift"] = _drift(statistics, statistics.drift)
    return drawn


def strongest(relation: Relation, n: int) -> npt.NDArray[np.intp]:
    """Columns of the n concepts that share most bits with the category, more than by chance."""
    order = np.lexsort((-relation.support, -relation.bits))[:n]
    return order[relation.bits[order] > relation.chance[order]]


def drifting(drift: Drift, n: int) -> npt.NDArray[np.intp]:
    """Columns of the n concepts whose shares differ most standard errors, of those that count."""
    order = np.argsort(-np.nan_to_num(np.abs(drift.z), nan=-1.0), kind="stable")[:n]
    return order[drift.q[order] < SIGNIFICANT]


def _images(statistics: CorpusStatistics) -> Figure:
    n = statistics.image_counts
    labels = [f"{c}  {Category(c).meaning}" if c else "no category" for c in n.categories]
    title = f"Images by category and split, {n.n_images.sum():,} in all"
    return figures.grouped_bars(labels, n.n_images, series=n.splits, title=title)


def _top(statistics: CorpusStatistics, part: LabelledImages, split: str) -> Figure:
    columns = part.most_frequent(TOP)
    return figures.bars(
        [figures.shorten(statistics.named(column)) for column in columns.tolist()],
        part.support[columns],
        total=len(part),
        title=f"The {len(columns)} most frequent concepts of {split}",
        axis=f"images (of {len(part):,})",
    )


def _an_image(part: LabelledImages, split: str) -> Figure:
    counts = histogram(part, cut=CUT)
    rest = f"{counts.n_beyond:,} images ({figures.percent(counts.n_beyond / counts.n_total)})"
    note = f"not shown: {rest} with more than {CUT}, at most {counts.largest}"
    return figures.columns(
        counts.n_images[: max(counts.largest, 10) + 1],
        mean=counts.mean,
        title=f"Concepts an image in {split}, {counts.n_total:,} images",
        axis="concepts of the image",
        note=note if counts.n_beyond else f"at most {counts.largest}",
    )


def _by_category(statistics: CorpusStatistics, relation: Relation) -> Figure:
    columns = strongest(relation, TOP)
    if not len(columns):
        columns = np.argsort(-relation.support, kind="stable")[:TOP]
    sizes = zip(relation.categories, relation.n_images.tolist(), strict=True)
    return figures.heat_map(
        relation.shares[:, columns].T,
        rows=[figures.shorten(statistics.named(column)) for column in columns.tolist()],
        columns=[f"{name}\n{n:,}" for name, n in sizes],
        title=f"The {len(columns)} concepts that share most information with the category"
        " (below each: its images)",
        legend=f"share of the category's images in {statistics.relation_split}",
    )


def _together(statistics: CorpusStatistics) -> Figure:
    images = statistics.images
    columns = cluster_order(images, images.most_frequent(TOP))
    cuis = [figures.shorten(images.labels.cuis[column]) for column in columns]
    return figures.heat_map(
        conditional(images, columns),
        rows=[figures.shorten(statistics.named(column)) for column in columns.tolist()],
        columns=cuis,
        title=f"The {len(columns)} most frequent concepts: of the images with the one of the row,"
        " how many in a hundred have the one of the column",
        legend="share of the row's images",
    )


def _drift(statistics: CorpusStatistics, drift: Drift) -> Figure:
    columns = drifting(drift, _NAMED)
    return figures.scatter_shares(
        drift.shares,
        n_images=drift.n_images,
        marked=np.nan_to_num(drift.q, nan=1.0) < SIGNIFICANT,
        named=[(column, figures.shorten(statistics.named(column))) for column in columns.tolist()],
        title=f"Share of each of {len(drift.labels):,} concepts in train and in valid",
    )
