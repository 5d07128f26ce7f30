"""The decision rule that scores best on images it was not fitted on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypedDict, Unpack

import numpy as np
from scipy.sparse import csr_array, vstack

from core.errors import PredictionsError
from core.folds import cross_fitted, fitted_without, held_out_images
from core.labels import FREQUENCIES, Concepts
from core.metrics import (
    THRESHOLDS,
    ScoredImages,
    Scores,
    beats_by_margin,
    best_threshold,
    f1_of_pairs_by_threshold,
    mean_in_order,
)
from core.progress import say
from ensembles.calibration.choose import (
    CalibrationChoice,
    Numbers,
    choose_calibration,
    fit_kind,
    reliability,
)
from ensembles.decisions.concept_counts import fit_counts, poisson_binomial
from ensembles.decisions.prior_adjustment import PriorAdjustment
from ensembles.decisions.rule import CALIBRATED_RULES, DecisionRule
from ensembles.decisions.set_sizes import fit_factor
from ensembles.decisions.thresholds import LevelChoice, Thresholds, Tuning, choose_thresholds
from ensembles.pairs import Bools, LabelledPairs, Pairs, Probs, as_csr

Always = Mapping[str, Concepts]
"""By category, the concepts that every image of it gets."""


class SaidByLabels(TypedDict, total=False):
    """What decisions take from labels of images other than the one that is decided.

    Attributes:
        always: concepts that every image of a category gets; no threshold is spent on them.
        always_by_fold: those that the images of a fold get while they are judged, where they were
            counted on images of these folds; without it `always` was counted elsewhere.
        adjustment: of what is decided by.
        adjustment_by_fold: likewise that of the images of a fold, by shares counted without it.
    """

    always: Always
    always_by_fold: Mapping[int, Always]
    adjustment: PriorAdjustment
    adjustment_by_fold: Mapping[int, PriorAdjustment]


def adjusted_by(said: SaidByLabels, strength: float) -> SaidByLabels:
    """The same labels, with another strength of the adjustment that they have; 0 for none."""
    found: SaidByLabels = {**said}
    if not strength:
        found.pop("adjustment", None)
        found.pop("adjustment_by_fold", None)
        return found
    found["adjustment"] = replace(said["adjustment"], strength=strength)
    if "adjustment_by_fold" in said:
        found["adjustment_by_fold"] = {
            fold: replace(own, strength=strength)
            for fold, own in said["adjustment_by_fold"].items()
        }
    return found


@dataclass(frozen=True, kw_only=True)
class CalibratedModel:
    """The fitted calibration and count model: a rule's calibration, head and number missed.

    Attributes:
        rule: fitted on all images.
        by_fold: (N,) masks of held-out images, each with the rule fitted on the others.
        calibration: which calibration was kept, and what the kinds lost.
        pairs: the pairs that it was chosen on.
    """

    rule: DecisionRule
    by_fold: Sequence[tuple[Bools, DecisionRule]]
    calibration: CalibrationChoice
    pairs: LabelledPairs

    def reliability(self) -> dict[str, Numbers]:
        """(bins, 5) of `reliability` of the pairs that are not certain, by calibration."""
        free = self.pairs.probs < 1.0
        by_calibration = {"before": self.pairs.probs, "after": self.calibration.calibrated}
        return {
            name: reliability(probs[free], self.pairs.true[free])
            for name, probs in by_calibration.items()
        }


@dataclass(frozen=True, kw_only=True)
class RuleChoice:
    """A decision rule, fitted on all images, and what it scored when cross-fitted.

    Attributes:
        rule: what to decide by.
        fallback: one exact threshold: it needs no calibration, and for images that differ in kind
            from these it is what can still be relied on.
        decided: (N, L) the cross-fitted decisions of the rule.
        kept: its name in `rungs`.
        rungs: (N,) cross-fitted F1 of the images under every rule that was tried, NaN for an image
            that is left out of the mean: the `plain` threshold, exact `global`, `category` and
            `concept` thresholds, and those of
            `CALIBRATED_RULES`.
        levels: thresholds of every level, kept or not.
        calibrated_model: None where the probabilities cannot be calibrated.
    """

    rule: DecisionRule
    fallback: DecisionRule
    decided: csr_array
    kept: str
    rungs: Mapping[str, Scores]
    levels: LevelChoice
    calibrated_model: CalibratedModel | None = None

    @property
    def image_f1(self) -> Scores:
        """(N,) cross-fitted F1 under the rule that was kept."""
        return self.rungs[self.kept]

    @property
    def scores(self) -> dict[str, float]:
        """Cross-fitted sample F1 of every rule that was tried."""
        return {name: mean_in_order(f1) for name, f1 in self.rungs.items()}


def choose_rule(
    probs: Probs,
    images: ScoredImages,
    *,
    tuning: Tuning,
    **said: Unpack[SaidByLabels],
) -> RuleChoice:
    """The simplest rule that no other one beats by the margin.

    In this order: one plain threshold of `core.metrics`, which is too coarse to overfit;
    exact thresholds of the finest level that pays; the rules of `CALIBRATED_RULES`, under the
    calibration that pays. Probabilities that cannot be calibrated are decided by thresholds, and
    that is said.

    A threshold of a concept's own takes up its adjustment by the prior, as it takes up whatever is
    the same for all images: with one, concepts of fewer than 101 true images have none. Tuned on
    F1, they would undo what the adjustment is for.

    Args:
        probs: (N, L) out-of-fold probabilities.
        images: N of them.
        **said: by labels of other images.

    Raises:
        AlignmentError: rows or columns do not fit, an image has no fold, or all share one.
    """
    trial = _Trial.of(probs, images, tuning=tuning, said=said)
    base = trial.base
    if base.adjustment is not None:
        tuning = replace(tuning, min_true=max(tuning.min_true, FREQUENCIES[-1]))
    levels = choose_thresholds(trial.adjusted, images, tuning=tuning)
    sets = trial.cross_fitted(trial.plain)
    rule = trial.plain(np.ones(len(images), dtype=np.bool_))
    exact, level = levels.thresholds, levels.level
    kept = RuleChoice(
        rule=rule,
        fallback=replace(base, kind="thresholds", thresholds=Thresholds(global_=exact.global_)),
        decided=sets,
        kept="plain",
        rungs={"plain": images.image_f1(sets), **levels.image_f1},
        levels=levels,
    )
    if beats_by_margin(kept.rungs[level] - kept.image_f1, margin=tuning.margin):
        rule = replace(base, kind="thresholds", thresholds=exact)
        kept = replace(kept, rule=rule, decided=levels.decided, kept=level)
    try:
        calibrated_model = trial.calibrate(margin=tuning.margin)
    except PredictionsError as error:
        say(f"decisions under calibrated probabilities are not tried: {error}")
        return kept
    for kind, sets in trial.under(calibrated_model).items():
        f1 = images.image_f1(sets)
        pays = beats_by_margin(f1 - kept.image_f1, margin=tuning.margin)
        kept = replace(kept, calibrated_model=calibrated_model, rungs={**kept.rungs, kind: f1})
        if pays:
            kept = replace(
                kept, rule=replace(calibrated_model.rule, kind=kind), decided=sets, kept=kind
            )
    return kept


def decide_by_one_threshold(
    probs: Probs, images: ScoredImages, *, tuning: Tuning, **said: Unpack[SaidByLabels]
) -> LevelChoice:
    """Cross-fitted decisions by one exact threshold for all concepts.

    Args:
        probs: (N, L) out-of-fold probabilities.
        images: N of them.
        **said: by labels of other images.

    Raises:
        AlignmentError: rows or columns do not fit, an image has no fold, or all share one.
    """
    trial = _Trial.of(probs, images, tuning=tuning, said=said)
    return choose_thresholds(trial.adjusted, images, tuning=tuning, finer=())


@dataclass(frozen=True, kw_only=True)
class _Trial:
    """Rules that are fitted on some images of valid and judged on others."""

    probs: csr_array
    images: ScoredImages
    base: DecisionRule
    always_by_fold: Mapping[int, Always] | None
    adjustment_by_fold: Mapping[int, PriorAdjustment] | None

    @classmethod
    def of(
        cls, probs: Probs, images: ScoredImages, *, tuning: Tuning, said: SaidByLabels
    ) -> "_Trial":
        """With 1 for the concepts that each image always gets."""
        base = DecisionRule(
            kind="expected-f1",
            empty_truth=images.empty_truth,
            nomissing=tuning.nomissing,
            always=said.get("always", {}),
            adjustment=said.get("adjustment"),
        )
        trial = cls(
            probs=as_csr(probs),
            images=images,
            base=base,
            always_by_fold=said.get("always_by_fold"),
            adjustment_by_fold=said.get("adjustment_by_fold"),
        )
        return replace(trial, probs=trial.with_always())

    def with_always(self) -> csr_array:
        """(N, L) the probabilities with 1 for the concepts that each image always gets."""
        labels, categories = self.images.labels, self.images.categories
        if self.always_by_fold is None:
            return self.base.with_always(self.probs, categories=categories, labels=labels)
        return self._by_fold(
            lambda rule, held_out: rule.with_always(
                self.probs[held_out], categories=self._names[held_out].tolist(), labels=labels
            )
        )

    @cached_property
    def adjusted(self) -> csr_array:
        """(N, L) what thresholds are chosen on: the shares of no image count itself."""
        labels = self.images.labels
        if self.adjustment_by_fold is None:
            return self.base.adjusted(self.probs, labels=labels)
        return self._by_fold(
            lambda rule, held_out: rule.adjusted(self.probs[held_out], labels=labels)
        )

    def _by_fold(self, apply: Callable[[DecisionRule, Bools], csr_array]) -> csr_array:
        """(N, L) what the rule that has not met a fold makes of the images of each."""
        return _stacked(
            [
                (held_out, apply(self._base(~held_out), held_out))
                for held_out in held_out_images(self.images.folds)
            ]
        )

    def _base(self, chosen: Bools) -> DecisionRule:
        """The rule that is fitted further on these images: all, or all but those of a fold."""
        rule = self.base
        if chosen.all():
            return rule
        fold = int(self.images.folds[~chosen][0])
        if self.always_by_fold is not None:
            rule = replace(rule, always=self.always_by_fold[fold])
        if self.adjustment_by_fold is not None:
            rule = replace(rule, adjustment=self.adjustment_by_fold[fold])
        return rule

    @cached_property
    def _f1_by_threshold(self) -> Scores:
        images = np.arange(len(self.images), dtype=np.int32)
        rows = np.repeat(images, np.diff(self.adjusted.indptr))
        pairs = Pairs(rows=rows, columns=self.adjusted.indices, shape=self.adjusted.shape)
        return f1_of_pairs_by_threshold(
            rows,
            self.adjusted.data,
            true=pairs.are_true(self.images.targets),
            targets=self.images.targets,
            empty_truth=self.images.empty_truth,
        )

    @cached_property
    def _names(self) -> np.ndarray[tuple[int], np.dtype[np.str_]]:
        return np.array(self.images.categories, dtype=np.str_)

    def plain(self, chosen: Bools) -> DecisionRule:
        """The best plain threshold of these images."""
        threshold = float(THRESHOLDS[best_threshold(self._f1_by_threshold[:, chosen])])
        rule = self._base(chosen)
        return replace(rule, kind="thresholds", thresholds=Thresholds(global_=threshold))

    def calibrate(self, *, margin: float) -> CalibratedModel:
        """The calibration that pays, with all that rules on calibrated probabilities need.

        Raises:
            PredictionsError: the probabilities cannot be calibrated.
        """
        pairs = LabelledPairs.of(self.probs, self.images.targets, floor=self.base.floor)
        choice = choose_calibration(pairs, self.images, margin=margin)
        return CalibratedModel(
            rule=self._fitted(np.ones(len(self.images), np.bool_), pairs, choice.kind),
            by_fold=fitted_without(
                lambda others: self._fitted(others, pairs, choice.kind), folds=self.images.folds
            ),
            calibration=choice,
            pairs=pairs,
        )

    def _fitted(self, chosen: Bools, pairs: LabelledPairs, kind: str) -> DecisionRule:
        """Calibration, number missed, factor and head of these images."""
        fitted = fit_kind(kind, pairs.of_images(chosen), labels=self.images.labels)
        rule = replace(self._base(chosen), calibration=fitted)
        names = self._names[chosen].tolist()
        ranked = rule.ranked(self.probs[chosen], categories=names, labels=self.images.labels)
        targets = self.images.targets.rows(chosen)
        true = ranked.are_true(targets)
        n_true = np.bincount(ranked.rows[true], minlength=len(targets))
        missed = float((targets.n_true - n_true).mean())
        decided_by = ranked
        if rule.adjustment is not None:
            own = rule.adjustment.balanced(ranked, labels=self.images.labels)
            rule = replace(rule, adjustment=own)
            decided_by = own.of_ranked(ranked, labels=self.images.labels)
        factor = fit_factor(
            decided_by,
            true,
            n_true=targets.n_true,
            limit=rule.max_concepts,
            empty_truth=rule.empty_truth,
            missed=missed,
        )
        head = fit_counts(poisson_binomial(ranked), n_true, categories=names)
        return replace(rule, missed=missed, factor=factor, head=head)

    def under(self, calibrated_model: CalibratedModel) -> dict[str, csr_array]:
        """(N, L) cross-fitted decisions of each rule on calibrated probabilities."""
        found: dict[str, list[tuple[Bools, csr_array]]] = {kind: [] for kind in CALIBRATED_RULES}
        labels = self.images.labels
        for held_out, rule in calibrated_model.by_fold:
            names, probs = self._names[held_out].tolist(), self.probs[held_out]
            ranked = rule.ranked(probs, categories=names, labels=labels)
            adjusted = rule.adjusted(probs, labels=labels)
            for kind, parts in found.items():
                decided = replace(rule, kind=kind).of_ranked(ranked, names, labels=labels)
                parts.append((held_out, rule.complete(decided, adjusted)))
        return {kind: _stacked(parts) for kind, parts in found.items()}

    def cross_fitted(self, fit: Callable[[Bools], DecisionRule]) -> csr_array:
        """(N, L) decisions of each image by the rule fitted without its fold."""

        def decide(rule: DecisionRule, images: Bools) -> csr_array:
            names = self._names[images].tolist()
            return rule.decide(self.probs[images], categories=names, labels=self.images.labels)

        return _stacked(cross_fitted(fit, decide, folds=self.images.folds))


def _stacked(found: Sequence[tuple[Bools, csr_array]]) -> csr_array:
    """(N, L) what was found one fold after the other, in the order of the images."""
    rows = np.concatenate([np.flatnonzero(held_out) for held_out, _ in found])
    whole = csr_array(vstack([part for _, part in found], format="csr"))
    return csr_array(whole[np.argsort(rows)])
