"""`deal`: an archive without splits becomes one with train, valid and test.

Whole groups are dealt, every category and concept in each split by its share, with the same engine
that deals folds. A corpus that has train and test but no valid gets one the same way.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np

from core.categories import CATEGORIES
from core.config import Range, Seed, check_ranges
from core.errors import ConfigError, CorpusError, first_few
from core.images import SPLITS, ImageTable
from core.storage.drafts import draft_file
from core.storage.tables import write_rows
from corpus.folds import deal_shares
from corpus.readers.notes import count
from corpus.readers.reading import NO_IMAGE, Reading, crossing_notes

_VALID_SHARE = 0.1  # of train, where a corpus has no valid


@dataclass(frozen=True, kw_only=True)
class DealConfig:
    """How an archive is dealt.

    Attributes:
        valid, test: shares of all images; either may be 0.
        seed: decides ties.
    """

    valid: Annotated[float, Range(least=0, below=1)] = 0.1
    test: Annotated[float, Range(least=0, below=1)] = 0.1
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_ranges(self)
        if not 0 < self.valid + self.test < 1:
            raise ConfigError(
                f"valid and test: expected shares above 0 that leave some to train, found"
                f" {self.valid} and {self.test}"
            )


def deal_valid(table: ImageTable, *, seed: int, at_least: int) -> tuple[ImageTable, list[str]]:
    """The table with a tenth of train as valid, where it has no valid, and the note that says so.

    Groups that stand in test as well stay in train: they cross already.

    Args:
        table: a corpus.
        seed: decides ties.
        at_least: groups that valid must have to be of use; with fewer, nothing is dealt.
    """
    if "valid" in table.splits:
        return table, []
    train = table.of(split="train")
    elsewhere = set(table.of(split="test").groups)
    free = train.take(
        train.labelled & np.array([group not in elsewhere for group in train.groups], np.bool_)
    )
    taken = np.zeros(0, dtype=np.bool_)
    if len(free):
        taken = deal_shares(free, shares=(1 - _VALID_SHARE, _VALID_SHARE), seed=seed) == 1
    valid = free.take(taken)
    groups = set(valid.groups)
    if len(groups) < at_least or len(valid) == len(train):
        return table, []
    chosen = zip(table.splits, table.groups, strict=True)
    splits = tuple("valid" if s == "train" and g in groups else s for s, g in chosen)
    n = splits.count("valid")
    note = (
        f"valid: none given, so {count(n, 'image')} of {count(len(groups), 'group')} are dealt from"
        f" train (a tenth, whole groups, by category and concept, seed {seed})"
    )
    return in_order(replace(table, splits=splits)), [note]


def in_order(table: ImageTable) -> ImageTable:
    """The table in the order of `SPLITS`, within a split as before."""
    order = np.argsort([SPLITS.index(split) for split in table.splits], kind="stable")
    return table.take(order)


def deal(reading: Reading, *, config: DealConfig) -> ImageTable:
    """The labelled images of a reading, each in a split.

    Args:
        reading: an archive, all of it in train.
        config: shares and seed.

    Raises:
        CorpusError: no image has concepts, or a split gets none for want of groups.
    """
    labelled = reading.table.take(reading.table.labelled)
    named = [n for n in ("valid", "test") if getattr(config, n) > 0]
    shares = [getattr(config, name) for name in named]
    parts = deal_shares(labelled, shares=(1 - sum(shares), *shares), seed=config.seed)
    names = ("train", *named)
    splits = tuple(names[part] for part in parts.tolist())
    if empty := [name for name in names if name not in splits]:
        groups = count(len(set(labelled.groups)), "group")
        raise CorpusError(
            f"{first_few(empty)} would get no image: there are {groups} of labelled images; ask"
            " for larger shares, or for no such split (0)"
        )
    return in_order(replace(labelled, splits=splits))


def refuse_overwriting(path: Path, *, overwrite: bool) -> None:
    """Refuse to write a manifest over a file, or under a name that no manifest has.

    Raises:
        ConfigError: the file is there and not to be replaced, or is no .csv.
    """
    if path.suffix.lower() != ".csv":
        raise ConfigError(f"{path}: a manifest's name ends in .csv; give another --out")
    if path.exists() and not overwrite:
        raise ConfigError(f"{path}: is there already; give another --out, or --overwrite")


def write_manifest(
    table: ImageTable, path: Path, *, names: Mapping[str, str] | None = None
) -> None:
    """Write a manifest that `prepare` reads from where it lies; one of the name is replaced.

    Images below its folder are written by their path from there, so that both may be moved
    together; all others by their absolute path.

    Args:
        table: the images, each in a split.
        path: the csv file.
        names: CUI to name of concepts; where one has a name, the manifest names them, with a comma
            for a semicolon in a name.
    """
    names = names or {}
    path.parent.mkdir(parents=True, exist_ok=True)
    home = path.parent.absolute()
    header = ["path", "split", "image_id", "category", "group", "concepts"]
    header += ["caption"] * bool(table.taught_captions)
    header += table.metadata
    rows = [header, *_rows(table, home)]
    if any(names.get(cui) for concepts in table.concepts for cui in concepts or ()):
        rows = [[*row, cell] for row, cell in zip(rows, _names(table, names), strict=True)]
    with draft_file(path) as draft:
        write_rows(draft, rows)


def _rows(table: ImageTable, home: Path) -> Iterator[list[str]]:
    for row, image_id in enumerate(table.image_ids):
        path = Path(table.paths[row])
        shown = path.relative_to(home).as_posix() if path.is_relative_to(home) else str(path)
        group = table.groups[row]
        yield [
            shown,
            table.splits[row],
            image_id,
            table.categories[row],
            "" if group == image_id else group,
            ";".join(table.concepts[row] or ()),
            *table.taught_captions[row : row + 1],
            *(values[row] for values in table.metadata.values()),
        ]


def _names(table: ImageTable, names: Mapping[str, str]) -> Iterator[str]:
    """A column with the names of each image's concepts."""
    yield "concept_names"
    for concepts in table.concepts:
        yield ";".join(names.get(cui, "").replace(";", ",") for cui in concepts or ())


