"""Which images stand for the same, which are never left out, and how many of each are kept."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from core.metrics import column_sums
from corpus.sampling.candidates import Mask, Numbers

Strata = npt.NDArray[np.intp]

DOMINANT = 0.1
"""Share of the images of a category from which on a concept is one of its dominant ones."""


def of_categories(categories: Sequence[str]) -> Strata:
    """(N,) number of each image's category, from 0 on, in the order of their names."""
    return np.unique(np.array(categories, dtype=np.str_), return_inverse=True)[1].astype(np.intp)


def of_dominant_sets(
    categories: Sequence[str], targets: csr_array, *, share: float = DOMINANT
) -> Strata:
    """(N,) number of each image's category together with its dominant concepts.

    Dominant concepts of a category stand on at least that share of its images. Images of a category
    that have the same of them show the same to most eyes: they are what a corpus has too many of.

    Args:
        categories: of the N images.
        targets: (N, L) boolean, CSR with sorted columns.
        share: in (0, 1].
    """
    kinds = of_categories(categories)
    keys = []
    dominant = {}
    for kind in np.unique(kinds).tolist():
        own = targets[np.flatnonzero(kinds == kind)]
        dominant[kind] = column_sums(own) >= share * own.shape[0]
    for row, kind in enumerate(kinds.tolist()):
        columns = targets.indices[targets.indptr[row] : targets.indptr[row + 1]]
        keys.append((kind, tuple(columns[dominant[kind][columns]].tolist())))
    numbers = {key: number for number, key in enumerate(sorted(set(keys)))}
    return np.array([numbers[key] for key in keys], dtype=np.intp)


def with_rare_concepts(targets: csr_array, *, rare: int) -> Mask:
    """(N,) images that have a concept of at most so many images: they are never left out.

    Args:
        targets: (N, L) boolean, CSR.
        rare: images; 0 for no image.
    """
    is_rare = column_sums(targets) <= rare
    of_image = np.repeat(np.arange(targets.shape[0]), np.diff(targets.indptr))
    found = np.zeros(targets.shape[0], dtype=np.bool_)
    found[of_image[is_rare[targets.indices]]] = True
    return found


def shares_of_strata(
    sizes: npt.NDArray[np.integer],
    n: int,
    *,
    least: npt.NDArray[np.integer],
    power: float = 1.0,
) -> npt.NDArray[np.intp]:
    """How many images of each stratum are kept: n together.

    Number s is as size_s ** power, no less than what it must keep and no more than there is. The
    power 1 keeps an equal share of each, 0 an equal number: large strata are thinned most.

    Args:
        sizes: (S,) images of each stratum.
        n: images that are kept.
        least: (S,) images of each that must be.
        power: 0 to 1.

    Returns:
        (S,), of sum n, or the sum of `least` where that is more. Rounding goes by the largest
        remainder, of equal ones by the first.

    Example:
        >>> sizes, none = np.array([80, 16, 4]), np.zeros(3, dtype=int)
        >>> shares_of_strata(sizes, 50, least=none).tolist()
        [40, 8, 2]
        >>> shares_of_strata(sizes, 50, least=none, power=0.0).tolist()
        [30, 16, 4]
        >>> shares_of_strata(sizes, 50, least=np.array([0, 0, 4])).tolist()
        [38, 8, 4]
    """
    n = min(max(n, int(least.sum())), int(sizes.sum()))
    raised = np.power(sizes, power, dtype=np.float64)

    def kept(scale: float) -> Numbers:
        bounded: Numbers = np.clip(scale * raised, least, sizes)
        return bounded

    low, high = 0.0, float((sizes / np.maximum(raised, 1e-300)).max(initial=0)) + 1
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if kept(middle).sum() < n else (low, middle)
    exact = kept(high)
    whole = np.floor(exact + 1e-9).astype(np.intp)
    remainders = np.where(whole < sizes, exact - whole, -1.0)
    most = np.argsort(-remainders, kind="stable")[: n - int(whole.sum())]
    whole[most] += 1
    return whole
