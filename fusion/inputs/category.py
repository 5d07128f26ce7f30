"""The category of an image from its pooled features, calibrated: what stands in for a missing one.

One network can then serve images with and without a category. The posterior also finds images
whose features contradict the category given: in a real archive some folders are wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression

from core.categories import CATEGORIES
from core.errors import MissingStageError
from core.storage.arrays import save_array
from fusion.modality import columns_of
from training.heads import Standardise

Floats = npt.NDArray[np.float32]

_N_PARTS = 5
"""Models, each of which leaves out a fifth of the folds of train."""

_C = 0.1
"""Inverse penalty of the logistic regression on standardised features: 0.003 to 0.3 were as right,
97.5 to 97.7 % of radbench's validation images."""

_LEAST_LOG = -20.0
"""Log probability of a category that a head has not met: its part of train had all of it."""


@dataclass(frozen=True, kw_only=True)
class CategoryModel:
    """Linear heads from standardised features to the categories, and one temperature for all.

    The posterior is the mean over the heads of their softmax at the temperature; that of a training
    image comes from the one head that did not learn from it.

    Attributes:
        mean, scale: (D,) of the training features.
        weights: (K, 7, D); 0 for a category that the head has not met.
        biases: (K, 7); minus infinity for it.
        temperature: at which the out-of-fold posteriors of train are the most likely.
        accuracy: of the out-of-fold guesses of train.
        n_of_category: (7,) training images.
    """

    mean: Floats
    scale: Floats
    weights: Floats
    biases: Floats
    temperature: float
    accuracy: float
    n_of_category: npt.NDArray[np.int64]

    def posterior(self, features: Floats) -> Floats:
        """(N, 7) P(category | features) of images that were not learnt from."""
        x = (features - self.mean) / self.scale
        heads = zip(self.weights, self.biases, strict=True)
        found = [softmax((x @ w.T + b) / self.temperature, axis=1) for w, b in heads]
        return _no_surer(np.mean(found, axis=0, dtype=np.float32), self.n_of_category)

    def save(self, folder: Path) -> None:
        """Write an array a file; temperature and accuracy are the folder's meta."""
        for name in ("mean", "scale", "weights", "biases"):
            save_array(folder / f"{name}.npy", getattr(self, name))


def fit_category_model(
    features: Floats, categories: Sequence[str], folds: npt.NDArray[np.integer]
) -> tuple[CategoryModel, Floats]:
    """Fit on training images; those of unknown category teach nothing.

    Args:
        features: (N, D).
        categories: N of `CATEGORIES`, or `UNKNOWN`.
        folds: (N,) of `prepare`: whole groups, so that no patient is on both sides.

    Returns:
        The model, and the (N, 7) out-of-fold posterior of the training images.

    Raises:
        MissingStageError: fewer than two categories have training images in two folds.
    """
    column = columns_of(categories)
    known = column >= 0
    parts = np.searchsorted(np.unique(folds), folds) % _N_PARTS
    standardise = Standardise.fitted(torch.tensor(features))
    mean, scale = standardise.mean.numpy(), standardise.std.numpy()
    x = (features - mean) / scale
    logits = np.zeros((len(x), len(CATEGORIES)), dtype=np.float32)
    weights, biases = [], []
    for part in np.unique(parts):
        learnt, here = known & (parts != part), parts == part
        if len(np.unique(column[learnt])) < 2:
            raise MissingStageError(
                "categories cannot be guessed: fewer than two have training images in two folds"
            )
        w, b = _fit_head(x[learnt], column[learnt])
        logits[here] = x[here] @ w.T + b
        weights.append(w)
        biases.append(b)
    temperature = _fit_temperature(logits[known], column[known])
    model = CategoryModel(
        mean=mean,
        scale=scale,
        weights=np.stack(weights),
        biases=np.stack(biases),
        temperature=temperature,
        accuracy=float((logits[known].argmax(axis=1) == column[known]).mean()),
        n_of_category=np.bincount(column[known], minlength=len(CATEGORIES)),
    )
    return model, _no_surer(softmax(logits / temperature, axis=1), model.n_of_category)


def _no_surer(posterior: Floats, n_of_category: npt.NDArray[np.int64]) -> Floats:
    """A posterior no surer than so many right guesses make it, by Laplace's rule of succession.

    Guesses that were all right would have a temperature of 0, and be certain for ever.
    """
    n_images = n_of_category.sum()
    mixed: Floats = (posterior * n_images + n_of_category / n_images) / (n_images + 1)
    return mixed.astype(np.float32)


def _fit_head(x: Floats, column: npt.NDArray[np.integer]) -> tuple[Floats, Floats]:
    """(7, D) weights and (7,) biases of a multinomial logistic regression."""
    fitted = LogisticRegression(C=_C, max_iter=1000).fit(x, column)
    weights = np.zeros((len(CATEGORIES), x.shape[1]), dtype=np.float32)
    biases = np.full(len(CATEGORIES), -np.inf, dtype=np.float32)
    if len(fitted.classes_) == 2:  # one row: the log odds of the second
        weights[fitted.classes_[1]], biases[fitted.classes_] = fitted.coef_[0], 0.0
        biases[fitted.classes_[1]] = fitted.intercept_[0]
    else:
        weights[fitted.classes_], biases[fitted.classes_] = fitted.coef_, fitted.intercept_
    return weights, biases


def _fit_temperature(logits: Floats, column: npt.NDArray[np.integer]) -> float:
    """The temperature that makes the true categories most likely (Guo et al., ICML 2017)."""
    rows = np.arange(len(logits))

    def loss(log_temperature: float) -> float:
        log_probs = log_softmax(logits / np.exp(log_temperature), axis=1)[rows, column]
        return -float(np.maximum(log_probs, _LEAST_LOG).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-8, 4), method="bounded").x))