def dealt_lines(reading: Reading, table: ImageTable, *, config: DealConfig) -> list[str]:
    """What was dealt, in lines for a person: shares reached, of each category, and the groups."""
    left_out = len(reading.table) - len(table)
    groups: Mapping[str, set[str]] = {
        split: set(table.of(split=split).groups) for split in SPLITS if split in table.splits
    }
    n_groups = sum(map(len, groups.values()))
    lines = [
        f"{count(len(table), 'image')} of {count(n_groups, 'group')} dealt, seed {config.seed}:"
        f" {_shares(table.splits)}"
    ]
    by_category = {category: table.of(category=category) for category in CATEGORIES}
    lines += [
        f"  {category}: {len(images):,} images, {_shares(images.splits)}"
        for category, images in by_category.items()
        if len(images)
    ]
    support = {s: Counter(c for cs in table.of(split=s).concepts for c in cs or ()) for s in groups}
    total = sum(support.values(), Counter())
    common = [cui for cui, n in total.items() if n >= 20]
    everywhere = sum(all(support[split][cui] for split in groups) for cui in common)
    unseen = [cui for cui in total if cui not in support["train"]]
    lines.append(
        f"  concepts with 20 images or more: {everywhere:,} of {len(common):,} in every split;"
        f" {count(len(unseen), 'concept')} not in train"
    )
    lines.append(
        f"  groups in more than one split: {n_groups - len(set().union(*groups.values()))}"
    )
    if left_out:
        lines.append(f"  note: {count(left_out, 'image')} without concepts left out")
    return [*lines, *(f"  note: {note}" for note in _still_true(reading))]


def _still_true(reading: Reading) -> list[str]:
    """The notes of a reading without those on its former splits."""
    crossing = {note.text for note in crossing_notes(reading.table)}
    lacking = tuple(NO_IMAGE.values())
    return [n for n in reading.notes if n not in crossing and not n.startswith(lacking)]


def _shares(splits: Sequence[str]) -> str:
    n = Counter(splits)
    return ", ".join(f"{s} {n[s]:,} ({n[s] / len(splits):.1%})" for s in SPLITS if n[s])
