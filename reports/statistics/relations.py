"""How concepts and categories hang together: constant, exclusive, shared; mutual information."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.special import gammaln, xlogy

from core.categories import CATEGORIES
from core.editions import EmptyTruth
from core.labels import LabelSpace, Targets
from core.metrics import Interval, bootstrap, column_sums, image_f1
from core.prior import CategoryPrior
from reports.statistics.labels import Counts, LabelledImages

Numbers = npt.NDArray[np.float64]

KINDS = ("constant and exclusive", "constant and shared", "exclusive", "shared")
"""What a concept can be to the categories; each is exactly one of them."""


@dataclass(frozen=True, kw_only=True)
class Relation:
    """Concepts and categories on the N images that have a category.

    Attributes:
        labels: L concepts.
        categories: C categories with images.
        n_images: (C,) images of each.
        n_both: (C, L) images of the category with the concept.
        constant: (C, L) whether the concept stands on every image of a category that is large
            enough to say so.
        n_left_out: images without a category.
    """

    labels: LabelSpace
    categories: tuple[str, ...]
    n_images: Counts
    n_both: Counts
    constant: npt.NDArray[np.bool_]
    n_left_out: int

    @cached_property
    def support(self) -> Counts:
        """(L,) images with each concept."""
        return np.asarray(self.n_both.sum(axis=0))

    @cached_property
    def shares(self) -> Numbers:
        """(C, L) share of a category's images with the concept."""
        return np.asarray(self.n_both / self.n_images[:, None])

    @cached_property
    def kinds(self) -> npt.NDArray[np.intp]:
        """(L,) numbers in `KINDS`, -1 for a concept of no image here.

        Exclusive: on images of one category only.
        """
        shared = (self.n_both > 0).sum(axis=0) > 1
        kinds = np.where(self.constant.any(axis=0), 0, 2) + shared
        return np.where(self.support > 0, kinds, -1)

    @cached_property
    def bits(self) -> Numbers:
        """(L,) mutual information of concept and category, in bits.

        I = sum over x in {0, 1}, c of p(x, c) log2 (p(x, c) / (p(x) p(c)))
        """
        n, absent = self.n_images.sum(), self.n_images[:, None] - self.n_both
        cells = _cell(self.n_both, self.support, self.n_images[:, None], n)
        cells += _cell(absent, n - self.support, self.n_images[:, None], n)
        return np.asarray(np.maximum(cells.sum(axis=0), 0.0))

    @cached_property
    def chance(self) -> Numbers:
        """(L,) bits to be expected if categories were dealt to the images at random."""
        return expected_bits(self.support, self.n_images)

    @cached_property
    def entropy(self) -> Numbers:
        """(L,) bits of the concept itself: what there is to be told."""
        p = self.support / self.n_images.sum()
        return np.asarray(-(xlogy(p, p) + xlogy(1 - p, 1 - p)) / np.log(2))

    @cached_property
    def told(self) -> Numbers:
        """(L,) share of the concept that its category tells, above chance.

            (I - E[I]) / (H - E[I])

        1 where the category decides the concept, about 0 where it says nothing; NaN for a concept
        on every image or on none.
        """
        rest = self.entropy - self.chance
        informative = rest > 1e-12
        return np.where(
            informative, (self.bits - self.chance) / np.where(informative, rest, 1.0), np.nan
        )

    @cached_property
    def expected_exclusive(self) -> float:
        """Exclusive concepts to be expected if categories were dealt to the images at random.

        A concept of s images falls into one category with probability
        sum over c of (n_c choose s) / (N choose s); rare concepts do so for no other reason.
        """
        here = self.support[self.support > 0]
        ways = _log_choose(self.n_images[:, None], here) - _log_choose(self.n_images.sum(), here)
        return float(np.exp(ways).sum())


