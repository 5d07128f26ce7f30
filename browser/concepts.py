"""What became of concepts: how often they occur, are right, missed and invented, beside what."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from browser.judgements import Judgement
from browser.library import Bools, Library, Rows, rows_with
from browser.members import Deciding
from core.categories import CATEGORIES
from core.images import SPLITS
from core.metrics import Interval, group_numbers

Counts = npt.NDArray[np.int64]

ORDERS = {
    "true": "most frequent first",
    "right": "most often right first",
    "missed": "most often missed first",
    "invented": "most often invented first",
    "lowest": "lowest F1 first",
    "-lowest": "highest F1 first",
    "name": "by name",
}
"""How concepts may be ordered, in words; each also the other way round, with `-` before it."""


@dataclass(frozen=True, kw_only=True)
class ConceptCounts:
    """Counts of L concepts over some images.

    Attributes:
        n_images: labelled images.
        n_judged: of these, those that were decided.
        true: (L,) labelled images that have the concept.
        right, missed, invented: (L,) judged images where it is so.
    """

    n_images: int
    n_judged: int
    true: Counts
    right: Counts
    missed: Counts
    invented: Counts

    @property
    def f1(self) -> npt.NDArray[np.float64]:
        """(L,) F1 of each concept over the judged images; NaN: neither true nor decided."""
        total = 2 * self.right + self.missed + self.invented
        return np.where(total > 0, 2 * self.right / np.maximum(total, 1), np.nan)

    def ordered(self, order: str, library: Library) -> Rows:
        """Columns of the concepts that occur or are decided, in an order of `ORDERS`.

        Concepts without F1 come last; equal ones are in order of frequency.
        """
        there = np.flatnonzero(self.true + self.invented > 0)
        sign = -1 if order.startswith("-") else 1
        key = order.removeprefix("-")
        if key == "name":
            names = [library.name_of(library.labels.cuis[c]).lower() for c in there.tolist()]
            return there[np.argsort(np.array(names, dtype=np.str_), kind="stable")][::sign]
        values = {
            "true": -self.true,
            "right": -self.right,
            "missed": -self.missed,
            "invented": -self.invented,
            "lowest": self.f1,
        }[key]
        return there[np.lexsort((-self.true[there], sign * values[there]))]


def count_concepts(
    library: Library, judgement: Judgement | None, *, images: Bools
) -> ConceptCounts:
    """Count every concept over some images.

    Args:
        library: with N images.
        judgement: what was decided of them, None where nothing was.
        images: (N,) those that count.
    """
    n_concepts = len(library.labels)
    nothing = np.zeros(n_concepts, dtype=np.int64)
    return ConceptCounts(
        n_images=int((images & library.labelled).sum()),
        n_judged=int((images & judgement.judged).sum()) if judgement else 0,
        true=_sums(library.truth, images),
        right=_sums(judgement.right, images) if judgement else nothing,
        missed=_sums(judgement.missed, images) if judgement else nothing,
        invented=_sums(judgement.invented, images) if judgement else nothing,
    )


def _sums(matrix: csr_array, images: Bools) -> Counts:
    """(L,) of some images those that have the concept."""
    kept = matrix.indices
    if not images.all():
        kept = kept[np.repeat(images, np.diff(matrix.indptr))]
    return np.bincount(kept, minlength=matrix.shape[1])


def by_category(library: Library, column: int) -> list[tuple[str, list[int], int]]:
    """Images that have a concept: category, number in each of `SPLITS`, all labelled ones of it."""
    rows = rows_with(library.truth, column)
    found = []
    for name in (*map(str, CATEGORIES), "none"):
        of_category = library.is_category(name)
        if n := int((of_category & library.labelled).sum()):
            own = library.split_codes[rows[of_category[rows]]]
            counts = [int((own == s).sum()) for s in range(len(SPLITS))]
            found.append(("" if name == "none" else name, counts, n))
    return found


def f1_interval(
    judgement: Judgement, column: int, *, n_resamples: int = 500, seed: int = 0
) -> Interval | None:
    """F1 of a concept with a 95 % interval over groups; None where it is neither true nor decided.

    Groups are drawn by Poisson weights, so that only those in which the concept is true or decided
    need be looked at.
    """
    kinds = [rows_with(m, column) for m in (judgement.right, judgement.missed, judgement.invented)]
    rows = np.unique(np.concatenate(kinds))
    if not len(rows):
        return None
    groups = np.array(judgement.library.corpus.table.groups, dtype=object)[rows].tolist()
    own = np.unique(group_numbers(groups), return_inverse=True)[1]
    place = dict(zip(rows.tolist(), own.tolist(), strict=True))
    n_groups = int(own.max()) + 1
    right, missed, invented = (
        np.bincount([place[row] for row in kind.tolist()], minlength=n_groups) for kind in kinds
    )
    rng = np.random.default_rng(seed)
    weights = rng.poisson(1.0, size=(n_resamples, n_groups)).astype(np.float32)
    hits = weights @ right.astype(np.float32)
    parts = weights @ (2 * right + missed + invented).astype(np.float32)
    drawn = np.where(parts > 0, 2 * hits / np.maximum(parts, 1), np.nan)
    total = 2 * right.sum() + missed.sum() + invented.sum()
    low, high = np.nanquantile(drawn, (0.025, 0.975))
    value = float(2 * right.sum() / total)
    n = int(judgement.judged.sum())
    return Interval(value=value, low=float(low), high=float(high), n=n)


@dataclass(frozen=True)
class Beside:
    """A concept beside another.

    Attributes:
        cui: its id.
        n: images with both.
        share: of the images with the other one, in [0, 1].
        lift: how many times more often than on all labelled images; NaN where that says nothing.
    """

    cui: str
    n: int
    share: float
    lift: float


def together(library: Library, column: int, *, most: int = 10) -> list[Beside]:
    """Concepts that are true on the same images, the most frequent first."""
    rows = rows_with(library.truth, column)
    n_all = np.bincount(library.truth.indices, minlength=len(library.labels))
    rate = n_all / max(int(library.labelled.sum()), 1)
    return _beside(library, library.truth, rows=rows, without=column, most=most, of=rate)


def instead(judgement: Judgement, column: int, *, most: int = 10) -> list[Beside]:
    """Concepts that were invented on the images where this one was missed."""
    rows = rows_with(judgement.missed, column)
    n_concepts = len(judgement.library.labels)
    n_all = np.bincount(judgement.invented.indices, minlength=n_concepts)
    rate = n_all / max(int(judgement.judged.sum()), 1)
    return _beside(
        judgement.library, judgement.invented, rows=rows, without=column, most=most, of=rate
    )


def _beside(
    library: Library,
    matrix: csr_array,
    *,
    rows: Rows,
    without: int,
    most: int,
    of: npt.NDArray[np.float64],
) -> list[Beside]:
    counts = np.bincount(matrix[rows].indices, minlength=len(library.labels))
    counts[without] = 0
    first = np.lexsort((np.arange(len(counts)), -counts))[:most]
    return [
        Beside(
            cui=library.labels.cuis[c],
            n=int(counts[c]),
            share=float(counts[c] / len(rows)),
            lift=float(counts[c] / len(rows) / of[c]) if of[c] > 0 else float("nan"),
        )
        for c in first.tolist()
        if counts[c]
    ]


@dataclass(frozen=True)
class Bin:
    """Images whose probability of a concept lies between bounds.

    Attributes:
        low, high: bounds; the lower one belongs to it.
        n: images.
        mean: probability, on average.
        share: of them have the concept.
    """

    low: float
    high: float
    n: int
    mean: float
    share: float


_BOUNDS = (0.0, 0.05, 0.2, 0.4, 0.6, 0.8, 1.0)


def calibration(probs: npt.NDArray[np.float32], true: Bools) -> list[Bin]:
    """Predicted beside observed, in bins that hold an image.

    Args:
        probs, true: of n images the probability of a concept, and whether they have it.
    """
    bins = []
    for low, high in pairwise(_BOUNDS):
        here = (probs >= low) & ((probs < high) if high < 1 else (probs <= high))
        if n := int(here.sum()):
            mean, share = float(probs[here].mean()), float(true[here].mean())
            bins.append(Bin(low, high, n, mean, share))
    return bins


def threshold_of(
    judgement: Judgement, cui: str, *, categories: Sequence[str], deciding: Deciding | None
) -> list[tuple[str, float]]:
    """Thresholds that were tuned for a concept: for whom, and the threshold; [] of none.

    Args:
        categories: those in which the concept occurs.
        deciding: how the ensemble decides; None where its rule cannot be read.
    """
    found = judgement.run.record.thresholds if judgement.run else None
    if not found:
        return []
    level = found["levels"].get(found["level"], {})
    if cui in level.get("by_concept", {}):
        lines = [("this concept", float(level["by_concept"][cui]))]
    else:
        own = level.get("by_category", {})
        lines = [(name, float(own[name])) for name in categories if name in own]
        lines.append(("all others" if lines else "all concepts", float(level["global"])))
    if deciding is None:
        return lines
    return [(whose, deciding.tuned(cui, threshold)) for whose, threshold in lines]
