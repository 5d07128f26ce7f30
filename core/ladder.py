"""What each step from the category prior to the submission is worth, cross-fitted on valid."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.metrics import Interval, Scores, bootstrap


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One step of the ladder.

    Attributes:
        name: the source: `prior`, `routed`, `mean`, ...
        image_f1: (N,) cross-fitted F1 of the validation images, NaN where one is left out.
        title: what it is on the ladder; empty for its name.
    """

    name: str
    image_f1: Scores
    title: str = ""

    @property
    def mean(self) -> float:
        """Sample F1."""
        return float(np.nanmean(self.image_f1))


def write_scores(path: Path, *, image_ids: Sequence[str], scores: Mapping[str, Scores]) -> None:
    """Write the F1 of each image under each source: a column a source, empty where left out."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image_id", *scores])
        for row, image_id in enumerate(image_ids):
            values = [float(f1[row]) for f1 in scores.values()]
            writer.writerow([image_id, *("" if np.isnan(v) else repr(v) for v in values)])


def read_scores(path: Path) -> tuple[tuple[str, ...], dict[str, Scores]]:
    """Image ids, and the (N,) F1 under each source, to the last bit as they were written."""
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = list(csv.reader(file))
    columns = list(zip(*rows, strict=True))
    scores = {
        name: np.array([float(value or "nan") for value in column])
        for name, column in zip(header[1:], columns[1:], strict=True)
    }
    return columns[0], scores


@dataclass(frozen=True, kw_only=True)
class Step:
    """A rung with its score and its gain over the rung before.

    Attributes:
        name: of the rung.
        f1: its sample F1.
        gain: paired difference to the rung before it; None for the first.
    """

    name: str
    f1: Interval
    gain: Interval | None


def climb(rungs: Sequence[Rung], *, groups: Sequence[str]) -> list[Step]:
    """Scores and paired gains with 95 % intervals, whole groups resampled.

    Args:
        rungs: the simplest first, all of the same N images.
        groups: N groups.
    """
    steps: list[Step] = []
    before: Scores | None = None
    for rung in rungs:
        gain = None if before is None else bootstrap(rung.image_f1 - before, groups=groups)
        f1 = bootstrap(rung.image_f1, groups=groups)
        steps.append(Step(name=rung.title or rung.name, f1=f1, gain=gain))
        before = rung.image_f1
    return steps


_STEP = ("name", "f1", "f1_low", "f1_high", "gain", "gain_low", "gain_high", "n")


def write_steps(path: Path, steps: Sequence[Step]) -> None:
    """Write steps that all have a gain, a line each: F1 and gain with their intervals, and n."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_STEP)
        for step in steps:
            assert step.gain is not None
            values = [v for i in (step.f1, step.gain) for v in (i.value, i.low, i.high)]
            writer.writerow([step.name, *map(repr, values), step.f1.n])


def read_steps(path: Path) -> list[Step]:
    """The steps that `write_steps` wrote, to the last bit."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))

    def interval(row: dict[str, str], key: str) -> Interval:
        value, low, high = (float(row[key + end]) for end in ("", "_low", "_high"))
        return Interval(value=value, low=low, high=high, n=int(row["n"]))

    return [
        Step(name=row["name"], f1=interval(row, "f1"), gain=interval(row, "gain")) for row in rows
    ]


def ladder_table(steps: Sequence[Step]) -> str:
    """The ladder as aligned text: rung, sample F1 with interval, gain with interval."""
    width = max(len(step.name) for step in steps)
    lines = [f"{'cross-fitted on valid':<{width}}  sample F1 [95 %]          gain [95 %]"]
    for step in steps:
        gain = "" if step.gain is None else step.gain.signed()
        lines.append(f"{step.name:<{width}}  {step.f1!s:<24}  {gain}".rstrip())
    lines.append(f"{'':<{width}}  n = {steps[0].f1.n:,} images")
    return "\n".join(lines)
