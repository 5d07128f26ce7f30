"""The score that decided images will get, without their labels.

The forecast is the mean expected F1 of the decided sets under the calibrated probabilities, with
the head for the number of concepts and the number missed (`ensembles.decisions.general_f1`). On
the scored images (`Corpus.scored`) the same is done fold by fold with all of it fitted on the other
folds; e_i = forecast - truth of an image. The test images are given, so what is uncertain is not
which they are, but their truth: the interval is forecast - (b + r), with b the mean of e over drawn
groups of scored images (the error of the method) and r the mean of e less its own mean over as many
drawn groups as test has (the luck of so many images). It is centred on the forecast, unless b is
beyond chance: then the mean error is taken off the forecast as well. An error within chance is left
alone, since taking it off would add its noise to the forecast.

Cross-fitted on 1,500 drawn images the error was +0.0004 where concepts were independent and +0.010
where a common cause of deviation 1 moved all their logits; the head alone was off by -0.029 there,
so that heads and independence are both tried.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from core.folds import Folds
from core.images import ImageTable
from core.labels import LabelSpace
from core.metrics import Interval, ScoredImages, Scores, bootstrap, group_numbers
from core.runs.ensemble import EnsembleRecord, Numbers
from ensembles.decisions.choose import RuleChoice
from ensembles.decisions.concept_counts import CountHead
from ensembles.decisions.expected_f1 import Expected
from ensembles.decisions.general_f1 import expected_of, with_decided
from ensembles.decisions.rule import DecisionRule
from ensembles.forecast.shift import ImageTraits, Shift, shift_between
from ensembles.pairs import Bools, CalibratedPairs, Probs, as_csr, to_csr, values_at

COLUMNS = ("forecast", "truth", "mass", "highest")
"""Values of an image that a forecast goes by: expected F1, true F1, expected number of concepts and
highest probability."""

_BLOCK = 32  # resamples drawn at once, as `core.metrics.bootstrap` does


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a submission will score.

    Attributes:
        value, low, high: sample F1 with its 95 % interval, within 0 and 1.
        n: images in test.
        error: forecast less truth on the scored images, cross-fitted.
        corrected: whether the mean error was taken off, being beyond chance.
        differs: where the images differ in kind from the scored ones, in words.
    """

    value: float
    low: float
    high: float
    n: int
    error: Interval
    corrected: bool
    differs: Sequence[str] = ()

    def __str__(self) -> str:
        line = (
            f"forecast: F1 {self.value:.3f} [{self.low:.3f}, {self.high:.3f}] on {self.n:,} test"
            f" images; forecasts of labelled images, made the same way, were off by"
            f" {self.error.value:+.3f}"
        )
        line += ", which is taken off" if self.corrected else ""
        if self.differs:
            differs = ", ".join(self.differs)
            line += f"; not to be relied on, test differs from what it was fitted on: {differs}"
        return line

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "differs": list(self.differs)}


def expected_scores(
    rule: DecisionRule,
    decided: csr_array,
    *,
    probs: Probs,
    categories: Sequence[str],
    labels: LabelSpace,
) -> tuple[Expected, dict[str, Scores]]:
    """What sets are expected to score, and (N,) `mass` and `highest` of their images.

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
    return expected, {"mass": ranked.mass + rule.missed, "highest": highest}


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


def forecast(
    expected: Expected,
    *,
    error: Scores,
    groups: Sequence[str],
    test_groups: Sequence[str],
    differs: Sequence[str] = (),
    n_resamples: int = 2000,
    seed: int = 0,
) -> Forecast:
    """The score of decided test images with its 95 % interval.

    Args:
        expected: what the sets are expected to score.
        error: (N,) forecast - truth of the scored images, NaN where one is left out.
        groups: N groups of theirs.
        test_groups: groups of the test images.
        differs: see `shift.differences`.
    """
    known = bootstrap(error, groups=groups)
    corrected = not known.low <= 0.0 <= known.high
    value = expected.forecast - (known.value if corrected else 0.0)
    kept = ~np.isnan(error)
    members = np.unique(group_numbers(groups)[kept], return_inverse=True)[1]
    sums = np.bincount(members, weights=error[kept] - known.value)
    sizes = np.bincount(members).astype(np.float64)
    rng = np.random.default_rng(seed)
    luck = np.zeros(n_resamples)
    for n_drawn in (len(sums), len(set(group_numbers(test_groups).tolist()))):
        for first in range(0, n_resamples, _BLOCK):
            block = luck[first : first + _BLOCK]
            drawn = rng.integers(len(sums), size=(len(block), n_drawn))
            block += sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(value - luck, (0.025, 0.975))
    return Forecast(
        value=float(np.clip(value, 0.0, 1.0)),
        low=float(np.clip(low, 0.0, 1.0)),
        high=float(np.clip(high, 0.0, 1.0)),
        n=len(test_groups),
        error=known,
        corrected=corrected,
        differs=tuple(differs),
    )


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
        return shift_between(before, ImageTraits(**now, categories=categories, groups=groups))

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
        self, expected: Expected, *, groups: Sequence[str], shift: Shift
    ) -> Forecast | None:
        """What decided images will score; None where every one is sure to be left out of the mean.

        Args:
            expected: of M images, by `expected`.
            groups: M of them.
            shift: of these images, as `shift` found it.
        """
        if np.isnan(expected.forecast):
            return None
        return forecast(
            expected,
            error=self.found["forecast"] - self.found["truth"],
            groups=self.groups,
            test_groups=groups,
            differs=shift.words,
        )

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
