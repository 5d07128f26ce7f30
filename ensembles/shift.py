"""Whether images differ in kind from those that a forecast was tried on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from core.metrics import Scores

ERRORS = 4.0
"""Standard errors of a difference that chance does not explain, with a dozen looked at."""

LEAST_SHARE = 0.05
LEAST_DEVIATIONS = 0.2
"""Smaller differences move no forecast, however sure they are."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What is known of N images without their truth.

    Attributes:
        mass: (N,) expected number of concepts.
        highest: (N,) highest calibrated probability, 0 where there is none.
        categories, groups: N of each; an image of group "" is a group by itself.
    """

    mass: Scores
    highest: Scores
    categories: Sequence[str]
    groups: Sequence[str]


def differences(before: Kind, now: Kind) -> list[str]:
    """In words, where the images of now differ from those before; empty where nowhere.

    Means of two samples are compared by a z-test whose errors come from whole groups; what is
    called different must be beyond chance and large enough to matter.
    """
    parts = (before, now)
    groups = [_numbers(part.groups) for part in parts]
    found = []
    for name in sorted({*before.categories, *now.categories}):
        old, new = ((np.array(part.categories) == name).astype(np.float64) for part in parts)
        if _differ((old, new), groups, least=LEAST_SHARE):
            found.append(f"{name or 'unknown category'} {new.mean():.0%} against {old.mean():.0%}")
    old, new = ((part.highest < 0.5).astype(np.float64) for part in parts)
    if _differ((old, new), groups, least=LEAST_SHARE):
        found.append(f"nothing above 0.5 in {new.mean():.0%} against {old.mean():.0%}")
    least = LEAST_DEVIATIONS * float(before.mass.std())
    if _differ((before.mass, now.mass), groups, least=least):
        found.append(f"{now.mass.mean():.1f} expected concepts against {before.mass.mean():.1f}")
    return found


def _differ(
    values: tuple[Scores, Scores], groups: Sequence[npt.NDArray[np.intp]], *, least: float
) -> bool:
    """Whether two means differ beyond chance and by so much."""
    errors = [_squared_error(v, g) for v, g in zip(values, groups, strict=True)]
    difference = abs(float(values[0].mean() - values[1].mean()))
    return difference > least and difference > ERRORS * float(np.sqrt(sum(errors)))


def _squared_error(values: Scores, groups: npt.NDArray[np.intp]) -> float:
    """Variance of a mean over whole groups, by linearising the ratio of sums."""
    sums = np.bincount(groups, weights=values - values.mean())
    return float((sums**2).sum() / len(values) ** 2)


def _numbers(groups: Sequence[str]) -> npt.NDArray[np.intp]:
    names = [group or f"\0{row}" for row, group in enumerate(groups)]
    return np.unique(np.array(names, dtype=np.str_), return_inverse=True)[1]
