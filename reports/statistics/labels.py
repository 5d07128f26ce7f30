"""What a corpus holds, in numbers: images by category, labels, concepts an image."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from core.categories import CATEGORIES, UNKNOWN
from core.errors import CorpusError
from core.images import SPLITS, ImageTable
from core.labels import LabelSpace
from core.metrics import column_sums, row_sums

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """N images whose concepts are known, and these as a matrix.

    Attributes:
        table: the images.
        labels: every concept of the corpus, of train and of valid, sorted.
        matrix: (N, L) boolean.
    """

    table: ImageTable
    labels: LabelSpace
    matrix: csr_array

    @classmethod
    def of(cls, table: ImageTable) -> "LabelledImages":
        """The labelled images of a corpus: train and valid, since readers leave test unlabelled.

        Raises:
            CorpusError: no image has a concept.
        """
        known = table.take(table.labelled)
        labels = LabelSpace.of(concepts or () for concepts in known.concepts)
        if not len(labels):
            raise CorpusError(
                f"none of {len(table):,} images has a concept; check the concept lists"
            )
        return cls(table=known, labels=labels, matrix=known.targets(labels).matrix)

    def __len__(self) -> int:
        return len(self.table)

    def split(self, name: str) -> "LabelledImages":
        """The images of one split, in the same label space."""
        return self.take(np.array(self.table.splits, dtype=np.str_) == name)

    def take(self, keep: npt.NDArray[np.bool_]) -> "LabelledImages":
        """The images that a mask keeps, in the same label space."""
        return LabelledImages(
            table=self.table.take(keep), labels=self.labels, matrix=self.matrix[keep]
        )

    @cached_property
    def splits(self) -> tuple[str, ...]:
        """Splits with labelled images, in the usual order."""
        return tuple(split for split in SPLITS if split in self.table.splits)

    @cached_property
    def support(self) -> Counts:
        """(L,) images with each concept."""
        return column_sums(self.matrix)

    @cached_property
    def n_concepts(self) -> Counts:
        """(N,) concepts of each image."""
        return row_sums(self.matrix)

    @cached_property
    def membership(self) -> csr_array:
        """(G, N) which images belong to which group (a patient, a study)."""
        numbers = np.unique(np.array(self.table.groups, dtype=np.str_), return_inverse=True)[1]
        ones = np.ones(len(self), dtype=np.int64)
        return csr_array((ones, (numbers, np.arange(len(self)))))

    def most_frequent(self, n: int) -> npt.NDArray[np.intp]:
        """Columns of the n concepts on most images, the most frequent first; ties by CUI."""
        columns = np.argsort(-self.support, kind="stable")[:n]
        return columns[self.support[columns] > 0]


@dataclass(frozen=True, kw_only=True)
class ImageCounts:
    """Images by split and category (Table 2 of the paper).

    Attributes:
        splits: S splits with images.
        categories: C categories with images; `UNKNOWN` last, for images without one.
        n_images: (S, C).
    """

    splits: tuple[str, ...]
    categories: tuple[str, ...]
    n_images: Counts

    @classmethod
    def of(cls, table: ImageTable) -> "ImageCounts":
        """Count all images, labelled or not."""
        splits = tuple(split for split in SPLITS if split in table.splits)
        names = tuple(name for name in (*CATEGORIES, UNKNOWN) if name in table.categories)
        there = np.array(table.splits, dtype=np.str_), np.array(table.categories, dtype=np.str_)
        n_images = [[np.sum((there[0] == s) & (there[1] == c)) for c in names] for s in splits]
        return cls(splits=splits, categories=names, n_images=np.array(n_images, dtype=np.int64))

    @property
    def known(self) -> tuple[str, ...]:
        """The categories that have a name."""
        return tuple(name for name in self.categories if name != UNKNOWN)


@dataclass(frozen=True, kw_only=True)
class LabelSummary:
    """How many concepts images have.

    Attributes:
        n_images: labelled images.
        n_without: those known to have no concept.
        n_assignments: pairs of an image and one of its concepts.
        n_concepts: distinct concepts.
        cardinality: LC = mean over images of |Y_i|, images without a concept included.
        density: LD = mean over images of |Y_i| / |L|, |L| the distinct concepts of the corpus.
        median: of |Y_i|.
        largest: of |Y_i|.
    """

    n_images: int
    n_without: int
    n_assignments: int
    n_concepts: int
    cardinality: float
    density: float
    median: float
    largest: int


def summarise(images: LabelledImages) -> LabelSummary:
    """Label cardinality and density.

        LC(D) = 1 / |D| sum_i |Y_i|        LD(D) = 1 / |D| sum_i |Y_i| / |L|

    Source: Tsoumakas, Katakis, Vlahavas, Mining Multi-label Data, 2010; formulas 3 and 4 of the
    iml paper, which counts them on train and valid together.
    """
    cardinality = float(images.n_concepts.mean())
    return LabelSummary(
        n_images=len(images),
        n_without=int((images.n_concepts == 0).sum()),
        n_assignments=int(images.n_concepts.sum()),
        n_concepts=int((images.support > 0).sum()),
        cardinality=cardinality,
        density=cardinality / len(images.labels),
        median=float(np.median(images.n_concepts)),
        largest=int(images.n_concepts.max()),
    )


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Images by their number of concepts, cut where figures end.

    Attributes:
        n_images: (cut + 1,) images with exactly 0, 1, ... `cut` concepts.
        n_beyond: images with more.
        n_total: all of them.
        largest: most concepts of an image.
        mean: concepts an image.
    """

    n_images: Counts
    n_beyond: int
    n_total: int
    largest: int
    mean: float


def histogram(images: LabelledImages, *, cut: int = 50) -> Histogram:
    """How many images have how many concepts; the paper cuts its Figures 4 and 5 at 50."""
    counts = np.bincount(images.n_concepts, minlength=cut + 1).astype(np.int64)
    return Histogram(
        n_images=counts[: cut + 1],
        n_beyond=int(counts[cut + 1 :].sum()),
        n_total=len(images),
        largest=int(images.n_concepts.max()),
        mean=float(images.n_concepts.mean()),
    )
