"""Concepts asked for by their names: a linear map from pooled features into a text space.

The score of a concept is the product of the mapped image and the concept's point, as that of a
caption is in contrastive models; so a concept that few training images have, or none, is scored by
what images with similar names look like.
"""

import numpy as np
from scipy.sparse import csr_array
from torch import Tensor

from core.metrics import column_sums
from fusion.config import FuseConfig
from fusion.inputs.gather import FusionInputs
from fusion.inputs.tensors import Training
from fusion.networks.train import answered
from fusion.result import Earlier, FusedResult
from fusion.words.calibration import Array, NamedConcepts, NamedTraining, NameScorer
from training.config import FitConfig
from training.predict import Rows
from training.texts.spaces import HASHED, N_NUMBERS, Points, hashed_space, sentence_space

WORDS = "words"
"""Name of the strategy."""

RANK = 512
"""Principal components of the features that are mapped."""

PENALTY = 1.0
"""Of a query's squared length, for each training image."""

_OWN = 1.0
"""What a concept learns for itself beside what it shares with similar names, whose most is 1."""


def similar_names(points: Points) -> Array:
    """(L, L) cosine of names, with what each learns for itself on the diagonal."""
    return points @ points.T + _OWN * np.eye(len(points))


def fit_queries(features: Array, targets: csr_array, *, similarity: Array, penalty: float) -> Array:
    """(D, L) weights of concepts that share what they learn as far as their names are similar.

        W = argmin |Y - X W|^2 + penalty trace(W K^-1 W^T)

    over the concepts that a training image has, K their similarity. In the bases of X^T X = V e V^T
    and K = U m U^T each entry is one division:

        A = V [V^T X^T Y U / (e m + penalty)] U^T    and    W = A K

    The columns of K to all other concepts give the weights of those: what has no image is unknown,
    not absent. With K the identity this is ridge regression.

    Args:
        features: (N, D) of training images; a constant is taken from them.
        targets: (N, L) boolean, likewise.
        similarity: (L, L) positive semi-definite.
        penalty: above 0.

    Source: one kernel of tasks and one of images (Bonilla, Chai and Williams, NIPS 2007); a linear
        map between images and descriptions of classes (Romera-Paredes and Torr, ICML 2015).
    """
    counts = column_sums(targets)
    seen = np.flatnonzero(counts)
    centred = features - features.mean(axis=0)
    both: Array = (targets.astype(np.float64).T @ centred)[seen].T
    e, v = np.linalg.eigh(centred.T @ centred)
    m, u = np.linalg.eigh(similarity[np.ix_(seen, seen)])
    shared = (v.T @ both @ u) / (np.outer(e.clip(0), m.clip(0)) + penalty)
    weights: Array = v @ (shared @ (u.T @ similarity[seen]))
    return weights


class WordQueries(NamedConcepts):
    """Names held against standardised features."""

    def __init__(self, train: Training, config: FitConfig) -> None:
        super().__init__(train, config)
        self.standardise = train.standardise()

    def seen(self, features: Tensor) -> Tensor:
        """(B, D) standardised."""
        found: Tensor = self.standardise(features)
        return found


def _queries(images: NamedTraining, config: FuseConfig) -> NameScorer:
    """Weights by which concepts are scored that share what they learn."""
    standard = images.seen()
    _, v = np.linalg.eigh(standard[images.rows].T @ standard[images.rows])
    basis: Array = v[:, -RANK:]
    components: Array = standard[images.rows] @ basis
    sentences = None if config.text == HASHED else sentence_space(images.names, model=config.text)

    def weights(chosen: Rows) -> Array:
        targets, points = images.targets[chosen], sentences
        if points is None:
            points = hashed_space(images.names, targets, n_numbers=N_NUMBERS, seed=config.seed)
        return fit_queries(
            components[chosen],
            targets,
            similarity=similar_names(points),
            penalty=PENALTY * len(chosen),
        )

    return NameScorer(components=components, weights=weights, basis=basis)


def words(fusion_inputs: FusionInputs, config: FuseConfig, *, earlier: Earlier) -> FusedResult:
    """Queries by name: of concepts with few training images too, or none."""
    images = NamedTraining(WORDS, fusion_inputs, config=config, network=WordQueries)
    model = images.taught(_queries(images, config))
    return answered(WORDS, [model], fusion_inputs=fusion_inputs)
