"""What decision rules score on simulated detectors, of known and of bad calibration.

Detectors of `simulated` report on real label sets. Half of the images are valid, half are test. On
valid, as `ensemble` does it: (a) one exact threshold; (b) the rule that `choose_rule`
chooses, or its fallback where test is seen to differ in kind from valid; (c) expected F1 after one
temperature and bias, unconditionally; (d) thresholds of concepts, unconditionally. Each is judged
on test beside (e), expected F1 under the probabilities that know what the evidence means, which no
rule can know; it takes concepts to be independent, as they are given that evidence where no setting
correlates it, though not in the label sets. Differences are paired with (a), image by image;
intervals (95 %) resample images, whose draws by other seeds go with them. The forecast is that of
`ensemble --submit`.

The aims: (b) at least 0.010 above (a) where what the detector says can be calibrated, and nowhere
more than 0.001 below; the forecast within 0.010 of the truth, or test said to differ from valid.

    python -m benchmarks.quality.bench_decisions [--quick] [--images N] [--seeds S]
        [--strengths D...] [--settings NAME...]
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.machine import environment
from benchmarks.quality.simulated import (
    ROCO,
    SETTINGS,
    LabelSets,
    Setting,
    read_label_sets,
    simulate,
)
from core.editions import EmptyTruth
from core.errors import PredictionsError
from core.metrics import Interval, ScoredImages, Scores, bootstrap, image_f1
from ensembles.calibration.temperature import fit_calibration
from ensembles.config import EnsembleConfig
from ensembles.decisions.choose import RuleChoice, choose_rule
from ensembles.decisions.rule import DecisionRule
from ensembles.decisions.thresholds import Thresholds, Tuning, tune_by_concept, tune_global
from ensembles.ensemble import falls_back
from ensembles.forecast.forecast import ForecastModel
from ensembles.forecast.interval import Forecast
from ensembles.pairs import Floats, LabelledPairs

EMPTY_TRUTH: EmptyTruth = "left out"
CONFIG = EnsembleConfig()
STRENGTHS = (1.5, 2.25, 3.0)
NOTHING = 0.1  # a strength at which scores say nearly nothing but the base rates
N_RESAMPLES = 1000
RULES = ("one threshold", "chosen", "expected F1", "by concept", "oracle")


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one draw gave.

    Attributes:
        image_f1: F1 of the images of test by rule of `RULES`; a rule that cannot be fitted is
            missing.
        image_ids: of test.
        chosen: the rule that was chosen, in a word.
        forecast: of (b) on test, less what it then scored; NaN where there is none.
        inside: whether the forecast's interval holds it.
        differs: whether test was seen to differ in kind from valid.
        seen: what `choose_rule` says the rules scored on valid, cross-fitted.
    """

    image_f1: Mapping[str, Scores]
    image_ids: tuple[str, ...]
    chosen: str
    forecast: float
    inside: bool
    differs: bool
    seen: Mapping[str, float]

    def gain(self, name: str) -> Scores:
        """F1 of the images above that under one threshold."""
        return self.image_f1[name] - self.image_f1["one threshold"]


