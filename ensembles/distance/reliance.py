"""What the score of an image can be relied on to be, given how far it lies from the known ones.

An image is of the kind that sources learnt from, or of another: of a source that they have never
met. How likely it is to be of another is told from its distance z, by the ratio of the likelihoods
that far and near images have there, exp(a + b z), and from the share of far ones among the images
that it comes with, which is estimated from their distances alone. An image of the known kind scores
what its probabilities let expect; one of another scores what far images scored:

    P(far | z) = s r / (1 - s + s r),    r = exp(a + b z),    s the share of far images
    F1 of a far image = sigmoid(c + d z + e logit(expected F1)), at most the expected F1

Near images are those that were predicted out of fold, far ones those of sources that were left out
(`ensembles.distance.left_out`), every source and category with the same weight.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from core.metrics import Scores, group_numbers
from ensembles.distance.left_out import LeftOut

USUAL_SHARE = 0.02
"""Share of far images where an image comes alone."""

ERRORS = 3.0
"""Standard errors beyond which a share of far images is not chance."""

_RIDGE = 1e-2
_HIGHEST = 50.0  # of a likelihood ratio: no distance is proof
_LOWEST = -500.0  # of its logarithm: it is never 0, which all images being far would divide by
_LARGEST = 1e6  # beyond any weight of a regression with a ridge
_STEPS = 200
_CERTAIN = 0.02  # expected F1 as close as this to 0 or 1 is taken for that far

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Reliance:
    """How distance tells on the score.

    Attributes:
        evidence: a and b, see above.
        score: c, d and e.
        spread: standard deviation, between sources that were left out, of the mean F1 that they
            score less what was forecast for them; each forecast without its own source.
        n_sources: that were left out.
    """

    evidence: tuple[float, float]
    score: tuple[float, float, float]
    spread: float
    n_sources: int

    @classmethod
    def fit(cls, near: Scores, left_out: LeftOut, *, weights: Scores) -> "Reliance":
        """By near and far images.

        Args:
            near: (N,) distances of images that were predicted out of fold.
            left_out: far images.
            weights: (N,) of the near images, see `group_weights`.
        """
        weights = weights / weights.sum()
        of_image = left_out.sources[left_out.cells]
        sources = np.unique(of_image)
        errors = []
        for source in sources:
            own = of_image == source
            if own.all():
                break
            model = cls._fitted(near, weights, left_out, keep=~own)
            errors.append(model._error(left_out, own))
        spread = float(np.sqrt(np.mean(np.square(errors)))) if errors else 0.5
        return cls._fitted(
            near, weights, left_out, keep=None, spread=spread, n_sources=len(sources)
        )

    @classmethod
    def _fitted(
        cls,
        near: Scores,
        near_weights: Scores,
        far: LeftOut,
        *,
        keep: npt.NDArray[np.bool_] | None,
        spread: float = 0.0,
        n_sources: int = 0,
    ) -> "Reliance":
        rows = np.arange(len(far.cells)) if keep is None else np.flatnonzero(keep)
        weights = 1.0 / np.bincount(far.cells[rows])[far.cells[rows]]
        weights /= weights.sum()
        z = far.distances[rows]
        evidence = _fractional(
            np.stack([np.ones(len(near) + len(z)), np.concatenate([near, z])], axis=1),
            np.repeat([0.0, 1.0], [len(near), len(z)]),
            np.concatenate([near_weights, weights]),
        )
        score = _fractional(_of_far(z, far.expected[rows]), far.truth[rows], weights)
        return cls(
            evidence=(float(evidence[0]), float(max(evidence[1], 0.0))),
            score=(float(score[0]), float(min(score[1], 0.0)), float(score[2])),
            spread=spread,
            n_sources=n_sources,
        )

    def _error(self, far: LeftOut, own: npt.NDArray[np.bool_]) -> float:
        """Mean forecast of images that were left out, less what they scored."""
        forecast = np.empty(int(own.sum()))
        cells = far.cells[own]
        for cell in np.unique(cells):
            here = cells == cell
            z = far.distances[own][here]
            share = self.share(z, groups=[""] * int(here.sum()))
            share = max(share, float(far.separations[own][here][0]))
            forecast[here] = self.expected(far.expected[own][here], z, share=share)
        return float((forecast - far.truth[own]).mean())

    def ratios(self, distances: Scores) -> Values:
        """(N,) likelihood of each distance among far images over that among near ones."""
        a, b = self.evidence
        return np.exp(np.clip(a + b * distances, _LOWEST, np.log(_HIGHEST)))

    def share(self, distances: Scores, *, groups: Sequence[str]) -> float:
        """The most likely share of far images; 0 where chance explains their distances.

        Near images have a mean ratio of 1, every group with the same weight.

        Args:
            distances: (N,) of images of a category.
            groups: N of them; images of one group lie alike.
        """
        ratios, numbers = self.ratios(distances), group_numbers(groups)
        of_groups = np.bincount(numbers, weights=ratios) / np.bincount(numbers)
        error = float(of_groups.std(ddof=1) / np.sqrt(len(of_groups))) if len(of_groups) > 1 else 1
        if of_groups.mean() - 1.0 <= ERRORS * error:
            return 0.0
        share = 0.5
        for _ in range(_STEPS):  # expectation maximisation
            share = float((share * ratios / (1.0 + share * (ratios - 1.0))).mean())
        return share

    def far(self, distances: Scores, *, share: float | Values) -> Values:
        """(N,) probability that an image is of another kind than the known ones."""
        weighed = share * self.ratios(distances)
        return np.asarray(weighed / (1.0 - share + weighed))

    def expected(self, expected: Scores, distances: Scores, *, share: float | Values) -> Scores:
        """(N,) F1 that can be expected of images.

        Args:
            expected: (N,) F1 that their probabilities let expect; NaN stays.
            distances: (N,); where one is NaN, the expected F1 stays.
            share: of far images among those that each comes with.
        """
        of_far = np.minimum(expit(_of_far(distances, expected) @ np.array(self.score)), expected)
        far = np.nan_to_num(self.far(distances, share=share))
        mixed = np.minimum((1.0 - far) * expected + far * of_far, expected)  # of rounding, no more
        return np.asarray(np.where(far > 0, mixed, expected))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Reliance":
        """What `to_json` gave.

        Raises:
            ValueError, KeyError: it is not that.
        """
        try:
            a, b = map(float, values["evidence"])
            c, d, e = map(float, values["score"])
            spread, n_sources = float(values["spread"]), int(values["n_sources"])
        except (TypeError, OverflowError) as error:
            raise ValueError(str(error)) from None
        largest = max(map(abs, (a, b, c, d, e, spread)))
        sound = largest < _LARGEST and np.isfinite([a, b, c, d, e, spread]).all()
        if not sound or spread < 0 or not 1 <= n_sources < _LARGEST:
            raise ValueError("numbers that are none")
        return cls(evidence=(a, b), score=(c, d, e), spread=spread, n_sources=n_sources)


def _of_far(distances: Scores, expected: Scores) -> Values:
    """(n, 3) what the score of far images is told from."""
    clipped = np.clip(expected, _CERTAIN, 1.0 - _CERTAIN)
    return np.stack([np.ones(len(distances)), distances, logit(clipped)], axis=1)


def _fractional(features: Values, targets: Values, weights: Values) -> Values:
    """(D,) weights of a logistic regression on targets in [0, 1], by Newton's steps."""
    weights = weights / weights.sum()
    found = np.zeros(features.shape[1])
    for _ in range(_STEPS):
        p = expit(features @ found)
        slope = features.T @ (weights * (p - targets)) + _RIDGE * found
        curve = (features.T * (weights * p * (1.0 - p))) @ features + _RIDGE * np.eye(len(found))
        step = np.linalg.solve(curve, slope)
        found -= step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < 1e-10:
            break
    return found
