"""Logistic regression with weights of its own for each frequent concept."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from core.errors import PredictionsError
from core.storage.arrays import load_array, save_array
from core.storage.folders import write_json
from ensembles.compiled import compiled
from ensembles.pairs import Bools, Floats
from ensembles.solvers.features import take_rows
from ensembles.solvers.logistic import Floats64
from ensembles.stacking.candidates import Candidates
from ensembles.stacking.linear import LogisticStacker
from ensembles.stacking.stacker import FILE, read_header


class ConceptLogisticStacker:
    """A logistic regression for every frequent concept, shrunk towards the one for all.

    The shared weights b are those of `LogisticStacker`. A concept with enough true pairs minimises

        sum of its log losses + ridge/2 |b_c - b|^2

    over its own weights and intercept: a Gaussian prior around the shared ones, as in a
    hierarchical model whose upper level is fitted first. Every other concept keeps b.

    Args:
        min_true: true pairs from which on a concept has its own weights.
        ridge: how strongly they are held to the shared ones. Of 5 to 200, 20 gave the least
            cross-fitted log loss on 1,015 images and 252 concepts (0.1273; shared weights alone
            0.1286; with offsets 0.1278); the sample F1 of all of these was the same within noise.
        shared_ridge: of the shared weights, see `LogisticStacker`.
    """

    def __init__(
        self, *, min_true: int = 30, ridge: float = 20.0, shared_ridge: float = 100.0
    ) -> None:
        self.min_true = min_true
        self.ridge = ridge
        self.shared_ridge = shared_ridge

    def fit(self, candidates: Candidates, targets: Bools) -> "ConceptLogisticStacker":
        """Learn the shared weights, then those of the frequent concepts, all at once.

        Raises:
            PredictionsError: none of the pairs is true, or all are.
        """
        self.shared_ = LogisticStacker(ridge=self.shared_ridge)
        self.shared_.fit(candidates, targets)
        n_true = np.bincount(candidates.columns, targets, minlength=candidates.n_concepts)
        self.concepts_ = np.flatnonzero(n_true >= self.min_true).astype(np.int32)
        number = np.full(candidates.n_concepts, -1)
        number[self.concepts_] = np.arange(len(self.concepts_))
        group = number[candidates.columns]
        order = np.argsort(group, kind="stable")
        order = order[np.searchsorted(group[order], 0) :]
        self.coef_ = fit_around(
            np.searchsorted(group[order], np.arange(len(self.concepts_) + 1)),
            self.shared_.standard_.of_rows(take_rows(candidates.features, order)),
            targets=targets[order],
            centre=self.shared_.coef_,
            ridge=self.ridge,
        )
        return self

    def predict(self, candidates: Candidates) -> Floats:
        """(n,) probability of each pair.

        Raises:
            AlignmentError: the features are not those of the fit.
        """
        features = self.shared_.standardised(candidates)
        coef = np.tile(self.shared_.coef_, (candidates.n_concepts, 1))
        coef[self.concepts_] = self.coef_
        logits = _logits(features, candidates.columns, coef.astype(np.float32))
        return np.asarray(expit(logits), dtype=np.float32)

    def save(self, folder: Path) -> None:
        """Write the shared weights as JSON, the others as two arrays."""
        self.shared_.save(folder)
        settings = {
            "min_true": self.min_true,
            "ridge": self.ridge,
            "shared_ridge": self.shared_ridge,
        }
        header = {"stacker": "logistic-concepts", "concept_settings": settings}
        write_json(folder / FILE, {**read_header(folder), **header})
        save_array(folder / _CONCEPTS, self.concepts_)
        save_array(folder / _COEF, self.coef_)

    @classmethod
    def load(cls, folder: Path) -> "ConceptLogisticStacker":
        """The stacker that `save` wrote.

        Raises:
            PredictionsError: a file is missing, or the arrays do not fit together.
        """
        stacker = cls(**read_header(folder)["concept_settings"])
        stacker.shared_ = LogisticStacker.load(folder)
        stacker.concepts_ = np.array(load_array(folder / _CONCEPTS))
        stacker.coef_ = np.array(load_array(folder / _COEF))
        expected = (len(stacker.concepts_), len(stacker.shared_.coef_))
        if stacker.coef_.shape != expected:
            raise PredictionsError(
                f"{folder / _COEF}: expected weights of shape {expected}; found"
                f" {stacker.coef_.shape}"
            )
        return stacker


_CONCEPTS, _COEF = "concepts.npy", "concept_coef.npy"


def fit_around(
    starts: npt.NDArray[np.integer],
    features: Floats,
    *,
    targets: Bools,
    centre: Floats64,
    ridge: float,
    max_steps: int = 30,
) -> Floats64:
    """(G, F + 1) weights and, last, intercept of each group, by Newton's method for all at once.

    Minimises for each group the sum of its log losses + ridge/2 |coef - centre|^2, the
    intercept held as well. The Hessians take 8 G (F + 1)^2 bytes: 61 MB for 3,047 concepts and 49
    features.

    Args:
        starts: (G + 1,) where the rows of each group begin; a group without rows gets the centre.
        features: (n, F), finite, of about unit scale.
        targets: (n,).
        centre: (F + 1,).
        ridge: above 0.
        max_steps: the most Newton steps; four to eight are usual.
    """
    rows = (starts.astype(np.int64), features, targets, centre, float(ridge))
    coef = np.tile(centre, (len(starts) - 1, 1))
    moving = np.ones(len(coef), dtype=np.bool_)
    loss, gradient, hessian = _derivatives(*rows, coef, moving)
    for _ in range(max_steps):
        if not moving.any():
            break
        step = np.zeros_like(coef)
        step[moving] = np.linalg.solve(hessian[moving], gradient[moving][..., None])[..., 0]
        promised = (step * gradient).sum(axis=1)
        moving &= promised > 1e-10 * (1.0 + loss)
        step[~moving] = 0.0
        waiting = moving.copy()  # for a step that lowers the loss
        while waiting.any():
            tried, new_gradient, new_hessian = _derivatives(*rows, coef - step, waiting)
            good = waiting & ((tried <= loss) | (np.abs(step).max(axis=1) < 1e-10))
            coef[good] -= step[good]
            loss[good], gradient[good], hessian[good] = (
                values[good] for values in (tried, new_gradient, new_hessian)
            )
            waiting &= ~good
            step[waiting] /= 2
    return coef


@compiled
def _derivatives(
    starts: npt.NDArray[np.int64],
    features: Floats,
    targets: Bools,
    centre: Floats64,
    ridge: float,
    coef: Floats64,
    wanted: Bools,
) -> tuple[Floats64, Floats64, Floats64]:
    """Loss (G,), gradient (G, F + 1) and Hessian (G, F + 1, F + 1) of the wanted groups."""
    n_groups, size = coef.shape
    loss = np.zeros(n_groups)
    gradient = np.zeros((n_groups, size))
    hessian = np.zeros((n_groups, size, size))
    x = np.ones(size)
    for g in range(n_groups):
        if not wanted[g]:
            continue
        for a in range(size):
            away = coef[g, a] - centre[a]
            loss[g] += 0.5 * ridge * away * away
            gradient[g, a] = ridge * away
            hessian[g, a, a] = ridge
        for k in range(starts[g], starts[g + 1]):
            z = coef[g, size - 1]
            for a in range(size - 1):
                x[a] = features[k, a]
                z += coef[g, a] * x[a]
            p = 1.0 / (1.0 + np.exp(-z))
            sign = -z if targets[k] else z
            loss[g] += max(sign, 0.0) + np.log1p(np.exp(-abs(z)))
            slope = p - targets[k]
            curvature = p * (1.0 - p)
            for a in range(size):
                gradient[g, a] += slope * x[a]
                for b in range(a + 1):
                    hessian[g, a, b] += curvature * x[a] * x[b]
        for a in range(size):
            for b in range(a):
                hessian[g, b, a] = hessian[g, a, b]
    return loss, gradient, hessian


@compiled
def _logits(features: Floats, columns: npt.NDArray[np.int32], coef: Floats) -> Floats:
    """(n,) log odds of each pair under the weights of its concept."""
    size = coef.shape[1]
    logits = np.empty(len(columns), dtype=np.float32)
    for k in range(len(columns)):
        c = columns[k]
        z = coef[c, size - 1]
        for a in range(size - 1):
            z += coef[c, a] * features[k, a]
        logits[k] = z
    return logits
