"""The calibrations by name, which of them pays, and predicted beside observed, bin by bin."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import ConfigError
from core.folds import cross_fitted, in_order
from core.labels import LabelSpace
from core.metrics import ScoredImages, Scores, beats_by_margin
from ensembles.calibration.isotonic import IsotonicCalibration, fit_isotonic
from ensembles.calibration.temperature import Calibration, Calibrator, fit_calibration
from ensembles.calibration.vector import VectorCalibration, fit_vector
from ensembles.pairs import Bools, Floats, Ints, LabelledPairs
from ensembles.solvers.logistic import EDGE


def _fit_temperature(
    probs: Floats, true: Bools, columns: Ints, *, labels: LabelSpace
) -> Calibration:
    return fit_calibration(probs, true)


CALIBRATIONS: dict[str, Callable[..., Calibrator]] = {
    "temperature": _fit_temperature,
    "vector": fit_vector,
    "isotonic": fit_isotonic,
}
"""(probs, true, columns, labels) to a calibration, the simplest first."""

_READERS: dict[str, Callable[[Mapping[str, Any]], Calibrator]] = {
    "temperature": lambda values: Calibration(**values),
    "vector": VectorCalibration.from_json,
    "isotonic": IsotonicCalibration.from_json,
}


def from_json(values: Mapping[str, Any]) -> Calibrator:
    """The calibration that `to_json` gave; without a kind it is a temperature and a bias.

    Raises:
        ConfigError: the kind is not known.
    """
    given = dict(values)
    kind = given.pop("kind", "temperature")
    if kind not in _READERS:
        raise ConfigError(f"unknown calibration {kind!r}; expected one of {', '.join(_READERS)}")
    return _READERS[kind](given)


def fit_kind(kind: str, pairs: LabelledPairs, *, labels: LabelSpace) -> Calibrator:
    """A calibration of this kind, fitted on the pairs that are not certain.

    Raises:
        PredictionsError: the pairs cannot be calibrated.
    """
    free = pairs.probs < 1.0  # neither those of `always` nor other certain ones
    return CALIBRATIONS[kind](
        pairs.probs[free], pairs.true[free], columns=pairs.columns[free], labels=labels
    )


@dataclass(frozen=True, kw_only=True)
class CalibrationChoice:
    """The calibration that pays.

    Attributes:
        kind: its name.
        log_loss: cross-fitted log loss of each kind, nats a pair; lower is better.
        calibrated: (n,) cross-fitted probabilities of the pairs under that kind.
    """

    kind: str
    log_loss: Mapping[str, float]
    calibrated: Floats


def choose_calibration(
    pairs: LabelledPairs, images: ScoredImages, *, margin: float
) -> CalibrationChoice:
    """The simplest calibration that no other one beats by the margin in cross-fitted log loss.

    Args:
        pairs: candidate pairs of the images; certain ones have no part in the loss.
        images: N of them.
        margin: standard errors of the paired difference of the images' losses.

    Raises:
        PredictionsError: the pairs of some folds cannot be calibrated by a temperature.
        AlignmentError: an image has no fold, or all share one.
    """
    free = pairs.probs < 1.0
    log_loss: dict[str, float] = {}
    kept: tuple[str, Floats, Scores] | None = None
    for kind in CALIBRATIONS:
        calibrated = _cross_fitted(kind, pairs, images)
        held = np.clip(calibrated[free].astype(np.float64), EDGE, 1.0 - EDGE)
        losses = -np.log(np.where(pairs.true[free], held, 1.0 - held))
        log_loss[kind] = float(losses.mean())
        of_images: Scores = np.bincount(
            pairs.rows[free], weights=losses, minlength=len(pairs.n_true)
        ).astype(np.float64)
        if kept is None or beats_by_margin(kept[2] - of_images, margin=margin):
            kept = (kind, calibrated, of_images)
    assert kept is not None
    return CalibrationChoice(kind=kept[0], log_loss=log_loss, calibrated=kept[1])


def _cross_fitted(kind: str, pairs: LabelledPairs, images: ScoredImages) -> Floats:
    """(n,) probabilities calibrated without the fold of the pair's image."""

    def fit(others: Bools) -> Calibrator:
        return fit_kind(kind, pairs.of_images(others), labels=images.labels)

    def calibrate(calibration: Calibrator, held_out: Bools) -> Floats:
        here = held_out[pairs.rows]
        return calibration.of_pairs(pairs.probs[here], pairs.columns[here], labels=images.labels)

    found = cross_fitted(fit, calibrate, folds=images.folds)
    return in_order([(held_out[pairs.rows], probs) for held_out, probs in found])


Numbers = npt.NDArray[np.float64]

EDGES = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Bounds of the bins; finer where most pairs of 3,047 concepts lie."""


def reliability(probs: Floats, true: Bools, *, edges: tuple[float, ...] = EDGES) -> Numbers:
    """(bins, 5) pairs by their probability p: low, high, mean p, share that is true, n.

    A bin holds low <= p < high, the last one 1 as well. Bins without a pair are left out.

    Args:
        probs: (n,) probabilities.
        true: (n,) whether each pair is true.
        edges: bounds of the bins, rising from 0 to 1.
    """
    number = np.clip(np.searchsorted(edges, probs, side="right") - 1, 0, len(edges) - 2)
    n = np.bincount(number, minlength=len(edges) - 1)
    held = np.flatnonzero(n)
    mean = np.bincount(number, weights=probs, minlength=len(edges) - 1)[held] / n[held]
    share = np.bincount(number, weights=true, minlength=len(edges) - 1)[held] / n[held]
    bounds = np.array(edges)
    return np.stack([bounds[held], bounds[held + 1], mean, share, n[held]], axis=1)
