"""Pairs of image and concept, in the orders that searches and decisions need.

`Pairs` are what all have in common. `LabelledPairs` know their truth, for searches that turn
thresholds; `CalibratedPairs` have calibrated probabilities, for decisions; the candidates of a
stacker (`ensembles.stacking.candidates`) have features.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from core.editions import EmptyTruth
from core.labels import Targets
from core.metrics import Scores, f1_of_counts
from ensembles.compiled import compiled, in_blocks

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]
Floats64 = npt.NDArray[np.float64]
Probs = Floats | csr_array
"""(N, L) probabilities; those that CSR does not store are 0."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """n pairs of an image and a concept, ordered by image and then by concept.

    Attributes:
        rows, columns: (n,) image and concept.
        shape: N images and L concepts.
    """

    rows: Ints
    columns: Ints
    shape: tuple[int, int]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def n_images(self) -> int:
        """N."""
        return self.shape[0]

    @property
    def n_concepts(self) -> int:
        """L."""
        return self.shape[1]

    @cached_property
    def starts(self) -> Counts:
        """(N + 1,) where the pairs of each image begin."""
        counts = np.bincount(self.rows, minlength=self.n_images)
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    def are_true(self, targets: Targets) -> Bools:
        """(n,) whether the concept of each pair is true of its image."""
        width = self.n_concepts
        images = np.repeat(np.arange(len(targets)), np.diff(targets.matrix.indptr))
        known = images * width + targets.matrix.indices
        wanted = self.rows.astype(np.int64) * width + self.columns
        if not len(known):
            return np.zeros(len(wanted), dtype=np.bool_)
        place = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        return np.asarray(known[place] == wanted)

    def chosen(self, chosen: Bools) -> csr_array:
        """(N, L) boolean: the pairs of an (n,) mask."""
        return to_csr(self.rows[chosen], self.columns[chosen], shape=self.shape)


@dataclass(frozen=True, kw_only=True)
class LabelledPairs(Pairs):
    """Pairs whose truth is known, sorted by probability, by concept where asked.

    Attributes:
        probs: (n,) probability, above 0.
        true: (n,) whether the concept is true.
        n_true: (N,) true concepts of each image, those without a pair included.
    """

    probs: Floats
    true: Bools
    n_true: Counts

    @classmethod
    def of(
        cls, probs: Probs, targets: Targets, *, floor: float = 0.0, limit: int = 100
    ) -> "LabelledPairs":
        """The pairs with a probability above 0 and not below the floor.

        Of an image, the `limit` most probable concepts are kept: the task takes no more, so the
        others can be decided by no threshold for all concepts. Equal probabilities at the limit
        go to the lower column, as `DecisionRule` has it.

        Args:
            probs: (N, L).
            targets: the true concepts of the N images.

        Raises:
            ValueError: the shapes differ.
        """
        if probs.shape != targets.matrix.shape:
            raise ValueError(f"probabilities are {probs.shape}, targets {targets.matrix.shape}")
        probs = as_csr(probs)
        lowest = np.full(len(targets), max(floor, np.finfo(np.float32).tiny), dtype=np.float32)
        rows, columns = select(probs, row_thresholds=lowest, limit=limit)
        pairs = Pairs(rows=rows, columns=columns, shape=probs.shape)
        return cls(
            rows=rows,
            columns=columns,
            shape=probs.shape,
            probs=values_at(probs, rows, columns=columns),
            true=pairs.are_true(targets),
            n_true=targets.n_true,
        )

    def of_images(self, chosen: Bools) -> "LabelledPairs":
        """The pairs of some images, by (N,) mask; those images are numbered from 0 again."""
        keep = chosen[self.rows]
        number = (np.cumsum(chosen) - 1).astype(np.int32)
        return LabelledPairs(
            rows=number[self.rows[keep]],
            columns=self.columns[keep],
            shape=(int(chosen.sum()), self.n_concepts),
            probs=self.probs[keep],
            true=self.true[keep],
            n_true=self.n_true[chosen],
        )

    def image_f1(self, decided: Bools, *, empty_truth: EmptyTruth) -> Scores:
        """(N,) F1 of each image when these of its pairs are decided.

        Args:
            decided: (n,) mask.
            empty_truth: what an image without true concepts scores.

        Returns:
            (N,) in [0, 1], NaN for an image that is left out of the mean.
        """
        n_images = len(self.n_true)
        n_decided = np.bincount(self.rows[decided], minlength=n_images)
        n_hit = np.bincount(self.rows[decided & self.true], minlength=n_images)
        return f1_of_counts(n_hit, n_decided, n_true=self.n_true, empty_truth=empty_truth)

    def completed(self, decided: Bools) -> Bools:
        """(n,) the same decisions, with the most probable pair of images left without any."""
        missing = np.bincount(self.rows[decided], minlength=len(self.n_true)) == 0
        images, first = np.unique(self.rows[self.by_prob], return_index=True)
        added = decided.copy()
        added[self.by_prob[first[missing[images]]]] = True
        return added

    @cached_property
    def by_prob(self) -> npt.NDArray[np.intp]:
        """(n,) pairs from the most probable down; equal ones in their order."""
        return np.argsort(-self.probs, kind="stable")

    @cached_property
    def by_concept(self) -> npt.NDArray[np.intp]:
        """(n,) pairs of the first concept from the most probable down, then of the second, ...

        Equal ones are in their order.
        """
        return by_group(self.columns, self.probs, starts=self.concept_starts)

    @cached_property
    def concept_starts(self) -> npt.NDArray[np.int64]:
        """(L + 1,) where each concept begins in `by_concept`."""
        counts = np.bincount(self.columns, minlength=self.n_concepts)
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class CalibratedPairs(Pairs):
    """Pairs with calibrated probabilities; every other concept counts as absent.

    Attributes:
        probs: (n,) calibrated probability; 1 where a concept is certain.
    """

    probs: Floats

    @cached_property
    def order(self) -> npt.NDArray[np.intp]:
        """(n,) the pairs by image, the most probable first; of equal ones the lower column."""
        return np.lexsort((-self.probs, self.rows))

    @cached_property
    def ranked_probs(self) -> Floats64:
        """(n,) the probabilities in `order`."""
        return self.probs[self.order].astype(np.float64)

    @property
    def mass(self) -> Floats64:
        """(N,) expected number of concepts of each image."""
        mass: Floats64 = np.bincount(self.rows, weights=self.probs, minlength=self.n_images).astype(
            np.float64
        )
        return mass

    def first(self, sizes: Counts) -> csr_array:
        """(N, L) boolean: so many of the most probable concepts of each image.

        Args:
            sizes: (N,).
        """
        place = np.arange(len(self.rows)) - np.repeat(self.starts[:-1], np.diff(self.starts))
        chosen = np.empty(len(self.rows), dtype=np.bool_)
        chosen[self.order] = place < sizes[self.rows]
        return self.chosen(chosen)


def as_csr(probs: Probs) -> csr_array:
    """The probabilities as CSR with sorted columns; the same matrix where they are that."""
    if not isinstance(probs, csr_array):
        return csr_array(np.asarray(probs))
    return probs if probs.has_sorted_indices else probs.sorted_indices()


def values_at(
    probs: csr_array, rows: npt.NDArray[np.integer], *, columns: npt.NDArray[np.integer]
) -> Floats:
    """(n,) probabilities of pairs; scipy gives a matrix where there are none."""
    return np.asarray(probs[rows, columns]) if len(rows) else np.empty(0, dtype=np.float32)


def select(
    probs: Probs,
    *,
    row_thresholds: Floats,
    column_thresholds: Floats | None = None,
    forced: Bools | None = None,
    kinds: Ints | None = None,
    limit: int,
) -> tuple[Ints, Ints]:
    """Rows and columns of the pairs whose probability is above 0 and reaches their threshold.

    Args:
        probs: (N, L).
        row_thresholds: (N,) threshold of each image.
        column_thresholds: (L,) threshold of a concept in every image, NaN where it has none of
            its own.
        forced: (C, L) concepts that each kind of image gets whatever their probability, before
            all others; none without it.
        kinds: (N,) kind of each image, a row of `forced`.
        limit: the most pairs of one image; the most probable ones stay, the lower column first
            where probabilities are equal.

    Returns:
        Two (n,) arrays, ordered by image and then by concept.
    """
    n_images, n_concepts = probs.shape
    if column_thresholds is None:
        column_thresholds = np.full(n_concepts, np.nan, dtype=np.float32)
    if forced is None or kinds is None:
        forced = np.zeros((1, n_concepts), dtype=np.bool_)
        kinds = np.zeros(n_images, dtype=np.int32)
    stored, always = as_csr(probs), csr_array(forced)
    counts = np.zeros(n_images, dtype=np.int32)
    sizes = np.diff(stored.indptr) + np.diff(always.indptr)[kinds]  # at most
    starts = np.concatenate([[0], np.cumsum(np.minimum(sizes, limit))]).astype(np.int64)
    buffer = np.empty(starts[-1], dtype=np.int32)

    def work(first: int, last: int) -> None:
        _select(
            stored.indptr[first : last + 1], stored.indices, stored.data,
            row_thresholds[first:last], column_thresholds,
            always.indptr, always.indices, kinds[first:last], limit,
            starts[first:last], buffer, counts[first:last],
        )  # fmt: skip

    in_blocks(n_images, work)
    rows = np.repeat(np.arange(n_images, dtype=np.int32), counts)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rows, buffer[np.repeat(starts[:-1], counts) + within]


@compiled
def _select(
    indptr: Ints,
    stored: Ints,
    probs: Floats,
    row_thresholds: Floats,
    column_thresholds: Floats,
    always_indptr: Ints,
    always: Ints,
    kinds: Ints,
    limit: int,
    starts: Counts,
    columns: Ints,
    counts: Ints,
) -> None:
    longest = 0
    for i in range(len(kinds)):
        n_always = always_indptr[kinds[i] + 1] - always_indptr[kinds[i]]
        longest = max(longest, indptr[i + 1] - indptr[i] + n_always)
    passing = np.empty(longest, dtype=np.int32)
    values = np.empty(longest, dtype=np.float32)
    none = len(column_thresholds)
    for i in range(len(kinds)):
        n, k, m = 0, indptr[i], always_indptr[kinds[i]]
        end, last_always = indptr[i + 1], always_indptr[kinds[i] + 1]
        while k < end or m < last_always:  # both rise
            possible = stored[k] if k < end else none
            certain = always[m] if m < last_always else none
            if certain <= possible:
                passing[n], values[n] = certain, np.float32(2.0)
                n += 1
                m += 1
                k += certain == possible
                continue
            threshold = column_thresholds[possible]
            if np.isnan(threshold):
                threshold = row_thresholds[i]
            if probs[k] >= threshold:
                passing[n], values[n] = possible, probs[k]
                n += 1
            k += 1
        last = np.float32(-1.0)
        n_equal = 0  # how many of those equal to the last one that fits still fit
        if n > limit:
            last = np.sort(values[:n])[n - limit]
            n_equal = limit
            for k in range(n):
                n_equal -= values[k] > last
        for k in range(n):
            if values[k] == last:
                if n_equal == 0:
                    continue
                n_equal -= 1
            elif values[k] < last:
                continue
            columns[starts[i] + counts[i]] = passing[k]
            counts[i] += 1


def to_csr(rows: Ints, columns: Ints, *, shape: tuple[int, int]) -> csr_array:
    """(N, L) boolean CSR of pairs that are ordered by image and then by concept."""
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=shape[0]))])
    return csr_array(
        (np.ones(len(columns), dtype=np.bool_), columns, indptr.astype(np.int32)), shape=shape
    )


def by_group(
    groups: npt.NDArray[np.int32],
    probs: npt.NDArray[np.float32],
    *,
    starts: npt.NDArray[np.int64],
) -> npt.NDArray[np.intp]:
    """(n,) pairs of the first group from the most probable down, then of the second, ...

    Equal ones keep their order.

    Args:
        groups: (n,) group of each pair, from 0 on.
        probs: (n,).
        starts: (G + 1,) where each group begins once they stand one after the other.
    """
    order = np.empty(len(groups), dtype=np.intp)
    _gather(groups, starts[:-1].copy(), order)
    in_blocks(len(starts) - 1, lambda a, b: _sort(starts[a : b + 1], probs, order))
    return order


@compiled
def _gather(
    groups: npt.NDArray[np.int32], ends: npt.NDArray[np.int64], order: npt.NDArray[np.intp]
) -> None:
    """Write the pairs of one group after the other, each in their order; moves `ends` there."""
    for k in range(len(groups)):
        order[ends[groups[k]]] = k
        ends[groups[k]] += 1


@compiled
def _sort(
    starts: npt.NDArray[np.int64],
    probs: npt.NDArray[np.float32],
    order: npt.NDArray[np.intp],
) -> None:
    """Put the pairs of each group in order, from the most probable down."""
    for j in range(len(starts) - 1):
        own = order[starts[j] : starts[j + 1]].copy()
        order[starts[j] : starts[j + 1]] = own[np.argsort(-probs[own], kind="mergesort")]
