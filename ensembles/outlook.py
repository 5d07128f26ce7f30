"""What a run folder keeps of the forecast: made with the run, read when it is submitted."""

from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from core.images import ImageTable
from core.labels import LabelSpace
from core.ladder import read_scores, write_scores
from core.runs import META, read_meta, write_json
from ensembles.choose import Choice
from ensembles.decide import DecisionRule
from ensembles.forecast import Forecast, forecast, judge, judge_valid, write_by_fold
from ensembles.pairs import Floats
from ensembles.reliability import reliability, write_reliability
from ensembles.shift import Kind, differences

BELIEF = "belief.json"
IMAGES = "forecast_images.csv"


def save_outlook(
    folder: Path, choice: Choice, probs: Floats, *, valid: ImageTable, labels: LabelSpace
) -> None:
    """Write reliability, the forecast's record on valid by image and by fold, and the belief.

    Nothing is written where the probabilities cannot be calibrated.

    Args:
        probs: (N, L) out-of-fold probabilities of valid.
    """
    judged = judge_valid(choice, probs, categories=valid.categories, labels=labels)
    if choice.belief is None or judged is None:
        return
    rule, found = judged
    pairs, free = choice.belief.pairs, choice.belief.pairs.probs < 1.0
    after = choice.belief.calibration.calibrated
    bins = {
        "before": reliability(pairs.probs[free], pairs.true[free]),
        "after": reliability(after[free], pairs.true[free]),
    }
    write_reliability(folder / "reliability.csv", bins)
    write_by_fold(folder / "forecast.csv", found, folds=valid.folds)
    write_scores(folder / IMAGES, image_ids=valid.image_ids, scores=found)
    rule.save(folder / BELIEF)


def forecast_test(
    home: Path,
    decided: csr_array,
    probs: Floats,
    *,
    test: ImageTable,
    valid: ImageTable,
    labels: LabelSpace,
) -> Forecast | None:
    """The forecast of decided test images, also written to the run's `meta.json`.

    None where the run has none: it could not be calibrated, or an earlier version made it.

    Args:
        home: a finished run.
        decided, probs: (N, L) of the test images.
    """
    if not (home / BELIEF).is_file():
        return None
    image_ids, found = read_scores(home / IMAGES)
    valid = valid.take(valid.row_numbers(image_ids))
    expected, kinds = judge(
        DecisionRule.load(home / BELIEF), decided, probs, categories=test.categories, labels=labels
    )
    differs = differences(
        Kind(
            mass=found["mass"],
            highest=found["highest"],
            categories=valid.categories,
            groups=valid.groups,
        ),
        Kind(**kinds, categories=test.categories, groups=test.groups),
    )
    if np.isnan(expected.forecast) or np.isnan(found["truth"]).all():
        return None
    made = forecast(
        expected,
        error=found["forecast"] - found["truth"],
        groups=valid.groups,
        test_groups=test.groups,
        differs=differs,
    )
    write_json(home / META, {**read_meta(home), "forecast": made.to_json()})
    return made
