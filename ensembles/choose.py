"""The decision rule that scores best on images it was not fitted on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from core.errors import PredictionsError
from core.labels import Concepts, LabelSpace, Targets
from core.metrics import Scores, image_f1, mean_in_order
from core.progress import say
from ensembles.calibrate import fit_calibration
from ensembles.decide import DecisionRule
from ensembles.folds import Folds, held_out_images
from ensembles.pairs import Bools, Floats, Pairs
from ensembles.tuning import Tuning, choose_thresholds, wins


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A decision rule, fitted on all images, and what it scored when cross-fitted.

    Attributes:
        rule: what to decide by.
        scores: cross-fitted sample F1 of every rule that was tried: `global`, `category` and
            `concept` thresholds, `expected-f1`.
        image_f1: (N,) cross-fitted F1 of the images under the rule that was kept, NaN for an
            image that is left out of the mean.
    """

    rule: DecisionRule
    scores: Mapping[str, float]
    image_f1: Scores


def choose_rule(
    probs: Floats,
    targets: Targets,
    *,
    labels: LabelSpace,
    categories: Sequence[str],
    folds: Folds,
    tuning: Tuning,
    always: Mapping[str, Concepts] | None = None,
) -> Choice:
    """Thresholds of the finest level that pays, or expected F1 where that wins by the margin.

    Probabilities that cannot be calibrated are decided by thresholds, and that is said.

    Args:
        probs: (N, L) out-of-fold probabilities.
        categories: N categories.
        folds: (N,) fold of each image.
        always: concepts that every image of a category gets; no threshold is spent on them.

    Raises:
        AlignmentError: rows or columns do not fit, an image has no fold, or all share one.
    """
    by_expectation = DecisionRule(
        kind="expected-f1",
        empty_truth=tuning.empty_truth,
        nomissing=tuning.nomissing,
        always=always or {},
    )
    probs = by_expectation.with_always(probs, categories=categories, labels=labels)
    thresholds, threshold_f1 = choose_thresholds(
        probs, targets, labels=labels, categories=categories, folds=folds, tuning=tuning
    )
    pairs = Pairs.of(probs, targets, floor=by_expectation.floor)

    def calibrated(chosen: Bools) -> DecisionRule:
        fitted_on = pairs.of_images(chosen)
        free = fitted_on.probs < 1.0  # neither those of `always` nor other certain ones
        calibration = fit_calibration(fitted_on.probs[free], fitted_on.true[free])
        return replace(by_expectation, calibration=calibration)

    by_thresholds = Choice(
        rule=replace(by_expectation, kind="thresholds", thresholds=thresholds),
        scores=thresholds.scores,
        image_f1=threshold_f1,
    )
    expected_f1 = np.empty(len(targets))
    names = np.array(categories, dtype=np.str_)
    for held_out in held_out_images(folds):
        try:
            rule = calibrated(~held_out)
        except PredictionsError as error:
            say(f"decisions by expected F1 are not tried: {error}")
            return by_thresholds
        decided = rule.decide(probs[held_out], categories=names[held_out].tolist(), labels=labels)
        expected_f1[held_out] = image_f1(
            targets.rows(held_out), decided, empty_truth=tuning.empty_truth
        )
    scores = {**thresholds.scores, "expected-f1": mean_in_order(expected_f1)}
    if wins(expected_f1 - threshold_f1, margin=tuning.margin):
        return Choice(
            rule=calibrated(np.ones(len(targets), dtype=np.bool_)),
            scores=scores,
            image_f1=expected_f1,
        )
    return replace(by_thresholds, scores=scores)
