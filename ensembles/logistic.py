"""Logistic regression for millions of rows, exact and without a copy of the features."""

import numpy as np
import numpy.typing as npt
from scipy.special import expit

Floats64 = npt.NDArray[np.float64]

_CHUNK = 65_536  # rows whose features are held in float64 at a time: 24 MB at 48 features

_THIN = 16


def fit_logistic(
    features: npt.NDArray[np.floating],
    targets: npt.NDArray[np.bool_],
    *,
    weights: npt.NDArray[np.floating] | None = None,
    ridge: float = 1.0,
    max_steps: int = 50,
) -> Floats64:
    """Weights of the features and, last, the intercept, by Newton's method.

    Minimises the weighted sum of the log losses + ridge/2 |weights|^2, the intercept free; with
    `ridge = 1/C` that is scikit-learn's `LogisticRegression`, which would need the features in
    float64 to solve this system when features are as collinear as those of similar detectors.

    Args:
        features: (n, F), finite, of about unit scale.
        targets: (n,), both values present.
        weights: (n,) weight of each row, 1 without it.
        ridge: above 0 unless the features are known to be independent.
        max_steps: the most Newton steps; five to ten are usual.
    """
    if weights is None:
        weights = np.ones(len(targets), dtype=np.float32)
    penalty = np.full(features.shape[1] + 1, ridge)
    penalty[-1] = 0.0
    coef = np.zeros(features.shape[1] + 1)
    if len(targets) > _THIN * _CHUNK:  # a sixteenth of the rows leaves two or three steps to go
        thin = slice(None, None, _THIN)
        coef = fit_logistic(features[thin], targets[thin], weights=weights[thin], ridge=ridge)
    loss, gradient, hessian = _derivatives(features, targets, weights, coef, penalty)
    for _ in range(max_steps):
        step = np.linalg.solve(hessian, gradient)
        if float(step @ gradient) < 1e-12 * (1.0 + loss):
            break
        while True:  # halved until the loss falls, which a full step does but far from the minimum
            tried = _derivatives(features, targets, weights, coef - step, penalty)
            if tried[0] <= loss or np.abs(step).max() < 1e-12:
                break
            step = step / 2
        coef = coef - step
        loss, gradient, hessian = tried
    return coef


def _derivatives(
    features: npt.NDArray[np.floating],
    targets: npt.NDArray[np.bool_],
    weights: npt.NDArray[np.floating],
    coef: Floats64,
    penalty: Floats64,
) -> tuple[float, Floats64, Floats64]:
    """Loss, gradient and Hessian."""
    loss = 0.5 * float(penalty @ coef**2)
    gradient = penalty * coef
    hessian = np.diag(penalty)
    for start in range(0, len(targets), _CHUNK):
        here = slice(start, start + _CHUNK)
        x = np.column_stack([features[here], np.ones(len(targets[here]))]).astype(np.float64)
        y, w = targets[here], weights[here].astype(np.float64)
        logits = x @ coef
        probs = expit(logits)
        loss += float(w @ (np.logaddexp(0.0, logits) - y * logits))
        gradient += x.T @ (w * (probs - y))
        hessian += (x * (w * probs * (1.0 - probs))[:, None]).T @ x
    return loss, gradient, hessian


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
