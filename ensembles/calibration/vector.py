"""A temperature and a bias for each concept, drawn to those of all by what the concepts share.

    logit of concept j = slope x + bias + b_j + d_j (x - x0),    x = logit(p)

b_j and d_j have normal priors around 0 whose variances are learnt from the concepts themselves by
EM (Laplace's approximation), so a rare concept stays at the global calibration and a frequent one
gets its own as far as its pairs say. x0 is where the pairs weigh most, so that the two do not stand
in for each other.

Source: vector scaling of Guo et al., "On calibration of modern neural networks", ICML 2017; the
prior is that of a multilevel logistic regression (Gelman and Hill, 2007, ch. 14).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from core.labels import LabelSpace
from ensembles.calibration.temperature import Calibration, fit_calibration
from ensembles.compiled import compiled, in_blocks
from ensembles.pairs import Bools, Counts, Floats, Floats64, Ints
from ensembles.solvers.logistic import logit


@dataclass(frozen=True, kw_only=True)
class VectorCalibration:
    """p becomes sigmoid(slope_j logit(p) + bias_j); 0 and 1 stay what they are.

    Attributes:
        shared: of the concepts without one of their own.
        by_concept: slope, above 0, and bias of the concepts (CUIs) that have their own.
    """

    shared: Calibration
    by_concept: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def of_pairs(self, probs: Floats, columns: Ints, *, labels: LabelSpace) -> Floats:
        """(n,) calibrated probabilities.

        Raises:
            LabelSpaceError: a concept with a calibration of its own is not in the label space.
        """
        slopes, biases = self._of_concepts(labels)
        logits: Floats = logit(probs) * slopes[columns] + biases[columns]
        calibrated = 1.0 / (1.0 + np.exp(-logits))
        return np.where((probs == 0.0) | (probs == 1.0), probs, calibrated).astype(np.float32)

    def inverse(self, prob: float, *, labels: LabelSpace) -> Floats:
        """(L,) probability of each concept whose calibrated value this is."""
        slopes, biases = self._of_concepts(labels)
        logits = (np.log(prob) - np.log1p(-prob) - biases) / slopes
        return np.asarray(np.maximum(expit(logits), np.finfo(np.float32).tiny), dtype=np.float32)

    def _of_concepts(self, labels: LabelSpace) -> tuple[Floats, Floats]:
        slopes = np.full(len(labels), 1.0 / self.shared.temperature, dtype=np.float32)
        biases = np.full(len(labels), self.shared.bias, dtype=np.float32)
        if self.by_concept:
            own = np.array(list(self.by_concept.values()), dtype=np.float32)
            columns = labels.columns(list(self.by_concept))
            slopes[columns], biases[columns] = own[:, 0], own[:, 1]
        return slopes, biases

    def to_json(self) -> dict[str, Any]:
        """See `Calibrator`."""
        own = {cui: list(values) for cui, values in self.by_concept.items()}
        return {"kind": "vector", "shared": self.shared.to_json(), "by_concept": own}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "VectorCalibration":
        """The calibration that `to_json` gave; an entry that is missing is a KeyError."""
        shared = {k: v for k, v in values["shared"].items() if k != "kind"}
        own = {cui: (float(a), float(b)) for cui, (a, b) in values["by_concept"].items()}
        return cls(shared=Calibration(**shared), by_concept=own)


def fit_vector(
    probs: Floats, true: Bools, *, columns: Ints, labels: LabelSpace
) -> VectorCalibration:
    """The calibration of each concept with the highest posterior.

    Concepts with fewer than 5 true or 5 false pairs keep the shared one.

    Args:
        probs: (n,) probabilities of candidate pairs, below 1.
        true: (n,) whether each pair is true.
        columns: (n,) concept of each pair.
        labels: the L concepts.

    Raises:
        PredictionsError: the shared calibration cannot be fitted, see `fit_calibration`.
    """
    shared = fit_calibration(probs, true)
    order = np.argsort(columns, kind="stable")
    starts = np.searchsorted(columns[order], np.arange(len(labels) + 1)).astype(np.int64)
    x = logit(probs[order]).astype(np.float64)
    base = x / shared.temperature + shared.bias
    weight = expit(base) * expit(-base)
    middle = float(x @ weight / weight.sum())
    x -= middle
    n_true = np.bincount(columns, weights=true, minlength=len(labels))
    n_false = np.diff(starts) - n_true
    rich = (n_true >= _FEWEST) & (n_false >= _FEWEST)
    slope = 1.0 / shared.temperature
    own = _shrunk(starts, x, base, true[order], rich, lowest=-_MOST_OF_SLOPE * slope)
    slopes = slope + own[:, 1]
    biases = shared.bias + own[:, 0] - own[:, 1] * middle
    by_concept = {
        labels.cuis[j]: (float(slopes[j]), float(biases[j])) for j in np.flatnonzero(rich)
    }
    return VectorCalibration(shared=shared, by_concept=by_concept)


_FEWEST = 5
_MOST_OF_SLOPE = 0.9
_ROUNDS = 6
"""Of EM; the variances move by less than a tenth after them."""


def _shrunk(
    starts: Counts, x: Floats64, base: Floats64, true: Bools, rich: Bools, *, lowest: float
) -> Floats64:
    """(L, 2) b and d of the concepts under the variances that their own spread asks for."""
    own, variance = np.zeros((len(rich), 2)), np.zeros((len(rich), 2))
    spread = np.array([0.25, 0.05])

    def work(first: int, last: int) -> None:
        here = slice(first, last)
        _fit_concepts(
            starts[first : last + 1], x, base, true, rich[here], 1.0 / spread, lowest,
            own[here], variance[here],
        )  # fmt: skip

    for _ in range(_ROUNDS if rich.any() else 0):
        in_blocks(len(rich), work)
        spread = np.maximum((own**2 + variance)[rich].mean(axis=0), 1e-6)
    return own


@compiled
def _fit_concepts(
    starts: Counts,
    x: Floats64,
    base: Floats64,
    true: Bools,
    rich: Bools,
    precision: npt.NDArray[np.float64],
    lowest: float,
    own: Floats64,
    variance: Floats64,
) -> None:
    """Newton's method for each concept, from where `own` is; variances by Laplace's method."""
    for j in range(len(rich)):
        if not rich[j]:
            continue
        for _ in range(30):
            b, d = own[j, 0], own[j, 1]
            g0, g1 = precision[0] * b, precision[1] * d
            h00, h01, h11 = precision[0], 0.0, precision[1]
            for k in range(starts[j], starts[j + 1]):
                prob = 1.0 / (1.0 + np.exp(-(base[k] + b + d * x[k])))
                g0 += prob - true[k]
                g1 += (prob - true[k]) * x[k]
                w = prob * (1.0 - prob)
                h00 += w
                h01 += w * x[k]
                h11 += w * x[k] * x[k]
            det = h00 * h11 - h01 * h01
            variance[j, 0], variance[j, 1] = h11 / det, h00 / det
            step0 = min(max((h11 * g0 - h01 * g1) / det, -1.0), 1.0)
            step1 = min(max((h00 * g1 - h01 * g0) / det, -0.5), 0.5)
            own[j, 0] = b - step0
            own[j, 1] = max(d - step1, lowest)
            if abs(own[j, 0] - b) + abs(own[j, 1] - d) < 1e-7:
                break
