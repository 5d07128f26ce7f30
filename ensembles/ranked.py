"""Pairs of image and concept with calibrated probabilities, the most probable of an image first."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from ensembles.pairs import Bools, Floats, Ints, to_csr

Floats64 = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """n pairs ordered by image and then by concept; every other concept counts as absent.

    Attributes:
        rows, columns: (n,) image and concept.
        probs: (n,) calibrated probability; 1 where a concept is certain.
        shape: N and L.
    """

    rows: Ints
    columns: Ints
    probs: Floats
    shape: tuple[int, int]

    @cached_property
    def order(self) -> npt.NDArray[np.intp]:
        """(n,) the pairs by image, the most probable first; of equal ones the lower column."""
        return np.lexsort((-self.probs, self.rows))

    @cached_property
    def starts(self) -> Counts:
        """(N + 1,) where the pairs of each image begin."""
        counts = np.bincount(self.rows, minlength=self.shape[0])
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    @cached_property
    def ranked_probs(self) -> Floats64:
        """(n,) the probabilities in `order`."""
        return self.probs[self.order].astype(np.float64)

    @property
    def mass(self) -> Floats64:
        """(N,) expected number of concepts of each image."""
        mass: Floats64 = np.bincount(self.rows, weights=self.probs, minlength=self.shape[0]).astype(
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

    def chosen(self, chosen: Bools) -> csr_array:
        """(N, L) boolean: the pairs of an (n,) mask."""
        return to_csr(self.rows[chosen], self.columns[chosen], shape=self.shape)
