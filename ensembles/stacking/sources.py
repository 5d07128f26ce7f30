"""What each source knows: a block of images x concepts in the full label space."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from core.errors import PredictionsError
from core.labels import LabelSpace
from core.predictions import AnyPredictions
from core.storage.arrays import SharedRows, release
from ensembles.compiled import compiled, in_blocks
from ensembles.pairs import Bools, Floats, Ints


@dataclass(frozen=True, kw_only=True)
class Source:
    """Probabilities of the images and concepts that a source covers.

    A specialist covers the images of its category and its own concepts; all else is unknown to it,
    not absent. The global detector covers everything.

    Attributes:
        name: as a reader would call it.
        probs: (n, l), an array, rows of several (`SharedRows`), or CSR; what CSR does not store
            is 0.
        rows: (N,) row of `probs` that belongs to each image, -1 for one that is not covered.
        columns: (L,) column of `probs` that belongs to each concept, -1 for one not covered.
    """

    name: str
    probs: Floats | SharedRows | csr_array
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
        found = np.full(len(rows), np.nan, dtype=np.float32)
        if isinstance(self.probs, csr_array):
            stored = (self.probs.indptr, self.probs.indices, self.probs.data)
            _look_up(*stored, self.rows, self.columns, rows, columns, found)
        else:
            own = self.rows[rows]
            for array, places in self._arrays:
                _pick(array, places[own], self.columns, columns, found)
        self.release()
        return found

    @cached_property
    def _arrays(self) -> list[tuple[Floats, Ints]]:
        """The arrays that rows lie in, each with (n + 1,) its rows that rows of `probs` are.

        -1 where a row lies elsewhere, and at the end, for images that are not covered.
        """
        assert not isinstance(self.probs, csr_array)  # which has no arrays of rows
        probs = SharedRows.joined([self.probs])
        numbered = enumerate(probs.arrays)
        places = [np.where(probs.which == number, probs.places, -1) for number, _ in numbered]
        return [
            (np.asarray(array), np.append(own, -1).astype(np.int32))
            for array, own in zip(probs.arrays, places, strict=True)
        ]

    def release(self) -> None:
        """Give back memory that pages of a mapped file take; twenty members would fill 4 GB."""
        if not isinstance(self.probs, csr_array):
            release(self.probs)

    def add_to(self, total: Floats, n_covering: Floats, *, highest: Floats, first: int) -> None:
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
    sources: Sequence[Source],
    *,
    n_images: int,
    n_concepts: int,
    floor: float,
    top: int,
    most: int = 200,
) -> tuple[Ints, Ints]:
    """Rows and columns of the pairs that a second stage should look at.

    A pair is one if any source gives it the floor or more, or if it is above 0 and among the
    `top` concepts of its image by the mean of the sources that cover it (all that share the last
    place stay). Of an image with more of them, the `most` stay that are highest by that mean: each
    further source lifts some pairs above the floor by chance.

    Returns:
        Two (n,) arrays, ordered by image and then by concept.
    """
    found: dict[int, tuple[Ints, Ints]] = {}

    def find(first_image: int, last_image: int) -> None:
        for first in range(first_image, last_image, _BLOCK):
            shape = (min(_BLOCK, last_image - first), n_concepts)
            chosen = _choose(sources, first, shape, floor=floor, top=top, most=most)
            images, concepts = np.nonzero(chosen)
            found[first] = ((images + first).astype(np.int32), concepts.astype(np.int32))

    in_blocks(n_images, find)
    rows, columns = zip(*(found[first] for first in sorted(found)), strict=True)
    return np.concatenate(rows), np.concatenate(columns)


def _choose(
    sources: Sequence[Source],
    first: int,
    shape: tuple[int, int],
    *,
    floor: float,
    top: int,
    most: int,
) -> Bools:
    """(B, L) whether each pair of the images from `first` on is a candidate."""
    total, n_covering, highest = (np.zeros(shape, dtype=np.float32) for _ in range(3))
    for source in sources:
        source.add_to(total, n_covering, highest=highest, first=first)
        source.release()
    total /= np.maximum(n_covering, 1)
    chosen: Bools = highest >= floor
    if 0 < top < shape[1]:
        last = np.partition(total, shape[1] - top, axis=1)[:, shape[1] - top]
        chosen |= (total >= last[:, None]) & (total > 0)
    elif top >= shape[1]:
        chosen |= total > 0
    crowded = np.flatnonzero(np.count_nonzero(chosen, axis=1) > most)
    if len(crowded):
        means = np.where(chosen[crowded], total[crowded], np.float32(-1.0))
        last = np.partition(means, shape[1] - most, axis=1)[:, shape[1] - most]
        chosen[crowded] = means >= last[:, None]
    return chosen


_BLOCK = 64
"""Images looked at together: 0.8 MB of float32 at 3,047 concepts, which stays in the cache."""


@compiled
def _pick(probs: Floats, rows: Ints, own_columns: Ints, columns: Ints, out: Floats) -> None:
    """Write the probabilities of pairs out of an array, where it has their row and column.

    Args:
        rows: (n,) row of the array of each pair, -1 for none.
    """
    for k in range(len(rows)):
        j = own_columns[columns[k]]
        if rows[k] >= 0 and j >= 0:
            out[k] = probs[rows[k], j]


@compiled
def _look_up(
    starts: npt.NDArray[np.integer],
    stored: npt.NDArray[np.integer],
    values: Floats,
    own_rows: Ints,
    own_columns: Ints,
    rows: Ints,
    columns: Ints,
    out: Floats,
) -> None:
    """Probabilities of pairs out of CSR with sorted columns; what is not stored is 0."""
    for k in range(len(rows)):
        i, j = own_rows[rows[k]], own_columns[columns[k]]
        if i < 0 or j < 0:
            out[k] = np.nan
            continue
        low, high = starts[i], starts[i + 1]
        while low < high:
            middle = (low + high) // 2
            if stored[middle] < j:
                low = middle + 1
            else:
                high = middle
        out[k] = values[low] if low < starts[i + 1] and stored[low] == j else np.float32(0.0)
