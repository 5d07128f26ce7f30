"""A forecast and its interval: what the score of given images is off by.

The images are given, so what is uncertain is not which they are, but their truth: the interval is
forecast - (b + r), with b the mean of e = forecast - truth over drawn groups of scored images (the
error of the method) and r the mean of e less its own mean over as many drawn groups as test has
(the luck of so many images). It is centred on the forecast, unless b is beyond chance: then the
mean error is taken off the forecast as well. An error within chance is left alone, since taking it
off would add its noise to the forecast.

Test may be of other sources than the scored images, which none of that knows of. Where it may be,
the interval takes in by how much forecasts of whole sources are off that nothing was learnt from:
the standard deviation between them, times the part of test that lies far, that can be told apart,
or that the former mix of categories does not account for, times Student's t of so many sources.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from core.metrics import Interval, Scores, bootstrap, group_numbers
from ensembles.decisions.expected_f1 import Expected
from ensembles.distance.features import Floats
from ensembles.distance.model import DistanceModel, FarCategory
from ensembles.distance.reliance import USUAL_SHARE, Reliance
from ensembles.pairs import Bools

_BLOCK = 32  # resamples drawn at once, as `core.metrics.bootstrap` does


@dataclass(frozen=True, kw_only=True)
class CategoryForecast:
    """What far images of a category, and those that come with them, will score.

    Attributes:
        category: its name.
        n, n_far: images, and how many of them are far from what was learnt, estimated.
        value, low, high: sample F1 with its 95 % interval.
    """

    category: str
    n: int
    n_far: int
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return (
            f"{self.category or 'no category'}: {self.n_far:,} of {self.n:,} images unlike"
            f" those learnt from, forecast {self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"
        )


@dataclass(frozen=True, kw_only=True)
class OtherSources:
    """How far test reaches beyond the sources that were learnt from.

    Attributes:
        reach: the part of test that may be of other sources, in [0, 1].
        spread: standard deviation of a forecast's error between sources that were left out.
        n_sources: that it was estimated on.
    """

    reach: float = 0.0
    spread: float = 0.0
    n_sources: int = 0

    def drawn(self, n: int, *, seed: int) -> Scores:
        """(n,) errors of a forecast for such images, drawn."""
        if not self.reach:
            return np.zeros(n)
        # A stream of its own: what is drawn beside it stays what it is without other sources.
        errors = np.random.default_rng([seed, 1]).standard_t(max(self.n_sources - 1, 1), size=n)
        return np.asarray(self.reach * self.spread * errors)


NO_OTHERS = OtherSources()


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a submission will score.

    Attributes:
        value, low, high: sample F1 with its 95 % interval, within 0 and 1.
        n: images in test.
        error: forecast less truth on the scored images, cross-fitted.
        corrected: whether the mean error was taken off, being beyond chance.
        differs: where the images differ in kind from the scored ones, in words.
        far: categories with images far from what was learnt.
        reach: see `OtherSources`; None where distances are not known.
    """

    value: float
    low: float
    high: float
    n: int
    error: Interval
    corrected: bool
    differs: Sequence[str] = ()
    far: Sequence[CategoryForecast] = ()
    reach: float | None = None

    def __str__(self) -> str:
        line = (
            f"forecast: F1 {self.value:.3f} [{self.low:.3f}, {self.high:.3f}] on {self.n:,} test"
            f" images; forecasts of labelled images, made the same way, were off by"
            f" {self.error.value:+.3f}"
        )
        line += ", which is taken off" if self.corrected else ""
        line += "".join(f"; {category}" for category in self.far)
        if self.differs:
            differs = ", ".join(self.differs)
            known = "not to be relied on, " if self.reach is None else ""
            line += f"; {known}test differs from what it was fitted on: {differs}"
        if self.reach:
            line += (
                f"; the interval takes in that {self.reach:.0%} of test may be of sources that"
                " nothing was learnt from"
            )
        return line

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "differs": list(self.differs), "far": [*map(asdict, self.far)]}


@dataclass(frozen=True, kw_only=True)
class Lie:
    """How N images lie to those that were learnt from.

    Attributes:
        distances: (N,) see `KnownImages.distances`; NaN where an image has no features.
        shares: (N,) share of far images in the category of each.
        categories: by category.
        reliance: how distance tells on the score.
    """

    distances: Scores
    shares: Scores
    categories: Sequence[FarCategory]
    reliance: Reliance

    @classmethod
    def of(
        cls,
        model: DistanceModel,
        points: Floats,
        *,
        there: Bools,
        categories: Sequence[str],
        groups: Sequence[str],
    ) -> "Lie":
        """By their points.

        Args:
            model: of an ensemble.
            points: (N, D).
            there: (N,) whether an image has a point.
            categories, groups: N of each.
        """
        distances, rows = np.full(len(points), np.nan), np.flatnonzero(there).tolist()
        own = [categories[row] for row in rows]
        distances[rows] = model.distances(points[rows], own)
        found = model.compare(
            points[rows],
            distances[rows],
            categories=own,
            groups=[groups[row] for row in rows],
        )
        share = {each.category: each.share for each in found}
        return cls(
            distances=distances,
            shares=np.array([share.get(name, 0.0) for name in categories]),
            categories=found,
            reliance=model.reliance,
        )

    def expected(self, expected: Scores) -> Scores:
        """(N,) F1 that can be expected of the images, by which their mean is forecast.

        Args:
            expected: (N,) F1 that their probabilities let expect.
        """
        return self.reliance.expected(expected, self.distances, share=self.shares)

    def of_each(self, expected: Scores) -> Scores:
        """(N,) the same of each by itself: among images as usual, a few are far all the same.

        Args:
            expected: (N,) F1 that their probabilities let expect.
        """
        shares = np.maximum(self.shares, USUAL_SHARE)
        return self.reliance.expected(expected, self.distances, share=shares)

    def others(self, reach: float) -> OtherSources:
        """For images of which such a part may be of other sources."""
        own = self.reliance
        return OtherSources(reach=reach, spread=own.spread, n_sources=own.n_sources)


def forecast(
    expected: Expected,
    *,
    error: Scores,
    groups: Sequence[str],
    test_groups: Sequence[str],
    differs: Sequence[str] = (),
    others: OtherSources = NO_OTHERS,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Forecast:
    """The score of decided test images with its 95 % interval.

    Args:
        expected: what the sets are expected to score.
        error: (N,) forecast - truth of the scored images, NaN where one is left out.
        groups: N groups of theirs.
        test_groups: groups of the test images.
        differs: see `Shift.words`.
        others: how far test reaches beyond the sources that were learnt from.
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
    luck += others.drawn(n_resamples, seed=seed)
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
