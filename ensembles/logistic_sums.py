"""What a logistic regression adds up over millions of rows, the same with any number of threads."""

import numpy as np
import numpy.typing as npt

from ensembles.compiled import compiled, in_blocks
from ensembles.rows import Floats, Ints, Rows, with_places
from ensembles.solvers.features import CHUNK, Standard, fill_row

Floats64 = npt.NDArray[np.float64]


def derivatives(
    features: Rows,
    targets: npt.NDArray[np.bool_],
    weights: Floats,
    standard: Standard,
    penalty: Floats64,
    coef: Floats64,
    *,
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
                weights[here],
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
    weights: Floats,
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
        if weights[k] == 0.0:
            continue
        fill_row(matrix[places[k]], n_logits, n_ranks, mean, by, filled)
        own = x[n_waiting]
        for a in range(size - 1):  # an assignment of the whole takes longer
            own[a] = filled[a]
        own[size - 1] = 1.0
        z = _product(own, coef)
        e = np.exp(-abs(z))
        p = 1.0 / (1.0 + e) if z >= 0.0 else e / (1.0 + e)
        loss[0] += weights[k] * (max(-z if targets[k] else z, 0.0) + np.log1p(e))
        slope = weights[k] * (p - targets[k])
        for a in range(size):
            gradient[a] += slope * own[a]
        if curved:
            curvature[n_waiting] = weights[k] * p * (1.0 - p)
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


def logits_of(features: Rows, standard: Standard, coef: Floats64) -> Floats64:
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
