"""What the training labels say of concepts before an image is looked at: alone, and two together.

Of two concepts the images with both are counted, and of most pairs there are none: an L x L matrix
would take 1.6 GB at 20,000 concepts. What is kept are the counts of pairs that occur, and shares of
the most frequent concepts alone as a matrix, in which nearly all look-ups end.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from core.categories import CATEGORIES
from core.labels import Targets
from core.metrics import column_sums
from core.prior import count_by_category
from ensembles.compiled import compiled
from ensembles.pairs import Floats, Floats64, Ints

_IMAGES = 3.0
"""Images of the overall rate that are added to every count."""

_FREQUENT = 4096
"""Concepts whose shares are a matrix, of 64 MB; the 3,047 of the task are all among them."""


class Together(NamedTuple):
    """What `fill_shares` looks P(concept | other concept) up in.

    Attributes:
        place: (L,) row and column of a concept in `matrix`, -1 for one that is not in it.
        matrix: (F, F) P(column's concept | row's concept) of the most frequent concepts.
        starts, columns, counts: CSR of images with two concepts, columns sorted, both ways round.
        added: (L,) what is added to the counts of a concept.
        sizes: (L,) what the counts are divided by, given a concept.
    """

    place: Ints
    matrix: Floats
    starts: Ints
    columns: Ints
    counts: Floats
    added: Floats
    sizes: Floats64


@dataclass(frozen=True, kw_only=True)
class LabelStatistics:
    """Frequencies of L concepts in the training images.

    Attributes:
        n_train: (L,) training images of each concept.
        rate: (L,) smoothed share of training images with each concept, within (0, 1).
        prior: (C, L) smoothed P(concept | category), rows as in `CATEGORIES`.
        together: (L, L) float32 CSR with sorted columns: training images with both concepts.
        category_share: (C,) share of each category in the training images.
    """

    n_train: npt.NDArray[np.int64]
    rate: Floats
    prior: Floats
    together: csr_array
    category_share: Floats

    @classmethod
    def of(cls, targets: Targets, categories: Sequence[str]) -> "LabelStatistics":
        """Frequencies in training images.

        Shares are drawn towards the concept's overall rate with the weight of a few images: a
        category or concept seen in two images says little. Images of unknown category count for
        the rate only.

        Args:
            targets: the true concepts of the training images.
            categories: their categories.
        """
        matrix = targets.matrix.astype(np.float32)
        n_train = column_sums(targets.matrix)
        rate = ((n_train + 0.5) / (len(targets) + 1.0)).astype(np.float32)
        counts, n_images = count_by_category(targets, categories)
        size = n_images.astype(np.float32)
        prior = (counts.astype(np.float32) + _IMAGES * rate) / (size[:, None] + _IMAGES)
        together = csr_array(matrix.T @ matrix)
        together.sort_indices()
        return cls(
            n_train=n_train,
            rate=rate,
            prior=prior.astype(np.float32),
            together=together,
            category_share=((size + 1.0) / (size.sum() + len(CATEGORIES))).astype(np.float32),
        )

    def category_weights(self, categories: Sequence[str]) -> Floats:
        """(N, C) certainty of each image's category: 1 where it is known, the shares where not."""
        weights = np.tile(self.category_share, (len(categories), 1))
        names = np.array(categories, dtype=np.str_)
        for number, category in enumerate(CATEGORIES):
            weights[names == category] = np.arange(len(CATEGORIES)) == number
        return weights

    @cached_property
    def lookup(self) -> Together:
        """P(concept | other concept), smoothed like the prior, to be looked up."""
        n_concepts = len(self.rate)
        frequent = np.sort(np.argsort(-self.n_train, kind="stable")[:_FREQUENT])
        place = np.full(n_concepts, -1, dtype=np.int32)
        place[frequent] = np.arange(len(frequent))
        added, sizes = _IMAGES * self.rate, self.n_train.astype(np.float64) + _IMAGES
        among = self.together
        if len(frequent) < n_concepts:
            among = csr_array(among[frequent][:, frequent])
        matrix = among.toarray()
        for row, counts in enumerate(matrix):  # one after the other: they are divided in 64 bits
            counts[:] = (counts + added[frequent]) / sizes[frequent[row]]
        return Together(
            place=place,
            matrix=matrix,
            starts=self.together.indptr.astype(np.int32, copy=False),
            columns=self.together.indices.astype(np.int32, copy=False),
            counts=self.together.data,
            added=added,
            sizes=sizes,
        )


@compiled
def fill_shares(together: Together, concepts: Ints, other: int, out: Floats) -> None:
    """Write P(concept | the one that is `other` in their order) of an image's concepts.

    Args:
        together: of `LabelStatistics.lookup`.
        concepts: (n,) of the image.
        other: number of one of them.
        out: (n,) or longer; what is written for `other` itself is its own share.
    """
    given = concepts[other]
    row = together.place[given]
    for k in range(len(concepts)):
        column = together.place[concepts[k]]
        if row >= 0 and column >= 0:
            out[k] = together.matrix[row, column]
        else:  # the counts of the rarer concept are fewer to search
            rare, beside = (given, concepts[k]) if row < 0 else (concepts[k], given)
            count = _count(together, rare, beside)
            out[k] = np.float32((count + together.added[concepts[k]]) / together.sizes[given])


@compiled
def _count(together: Together, one: int, other: int) -> np.float32:
    """Images with both concepts."""
    low, end = together.starts[one], together.starts[one + 1]
    high = end
    while low < high:
        middle = (low + high) // 2
        if together.columns[middle] < other:
            low = middle + 1
        else:
            high = middle
    return together.counts[low] if low < end and together.columns[low] == other else np.float32(0.0)
