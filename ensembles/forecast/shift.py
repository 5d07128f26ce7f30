"""Whether images differ in kind from those that a calibration was fitted on, seen without labels.

Two things are told apart. Another mix of categories changes the mean score and not the meaning of a
probability. Categories that were never seen, or other probabilities within the same categories,
say that what was calibrated may not hold: a scanner, a preprocessing or a detector has changed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from core.metrics import Scores, group_numbers

_Values = Scores | npt.NDArray[np.bool_]

ERRORS = 4.0
"""Standard errors of a difference that chance does not explain, with a dozen looked at."""

LEAST_SHARE = 0.05
LEAST_DEVIATIONS = 0.2
"""Smaller differences move no forecast, however sure they are."""


@dataclass(frozen=True, kw_only=True)
class ImageTraits:
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


@dataclass(frozen=True, kw_only=True)
class Shift:
    """Where images differ from earlier ones, in words.

    Attributes:
        mix: categories that are more or less frequent.
        meaning: why the calibration of the earlier ones may not hold.
        excess: by category that is more frequent beyond chance, the share of its images that the
            earlier mix does not account for.
    """

    mix: Sequence[str] = ()
    meaning: Sequence[str] = ()
    excess: Mapping[str, float] = field(default_factory=dict)

    @property
    def words(self) -> list[str]:
        """All of it."""
        return [*self.meaning, *self.mix]


def shift_between(before: ImageTraits, now: ImageTraits) -> Shift:
    """Where the images of now differ from those before.

    Means are compared by a z-test whose errors come from whole groups; what is called different
    must be beyond chance and large enough to matter. Numbers of concepts and highest probabilities
    are compared over the categories that both have, those before weighted to the mix of now.
    """
    old, new = (np.array(part.categories, dtype=np.str_) for part in (before, now))
    mix, meaning, excess = [], [], {}
    for name in np.unique(np.concatenate([old, new])):
        shares = _Mean.of(old == name, before.groups), _Mean.of(new == name, now.groups)
        if shares[0].differs(shares[1], least=LEAST_SHARE):
            said = f"{name or 'unknown category'} {shares[1].value:.0%} against"
            mix.append(f"{said} {shares[0].value:.0%}")
            if shares[1].value > shares[0].value:
                excess[str(name)] = 1.0 - shares[0].value / shares[1].value
    unseen = _Mean.of(~np.isin(new, old), now.groups)
    if unseen.value > LEAST_SHARE:
        names = ", ".join(name or "none given" for name in np.setdiff1d(new, old).tolist())
        meaning.append(f"{unseen.value:.0%} of its images in categories that those lack ({names})")
    weights, here = _to_the_mix_of(old, new), np.isin(new, old)
    if not here.any():
        return Shift(mix=mix, meaning=meaning, excess=excess)

    def compared(values: tuple[_Values, _Values], *, least: float) -> "tuple[_Mean, _Mean] | None":
        was = _Mean.of(values[0], before.groups, weights=weights)
        now_ = _Mean.of(values[1], now.groups, weights=here.astype(np.float64))
        return (was, now_) if was.differs(now_, least=least) else None

    if found := compared((before.highest < 0.5, now.highest < 0.5), least=LEAST_SHARE):
        meaning.append(f"nothing above 0.5 in {found[1].value:.0%} against {found[0].value:.0%}")
    least = LEAST_DEVIATIONS * float(before.mass.std())
    if found := compared((before.mass, now.mass), least=least):
        meaning.append(
            f"{found[1].value:.1f} expected concepts an image against {found[0].value:.1f}"
        )
    return Shift(mix=mix, meaning=meaning, excess=excess)


def _to_the_mix_of(old: npt.NDArray[np.str_], new: npt.NDArray[np.str_]) -> npt.NDArray[np.float64]:
    """(N,) weights of the old images that give each category the share it has in the new ones."""
    names, kinds, sizes = np.unique(old, return_inverse=True, return_counts=True)
    wanted = np.array([(new == name).sum() for name in names])
    return np.asarray((wanted / sizes)[kinds], dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class _Mean:
    """A weighted mean with its variance over whole groups, by linearising the ratio of sums."""

    value: float
    variance: float

    @classmethod
    def of(
        cls,
        values: _Values,
        groups: Sequence[str],
        *,
        weights: npt.NDArray[np.float64] | None = None,
    ) -> "_Mean":
        weights = np.ones(len(values)) if weights is None else weights
        value = float(weights @ values / weights.sum())
        sums = np.bincount(group_numbers(groups), weights=weights * (values - value))
        return cls(value=value, variance=float((sums**2).sum() / weights.sum() ** 2))

    def differs(self, other: "_Mean", *, least: float) -> bool:
        """Whether the two differ beyond chance and by so much."""
        difference = abs(self.value - other.value)
        error = float(np.sqrt(self.variance + other.variance))
        return difference > least and difference > ERRORS * error
