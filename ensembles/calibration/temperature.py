"""Probabilities that mean what they say: a temperature and a bias on the logits."""

from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from core.errors import ConfigError, PredictionsError
from core.labels import LabelSpace
from ensembles.pairs import Bools, Floats, Ints
from ensembles.solvers.logistic import fit_logistic, logit


class Calibrator(Protocol):
    """What every calibration can do; `ensembles.calibration.choose` has them by name."""

    def of_pairs(self, probs: Floats, columns: Ints, *, labels: LabelSpace) -> Floats:
        """(n,) calibrated probabilities of pairs; 0 and 1 stay what they are."""

    def inverse(self, prob: float, *, labels: LabelSpace) -> Floats:
        """(L,) probability of each concept whose calibrated value this is, above 0."""

    def to_json(self) -> dict[str, Any]:
        """Plain values; `calibrators.from_json` gives the same calibration, to the last bit."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """p becomes sigmoid(logit(p) / temperature + bias); 0 and 1 stay what they are.

    Raises:
        ConfigError: the temperature is not above 0.
    """

    temperature: float = 1.0
    bias: float = 0.0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ConfigError(f"a temperature must be above 0; found {self.temperature}")

    def apply(self, probs: Floats) -> Floats:
        """Calibrated probabilities of any shape."""
        logits = logit(probs) / np.float32(self.temperature) + np.float32(self.bias)
        calibrated = 1.0 / (1.0 + np.exp(-logits))
        return np.where((probs == 0.0) | (probs == 1.0), probs, calibrated).astype(np.float32)

    def invert(self, prob: float) -> float:
        """The probability whose calibrated value this is."""
        logits = (np.log(prob) - np.log1p(-prob) - self.bias) * self.temperature
        return float(1.0 / (1.0 + np.exp(-logits)))

    def of_pairs(self, probs: Floats, columns: Ints, *, labels: LabelSpace) -> Floats:
        """(n,) calibrated probabilities: the same function for all concepts."""
        return self.apply(probs)

    def inverse(self, prob: float, *, labels: LabelSpace) -> Floats:
        """(L,) `invert`, for all concepts alike."""
        return np.full(len(labels), self.invert(prob), dtype=np.float32)

    def to_json(self) -> dict[str, Any]:
        """See `Calibrator`; files older than the other kinds have no kind."""
        return {"kind": "temperature", **asdict(self)}


def fit_calibration(probs: Floats, true: Bools) -> Calibration:
    """The temperature and bias with the least log loss.

    Args:
        probs: (n,) probabilities of candidate pairs.
        true: (n,) whether each pair is true.

    Raises:
        PredictionsError: all pairs are true or none is, or the more probable ones are the rarer
            true ones.
    """
    if true.all() or not true.any():
        raise PredictionsError(
            f"cannot calibrate: {int(true.sum())} of {len(true)} candidate pairs are true"
        )
    slope, bias = fit_logistic(logit(probs)[:, None], true, ridge=1e-3)
    if not slope > 0:
        raise PredictionsError(
            "cannot calibrate: concepts given a higher probability are true less often"
        )
    return Calibration(temperature=float(1.0 / slope), bias=float(bias))