def relate(images: LabelledImages, *, at_least: int = 20) -> Relation | None:
    """How the concepts of images hang together with their categories.

    Args:
        images: the training images, on which the category prior is counted too.
        at_least: images that a category must have for a concept to be called constant in it.

    Returns:
        None where the images have fewer than two categories.
    """
    given = np.array(images.table.categories, dtype=np.str_)
    known = np.isin(given, CATEGORIES)
    images, given = images.take(known), given[known]
    names = tuple(name for name in CATEGORIES if (given == name).any())
    if len(names) < 2:
        return None
    prior = CategoryPrior.of(images.table, images.labels)
    constant = np.zeros((len(names), len(images.labels)), dtype=np.bool_)
    for row, name in enumerate(names):
        constant[row, images.labels.columns(prior.constant(name, at_least=at_least))] = True
    members = np.array([given == name for name in names])
    return Relation(
        labels=images.labels,
        categories=names,
        n_images=members.sum(axis=1, dtype=np.int64),
        n_both=np.stack([column_sums(images.matrix[rows]) for rows in members]),
        constant=constant,
        n_left_out=int((~known).sum()),
    )


def constant_f1(
    relation: Relation, images: LabelledImages, *, empty_truth: EmptyTruth
) -> Interval | None:
    """Sample F1 of images that get the constant concepts of their category and nothing else.

    Args:
        relation: counted on other images.
        images: in the label space of the relation.
        empty_truth: what an image without true concepts scores.

    Returns:
        Mean and interval over groups; None where no image counts.
    """
    row_of = {name: row for row, name in enumerate(relation.categories)}
    known = [row for row, name in enumerate(images.table.categories) if name in row_of]
    which = [row_of[images.table.categories[row]] for row in known]
    shape = (len(images), len(relation.categories))
    one_hot = csr_array((np.ones(len(known), dtype=np.int8), (known, which)), shape=shape)
    decided = csr_array(one_hot @ csr_array(relation.constant.astype(np.int8))).astype(np.bool_)
    targets = Targets(matrix=images.matrix, n_outside=np.zeros(len(images), dtype=np.int32))
    scores = image_f1(targets, decided, empty_truth=empty_truth)
    return None if np.isnan(scores).all() else bootstrap(scores, groups=images.table.groups)


def expected_bits(support: Counts, n_images: Counts) -> Numbers:
    """Mutual information to be expected by chance, exactly.

    Were the categories dealt to the images at random, a category of n of N images would hold k of
    the s images of a concept with the hypergeometric probability of k; the expectation is taken
    over it, cell by cell. Miller and Madow's (C - 1) / (2 N ln 2) is its limit for frequent
    concepts, and far too much or too little for the rare ones. Images of one group are taken for
    independent, so with many images a group chance reaches higher than this.

    Source: Vinh, Epps, Bailey, Information Theoretic Measures for Clusterings Comparison, JMLR
    2010, section 3.

    Args:
        support: (L,) images of each concept.
        n_images: (C,) images of each category.

    Returns:
        (L,) bits.
    """
    n = int(n_images.sum())
    values, place = np.unique(support, return_inverse=True)
    expected = np.zeros(len(values))
    for row, s in enumerate(values.tolist()):
        for size in n_images.tolist():
            k = np.arange(max(0, s + size - n), min(s, size) + 1)
            ways = _log_choose(size, k) + _log_choose(n - size, s - k) - _log_choose(n, s)
            cells = _cell(k, s, size, n) + _cell(size - k, n - s, size, n)
            expected[row] += np.exp(ways) @ cells
    return np.asarray(np.maximum(expected, 0.0)[place])


def _cell(
    n_both: npt.ArrayLike, n_first: npt.ArrayLike, n_second: npt.ArrayLike, n: int
) -> Numbers:
    """n_both / n log2(n n_both / (n_first n_second)), 0 where there is nothing in common."""
    both = np.asarray(n_both, dtype=np.float64)
    product = np.asarray(n_first, dtype=np.float64) * np.asarray(n_second, dtype=np.float64)
    ratio = np.where(both > 0, n * both / np.maximum(product, 1.0), 1.0)
    return np.asarray(both / n * np.log2(ratio))


def _log_choose(n: npt.ArrayLike, k: npt.ArrayLike) -> Numbers:
    """Natural logarithm of (n choose k); minus infinity where k is more than n."""
    top, chosen = np.broadcast_arrays(np.asarray(n, dtype=float), np.asarray(k, dtype=float))
    rest = np.maximum(top - chosen, 0.0)
    ways = gammaln(top + 1) - gammaln(chosen + 1) - gammaln(rest + 1)
    return np.asarray(np.where(chosen <= top, ways, -np.inf))
