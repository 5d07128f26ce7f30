"""Images that resemble each other across splits: of one group, or nearly the same.

An official split is kept as it is: what crosses it is counted, listed, and left out of a second
score. Folds keep groups whole, so that no score of train or valid under `crossfit` rests on it.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from pathlib import Path

from core.images import SPLITS, ImageTable
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import is_complete, read_meta
from core.storage.tables import meant_as_written, read_rows, write_rows

CROSSING_FILE = "crossing_groups.csv"
"""In the folder of a prepared corpus, where a group crosses."""

DUPLICATES_FILE = "duplicates.csv"

_IN_A_CELL = 500  # ids: of the longest names that files can have, as many fit into a cell

_SPLIT_PAIRS: tuple[tuple[str, str], ...] = tuple(combinations(SPLITS, 2))


@dataclass(frozen=True)
class CrossingGroups:
    """Groups with images in more than one split.

    Attributes:
        images: group to split to the ids of its images there, in the order of the table.
    """

    images: Mapping[str, Mapping[str, Sequence[str]]]

    @classmethod
    def of(cls, table: ImageTable) -> "CrossingGroups":
        """Those of a table; a group without a name ("") holds nothing together."""
        found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for image_id, group, split in zip(table.image_ids, table.groups, table.splits, strict=True):
            if group:
                found[group][split].append(image_id)
        return cls({group: splits for group, splits in found.items() if len(splits) > 1})

    def __len__(self) -> int:
        return len(self.images)

    def between(self, one: str, other: str) -> list[str]:
        """Names of the groups with images in both of two splits."""
        return [g for g, splits in self.images.items() if one in splits and other in splits]

    def counted(self) -> str:
        """Groups and images by pair of splits, in words.

        Example: `train and test: 2 groups (5 and 3 images)`.
        """
        parts = []
        for one, other in _SPLIT_PAIRS:
            if shared := self.between(one, other):
                n, m = (sum(len(self.images[g][s]) for g in shared) for s in (one, other))
                groups = "1 group" if len(shared) == 1 else f"{len(shared):,} groups"
                parts.append(f"{one} and {other}: {groups} ({n:,} and {m:,} images)")
        return ", ".join(parts)

    def save(self, path: Path) -> None:
        """Write a csv with the columns group, split and image_ids, the last joined by `;`.

        Many images of a group take several rows, for a cell has an end.
        """
        rows = [
            (group, split, ";".join(splits[split][start : start + _IN_A_CELL]))
            for group, splits in self.images.items()
            for split in SPLITS
            for start in range(0, len(splits.get(split, ())), _IN_A_CELL)
        ]
        write_rows(path, [("group", "split", "image_ids"), *rows])


@dataclass(frozen=True)
class NearDuplicate:
    """Two images of different splits that look the same.

    Attributes:
        image_id, split: the one of the earlier split.
        other_id, other_split: the other one.
        similarity: of their detail, laid over each other; at most 1.
        mirrored: whether one is the other turned left to right.
        same_group: whether they are of one group, where images may well be alike.
    """

    image_id: str
    split: str
    other_id: str
    other_split: str
    similarity: float
    mirrored: bool
    same_group: bool


def save_duplicates(pairs: Iterable[NearDuplicate], path: Path) -> None:
    """Write a csv with a line a pair, in the order given."""
    rows = [
        (
            *(p.image_id, p.split, p.other_id, p.other_split),
            *(f"{p.similarity:.4f}", int(p.mirrored), int(p.same_group)),
        )
        for p in pairs
    ]
    write_rows(path, [[field.name for field in fields(NearDuplicate)], *rows])


def known_duplicates(corpus: Corpus, workspace: Workspace) -> tuple[NearDuplicate, ...] | None:
    """What `stats --duplicates` found in the prepared corpus; None where it was not asked.

    What it found in a corpus that was prepared there before is not looked at.
    """
    folder = workspace.duplicates
    if not is_complete(folder) or read_meta(folder)["corpus"] != corpus.fingerprint:
        return None
    with meant_as_written(path := folder / DUPLICATES_FILE):
        return tuple(
            NearDuplicate(one, split, other, where, float(similarity), mirrored == "1", same == "1")
            for one, split, other, where, similarity, mirrored, same in read_rows(path)[1:]
        )


def counted_duplicates(pairs: Collection[NearDuplicate]) -> str:
    """Pairs and images by pair of splits, in words; those within a group are counted apart."""
    parts = []
    for one, other in _SPLIT_PAIRS:
        here = [p for p in pairs if (p.split, p.other_split) == (one, other)]
        if across := [p for p in here if not p.same_group]:
            n, m = len({p.image_id for p in across}), len({p.other_id for p in across})
            named = "1 pair" if len(across) == 1 else f"{len(across):,} pairs"
            parts.append(f"{one} and {other}: {named} ({n:,} and {m:,} images)")
        if within := len(here) - len(across):
            parts.append(f"{one} and {other}, within one group: {within:,}")
    return ", ".join(parts) or "none"


@dataclass(frozen=True, kw_only=True)
class Concerned:
    """Images of a split that resemble an image which others learn from.

    Attributes:
        by_group: those that share a group with one.
        by_likeness: those that have a near-duplicate among them; None where none was looked for.
    """

    by_group: frozenset[str]
    by_likeness: frozenset[str] | None

    @property
    def image_ids(self) -> frozenset[str]:
        """All of them."""
        return self.by_group | (self.by_likeness or frozenset())


def concerned_images(
    corpus: Corpus, workspace: Workspace, *, split: str, learnt_from: Collection[str]
) -> Concerned:
    """Images of a split that share a group or their looks with a labelled image of other splits.

    Args:
        corpus: the prepared corpus.
        workspace: where `stats --duplicates` may have looked.
        split: whose images are meant.
        learnt_from: the other splits.
    """
    table = corpus.table
    rows = list(
        zip(table.image_ids, table.splits, table.groups, table.labelled.tolist(), strict=True)
    )
    labelled = {i for i, where, _, known in rows if where in learnt_from and known}
    groups = {group for i, _, group, _ in rows if i in labelled and group}
    pairs = known_duplicates(corpus, workspace)
    alike = None
    if pairs is not None:
        sides = [
            *((p.image_id, p.split, p.other_id) for p in pairs),
            *((p.other_id, p.other_split, p.image_id) for p in pairs),
        ]
        alike = frozenset(i for i, where, other in sides if where == split and other in labelled)
    return Concerned(
        by_group=frozenset(i for i, where, group, _ in rows if where == split and group in groups),
        by_likeness=alike,
    )
