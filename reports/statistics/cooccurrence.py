"""Which concepts stand together, and which more often than chance would have them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.sparse import coo_array, csr_array, triu
from scipy.spatial.distance import squareform

from reports.statistics.labels import Counts, LabelledImages

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ConceptPairs:
    """P pairs of concepts that stand together on enough images.

    Attributes:
        first, second: (P,) columns of the concepts; `first` is the smaller one.
        n_images: (P,) images with both.
        n_groups: (P,) groups (patients, studies) in which both occur.
        lift: (P,) how many times more often than if the two were independent.

            lift = n_both N / (n_first n_second)        PMI = log2 lift
    """

    first: npt.NDArray[np.intp]
    second: npt.NDArray[np.intp]
    n_images: Counts
    n_groups: Counts
    lift: Numbers

    def __len__(self) -> int:
        return len(self.first)

    def top(self, by: Counts | Numbers, n: int) -> npt.NDArray[np.intp]:
        """Numbers of the n pairs with the largest values; ties by images in common, then CUI."""
        return np.lexsort((self.second, self.first, -self.n_images, -by))[:n]


def count_pairs(
    images: LabelledImages, *, at_least: int = 20, groups_at_least: int = 5
) -> ConceptPairs:
    """Pairs of concepts on at least so many images of at least so many groups.

    The floors keep out what one patient with many images, or a handful of them, makes look like a
    law: the lift of two concepts on the same single image is N.
    """
    together = _in_common(images.matrix)
    frequent = together.data >= at_least
    first, second = (side[frequent].astype(np.intp) for side in (together.row, together.col))
    by_group = csr_array((images.membership @ images.matrix.astype(np.int64)).astype(np.bool_))
    groups = csr_array(_in_common(by_group))
    n_groups = np.zeros(len(first), dtype=np.int64)
    if len(first):  # no index at all would give a matrix
        n_groups[:] = groups[first, second]
    keep = n_groups >= groups_at_least
    first, second, n_images = first[keep], second[keep], together.data[frequent][keep]
    support = images.support.astype(np.float64)
    return ConceptPairs(
        first=first,
        second=second,
        n_images=n_images,
        n_groups=n_groups[keep],
        lift=n_images * len(images) / (support[first] * support[second]),
    )


def conditional(images: LabelledImages, columns: npt.NDArray[np.intp]) -> Numbers:
    """(K, K) share of the images with the concept of the row that have that of the column."""
    part = images.matrix[:, columns].astype(np.int64)
    both = (part.T @ part).toarray()
    return np.asarray(both / np.diag(both)[:, None])


def cluster_order(images: LabelledImages, columns: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Columns reordered so that concepts that occur together stand next to each other.

    Average linkage of 1 - |A and B| / |A or B|, leaves in the order that keeps neighbours closest.
    """
    if len(columns) < 3:
        return columns
    part = images.matrix[:, columns].astype(np.int64)
    both = (part.T @ part).toarray()
    support = np.diag(both)
    distance = 1.0 - both / (support[:, None] + support[None, :] - both)
    np.fill_diagonal(distance, 0.0)
    tree = linkage(squareform(distance, checks=False), method="average", optimal_ordering=True)
    return np.asarray(columns[leaves_list(tree)])


def _in_common(matrix: csr_array) -> coo_array:
    """Rows in common of every two different columns, upper triangle."""
    statistics = matrix.astype(np.int64)
    return coo_array(triu(csr_array(statistics.T @ statistics), k=1))
