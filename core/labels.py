"""Which concept is which column, fixed once."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from core.errors import LabelSpaceError, PredictionsError, first_few, repeated
from core.storage.tables import read_lines, write_lines

Concepts = tuple[str, ...]
"""The concepts of one image: distinct CUIs."""

FREQUENCIES = (1, 6, 21, 101)
"""Training images of a concept from which on it stands in the next bucket, in all reports."""


@dataclass(frozen=True, kw_only=True)
class FrequencyBucket:
    """Concepts of about the same frequency.

    Attributes:
        low: images of each, at least.
        end: images that each is below; None for the last bucket.
    """

    low: int
    end: int | None

    @property
    def name(self) -> str:
        """Such as `6-20`, `101+`."""
        if self.end is None:
            return f"{self.low}+"
        return str(self.low) if self.end == self.low + 1 else f"{self.low}-{self.end - 1}"

    def holds(self, counts: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
        """(L,) whether concepts of so many images are in it."""
        return (counts >= self.low) & (True if self.end is None else counts < self.end)


def frequency_buckets(edges: Sequence[int] = FREQUENCIES) -> tuple[FrequencyBucket, ...]:
    """Buckets that begin at these numbers of images, ascending; the last one is open."""
    ends = (*edges[1:], None)
    return tuple(FrequencyBucket(low=low, end=end) for low, end in zip(edges, ends, strict=True))


def frequency_bucket_of(counts: npt.NDArray[np.integer]) -> npt.NDArray[np.intp]:
    """Number of the bucket of concepts with so many training images; -1 for none."""
    return np.searchsorted(FREQUENCIES, counts, side="right").astype(np.intp) - 1


@dataclass(frozen=True)
class LabelSpace:
    """An ordered list of distinct CUIs; column i of any matrix made in it means `cuis[i]`.

    Raises:
        LabelSpaceError: a CUI stands twice, or is empty or has blanks at its ends.

    Example:
        >>> LabelSpace.of([("C2", "C1"), ("C2",)]).cuis
        ('C1', 'C2')
    """

    cuis: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self._index) != len(self.cuis):
            twice = first_few(repeated(self.cuis))
            raise LabelSpaceError(f"concepts stand twice in the label space: {twice}")
        if bad := [cui for cui in self.cuis if not cui or cui != cui.strip()]:
            raise LabelSpaceError(f"empty or padded concepts in the label space: {first_few(bad)}")

    @classmethod
    def of(cls, concept_sets: Iterable[Iterable[str]]) -> "LabelSpace":
        """The space of all concepts that occur, sorted alphabetically as the task's teams do."""
        return cls(tuple(sorted({cui for concepts in concept_sets for cui in concepts})))

    def __len__(self) -> int:
        return len(self.cuis)

    def __contains__(self, cui: str) -> bool:
        return cui in self._index

    @cached_property
    def _index(self) -> dict[str, int]:
        return {cui: column for column, cui in enumerate(self.cuis)}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the ordered CUIs, 64 hex digits."""
        return hashlib.sha256("\n".join(self.cuis).encode()).hexdigest()

    def columns(self, cuis: Sequence[str]) -> npt.NDArray[np.intp]:
        """Columns of these concepts, in their order.

        Raises:
            LabelSpaceError: a concept is not in this space.
        """
        if unknown := [cui for cui in cuis if cui not in self._index]:
            raise LabelSpaceError(
                f"{len(unknown)} of {len(cuis)} concepts are not in the label space of"
                f" {len(self)}: {first_few(unknown)}"
            )
        return np.array([self._index[cui] for cui in cuis], dtype=np.intp)

    def encode(self, concept_sets: Sequence[Iterable[str]]) -> "Targets":
        """Multi-hot matrix of concept sets; concepts outside this space are counted, not lost."""
        columns: list[int] = []
        indptr = np.zeros(len(concept_sets) + 1, dtype=np.int32)
        n_outside = np.zeros(len(concept_sets), dtype=np.int32)
        for row, concepts in enumerate(concept_sets):
            distinct = set(concepts)
            inside = sorted(self._index[cui] for cui in distinct if cui in self._index)
            columns += inside
            indptr[row + 1] = len(columns)
            n_outside[row] = len(distinct) - len(inside)
        indices = np.array(columns, dtype=np.int32)
        shape = (len(concept_sets), len(self))
        matrix = csr_array((np.ones(len(columns), dtype=np.bool_), indices, indptr), shape=shape)
        return Targets(matrix=matrix, n_outside=n_outside)

    def decode(self, decided: csr_array) -> list[Concepts]:
        """Concept set of each row of a boolean (N, L) matrix, in column order."""
        ordered = decided.sorted_indices()
        ordered.eliminate_zeros()
        bounds = zip(ordered.indptr[:-1], ordered.indptr[1:], strict=True)
        return [tuple(self.cuis[i] for i in ordered.indices[a:b]) for a, b in bounds]

    def save(self, path: Path) -> None:
        """Write one CUI a line."""
        write_lines(path, self.cuis)

    @classmethod
    def load(cls, path: Path) -> "LabelSpace":
        """Read one CUI a line.

        Raises:
            LabelSpaceError: the file is missing or a line is empty, padded or stands twice.
        """
        try:
            return cls(read_lines(path))
        except PredictionsError as error:
            raise LabelSpaceError(str(error)) from None


@dataclass(frozen=True)
class Targets:
    """True concepts of N images in a label space of L, with what the space cannot express.

    Attributes:
        matrix: (N, L) boolean, CSR with sorted columns.
        n_outside: (N,) number of true concepts outside the space: always missed, never forgotten
            by a score.
    """

    matrix: csr_array
    n_outside: npt.NDArray[np.int32]

    def __post_init__(self) -> None:
        assert self.n_outside.shape == (self.matrix.shape[0],)

    def __len__(self) -> int:
        return int(self.matrix.shape[0])

    def rows(self, index: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> "Targets":
        """The targets of some rows."""
        return Targets(matrix=self.matrix[index], n_outside=self.n_outside[index])

    @property
    def n_true(self) -> npt.NDArray[np.int64]:
        """(N,) number of true concepts, those outside the space included."""
        return np.diff(self.matrix.indptr).astype(np.int64) + self.n_outside
