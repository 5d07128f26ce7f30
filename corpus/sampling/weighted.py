"""How much an image counts, and draws without replacement that go by it."""

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from core.metrics import column_sums
from corpus.sampling.candidates import Numbers, Rows

REPEAT_THRESHOLD = 0.02
"""Share of the images from which on a concept is frequent enough, for `repeat_factors`.

LVIS has 0.001, of 100,000 images; of some thousand that is no concept at all."""


def draw(weights: Numbers, n: int, *, rng: np.random.Generator) -> Rows:
    """Rows drawn without replacement, each time with chances that are as the weights left.

    Row i has the key E_i / w_i, E_i exponential; the n smallest keys are the draw, in its order
    (Efraimidis and Spirakis 2006). Rows of weight 0 come last.

    Args:
        weights: (N,) 0 or more.
        n: at most N.
        rng: told N numbers of.

    Raises:
        ValueError: n is larger than N, or a weight is negative or not finite.
    """
    if n > len(weights) or not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError(f"draw: {n} of {len(weights)} rows, weights of 0 or more")
    keys = rng.exponential(size=len(weights))
    ties = rng.random(len(weights))
    keys = np.divide(keys, weights, out=np.full(len(weights), np.inf), where=weights > 0)
    return np.lexsort((ties, keys))[:n]


def inverse_frequency(targets: csr_array) -> Numbers:
    """(N,) one over the number of images that have the image's rarest concept.

    An image without concepts counts as if it had one that all have.
    """
    return _highest_of_concepts(targets, 1 / np.maximum(column_sums(targets), 1))


def repeat_factors(targets: csr_array, *, threshold: float = REPEAT_THRESHOLD) -> Numbers:
    """(N,) how often LVIS would repeat each image in an epoch.

        r_i = max over its concepts c of  max(1, sqrt(threshold / f_c))

    f_c is the share of the images that have c; 1 for an image without concepts.

    Source: Gupta, Dollar and Girshick, LVIS, CVPR 2019.
    """
    shares = np.maximum(column_sums(targets), 1) / max(targets.shape[0], 1)
    factors = _highest_of_concepts(targets, np.sqrt(threshold / shares))
    return np.maximum(factors, 1)


def _highest_of_concepts(targets: csr_array, values: npt.NDArray[np.float64]) -> Numbers:
    """(N,) the highest value of each image's concepts; 1 / N for an image without any."""
    n = targets.shape[0]
    highest = np.full(n, 1 / max(n, 1))
    of_image = np.repeat(np.arange(n), np.diff(targets.indptr))
    np.maximum.at(highest, of_image, values[targets.indices])
    return highest
