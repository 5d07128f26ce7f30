"""The order in which decided images are worth a look: the least sure first.

Whoever reviews a share of the images, in some order, leaves the rest as decided. The curve of the
rest's score against that share (risk-coverage, turned upside down) rises the faster, the better the
order finds what is wrong; its area is the mean of the rest's score over all shares.

Source: El-Yaniv and Wiener, "On the foundations of noise-free selective classification", JMLR 2010.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from core.metrics import Interval, Scores, group_numbers

Values = npt.NDArray[np.float64]

_N_RESAMPLES = 500


@dataclass(frozen=True, kw_only=True)
class Reviewed:
    """What it brings to review a share of the images, the least sure first.

    Attributes:
        share: of the images that are reviewed.
        n: how many these are.
        found: mean score of these as they were decided.
        rest: mean score of the others.
        after: mean score of all if those that are reviewed are put right.
    """

    share: float
    n: int
    found: float
    rest: float
    after: float


@dataclass(frozen=True, kw_only=True)
class ReviewOrder:
    """N scored images from the least sure to the surest.

    Attributes:
        scores: (N,) in [0, 1], in that order.
        groups: (N,) numbers of their groups, likewise.
    """

    scores: Scores
    groups: npt.NDArray[np.intp]

    @classmethod
    def of(cls, sureness: Scores, scores: Scores, *, groups: Sequence[str]) -> "ReviewOrder":
        """By how sure each image is; images left out of the mean, or of which it is not known, go.

        Args:
            sureness: (N,) the lower, the earlier an image is reviewed; equal ones in their order.
            scores: (N,) NaN where an image is left out.
            groups: N of them.
        """
        kept = np.flatnonzero(~np.isnan(sureness) & ~np.isnan(scores))
        order = kept[np.argsort(sureness[kept], kind="stable")]
        return cls(scores=scores[order], groups=group_numbers(groups)[order])

    def reviewed(self, share: float) -> Reviewed:
        """What it brings to review so much, in [0, 1)."""
        n = round(share * len(self.scores))
        first, rest = self.scores[:n], self.scores[n:]
        return Reviewed(
            share=share,
            n=n,
            found=float(first.mean()) if n else float("nan"),
            rest=float(rest.mean()),
            after=float((n + rest.sum()) / len(self.scores)),
        )

    def curve(self) -> tuple[Values, Values]:
        """(N,) shares reviewed, from 0 on, and the mean score of the rest."""
        n = len(self.scores)
        return np.arange(n) / n, _rest(self.scores, np.ones(n))

    @property
    def area(self) -> float:
        """Mean of the curve over all shares."""
        return _area(self.scores, np.ones(len(self.scores)))


def area_gain(order: ReviewOrder, other: ReviewOrder, *, seed: int = 0) -> Interval:
    """By how much the area of an order exceeds that of another of the same images, paired.

    The interval resamples groups, the same for both.
    """
    present = np.union1d(order.groups, other.groups)
    times = np.zeros(int(present.max()) + 1, dtype=np.intp)
    rng = np.random.default_rng(seed)
    gains = np.empty(_N_RESAMPLES)
    for number in range(_N_RESAMPLES):
        drawn = rng.integers(len(present), size=len(present))
        times[present] = np.bincount(drawn, minlength=len(present))
        gains[number] = _weighted_area(order, times) - _weighted_area(other, times)
    low, high = np.quantile(gains, (0.025, 0.975))
    return Interval(order.area - other.area, float(low), float(high), len(order.scores))


def _weighted_area(order: ReviewOrder, times: npt.NDArray[np.intp]) -> float:
    return _area(order.scores, times[order.groups].astype(np.float64))


def _area(scores: Scores, weights: Values) -> float:
    return float(weights @ _rest(scores, weights) / weights.sum())


def _rest(scores: Scores, weights: Values) -> Values:
    """(N,) weighted mean of the scores from each image on; 0 where nothing has weight."""
    total = np.cumsum((weights * scores)[::-1])[::-1]
    weight = np.cumsum(weights[::-1])[::-1]
    return np.asarray(total / np.where(weight > 0, weight, 1.0))
