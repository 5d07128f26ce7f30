"""What a quick head says of images that it was not fitted on: how unsure it is, how wrong.

The head is a ridge regression of the concepts on standardised features, solved in closed form: a
second for thousands of images. It is fitted without a fold and asked about that fold, among the
candidates alone. A detector that was trained before cannot take its place under cross-fitting: what
it says of an image out of fold was learnt from the very fold that is to be predicted.
"""

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_array

from core.folds import cross_fitted, in_order
from corpus.sampling.candidates import CandidateImages, Floats, Numbers

_PENALTY = 1.0
"""On the weights, as a multiple of the mean of the features' sums of squares."""

_SURE = 0.005  # least and most of a probability: a regression's answers pass 0 and 1

_FEWEST = 2


def out_of_fold(candidates: CandidateImages) -> Floats:
    """(N, L) probabilities by heads that did not meet the image's fold.

    Where all images are of one fold, they are dealt into five by their place.

    Raises:
        ValueError: there are no features.
    """
    features = candidates.units()
    folds = candidates.folds
    if len(np.unique(folds)) < _FEWEST:
        folds = np.arange(len(candidates)) % min(5, max(len(candidates), _FEWEST))
    found = cross_fitted(
        lambda others: _fitted(features[others], candidates.targets[np.flatnonzero(others)]),
        lambda head, held_out: _answers(head, features[held_out]),
        folds=folds,
    )
    return in_order(found)


_Head = tuple[Floats, Floats, Floats]


def _fitted(features: Floats, targets: csr_array) -> _Head:
    """Mean of the features, weights (D, L) and mean of the targets."""
    mean = features.mean(axis=0)
    centred = features - mean
    wanted = targets.toarray().astype(np.float32)
    base = wanted.mean(axis=0)
    n, dim = centred.shape
    is_wide = dim > n
    gram = centred @ centred.T if is_wide else centred.T @ centred
    gram[np.diag_indices_from(gram)] += _PENALTY * max(float(np.trace(gram)) / dim, 1e-6)
    factor = cho_factor(gram, lower=True, overwrite_a=True)
    if is_wide:
        weights = centred.T @ cho_solve(factor, wanted - base)
    else:
        weights = cho_solve(factor, centred.T @ (wanted - base))
    return mean, weights.astype(np.float32), base


def _answers(head: _Head, features: Floats) -> Floats:
    mean, weights, base = head
    answers: Floats = np.clip((features - mean) @ weights + base, _SURE, 1 - _SURE)
    return answers


def uncertainty(probs: Floats) -> Numbers:
    """(N,) entropy of each image's concepts, taken one by one and added up, in nats."""
    p = probs.astype(np.float64)
    entropy: Numbers = -(p * np.log(p) + (1 - p) * np.log1p(-p)).sum(axis=1)
    return entropy


def cross_entropy(probs: Floats, targets: csr_array) -> Numbers:
    """(N,) how much each image's true concepts surprise, added up, in nats."""
    p = probs.astype(np.float64)
    absent = -np.log1p(-p).sum(axis=1)
    of_image = np.repeat(np.arange(len(p)), np.diff(targets.indptr))
    own = p[of_image, targets.indices]
    present = np.bincount(of_image, np.log1p(-own) - np.log(own), minlength=len(p))
    losses: Numbers = absent + present
    return losses
