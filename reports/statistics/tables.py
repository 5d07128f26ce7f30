"""Tables of `stats` as csv: everything that its page and figures show, to the last concept."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from core.storage.tables import write_rows
from reports.statistics.cooccurrence import ConceptPairs
from reports.statistics.counts import CorpusStatistics
from reports.statistics.drift import Drift
from reports.statistics.labels import LabelledImages, LabelSummary, summarise
from reports.statistics.relations import KINDS, Relation


def write_tables(statistics: CorpusStatistics, folder: Path) -> None:
    """Write every table that the corpus has the numbers for."""
    images = statistics.images
    _write(folder / "images.csv", *_image_rows(statistics))
    summaries = {name: summarise(part) for name, part in statistics.parts.items()}
    _write(folder / "labels.csv", ["images", *LabelSummary.__dataclass_fields__], (
        [name, *map(_cell, vars(summary).values())] for name, summary in summaries.items()
    ))  # fmt: skip
    _write(folder / "concepts.csv", *_concept_rows(statistics))
    _write(folder / "concepts-an-image.csv", *_histogram_rows(images))
    _write(folder / "pairs.csv", *_pair_rows(statistics, statistics.pairs))
    if statistics.relation:
        _write(folder / "categories.csv", *_relation_rows(statistics, statistics.relation))
    if statistics.drift:
        _write(folder / "drift.csv", *_drift_rows(statistics, statistics.drift))


Table = tuple[Sequence[str], Iterable[Sequence[str]]]
"""A header and its rows."""


def _image_rows(statistics: CorpusStatistics) -> Table:
    n = statistics.image_counts
    header = ["split", *(name or "no category" for name in n.categories), "total"]
    rows = [
        [split, *map(str, row), str(sum(row))]
        for split, row in zip(n.splits, n.n_images.tolist(), strict=True)
    ]
    totals = n.n_images.sum(axis=0).tolist()
    return header, [*rows, ["total", *map(str, totals), str(sum(totals))]]


def _concept_rows(statistics: CorpusStatistics) -> Table:
    images = statistics.images
    header, parts = ["cui", "name"], []
    for split in images.splits:
        header += [split, f"{split}_share"]
        parts.append(images.split(split))
    columns = images.most_frequent(len(images.labels))
    rows = []
    for column in columns.tolist():
        row = statistics.cells(column)
        for part in parts:
            n = int(part.support[column])
            row += [str(n), _cell(n / len(part))]
        rows.append(row)
    return header, rows


def _histogram_rows(images: LabelledImages) -> Table:
    counts = [np.bincount(images.split(s).n_concepts) for s in images.splits]
    length = max(map(len, counts))
    rows = [[str(n), *(str(c[n]) if n < len(c) else "0" for c in counts)] for n in range(length)]
    return ["concepts", *images.splits], rows


def _pair_rows(statistics: CorpusStatistics, pairs: ConceptPairs) -> Table:
    header = [
        "first",
        "first_name",
        "second",
        "second_name",
        "images",
        "groups",
        "lift",
        "pmi_bits",
    ]
    header += ["second_given_first", "first_given_second"]
    support = statistics.images.support
    rows = []
    for i in pairs.top(pairs.n_images, len(pairs)).tolist():
        first, second, n = int(pairs.first[i]), int(pairs.second[i]), int(pairs.n_images[i])
        rows.append([
            *statistics.cells(first), *statistics.cells(second), str(n), str(pairs.n_groups[i]),
            _cell(pairs.lift[i]), _cell(np.log2(pairs.lift[i])),
            _cell(n / support[first]), _cell(n / support[second]),
        ])  # fmt: skip
    return header, rows


def _relation_rows(statistics: CorpusStatistics, relation: Relation) -> Table:
    header = ["cui", "name", "images", "kind", "constant_in", "bits", "bits_by_chance", "entropy"]
    header += ["told_above_chance", *(f"{name}_share" for name in relation.categories)]
    rows = []
    for column in np.lexsort((-relation.support, -relation.bits)).tolist():
        if not relation.support[column]:
            continue
        constant = np.array(relation.categories)[relation.constant[:, column]].tolist()
        numbers = (relation.bits, relation.chance, relation.entropy, relation.told)
        rows.append([
            *statistics.cells(column), str(relation.support[column]), KINDS[relation.kinds[column]],
            ";".join(constant), *(_cell(values[column]) for values in numbers),
            *map(_cell, relation.shares[:, column].tolist()),
        ])  # fmt: skip
    return header, rows


def _drift_rows(statistics: CorpusStatistics, drift: Drift) -> Table:
    header = ["cui", "name", "train", "valid", "train_share", "valid_share", "standardised"]
    header += ["z", "q"]
    rows = []
    order = np.lexsort((-drift.support.sum(axis=0), -np.nan_to_num(np.abs(drift.z), nan=-1.0)))
    for column in order.tolist():
        numbers = (*drift.shares, drift.standardised, drift.z, drift.q)
        counts = map(str, drift.support[:, column].tolist())
        rows.append([
            *statistics.cells(column), *counts, *(_cell(values[column]) for values in numbers),
        ])  # fmt: skip
    return header, rows


def _cell(value: float) -> str:
    """Whole numbers whole, others to six digits, nothing for what is not defined."""
    if isinstance(value, (int, np.integer)):
        return str(value)
    return "" if np.isnan(value) else f"{value:.6g}"


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    write_rows(path, [header, *rows], for_people=True)
