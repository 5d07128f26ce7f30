"""The ladder: what each step to a submission is worth, from the category prior on, cross-fitted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from core.metrics import Interval, Scores, bootstrap
from core.storage.tables import meant_as_written, read_rows, write_rows

RungState = Literal["kept", "not kept", "submitted"]
"""`kept`: the next are compared with it. `submitted`: the last one kept, by another name."""


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One step of the ladder.

    Attributes:
        name: the source, `prior`, `routed`, `mean`, ..., or the decision rule.
        image_f1: (N,) cross-fitted F1 of the scored images, NaN where one is left out.
        title: what it is on the ladder; empty for its name.
        state: whether it paid.
        is_rule: whether it is a decision rule, which may be called as a source is.
    """

    name: str
    image_f1: Scores
    title: str = ""
    state: RungState = "kept"
    is_rule: bool = False

    @property
    def mean(self) -> float:
        """Sample F1."""
        return float(np.nanmean(self.image_f1))


def describe_rungs(rungs: Sequence[Rung]) -> list[dict[str, Any]]:
    """Rungs as plain values, without their scores."""
    return [
        {"name": rung.name, "title": rung.title, "state": rung.state, "is_rule": rung.is_rule}
        for rung in rungs
    ]


def rungs_of(
    described: Sequence[Any], *, sources: Mapping[str, Scores], rules: Mapping[str, Scores]
) -> list[Rung]:
    """The rungs that `describe_rungs` described.

    Earlier versions kept a pair of name and title each, and no rung that did not pay.

    Args:
        described: as `describe_rungs` gave them.
        sources, rules: (N,) F1 under each source and under each decision rule.
    """
    rungs = []
    for values in described:
        if not isinstance(values, dict):
            values = {"name": values[0], "title": values[1]}
        scores = rules if values.get("is_rule") else sources
        rungs.append(Rung(**values, image_f1=scores[values["name"]]))
    return rungs


@dataclass(frozen=True, kw_only=True)
class LadderStep:
    """A rung with its score and its gain over the last one before it that was kept.

    Attributes:
        name: of the rung.
        f1: its sample F1.
        gain: paired difference to that one; None for the first, and for what is submitted.
        state: whether it was kept.
    """

    name: str
    f1: Interval
    gain: Interval | None
    state: RungState = "kept"


def climb(rungs: Sequence[Rung], *, groups: Sequence[str]) -> list[LadderStep]:
    """Scores and paired gains with 95 % intervals, whole groups resampled.

    Args:
        rungs: the simplest first, all of the same N images.
        groups: N groups.
    """
    steps: list[LadderStep] = []
    kept: Scores | None = None
    for rung in rungs:
        gain = None
        if kept is not None and rung.state != "submitted":
            gain = bootstrap(rung.image_f1 - kept, groups=groups)
        f1 = bootstrap(rung.image_f1, groups=groups)
        steps.append(LadderStep(name=rung.title or rung.name, f1=f1, gain=gain, state=rung.state))
        if rung.state == "kept":
            kept = rung.image_f1
    return steps


_STEP = ("name", "f1", "f1_low", "f1_high", "gain", "gain_low", "gain_high", "n")


def write_steps(path: Path, steps: Sequence[LadderStep]) -> None:
    """Write steps that all have a gain, a line each: F1 and gain with their intervals, and n."""
    rows: list[Sequence[object]] = [_STEP]
    for step in steps:
        assert step.gain is not None
        values = [v for i in (step.f1, step.gain) for v in (i.value, i.low, i.high)]
        rows.append([step.name, *map(repr, values), step.f1.n])
    write_rows(path, rows)


def read_steps(path: Path) -> list[LadderStep]:
    """The steps that `write_steps` wrote, to the last bit."""
    header, *lines = read_rows(path) or [[]]

    def interval(row: dict[str, str], key: str) -> Interval:
        value, low, high = (float(row[key + end]) for end in ("", "_low", "_high"))
        return Interval(value=value, low=low, high=high, n=int(row["n"]))

    with meant_as_written(path):
        rows = [dict(zip(header, line, strict=True)) for line in lines]
        return [
            LadderStep(name=row["name"], f1=interval(row, "f1"), gain=interval(row, "gain"))
            for row in rows
        ]


def ladder_table(steps: Sequence[LadderStep], *, images: str) -> list[str]:
    """The ladder as aligned lines: rung, sample F1, gain over the kept one above, state."""
    title = f"cross-fitted on {images}"
    width = max(len(title), *(len(step.name) for step in steps))
    header = "sample F1 [95 %]          gain over the kept line above"
    lines = [f"{title:<{width}}  {header}"]
    for step in steps:
        gain = "" if step.gain is None else step.gain.signed()
        lines.append(f"{step.name:<{width}}  {step.f1!s:<24}  {gain:<26}  {step.state}")
    note = f"n = {steps[0].f1.n:,} images"
    if any(step.state == "not kept" for step in steps):
        note += (
            "; a line is kept where its gain exceeds a standard error, or what --set margin says"
        )
    return [*lines, f"{'':<{width}}  {note}"]
