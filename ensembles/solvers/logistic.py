"""Logistic regression for millions of rows, exact and without a copy of the features."""

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from ensembles.logistic_sums import Floats64, derivatives
from ensembles.rows import Floats, Rows, take_rows
from ensembles.solvers.features import Standard

_MANY = 262_144  # rows from which on a part of them shows the way
_PART = 131_072  # rows of that part, about
_SLOW = 0.05  # of what the last step promised: a step that still promises more needs a new Hessian


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

    Of very many rows every k-th is fitted first. That leaves so little to go that one Hessian of
    all rows serves the further steps: they go by the gradient of all rows, and end where Newton's
    would. (The Hessian of the part alone takes thirty steps.) Sums are made chunk by chunk and
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
    lighter = penalty * thin.mean()  # weighs against the part as the whole one against all
    part = (take_rows(features, thin), targets[thin], rows[2][thin], standard, lighter)
    coef = _climb(*part, coef, max_steps=max_steps)
    return _climb(*rows, coef, max_steps=max_steps, patient=True)


def _climb(
    features: Rows,
    targets: npt.NDArray[np.bool_],
    weights: Floats,
    standard: Standard,
    penalty: Floats64,
    coef: Floats64,
    *,
    max_steps: int,
    patient: bool = False,
) -> Floats64:
    """The weights of least loss from `coef` on; patiently, with one Hessian while that does."""
    rows = (features, targets, weights, standard, penalty)
    loss, gradient, hessian = derivatives(*rows, coef, curved=True)
    promised = np.inf
    for _ in range(max_steps):
        step = np.linalg.solve(hessian, gradient)
        if float(step @ gradient) < 1e-12 * (1.0 + loss):
            return coef - step  # too small to be tried, not to be taken
        if patient and float(step @ gradient) > _SLOW * promised:
            loss, gradient, hessian = derivatives(*rows, coef, curved=True)
            promised = np.inf
            continue
        promised = float(step @ gradient)
        while True:  # halved until the loss falls, which a full step does but far from the minimum
            tried = derivatives(*rows, coef - step, curved=not patient)
            if tried[0] <= loss or np.abs(step).max() < 1e-12:
                break
            step = step / 2
        coef = coef - step
        loss, gradient = tried[:2]
        if not patient:
            hessian = tried[2]
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