def judge(sets: LabelSets, setting: Setting, *, strength: float, seed: int) -> Run:
    """Fit every rule on valid and judge it on test."""
    drawn = simulate(sets, setting, strength=strength, seed=seed)
    names = np.array(sets.categories)
    valid, test = drawn.valid, drawn.test
    targets = sets.targets.rows(valid)
    images = ScoredImages(
        targets=targets,
        labels=sets.labels,
        categories=names[valid].tolist(),
        groups=[""] * len(targets),
        folds=drawn.folds[valid],
        empty_truth=EMPTY_TRUTH,
    )
    choice = choose_rule(
        drawn.reported[valid],
        images,
        tuning=Tuning(
            caution=CONFIG.caution,
            min_true=CONFIG.min_true,
            margin=CONFIG.margin,
            nomissing=CONFIG.nomissing,
        ),
    )
    pairs = LabelledPairs.of(drawn.reported[valid], targets)
    threshold = tune_global(pairs, empty_truth=EMPTY_TRUTH)
    here, truth, labels = names[test].tolist(), sets.targets.rows(test), sets.labels
    reported = drawn.reported[test]
    chosen, made = _as_submitted(
        choice, sets, before=(drawn.reported[valid], images), now=(reported, here)
    )
    rules = {
        "one threshold": _by_thresholds(Thresholds(global_=threshold)),
        "chosen": chosen,
        "by concept": _by_thresholds(_of_concepts(pairs, sets, threshold)),
    }
    try:
        floored = LabelledPairs.of(drawn.reported[valid], targets, floor=DecisionRule.floor)
        fitted = fit_calibration(floored.probs, floored.true)
        rules["expected F1"] = DecisionRule(
            kind="expected-f1", nomissing=CONFIG.nomissing, calibration=fitted
        )
    except PredictionsError:
        pass  # choose_rule meets the same and has said so
    f1 = {
        name: image_f1(
            truth, rule.decide(reported, categories=here, labels=labels), empty_truth=EMPTY_TRUTH
        )
        for name, rule in rules.items()
    }
    oracle = DecisionRule(kind="expected-f1", nomissing=CONFIG.nomissing)
    decided = oracle.decide(drawn.known[test], categories=here, labels=labels)
    f1["oracle"] = image_f1(truth, decided, empty_truth=EMPTY_TRUTH)
    reached = float(np.nanmean(f1["chosen"]))
    return Run(
        image_f1=f1,
        image_ids=tuple(np.array(sets.image_ids)[test].tolist()),
        chosen=_in_a_word(chosen, choice),
        forecast=made.value - reached if made else float("nan"),
        inside=bool(made and made.low <= reached <= made.high),
        differs=chosen != choice.rule or bool(made and made.differs),
        seen=choice.scores,
    )


def _as_submitted(
    choice: RuleChoice,
    sets: LabelSets,
    *,
    before: tuple[Floats, ScoredImages],
    now: tuple[Floats, Sequence[str]],
) -> tuple[DecisionRule, Forecast | None]:
    """The rule that test is decided by, and the forecast of its score.

    Args:
        before: what was reported of the images of valid, and these.
        now: what was reported of the images of test, and their categories.
    """
    (seen, images), (reported, categories) = before, now
    forecast_model = ForecastModel.of(choice, seen, images=images)
    if forecast_model is None:
        return choice.rule, None
    alone = [""] * len(categories)
    shift = forecast_model.shift(reported, categories=categories, groups=alone, labels=sets.labels)
    rule = choice.fallback if falls_back(choice.rule, shift) else choice.rule
    decided = rule.decide(reported, categories=categories, labels=sets.labels)
    expected = forecast_model.expected(decided, reported, categories=categories, labels=sets.labels)
    return rule, forecast_model.forecast(expected, categories=categories, groups=alone, shift=shift)


def _by_thresholds(thresholds: Thresholds) -> DecisionRule:
    return DecisionRule(kind="thresholds", thresholds=thresholds, nomissing=CONFIG.nomissing)


def _of_concepts(pairs: LabelledPairs, sets: LabelSets, threshold: float) -> Thresholds:
    """Thresholds of concepts over one for all, as cautious as the ensemble's."""
    found = tune_by_concept(
        pairs,
        start=np.full(len(pairs.n_true), threshold, dtype=np.float32),
        empty_truth=EMPTY_TRUTH,
        caution=CONFIG.caution,
        min_true=CONFIG.min_true,
    )
    own = {sets.labels.cuis[i]: float(found[i]) for i in np.flatnonzero(~np.isnan(found))}
    return Thresholds(global_=threshold, by_concept=own)


def _in_a_word(rule: DecisionRule, choice: RuleChoice) -> str:
    if rule != choice.rule:
        return "fallback"
    if choice.calibrated_model and rule.kind != "thresholds":
        return f"{rule.kind} ({choice.calibrated_model.calibration.kind})"
    if rule.kind != "thresholds" or rule.thresholds is None:
        return rule.kind
    return {"global": "one", "category": "category", "concept": "concept"}[rule.thresholds.level]


def paired(runs: Sequence[Run], name: str) -> Interval | None:
    """The gain of a rule over one threshold in all runs; None where one could not be fitted."""
    if any(name not in run.image_f1 for run in runs):
        return None
    return bootstrap(
        np.concatenate([run.gain(name) for run in runs]),
        groups=[image_id for run in runs for image_id in run.image_ids],
        n_resamples=N_RESAMPLES,
    )


