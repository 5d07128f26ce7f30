"""What is expected of images like those of valid: made with a run, kept in its folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from core.images import ImageTable
from core.labels import LabelSpace
from core.metrics import Scores
from core.runs.ensemble import read_scores, write_scores
from ensembles.decisions.choose import Choice
from ensembles.decisions.rule import DecisionRule
from ensembles.forecast.forecast import Forecast, forecast, judge, judge_valid, write_by_fold
from ensembles.forecast.shift import Kind, Shift, shift_between
from ensembles.pairs import Floats, to_csr
from ensembles.reliability import reliability, write_reliability

BELIEF = "belief.json"
IMAGES = "forecast_images.csv"


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What to forecast by, and how that did on valid.

    Attributes:
        belief: calibration, head and number missed.
        found: (N,) values of `forecast.COLUMNS` of the images of valid, without their fold.
        categories, groups: N of each.
    """

    belief: DecisionRule
    found: Mapping[str, Scores]
    categories: Sequence[str]
    groups: Sequence[str]

    @classmethod
    def of(
        cls,
        choice: Choice,
        probs: Floats,
        *,
        categories: Sequence[str],
        groups: Sequence[str],
        labels: LabelSpace,
    ) -> "Outlook | None":
        """The outlook of what was chosen; None where the probabilities cannot be calibrated.

        Args:
            choice: what was chosen on these images of valid.
            probs: (N, L) out-of-fold probabilities.
            categories, groups: N of each.
        """
        judged = judge_valid(choice, probs, categories=categories, labels=labels)
        if judged is None or np.isnan(judged[1]["truth"]).all():
            return None
        return cls(belief=judged[0], found=judged[1], categories=categories, groups=groups)

    def shift(
        self,
        probs: Floats,
        *,
        categories: Sequence[str],
        groups: Sequence[str],
        labels: LabelSpace,
    ) -> Shift:
        """Where other images, which need no labels, differ in kind from those of valid.

        Args:
            probs: (M, L) of the other images.
            categories, groups: M of each.
        """
        none = np.array([], dtype=np.int32)
        nothing = to_csr(none, none, shape=probs.shape)
        _, now = judge(self.belief, nothing, probs, categories=categories, labels=labels)
        before = Kind(
            mass=self.found["mass"],
            highest=self.found["highest"],
            categories=self.categories,
            groups=self.groups,
        )
        return shift_between(before, Kind(**now, categories=categories, groups=groups))

    def forecast(
        self,
        decided: csr_array,
        probs: Floats,
        *,
        categories: Sequence[str],
        groups: Sequence[str],
        labels: LabelSpace,
        shift: Shift,
    ) -> Forecast | None:
        """What decided images will score; None where every one is sure to be left out of the mean.

        Args:
            decided, probs: (M, L).
            categories, groups: M of each.
            shift: of these images, as `shift` found it.
        """
        expected, _ = judge(self.belief, decided, probs, categories=categories, labels=labels)
        if np.isnan(expected.forecast):
            return None
        return forecast(
            expected,
            error=self.found["forecast"] - self.found["truth"],
            groups=self.groups,
            test_groups=groups,
            differs=shift.words,
        )

    @classmethod
    def load(cls, folder: Path, *, valid: ImageTable) -> "Outlook | None":
        """What `save_outlook` wrote, if it did."""
        if not (folder / BELIEF).is_file():
            return None
        image_ids, found = read_scores(folder / IMAGES)
        valid = valid.take(valid.row_numbers(image_ids))
        belief = DecisionRule.load(folder / BELIEF)
        return cls(belief=belief, found=found, categories=valid.categories, groups=valid.groups)


def save_outlook(
    folder: Path, choice: Choice, probs: Floats, *, valid: ImageTable, labels: LabelSpace
) -> None:
    """Write reliability, the forecast's record on valid by image and by fold, and the belief.

    Nothing is written where the probabilities cannot be calibrated.

    Args:
        probs: (N, L) out-of-fold probabilities of valid.
    """
    outlook = Outlook.of(
        choice, probs, categories=valid.categories, groups=valid.groups, labels=labels
    )
    if choice.belief is None or outlook is None:
        return
    pairs, free = choice.belief.pairs, choice.belief.pairs.probs < 1.0
    after = choice.belief.calibration.calibrated
    bins = {
        "before": reliability(pairs.probs[free], pairs.true[free]),
        "after": reliability(after[free], pairs.true[free]),
    }
    write_reliability(folder / "reliability.csv", bins)
    write_by_fold(folder / "forecast.csv", outlook.found, folds=valid.folds)
    write_scores(folder / IMAGES, image_ids=valid.image_ids, scores=outlook.found)
    outlook.belief.save(folder / BELIEF)
