"""Logistic regression for millions of rows, exact and without a copy of the features.

Its sums are the same with any number of threads.
"""

from functools import partial

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from ensembles.compiled import compiled, in_blocks
from ensembles.solvers.features import (
    CHUNK,
    FeatureRows,
    Floats,
    Ints,
    Standard,
    fill_row,
    take_rows,
    with_places,
)

Floats64 = npt.NDArray[np.float64]


def derivatives(
    features: FeatureRows,
    targets: npt.NDArray[np.bool_],
    *,
    standard: Standard,
    penalty: Floats64,
    coef: Floats64,
    curved: bool,
) -> tuple[float, Floats64, Floats64]:
    """Loss, gradient and Hessian of a logistic regression, the penalty included.

    Args:
        features: (n, F), before they are standardised.
        penalty: (F + 1,) of the squares of the weights, halved.
        coef: (F + 1,) weights and, last, the intercept.
        curved: whether the Hessian is made; it is the penalty's alone without.
    """
    matrix, places = with_places(features)
    size = len(coef)
    n_chunks = -(-len(places) // CHUNK)
    losses, slopes = np.zeros((n_chunks, 1)), np.zeros((n_chunks, size))
    curves = np.zeros((n_chunks if curved else 1, size, size))

    def work(first: int, last: int) -> None:
        for chunk in range(first, last):
            here = slice(chunk * CHUNK, (chunk + 1) * CHUNK)
            _add_derivatives(
                matrix,
                places[here],
                targets[here],
                *standard.numbers,
                coef,
                losses[chunk],
                slopes[chunk],
                curves[chunk if curved else 0],
                curved,
            )

    in_blocks(n_chunks, work, worth_it=2)
    hessian = curves.sum(axis=0)
    hessian = np.tril(hessian) + np.tril(hessian, -1).T + np.diag(penalty)
    loss = float(losses.sum()) + 0.5 * float(penalty @ coef**2)
    return loss, slopes.sum(axis=0) + penalty * coef, hessian


@compiled
def _add_derivatives(
    matrix: Floats,
    places: Ints,
    targets: npt.NDArray[np.bool_],
    n_logits: int,
    n_ranks: int,
    mean: Floats,
    by: Floats,
    coef: Floats64,
    loss: Floats64,
    gradient: Floats64,
    hessian: Floats64,
    curved: bool,
) -> None:
    """Add those of some rows; of the Hessian its lower triangle."""
    size = len(coef)
    filled = np.empty(size - 1, dtype=np.float32)
    x = np.zeros((_TOGETHER, size))
    curvature = np.zeros(_TOGETHER)
    n_waiting = 0
    for k in range(len(places)):
        fill_row(matrix[places[k]], n_logits, n_ranks, mean, by, filled)
        own = x[n_waiting]
        for a in range(size - 1):  # an assignment of the whole takes longer
            own[a] = filled[a]
        own[size - 1] = 1.0
        z = _product(own, coef)
        e = np.exp(-abs(z))
        p = 1.0 / (1.0 + e) if z >= 0.0 else e / (1.0 + e)
        loss[0] += max(-z if targets[k] else z, 0.0) + np.log1p(e)
        slope = p - targets[k]
        for a in range(size):
            gradient[a] += slope * own[a]
        if curved:
            curvature[n_waiting] = p * (1.0 - p)
            n_waiting += 1
            if n_waiting == _TOGETHER:
                _add_products(x, curvature, hessian)
                n_waiting = 0
    curvature[n_waiting:] = 0.0
    _add_products(x, curvature, hessian)


_TOGETHER = 4
"""Rows whose products are added at once: the Hessian is read and written as often as memory is."""


@compiled
def _add_products(x: Floats64, curvature: Floats64, hessian: Floats64) -> None:
    """Add the lower triangle of x' diag(curvature) x of `_TOGETHER` rows."""
    for a in range(x.shape[1]):
        first, second = curvature[0] * x[0, a], curvature[1] * x[1, a]
        third, fourth = curvature[2] * x[2, a], curvature[3] * x[3, a]
        for b in range(a + 1):
            hessian[a, b] += (first * x[0, b] + second * x[1, b]) + (
                third * x[2, b] + fourth * x[3, b]
            )


@compiled
def _product(x: Floats64, coef: Floats64) -> float:
    """Their inner product, as four sums that a processor makes side by side."""
    first, second, third, fourth = 0.0, 0.0, 0.0, 0.0
    whole = len(x) // 4 * 4
    for a in range(0, whole, 4):
        first += x[a] * coef[a]
        second += x[a + 1] * coef[a + 1]
        third += x[a + 2] * coef[a + 2]
        fourth += x[a + 3] * coef[a + 3]
    for a in range(whole, len(x)):
        first += x[a] * coef[a]
    return (first + second) + (third + fourth)


def logits_of(features: FeatureRows, standard: Standard, *, coef: Floats64) -> Floats64:
    """(n,) log odds of rows under weights and, last, an intercept."""
    matrix, places = with_places(features)
    logits = np.empty(len(places))
    in_blocks(
        len(places),
        lambda a, b: _fill_logits(matrix, places[a:b], *standard.numbers, coef, logits[a:b]),
    )
    return logits


@compiled
def _fill_logits(
    matrix: Floats,
    places: Ints,
    n_logits: int,
    n_ranks: int,
    mean: Floats,
    by: Floats,
    coef: Floats64,
    logits: Floats64,
) -> None:
    filled = np.empty(len(coef) - 1, dtype=np.float32)
    x = np.ones(len(coef))
    for k in range(len(places)):
        fill_row(matrix[places[k]], n_logits, n_ranks, mean, by, filled)
        for a in range(len(filled)):
            x[a] = filled[a]
        logits[k] = _product(x, coef)


_MANY = 262_144  # rows from which on a part of them shows the way
_PART = 131_072  # rows of that part, about
_SLOW = 0.05  # of what the last step promised: a step that still promises more needs a new Hessian


def fit_logistic(
    features: FeatureRows,
    targets: npt.NDArray[np.bool_],
    *,
    ridge: float = 1.0,
    standard: Standard | None = None,
    max_steps: int = 50,
) -> Floats64:
    """Weights of the features and, last, the intercept, by Newton's method.

    Minimises the sum of the log losses + ridge/2 |weights|^2, the intercept free; with
    `ridge = 1/C` that is scikit-learn's `LogisticRegression`, which would need the features in
    float64 to solve this system when features are as collinear as those of similar detectors.

    Of very many rows every k-th is fitted first. That leaves so little to go that one Hessian of
    all rows serves the further steps: they go by the gradient of all rows, and end where Newton's
    would. (The Hessian of the part alone takes thirty steps.) Sums are made chunk by chunk and
    added in order: any number of threads gives the same bits.

    Args:
        features: (n, F), finite, of about unit scale once they are standardised.
        targets: (n,), both values present.
        ridge: above 0 unless the features are known to be independent.
        standard: how the features are standardised; not at all without it.
        max_steps: the most Newton steps; five to ten are usual.
    """
    standard = standard or Standard.plain(features.shape[1])
    penalty = np.full(features.shape[1] + 1, ridge)
    penalty[-1] = 0.0
    coef = np.zeros(features.shape[1] + 1)
    rows = (features, targets, standard, penalty)
    if len(targets) < _MANY:
        return _climb(*rows, coef, max_steps=max_steps)
    thin = np.zeros(len(targets), dtype=np.bool_)
    thin[:: len(targets) // _PART] = True
    lighter = penalty * thin.mean()  # weighs against the part as the whole one against all
    part = (take_rows(features, thin), targets[thin], standard, lighter)
    coef = _climb(*part, coef, max_steps=max_steps)
    return _climb(*rows, coef, max_steps=max_steps, patient=True)


def _climb(
    features: FeatureRows,
    targets: npt.NDArray[np.bool_],
    standard: Standard,
    penalty: Floats64,
    coef: Floats64,
    *,
    max_steps: int,
    patient: bool = False,
) -> Floats64:
    """The weights of least loss from `coef` on; patiently, with one Hessian while that does."""
    at = partial(derivatives, features, targets, standard=standard, penalty=penalty)
    loss, gradient, hessian = at(coef=coef, curved=True)
    promised = np.inf
    for _ in range(max_steps):
        step = np.linalg.solve(hessian, gradient)
        if float(step @ gradient) < 1e-12 * (1.0 + loss):
            return coef - step  # too small to be tried, not to be taken
        if patient and float(step @ gradient) > _SLOW * promised:
            loss, gradient, hessian = at(coef=coef, curved=True)
            promised = np.inf
            continue
        promised = float(step @ gradient)
        while True:  # halved until the loss falls, which a full step does but far from the minimum
            tried = at(coef=coef - step, curved=not patient)
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
    *,
    targets: npt.NDArray[np.bool_],
    ridge: float,
    n_groups: int,
    n_steps: int = 30,
) -> Floats64:
    """(n_groups,) what to add to the logits of each group, shrunk towards 0.

    Minimises for each group its log losses + ridge/2 offset^2 by Newton's method; a group
    without rows gets 0. Steps are held to 1, so that no group overshoots.

    Args:
        groups: (n,) group of each row.
        logits: (n,) log odds before the offset.
        targets: (n,).
        ridge: above 0.
    """
    offsets = np.zeros(n_groups)
    for _ in range(n_steps):
        probs = expit(logits + offsets[groups])
        slope = np.bincount(groups, probs - targets, minlength=n_groups)
        curvature = np.bincount(groups, probs * (1.0 - probs), minlength=n_groups)
        step = np.clip((slope + ridge * offsets) / (curvature + ridge), -1.0, 1.0)
        offsets -= step
        if np.abs(step).max() < 1e-9:
            break
    return offsets


EDGE = 1e-7
"""Probabilities are held this far from 0 and 1 before their logit is taken."""


def logit(probs: Floats) -> Floats:
    """Log odds in float32, of probabilities held 1e-7 from 0 and 1."""
    held = np.clip(probs, np.float32(EDGE), np.float32(1.0 - EDGE))
    return np.asarray(np.log(held) - np.log1p(-held), dtype=np.float32)
