"""The decision rule that scores best on images it was not fitted on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from core.errors import PredictionsError
from core.labels import Concepts, LabelSpace, Targets
from core.metrics import Scores, image_f1, mean_in_order
from core.progress import say
from core.single_threshold import THRESHOLDS, best_threshold, f1_by_threshold
from ensembles.calibrate import fit_calibration
from ensembles.decide import DecisionRule
from ensembles.folds import Folds, held_out_images
from ensembles.pairs import Bools, Floats, Pairs
from ensembles.thresholds import Thresholds
from ensembles.tuning import Tuning, choose_thresholds, wins


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A decision rule, fitted on all images, and what it scored when cross-fitted.

    Attributes:
        rule: what to decide by.
        scores: cross-fitted sample F1 of every rule that was tried: the `plain` threshold, exact
            `global`, `category` and `concept` thresholds, `expected-f1`.
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
    """The simplest rule that no other one beats by the margin.

    In this order: one plain threshold of `core.single_threshold`, which is too coarse to overfit;
    exact thresholds of the finest level that pays; the sets with the highest expected F1.
    Probabilities that cannot be calibrated are decided by thresholds, and that is said.

    Args:
        probs: (N, L) out-of-fold probabilities.
        categories: N categories.
        folds: (N,) fold of each image.
        always: concepts that every image of a category gets; no threshold is spent on them.

    Raises:
        AlignmentError: rows or columns do not fit, an image has no fold, or all share one.
    """
    base = DecisionRule(
        kind="expected-f1",
        empty_truth=tuning.empty_truth,
        nomissing=tuning.nomissing,
        always=always or {},
    )
    probs = base.with_always(probs, categories=categories, labels=labels)
    exact, exact_f1 = choose_thresholds(
        probs, targets, labels=labels, categories=categories, folds=folds, tuning=tuning
    )
    trial = _Trial(
        probs=probs, targets=targets, labels=labels, categories=categories, folds=folds, base=base
    )
    everything = np.ones(len(targets), dtype=np.bool_)
    kept = Choice(rule=trial.plain(everything), scores={}, image_f1=trial.cross_fitted(trial.plain))
    scores = {"plain": mean_in_order(kept.image_f1), **exact.scores}
    if wins(exact_f1 - kept.image_f1, margin=tuning.margin):
        rule = replace(base, kind="thresholds", thresholds=exact)
        kept = Choice(rule=rule, scores={}, image_f1=exact_f1)
    try:
        expected_f1 = trial.cross_fitted(trial.calibrated)
    except PredictionsError as error:
        say(f"decisions by expected F1 are not tried: {error}")
        return replace(kept, scores=scores)
    scores["expected-f1"] = mean_in_order(expected_f1)
    if wins(expected_f1 - kept.image_f1, margin=tuning.margin):
        kept = Choice(rule=trial.calibrated(everything), scores={}, image_f1=expected_f1)
    return replace(kept, scores=scores)


@dataclass(frozen=True, kw_only=True)
class _Trial:
    """Rules that are fitted on some images of valid and judged on others."""

    probs: Floats
    targets: Targets
    labels: LabelSpace
    categories: Sequence[str]
    folds: Folds
    base: DecisionRule

    @cached_property
    def _f1_by_threshold(self) -> Scores:
        return f1_by_threshold(self.probs, self.targets, empty_truth=self.base.empty_truth)

    @cached_property
    def _pairs(self) -> Pairs:
        return Pairs.of(self.probs, self.targets, floor=self.base.floor)

    def plain(self, chosen: Bools) -> DecisionRule:
        """The best plain threshold of these images."""
        threshold = float(THRESHOLDS[best_threshold(self._f1_by_threshold[:, chosen])])
        return replace(self.base, kind="thresholds", thresholds=Thresholds(global_=threshold))

    def calibrated(self, chosen: Bools) -> DecisionRule:
        """Expected F1 under probabilities calibrated on these images.

        Raises:
            PredictionsError: they cannot be calibrated.
        """
        fitted_on = self._pairs.of_images(chosen)
        free = fitted_on.probs < 1.0  # neither those of `always` nor other certain ones
        calibration = fit_calibration(fitted_on.probs[free], fitted_on.true[free])
        return replace(self.base, calibration=calibration)

    def cross_fitted(self, fit: Callable[[Bools], DecisionRule]) -> Scores:
        """(N,) F1 of each image under the rule fitted without its fold."""
        scores = np.empty(len(self.targets))
        names = np.array(self.categories, dtype=np.str_)
        for held_out in held_out_images(self.folds):
            decided = fit(~held_out).decide(
                self.probs[held_out], categories=names[held_out].tolist(), labels=self.labels
            )
            scores[held_out] = image_f1(
                self.targets.rows(held_out), decided, empty_truth=self.base.empty_truth
            )
        return scores
