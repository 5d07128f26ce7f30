"""Whether two sets of images can be told apart: a two-sample test by a classifier.

A kernel ridge classifier learns on some groups which side an image is on, and is asked of the
others. Where it cannot tell, its scores of the two sides are alike. What chance would do is found
by dealing whole groups to the sides at random; the scores are linear in the sides, so that all
deals are one matrix product. Each fold keeps as many groups of either side as it has: where one had
more of a side than the others, they would have less of it to learn from, and the scores of a deal
would be lower than those of sides that are spread evenly.

Source: Lopez-Paz and Oquab, "Revisiting classifier two-sample tests", ICLR 2017.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve

from core.metrics import group_numbers
from ensembles.distance.features import Floats

LEAST = 10
"""Images on a side below which nothing is said."""

_MOST = 1000  # images of a side; of more, whole groups are drawn
_FOLDS = 5
_RIDGE = 1.0

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Separation:
    """How well new images can be told from known ones.

    Attributes:
        auc: area under the ROC curve on groups that the classifier has not met; 0.5 is chance.
        p_value: share of random deals of the groups that separate as well; NaN without deals.
    """

    auc: float
    p_value: float

    @property
    def strength(self) -> float:
        """0 for images that cannot be told apart, 1 for those that always can."""
        return float(np.clip(2.0 * self.auc - 1.0, 0.0, 1.0))


def separation(
    known: Floats,
    new: Floats,
    *,
    groups: Sequence[str],
    new_groups: Sequence[str],
    n_deals: int = 0,
    seed: int = 0,
) -> Separation | None:
    """How well images can be told apart; None where a side has less than `LEAST`.

    Args:
        known, new: (M, D) and (N, D) points.
        groups, new_groups: M and N groups; an image of group "" is a group by itself.
        n_deals: random deals for the p-value.
        seed: of draws and deals.
    """
    if min(len(known), len(new)) < LEAST:
        return None
    rng = np.random.default_rng(seed)
    sides, numbers = [], []
    for points, own in ((known, group_numbers(groups)), (new, group_numbers(new_groups))):
        kept = _drawn(own, rng)
        sides.append(points[kept])
        numbers.append(np.unique(own[kept], return_inverse=True)[1])
    n_groups = [int(own.max()) + 1 for own in numbers]
    if min(n_groups) < 2:  # a group on its own cannot be learnt from and asked of
        return None
    of_group = np.concatenate([numbers[0], numbers[1] + n_groups[0]])
    is_new = np.repeat([0.0, 1.0], [len(sides[0]), len(sides[1])])
    folds = _folds(n_groups, rng)
    classifier = _CrossFitted.of(np.concatenate(sides), folds=folds[of_group])
    scores = classifier.scores(is_new[:, None])
    p_value = np.nan
    if n_deals:
        dealt = np.repeat([[0.0], [1.0]], n_groups, axis=0).repeat(n_deals, axis=1)
        for fold in np.unique(folds):
            dealt[folds == fold] = rng.permuted(dealt[folds == fold], axis=0)
        dealt = dealt[of_group]
        chance = _differences(classifier.scores(dealt), dealt)
        found = _differences(scores, is_new[:, None])[0]
        p_value = float((1 + (chance >= found).sum()) / (1 + n_deals))
    return Separation(auc=_auc(scores[:, 0], is_new > 0), p_value=p_value)


@dataclass(frozen=True, kw_only=True)
class _CrossFitted:
    """Kernel ridge regression on all folds but one, asked of that one.

    Attributes:
        parts: masks of a fold and of the others, with the matrix from targets of the others to
            scores of the fold.
    """

    parts: Sequence[tuple[npt.NDArray[np.bool_], Values]]

    @classmethod
    def of(cls, points: Floats, *, folds: npt.NDArray[np.integer]) -> "_CrossFitted":
        squares = np.maximum(2.0 - 2.0 * points.astype(np.float64) @ points.T, 0.0)
        step = max(1, len(points) // 200)
        kernel = np.exp(-squares / max(float(np.median(squares[::step, ::step])), 1e-12))
        parts = []
        for fold in np.unique(folds):
            asked = folds == fold
            own = kernel[np.ix_(~asked, ~asked)]
            own[np.diag_indices_from(own)] += _RIDGE
            parts.append((asked, cho_solve(cho_factor(own), kernel[np.ix_(~asked, asked)]).T))
        return cls(parts=parts)

    def scores(self, targets: Values) -> Values:
        """(n, P) scores of targets (n, P)."""
        found = np.empty_like(targets)
        for asked, weights in self.parts:
            mean = targets[~asked].mean(axis=0)
            found[asked] = weights @ (targets[~asked] - mean) + mean
        return found


def _drawn(groups: npt.NDArray[np.intp], rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """Images of whole groups, about `_MOST` of them; all where there are no more."""
    if len(groups) <= _MOST:
        return np.arange(len(groups))
    sizes = np.bincount(groups)
    order = rng.permutation(len(sizes))
    n_kept = int(np.searchsorted(np.cumsum(sizes[order]), _MOST)) + 1
    return np.flatnonzero(np.isin(groups, order[:n_kept]))


def _folds(n_groups: Sequence[int], rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """A fold of each group, those of either side dealt evenly."""
    return np.concatenate([rng.permutation(np.arange(n) % min(_FOLDS, n)) for n in n_groups])


def _differences(scores: Values, sides: Values) -> Values:
    """(P,) by how much the mean score of the new side is higher."""
    n_new = sides.sum(axis=0)
    new = (scores * sides).sum(axis=0) / n_new
    known = (scores * (1.0 - sides)).sum(axis=0) / (len(sides) - n_new)
    return np.asarray(new - known)


def _auc(scores: Values, is_new: npt.NDArray[np.bool_]) -> float:
    known = np.sort(scores[~is_new])
    below, most = (np.searchsorted(known, scores[is_new], side=s) for s in ("left", "right"))
    return float((below + most).mean() / (2 * len(known)))
