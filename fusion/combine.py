"""Answers made of answers: constant concepts made sure, a network's with its neighbours' votes."""

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from core.categories import CATEGORIES
from core.predictions import Probs
from core.prior import CategoryPrior

_CLIP = 1e-3
"""No probability counts as surer: a concept that no neighbour has is not impossible."""


def with_constants(
    probs: Probs, likely: npt.NDArray[np.float32], prior: CategoryPrior, *, at_least: int
) -> Probs:
    """The probabilities with constant concepts at least as sure as the category.

    A concept that stands on all training images of a category is one of every image of it, whatever
    a network sees.

    Args:
        probs: (N, L).
        likely: (N, 7) certainty of each category: 1 where it is known.
        prior: says what is constant.
        at_least: training images that a category needs.
    """
    sure = np.zeros_like(probs)
    for column, category in enumerate(CATEGORIES):
        constant = prior.labels.columns(prior.constant(category, at_least=at_least))
        sure[:, constant] += likely[:, [column]]
    return np.maximum(probs, np.minimum(sure, 1))


def blend(first: Probs, second: Probs, share: float) -> Probs:
    """(N, L) weighted mean of log odds, `share` of them the second's."""
    odds = (1 - share) * _log_odds(first) + share * _log_odds(second)
    blended: Probs = expit(odds).astype(np.float32)
    return blended


def _log_odds(probs: Probs) -> Probs:
    return logit(np.clip(probs, _CLIP, 1 - _CLIP)).astype(np.float32)
