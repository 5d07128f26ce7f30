"""The score that decided images will get, without their labels.

The forecast is the mean expected F1 of the decided sets under the calibrated probabilities, with
the head for the number of concepts and the number missed (`ensembles.decisions.general_f1`); of
images that lie far from what was learnt, it is that of far ones (`ensembles.distance`). On the
scored images (`Corpus.scored`) the same is done fold by fold with all of it fitted on the other
folds, so that it has a record; `ensembles.forecast.interval` makes an interval of that.

Cross-fitted on 1,500 drawn images the error was +0.0004 where concepts were independent and +0.010
where a common cause of deviation 1 moved all their logits; the head alone was off by -0.029 there,
so that heads and independence are both tried.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array
from scipy.special import entr

from core.folds import Folds
from core.images import ImageTable
from core.labels import LabelSpace
from core.metrics import ScoredImages, Scores
from core.runs.ensemble import EnsembleRecord, Numbers
from ensembles.decisions.choose import RuleChoice
from ensembles.decisions.concept_counts import CountHead
from ensembles.decisions.expected_f1 import Expected
from ensembles.decisions.general_f1 import expected_of, with_decided
from ensembles.decisions.rule import DecisionRule
from ensembles.forecast.interval import NO_OTHERS, CategoryForecast, Forecast, Lie, forecast
from ensembles.forecast.shift import ImageTraits, Shift, shift_between
from ensembles.pairs import Bools, CalibratedPairs, Probs, as_csr, to_csr, values_at

COLUMNS = ("forecast", "truth", "mass", "highest", "entropy")
"""Values of an image: expected F1, true F1, expected number of concepts, highest probability, and
the sum over concepts of the entropy of theirs, in nats."""


def expected_scores(
    rule: DecisionRule,
    decided: csr_array,
    *,
    probs: Probs,
    categories: Sequence[str],
    labels: LabelSpace,
) -> tuple[Expected, dict[str, Scores]]:
    """What sets are expected to score, and (N,) `mass`, `highest`, `entropy` of their images.

    Args:
        rule: calibration, head and number missed.
        decided: (N, L) boolean.
        probs: (N, L), before calibration.
        categories: N categories.
    """
    probs = as_csr(probs)
    known = rule.ranked(probs, categories=categories, labels=labels)
    rows, columns, flags = with_decided(known.rows, known.columns, decided=decided)
    calibrated = rule.calibration.of_pairs(
        values_at(probs, rows, columns=columns), columns, labels=labels
    )
    place = np.searchsorted(
        rows.astype(np.int64) * len(labels) + columns,
        known.rows.astype(np.int64) * len(labels) + known.columns,
    )
    calibrated[place] = known.probs  # certain ones among them
    ranked = CalibratedPairs(rows=rows, columns=columns, probs=calibrated, shape=known.shape)
    expected = expected_of(
        ranked,
        flags,
        head=rule.head,
        categories=categories,
        empty_truth=rule.empty_truth,
        missed=rule.missed,
    )
    highest = np.zeros(len(categories))
    np.maximum.at(highest, ranked.rows, ranked.probs.astype(np.float64))
    p = ranked.probs.astype(np.float64)
    doubt = entr(p) + entr(1.0 - p)
    entropy = np.bincount(ranked.rows, weights=doubt, minlength=len(categories)).astype(np.float64)
    traits = {"mass": ranked.mass + rule.missed, "highest": highest, "entropy": entropy}
    return expected, traits


def forecast_scored(
    choice: RuleChoice, probs: Probs, *, images: ScoredImages
) -> tuple[DecisionRule, dict[str, Scores]] | None:
    """What to forecast by, and (N,) values of `COLUMNS` of the scored images without their fold.

    The number of concepts follows the head, or concepts are independent: whichever has the smaller
    error. None where the probabilities could not be calibrated; NaN in `forecast`
    and `truth` for images that are left out of the mean.

    Args:
        choice: what was chosen on these images.
        probs: (N, L) out-of-fold probabilities.
        images: N of them.
    """
    if choice.calibrated_model is None:
        return None
    tried = []
    for rule, rules in (
        (choice.calibrated_model.rule, choice.calibrated_model.by_fold),
        (
            _independent(choice.calibrated_model.rule),
            [(m, _independent(r)) for m, r in choice.calibrated_model.by_fold],
        ),
    ):
        found = _cross_fitted(choice, rules, probs, images=images)
        tried.append((rule, found))
    kept = [~np.isnan(found["truth"]) for _, found in tried]
    errors = [
        abs(float((found["forecast"] - found["truth"])[here].mean())) if here.any() else 0.0
        for (_, found), here in zip(tried, kept, strict=True)
    ]
    return tried[int(np.argmin(errors))]


def _independent(rule: DecisionRule) -> DecisionRule:
    return replace(rule, head=CountHead())


def _cross_fitted(
    choice: RuleChoice,
    rules: Sequence[tuple[Bools, DecisionRule]],
    probs: Probs,
    *,
    images: ScoredImages,
) -> dict[str, Scores]:
    names = np.array(images.categories, dtype=np.str_)
    probs = as_csr(probs)
    found = {name: np.full(len(images), np.nan) for name in COLUMNS}
    for held_out, rule in rules:
        expected, kinds = expected_scores(
            rule,
            choice.decided[held_out],
            probs=probs[held_out],
            categories=names[held_out].tolist(),
            labels=images.labels,
        )
        found["forecast"][held_out] = expected.f1
        for name, values in kinds.items():
            found[name][held_out] = values
    found["truth"] = choice.image_f1.copy()
    found["forecast"][np.isnan(found["truth"])] = np.nan
    return found


@dataclass(frozen=True, kw_only=True)
class ForecastModel:
    """What to forecast by, and how that did on the scored images.

    Attributes:
        rule: calibration, head and number missed.
        found: (N,) values of `COLUMNS` of the scored images, without their fold.
        categories, groups: N of each.
    """

    rule: DecisionRule
    found: Mapping[str, Scores]
    categories: Sequence[str]
    groups: Sequence[str]

    @classmethod
    def of(
        cls, choice: RuleChoice, probs: Probs, *, images: ScoredImages
    ) -> "ForecastModel | None":
        """By what was chosen; None where the probabilities cannot be calibrated.

        Args:
            choice: what was chosen on these images.
            probs: (N, L) out-of-fold probabilities.
            images: N of them.
        """
        judged = forecast_scored(choice, probs, images=images)
        if judged is None or np.isnan(judged[1]["truth"]).all():
            return None
        return cls(
            rule=judged[0], found=judged[1], categories=images.categories, groups=images.groups
        )

    def shift(
        self,
        probs: Probs,
        *,
        categories: Sequence[str],
        groups: Sequence[str],
        labels: LabelSpace,
    ) -> Shift:
        """Where other images, which need no labels, differ in kind from the scored ones.

        Args:
            probs: (M, L) of the other images.
            categories, groups: M of each.
        """
        none = np.array([], dtype=np.int32)
        nothing = to_csr(none, none, shape=probs.shape)
        _, now = expected_scores(
            self.rule, nothing, probs=probs, categories=categories, labels=labels
        )
        before = ImageTraits(
            mass=self.found["mass"],
            highest=self.found["highest"],
            categories=self.categories,
            groups=self.groups,
        )
        return shift_between(
            before,
            ImageTraits(
                mass=now["mass"], highest=now["highest"], categories=categories, groups=groups
            ),
        )

    def expected(
        self, decided: csr_array, probs: Probs, *, categories: Sequence[str], labels: LabelSpace
    ) -> Expected:
        """What each of M decided images is expected to score.

        Args:
            decided, probs: (M, L).
            categories: M of them.
        """
        return expected_scores(
            self.rule, decided, probs=probs, categories=categories, labels=labels
        )[0]

    def forecast(
        self,
        expected: Expected,
        *,
        categories: Sequence[str],
        groups: Sequence[str],
        shift: Shift,
        lie: Lie | None = None,
    ) -> Forecast | None:
        """What decided images will score; None where every one is sure to be left out of the mean.

        Args:
            expected: of M images, by `expected`.
            categories, groups: M of each.
            shift: of these images, as `shift` found it.
            lie: how they lie to what was learnt; None where that is not known.
        """
        if np.isnan(expected.forecast):
            return None
        kinds, own_groups = np.array(categories, dtype=np.str_), np.array(groups, dtype=np.str_)

        def of(rows: Bools, reach: float) -> Forecast | None:
            found = Expected(expected.decided[rows], expected.f1[rows], expected.counts[rows])
            if np.isnan(found.forecast):
                return None
            others = NO_OTHERS if lie is None else lie.others(reach)
            return forecast(
                found,
                error=self.found["forecast"] - self.found["truth"],
                groups=self.groups,
                test_groups=own_groups[rows].tolist(),
                differs=shift.words,
                others=others,
            )

        every = np.ones(len(kinds), dtype=np.bool_)
        if lie is None:
            return of(every, 0.0)
        reach = {own.category: max(own.share, own.separation) for own in lie.categories}
        for name, excess in shift.excess.items():
            reach[name] = max(reach.get(name, 0.0), excess)
        far = []
        for own in lie.categories:
            made = of(kinds == own.category, reach[own.category]) if own.differs else None
            if made is not None:
                far.append(
                    CategoryForecast(
                        category=own.category,
                        n=own.n,
                        n_far=round(own.share * own.n),
                        value=made.value,
                        low=made.low,
                        high=made.high,
                    )
                )
        whole = float(np.mean([reach.get(name, 0.0) for name in categories]))
        made = of(every, whole)
        return made and replace(made, far=tuple(far), reach=whole)

    def by_fold(self, folds: Folds) -> Numbers:
        """(folds, 4) the record: fold, its images in the mean, forecast and truth.

        Args:
            folds: (N,) fold of each image.
        """
        rows = []
        for fold in np.unique(folds):
            here = (folds == fold) & ~np.isnan(self.found["truth"])
            if here.any():
                means = [self.found[name][here].mean() for name in ("forecast", "truth")]
                rows.append([fold, here.sum(), *means])
        return np.array(rows, dtype=np.float64)

    @classmethod
    def load(
        cls, path: Path, record: EnsembleRecord, *, scored: ImageTable
    ) -> "ForecastModel | None":
        """The model of a finished run; None where it has none.

        Args:
            path: the run's rule.
            record: what the run wrote of the scored images.
            scored: the images of the record, others beside them.
        """
        if not path.is_file():
            return None
        scored = scored.take(scored.row_numbers(record.image_ids))
        return cls(
            rule=DecisionRule.load(path),
            found=record.forecast,
            categories=scored.categories,
            groups=scored.groups,
        )
