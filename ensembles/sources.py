"""What each source knows: a block of images x concepts in the full label space."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array

from core.arrays import release
from core.errors import PredictionsError
from core.labels import LabelSpace
from core.sparse_predictions import AnyPredictions
from ensembles.pairs import Floats, Ints


@dataclass(frozen=True, kw_only=True)
class Source:
    """Probabilities of the images and concepts that a source covers.

    A specialist covers the images of its category and its own concepts; all else is unknown to it,
    not absent. The global detector covers everything.

    Attributes:
        name: as a reader would call it.
        probs: (n, l), an array or CSR; what CSR does not store is 0.
        rows: (N,) row of `probs` that belongs to each image, -1 for one that is not covered.
        columns: (L,) column of `probs` that belongs to each concept, -1 for one not covered.
    """

    name: str
    probs: Floats | csr_array
    rows: Ints
    columns: Ints

    @classmethod
    def of(
        cls, predictions: AnyPredictions, *, image_ids: Sequence[str], labels: LabelSpace
    ) -> "Source":
        """What predictions know of these images in this label space.

        Raises:
            LabelSpaceError: the source has a concept that is not in the label space.
            PredictionsError: it has images, but none of these.
        """
        row_of = {image_id: row for row, image_id in enumerate(predictions.image_ids)}
        rows = np.array([row_of.get(image_id, -1) for image_id in image_ids], dtype=np.int32)
        if len(predictions) and (rows < 0).all():  # a category may have no image in a split
            raise PredictionsError(
                f"{predictions.source}: covers none of the {len(image_ids)} images"
            )
        columns = np.full(len(labels), -1, dtype=np.int32)
        columns[labels.columns(predictions.labels.cuis)] = np.arange(len(predictions.labels))
        return cls(name=predictions.source, probs=predictions.probs, rows=rows, columns=columns)

    @cached_property
    def covers_all(self) -> bool:
        """Whether rows and columns are those of `probs`, one by one."""
        return all(
            np.array_equal(numbers, np.arange(size))
            for numbers, size in zip((self.rows, self.columns), self.probs.shape, strict=True)
        )

    def at(self, rows: Ints, columns: Ints) -> Floats:
        """(n,) probabilities of pairs of an image and a concept, NaN where not covered."""
        own_rows, own_columns = self.rows[rows], self.columns[columns]
        covered = (own_rows >= 0) & (own_columns >= 0)
        probs = np.full(len(rows), np.nan, dtype=np.float32)
        probs[covered] = self.probs[own_rows[covered], own_columns[covered]]
        self.release()
        return probs

    def release(self) -> None:
        """Give back memory that pages of a mapped file take; twenty members would fill 4 GB."""
        if not isinstance(self.probs, csr_array):
            release(self.probs)

    def add_to(self, total: Floats, n_covering: Floats, highest: Floats, *, first: int) -> None:
        """Add the probabilities of consecutive images to running totals of all sources.

        Args:
            total, n_covering, highest: (B, L) sum, number and maximum of the probabilities of the
                images from `first` on; changed in place.
        """
        own_rows = self.rows[first : first + len(total)]
        if self.covers_all:
            block = _dense(self.probs[first : first + len(total)])
            total += block
            n_covering += 1
            np.maximum(highest, block, out=highest)
            return
        covered = np.ix_(own_rows >= 0, self.columns >= 0)
        wanted = self.probs[own_rows[own_rows >= 0]]
        block = _dense(wanted[:, self.columns[self.columns >= 0]])
        total[covered] += block
        n_covering[covered] += 1
        highest[covered] = np.maximum(highest[covered], block)


def _dense(block: Floats | csr_array) -> Floats:
    return block.toarray() if isinstance(block, csr_array) else block


def find_candidates(
    sources: Sequence[Source], *, n_images: int, n_concepts: int, floor: float, top: int
) -> tuple[Ints, Ints]:
    """Rows and columns of the pairs that a second stage should look at.

    A pair is one if any source gives it the floor or more, or if it is above 0 and among the
    `top` concepts of its image by the mean of the sources that cover it (all that share the last
    place stay).

    Returns:
        Two (n,) arrays, ordered by image and then by concept.
    """
    found: list[tuple[Ints, Ints]] = []
    for first in range(0, n_images, _BLOCK):
        shape = (min(_BLOCK, n_images - first), n_concepts)
        total, n_covering, highest = (np.zeros(shape, dtype=np.float32) for _ in range(3))
        for source in sources:
            source.add_to(total, n_covering, highest, first=first)
            source.release()
        total /= np.maximum(n_covering, 1)
        chosen = highest >= floor
        if 0 < top < n_concepts:
            last = np.partition(total, n_concepts - top, axis=1)[:, n_concepts - top]
            chosen |= (total >= last[:, None]) & (total > 0)
        elif top >= n_concepts:
            chosen |= total > 0
        images, concepts = np.nonzero(chosen)
        found.append(((images + first).astype(np.int32), concepts.astype(np.int32)))
    rows, columns = zip(*found, strict=True)
    return np.concatenate(rows), np.concatenate(columns)


_BLOCK = 512
"""Images looked at together: 6 MB of float32 at 3,047 concepts."""