def verdict(setting: Setting, strength: float, gains: Mapping[str, Interval | None]) -> str:
    """Whether the aim is met, and whether what is known of the evidence would allow it."""
    chosen, oracle = gains["chosen"], gains["oracle"]
    assert chosen is not None
    assert oracle is not None
    if chosen.value < -0.001:
        return "**below**"
    if not setting.calibratable or strength == NOTHING:
        return "held"
    if chosen.value >= 0.010:
        return "met"
    return "missed" if oracle.value >= 0.010 else "out of reach"


def row(setting: Setting, strength: float, runs: Sequence[Run]) -> str:
    """A line of the table."""
    gains = {name: paired(runs, name) for name in RULES[1:]}
    base = np.mean([run.image_f1["one threshold"].mean() for run in runs])
    worst = min(run.gain("chosen").mean() for run in runs)
    counts = {name: [run.chosen for run in runs].count(name) for name in (r.chosen for r in runs)}
    chosen = ", ".join(f"{n} x {name}" for name, n in counts.items())
    forecasts = ", ".join(_forecast(run) for run in runs)
    cells = [
        setting.name,
        f"{strength:g}",
        f"{base:.4f}",
        str(_signed(gains["chosen"])),
        f"{worst:+.4f}",
        chosen,
        *(_signed(gains[name]) for name in RULES[2:]),
        forecasts,
        verdict(setting, strength, gains),
    ]
    return f"| {' | '.join(cells)} |"


def _forecast(run: Run) -> str:
    if np.isnan(run.forecast):
        return "none"
    said = f"{run.forecast:+.3f}" if run.inside else f"*{run.forecast:+.3f}*"
    return f"{said} (said to differ)" if run.differs else said


def _signed(gain: Interval | None) -> str:
    return "cannot be fitted" if gain is None else gain.signed()


def seen_row(setting: Setting, strength: float, runs: Sequence[Run]) -> str:
    """What the choice was made from: gains over the plain threshold on valid."""
    cells = [setting.name, f"{strength:g}", f"{np.mean([r.seen['plain'] for r in runs]):.4f}"]
    for name in dict.fromkeys(name for run in runs for name in run.seen if name != "plain"):
        found = [run.seen[name] - run.seen["plain"] for run in runs if name in run.seen]
        cells.append(f"{name} {np.mean(found):+.4f}")
    return f"| {' | '.join(cells[:3])} | {', '.join(cells[3:])} |"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--images", type=int)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--strengths", type=float, nargs="+", default=STRENGTHS)
    parser.add_argument("--settings", nargs="+", default=[setting.name for setting in SETTINGS])
    given = parser.parse_args()
    if not ROCO.is_file():
        print(f"skipped: the concept lists of {ROCO} are not here")
        return
    if given.quick:
        given.images, given.seeds, given.strengths = 600, 1, STRENGTHS[1:2]
    start = time.perf_counter()
    sets = read_label_sets(n_images=given.images)
    settings = [setting for setting in SETTINGS if setting.name in given.settings]
    plan = [(setting, strength) for setting in settings for strength in given.strengths]
    if settings and settings[0] == SETTINGS[0]:
        plan.append((settings[0], NOTHING))
    n_images, n_concepts = sets.targets.matrix.shape
    print(
        f"{n_images:,} images, {n_concepts:,} concepts, {sets.targets.n_true.mean():.2f} an image;"
        f" half of them valid; {given.seeds} seeds; margin {CONFIG.margin:g}, caution"
        f" {CONFIG.caution:g}\n"
    )
    print("Forecasts whose interval (95 %) does not hold the truth are *marked*.\n")
    print(
        "| setting | strength | one threshold | chosen | worst seed | which | expected F1 |"
        " by concept | oracle | forecast - truth | aim |\n"
        "| --- | --: | --: | --: | --: | --- | --: | --: | --: | --: | --- |"
    )
    seen = []
    for setting, strength in plan:
        runs = [judge(sets, setting, strength=strength, seed=seed) for seed in range(given.seeds)]
        print(row(setting, strength, runs), flush=True)
        seen.append(seen_row(setting, strength, runs))
    print("\nCross-fitted on valid:\n\n| setting | strength | plain | gains over it |")
    print("| --- | --: | --: | --- |")
    print("\n".join(seen))
    print(f"\n{time.perf_counter() - start:,.0f} s. {environment('numpy', 'scipy', 'numba')}")


if __name__ == "__main__":
    main()
