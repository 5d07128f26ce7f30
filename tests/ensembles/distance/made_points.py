"""Images as points around centres: sources that lie apart, with concepts of their own."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from core.labels import Targets
from ensembles.distance.features import N_DIRECTIONS, Floats
from ensembles.distance.left_out import LabelledPoints
from ensembles.pairs import to_csr

N_CONCEPTS = 6


def around(n: int, *, centre: int, seed: int, noise: float = 0.6, shift: float = 0.0) -> Floats:
    """(n, `N_DIRECTIONS`) points of length 1 around one of some centres, or off it by a shift."""
    drawn = np.random.default_rng(1000 + centre).standard_normal((2, N_DIRECTIONS))
    middle = drawn[0] + shift * drawn[1]
    points = middle + noise * np.random.default_rng(seed).standard_normal((n, N_DIRECTIONS))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return np.asarray(points, dtype=np.float32)


def labelled(
    parts: Sequence[tuple[str, int, int, int]], *, seed: int = 0, pairs_of: int = 2
) -> LabelledPoints:
    """Sources beside each other; of three common concepts and three rare ones, some on each image.

    Args:
        parts: category, number of the source, centre of its points, and images.
        pairs_of: images of a group.
    """
    rng = np.random.default_rng(seed)
    points, categories, sources, true = [], [], [], []
    for number, (category, source, centre, n) in enumerate(parts):
        points.append(around(n, centre=centre, seed=100 * seed + number))
        categories += [category] * n
        sources += [source] * n
        own = np.where(np.arange(N_CONCEPTS) % 3 == centre % 3, 0.8, 0.25)
        true.append(rng.random((n, N_CONCEPTS)) < own)
    matrix: npt.NDArray[np.bool_] = np.concatenate(true)
    n_images = len(matrix)
    rows, columns = np.nonzero(matrix)
    return LabelledPoints(
        points=np.concatenate(points),
        categories=categories,
        groups=[f"g{i // pairs_of}" for i in range(n_images)],
        folds=np.arange(n_images) // pairs_of % 4,
        targets=Targets(
            matrix=to_csr(rows.astype(np.int32), columns.astype(np.int32), shape=matrix.shape),
            n_outside=np.zeros(n_images, dtype=np.int32),
        ),
        sources=np.array(sources, dtype=np.intp),
        source_names=[f"site {number}" for number in range(max(sources) + 1)],
    )
