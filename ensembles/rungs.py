"""The rungs of the ladder: what was kept, and the best of what was tried beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from core.metrics import Scores, mean_in_order, wins
from core.runs.ensemble import Rung, State
from ensembles.config import EnsembleConfig
from ensembles.decisions.choose import Choice

LEVELS: Mapping[str, str] = {
    "global": "one exact threshold",
    "category": "thresholds by category",
    "concept": "thresholds by concept",
}


def every_rung(
    kept: Sequence[Rung],
    tried: Mapping[str, Rung],
    choice: Choice,
    config: EnsembleConfig,
    *,
    words: Mapping[str, str],
) -> list[Rung]:
    """From the prior to the decision, the simplest first, with what did not pay.

    Shown are the prior, the best member, the mean, the best other stacker, the best exact
    thresholds, the best rule on calibrated probabilities, and all stackers that were kept.

    Args:
        kept: prior, best member and stackers that paid, the simplest first.
        tried: members and stackers by name.
        choice: the decision rule.
        config: settings.
        words: rules on calibrated probabilities in words.
    """
    paid = [rung.name for rung in kept]
    shown = {"mean", *paid}
    if others := [name for name in config.stackers if name != "mean"]:
        shown.add(max(others, key=lambda name: tried[name].mean))
    rungs = [rung for rung in kept if rung.name not in config.stackers]
    for name in config.stackers:
        if name in shown:
            title = "mean of the members" if name == "mean" else f"stacker: {name}"
            rungs.append(replace(tried[name], title=title, state=_state(name in paid)))
    thresholds = _thresholds(choice, margin=config.margin, below=kept[-1].image_f1)
    return [*rungs, *thresholds, *_calibrated(choice, words)]


def _thresholds(choice: Choice, *, margin: float, below: Scores) -> list[Rung]:
    """The plain threshold where it adds to the probabilities, and the best exact thresholds.

    Args:
        below: (N,) F1 of the probabilities at one threshold, without constant concepts and with
            images left empty.
    """
    rungs = []
    plain = choice.rungs["plain"]
    if not np.array_equal(plain, below, equal_nan=True):
        added = ["constant concepts always"] if choice.rule.always else []
        added += ["no image empty"] if choice.rule.nomissing else []
        title = f"one threshold, {', '.join(added)}"
        rungs.append(Rung(name="plain", title=title, image_f1=plain, is_rule=True))
    level: str = choice.levels.level
    pays = wins(choice.rungs[level] - plain, margin=margin)  # as `choose_rule` asks
    if not pays:
        level = _best(choice, list(LEVELS))
    rungs.append(
        Rung(
            name=level,
            title=LEVELS[level],
            image_f1=choice.rungs[level],
            state=_state(pays),
            is_rule=True,
        )
    )
    return rungs


def _calibrated(choice: Choice, words: Mapping[str, str]) -> list[Rung]:
    """The rule on calibrated probabilities that was kept, else the best one; none of none."""
    rules = [name for name in choice.rungs if name not in ("plain", *LEVELS)]
    if not rules or choice.belief is None:
        return []
    pays = choice.kept in rules
    name = choice.kept if pays else _best(choice, rules)
    kind = choice.belief.calibration.kind
    return [
        Rung(
            name=name,
            title=f"decision: {words.get(name, name)} ({kind} calibration)",
            image_f1=choice.rungs[name],
            state=_state(pays),
            is_rule=True,
        )
    ]


def _best(choice: Choice, rules: Sequence[str]) -> str:
    return max(rules, key=lambda name: mean_in_order(choice.rungs[name]))


def _state(pays: bool) -> State:
    return "kept" if pays else "not kept"
