"""How many concepts an image has: what its probabilities say, corrected by labelled images.

Independent concepts would make the number s of true concepts Poisson-binomial, with distribution
PB. Concepts that come together spread it wider, and rarely does an image have none. The head is an
exponential family on top of PB, in which the fitted log likelihood is concave:

    log P(s | x) = power log PB(s | x) + (shift + shift_c) z + empty [s = 0] - log Z(x)
    z = (s - mean of PB) / deviation of PB,    c the category of the image

With power 1 and all else 0 it is PB itself, which is what few labelled images leave it at.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ensembles.compiled import compiled, in_blocks
from ensembles.pairs import CalibratedPairs, Counts, Floats64

RIDGE = (1.0, 1.0, 1.0, 20.0)
"""Penalty of power - 1, shift, empty and each category's shift: a category of 20 images has half
of the shift that fits it best."""

_TINY = 1e-200


@dataclass(frozen=True, kw_only=True)
class CountHead:
    """The corrected distribution of the number of true concepts among an image's pairs.

    Attributes:
        power: below 1 for a wider distribution than that of independent concepts.
        shift: more (above 0) or fewer concepts, in deviations of PB.
        empty: log odds added to an image without any.
        by_category: added to the shift, for categories of fitted images.
    """

    power: float = 1.0
    shift: float = 0.0
    empty: float = 0.0
    by_category: Mapping[str, float] = field(default_factory=dict)

    def distribution(self, pmf: Floats64, categories: Sequence[str]) -> Floats64:
        """(N, S) P(s | x), rows summing to 1, 0 where PB is 0.

        Args:
            pmf: (N, S) PB, see `poisson_binomial`.
            categories: N categories; those not fitted have no shift of their own.
        """
        features, possible = _features(pmf)
        shifts = np.array([self.shift + self.by_category.get(c, 0.0) for c in categories])
        theta = np.column_stack(
            [np.full(len(pmf), self.power), shifts, np.full(len(pmf), self.empty)]
        )
        return _softmax(features, possible, theta)

    def to_json(self) -> dict[str, Any]:
        """Plain values, the arguments of the head."""
        return {**asdict(self), "by_category": dict(self.by_category)}


def fit_counts(
    pmf: Floats64, n_true: npt.NDArray[np.integer], *, categories: Sequence[str]
) -> CountHead:
    """The head with the highest penalised likelihood, by Newton's method.

    Images whose number of true concepts PB holds impossible say nothing.

    Args:
        pmf: (N, S) PB of each image.
        n_true: (N,) true concepts among its pairs.
        categories: N categories.
    """
    names, kinds = np.unique(np.array(categories, dtype=np.str_), return_inverse=True)
    features, possible = _features(pmf)
    seen = np.minimum(n_true, pmf.shape[1] - 1)
    usable = possible[np.arange(len(pmf)), seen]
    features, possible, seen, kinds = (x[usable] for x in (features, possible, seen, kinds))
    true = features[np.arange(len(seen)), seen]
    start = np.zeros(3 + len(names))
    start[0] = 1.0
    ridge = np.array([*RIDGE[:3], *[RIDGE[3]] * len(names)])
    theta = start.copy()
    height, probs = _height(features, possible, true, kinds, theta, ridge * (theta - start) ** 2)
    for _ in range(_STEPS):
        slope, curvature = _moments(features, probs, true, kinds, names)
        step = np.linalg.solve(curvature + np.diag(ridge), slope - ridge * (theta - start))
        while True:  # halved until the likelihood rises, which a full step need not make it do
            tried = theta + step
            tried[0] = max(tried[0], _LOWEST_POWER)
            penalty = ridge * (tried - start) ** 2
            risen, its_probs = _height(features, possible, true, kinds, tried, penalty)
            if risen >= height or np.abs(step).max() < 1e-9:
                break
            step = step / 2
        theta, probs, gain, height = tried, its_probs, risen - height, risen
        if gain < 1e-9 * len(seen):
            break
    return CountHead(
        power=float(theta[0]),
        shift=float(theta[1]),
        empty=float(theta[2]),
        by_category={str(n): float(t) for n, t in zip(names, theta[3:], strict=True)},
    )


_STEPS = 50
_LOWEST_POWER = 0.05


def _height(
    features: Floats64,
    possible: npt.NDArray[np.bool_],
    true: Floats64,
    kinds: npt.NDArray[np.intp],
    theta: Floats64,
    penalty: Floats64,
) -> tuple[float, Floats64]:
    """Penalised log likelihood, and the (N, S) probabilities."""
    own = np.tile(theta[:3], (len(true), 1))
    own[:, 1] += theta[3:][kinds]
    logits = np.where(possible, np.einsum("nsf,nf->ns", features, own), -np.inf)
    highest = logits.max(axis=1, keepdims=True)
    weights = np.exp(logits - highest)
    sums = weights.sum(axis=1, keepdims=True)
    likelihood = np.einsum("nf,nf->n", true, own) - (highest + np.log(sums))[:, 0]
    return float(likelihood.sum() - 0.5 * penalty.sum()), weights / sums


def _moments(
    features: Floats64,
    probs: Floats64,
    true: Floats64,
    kinds: npt.NDArray[np.intp],
    names: npt.NDArray[np.str_],
) -> tuple[Floats64, Floats64]:
    """Gradient and negative Hessian of the log likelihood, (P,) and (P, P)."""
    mean = np.einsum("nsf,ns->nf", features, probs)
    spread = features - mean[:, None, :]
    cov = np.einsum("nsf,nsg,ns->nfg", spread, spread, probs, optimize=True)
    slope = np.concatenate([(true - mean).sum(axis=0), np.zeros(len(names))])
    curvature = np.zeros((3 + len(names), 3 + len(names)))
    curvature[:3, :3] = cov.sum(axis=0)
    for kind in range(len(names)):
        here = kinds == kind
        slope[3 + kind] = (true - mean)[here, 1].sum()
        curvature[3 + kind, :3] = curvature[:3, 3 + kind] = cov[here, 1].sum(axis=0)
        curvature[3 + kind, 3 + kind] = cov[here, 1, 1].sum()
    return slope, curvature


def _features(pmf: Floats64) -> tuple[Floats64, npt.NDArray[np.bool_]]:
    """(N, S, 3) log PB, z and whether s is 0; (N, S) whether s is possible."""
    s = np.arange(pmf.shape[1])
    possible = pmf > _TINY
    mean = pmf @ s
    deviation = np.sqrt(np.maximum(pmf @ s**2 - mean**2, 1e-6))
    features = np.empty((*pmf.shape, 3))
    features[:, :, 0] = np.log(np.maximum(pmf, _TINY))
    features[:, :, 1] = (s - mean[:, None]) / deviation[:, None]
    features[:, :, 2] = s == 0
    return features, possible


def _softmax(features: Floats64, possible: npt.NDArray[np.bool_], theta: Floats64) -> Floats64:
    """(N, S) probabilities, by (N, 3) weights of the features."""
    logits = np.where(possible, np.einsum("nsf,nf->ns", features, theta), -np.inf)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def poisson_binomial(ranked: CalibratedPairs) -> Floats64:
    """(N, S) PB: chance of s true concepts among the independent pairs of an image.

    S is one more than the most pairs of an image, but never below 1.
    """
    widest = int(np.diff(ranked.starts).max(initial=0))
    pmf = np.zeros((ranked.shape[0], widest + 1))
    starts, probs = ranked.starts, ranked.ranked_probs
    in_blocks(len(pmf), lambda a, b: _fill_pmf(starts[a : b + 1], probs, pmf[a:b]))
    return pmf


@compiled
def _fill_pmf(starts: Counts, probs: Floats64, pmf: Floats64) -> None:
    for i in range(len(starts) - 1):
        add_concepts(probs[starts[i] : starts[i + 1]], pmf[i])


@compiled
def add_concepts(p: Floats64, pmf: Floats64) -> None:
    """Write the distribution of the number of true ones among independent concepts.

    Args:
        p: (n,) their probabilities.
        pmf: (n + 1,) or longer, of zeros.
    """
    pmf[0] = 1.0
    for n in range(len(p)):
        for s in range(n + 1, 0, -1):
            pmf[s] = pmf[s] * (1.0 - p[n]) + pmf[s - 1] * p[n]
        pmf[0] *= 1.0 - p[n]
