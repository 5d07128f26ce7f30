"""Logistic regression for millions of rows, exact and without a copy of the features."""

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from ensembles.logistic_sums import Floats64, derivatives
from ensembles.rows import Floats, Rows, take_rows
from ensembles.standardise import Standard

_MANY = 262_144  # rows from which on a part of them shows the way
_PART = 131_072  # rows of that part, about


def fit_logistic(
    features: Rows,
    targets: npt.NDArray[np.bool_],
    *,
    weights: npt.NDArray[np.floating] | None = None,
    ridge: float = 1.0,
    standard: Standard | None = None,
    max_steps: int = 50,
) -> Floats64:
    """Weights of the features and, last, the intercept, by Newton's method.

    Minimises the weighted sum of the log losses + ridge/2 |weights|^2, the intercept free; with
    `ridge = 1/C` that is scikit-learn's `LogisticRegression`, which would need the features in
    float64 to solve this system when features are as collinear as those of similar detectors.

    Of very many rows every k-th is fitted first. That leaves little to go, and its Hessian, scaled,
    serves all further steps: they go by the gradient of all rows, so that they end where Newton's
    would, and need no product of the features with themselves. Sums are made chunk by chunk and
    added in order: any number of threads gives the same bits.

    Args:
        features: (n, F), finite, of about unit scale once they are standardised.
        targets: (n,), both values present.
        weights: (n,) weight of each row, 1 without it.
        ridge: above 0 unless the features are known to be independent.
        standard: how the features are standardised; not at all without it.
        max_steps: the most Newton steps; five to ten are usual.
    """
    if weights is None:
        weights = np.ones(len(targets), dtype=np.float32)
    standard = standard or Standard.plain(features.shape[1])
    penalty = np.full(features.shape[1] + 1, ridge)
    penalty[-1] = 0.0
    coef = np.zeros(features.shape[1] + 1)
    rows = (features, targets, weights.astype(np.float32, copy=False), standard, penalty)
    if len(targets) < _MANY:
        return _climb(*rows, coef, max_steps=max_steps)
    thin = np.zeros(len(targets), dtype=np.bool_)
    thin[:: len(targets) // _PART] = True
    part = (take_rows(features, thin), targets[thin], rows[2][thin], standard, penalty)
    coef = _climb(*part, coef, max_steps=max_steps)
    hessian = derivatives(*part, coef, curved=True)[2] - np.diag(penalty)
    hessian = hessian * (weights.sum(dtype=np.float64) / part[2].sum(dtype=np.float64))
    return _climb(*rows, coef, max_steps=max_steps, hessian=hessian + np.diag(penalty))


def _climb(
    features: Rows,
    targets: npt.NDArray[np.bool_],
    weights: Floats,
    standard: Standard,
    penalty: Floats64,
    coef: Floats64,
    *,
    max_steps: int,
    hessian: Floats64 | None = None,
) -> Floats64:
    """The weights of least loss from `coef` on; with a Hessian given, by that one alone."""
    rows = (features, targets, weights, standard, penalty)
    curved = hessian is None
    loss, gradient, own = derivatives(*rows, coef, curved=curved)
    for _ in range(max_steps):
        step = np.linalg.solve(own if hessian is None else hessian, gradient)
        if float(step @ gradient) < 1e-12 * (1.0 + loss):
            break
        while True:  # halved until the loss falls, which a full step does but far from the minimum
            tried = derivatives(*rows, coef - step, curved=curved)
            if tried[0] <= loss or np.abs(step).max() < 1e-12:
                break
            step = step / 2
        coef = coef - step
        loss, gradient, own = tried
    return coef


def fit_offsets(
    groups: npt.NDArray[np.integer],
    logits: npt.NDArray[np.floating],
    targets: npt.NDArray[np.bool_],
    *,
    weights: npt.NDArray[np.floating] | None = None,
    ridge: float,
    n_groups: int,
    n_steps: int = 30,
) -> Floats64:
    """(n_groups,) what to add to the logits of each group, shrunk towards 0.

    Minimises for each group its weighted log losses + ridge/2 offset^2 by Newton's method; a group
    without rows gets 0. Steps are held to 1, so that no group overshoots.

    Args:
        groups: (n,) group of each row.
        logits: (n,) log odds before the offset.
        targets: (n,).
        weights: (n,) weight of each row, 1 without it.
        ridge: above 0.
    """
    if weights is None:
        weights = np.ones(len(targets), dtype=np.float32)
    offsets = np.zeros(n_groups)
    for _ in range(n_steps):
        probs = expit(logits + offsets[groups])
        slope = np.bincount(groups, weights * (probs - targets), minlength=n_groups)
        curvature = np.bincount(groups, weights * probs * (1.0 - probs), minlength=n_groups)
        step = np.clip((slope + ridge * offsets) / (curvature + ridge), -1.0, 1.0)
        offsets -= step
        if np.abs(step).max() < 1e-9:
            break
    return offsets
