"""Recall of rare concepts beside the sample F1: of answers, and with the prior taken off them.

Everything is out of fold. A concept is rare for an image if few of the images outside its fold have
it: those are what its answer was learnt from.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.special import expit, logit

from core.editions import empty_truth_rule
from core.errors import ConfigError
from core.metrics import (
    Interval,
    ScoredImages,
    bootstrap,
    column_sums,
    cross_fitted_decisions,
    group_numbers,
    mean_in_order,
)
from core.runs.workspace import Corpus

LEAST, MOST = 5, 20
"""Training images of a rare concept."""

STRENGTHS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
"""Of the adjustment by the prior."""

N_RESAMPLES = 1000

_CLIP = 1e-6

Floats = npt.NDArray[np.float32]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Tail:
    """N labelled images with how many images each of their answers was learnt from.

    Attributes:
        images: the images.
        least, most: training images of a rare concept.
    """

    images: ScoredImages
    least: int = LEAST
    most: int = MOST

    @classmethod
    def of(cls, corpus: Corpus) -> "Tail":
        """All labelled images of a cross-fitted corpus.

        Raises:
            ConfigError: it is not cross-fitted.
        """
        if not corpus.crossfit:
            raise ConfigError(f"{corpus.name}: expected a corpus that is cross-fitted")
        table, empty_truth = corpus.labelled_images("labelled"), empty_truth_rule(corpus.edition)
        return cls(images=ScoredImages.of(table, corpus.labels, empty_truth=empty_truth))

    @cached_property
    def n_learnt(self) -> Counts:
        """(N, L) images of the other folds that have each concept."""
        matrix, folds = self.images.targets.matrix, self.images.folds
        counts = np.empty(matrix.shape, dtype=np.int64)
        for fold in np.unique(folds):
            counts[folds == fold] = column_sums(matrix[np.flatnonzero(folds != fold)])
        return counts

    @cached_property
    def is_rare(self) -> npt.NDArray[np.bool_]:
        """(N, L) whether a concept is rare for an image."""
        return (self.n_learnt >= self.least) & (self.n_learnt <= self.most)

    @cached_property
    def rare_pairs(self) -> npt.NDArray[np.bool_]:
        """(N, L) true pairs of image and rare concept."""
        truth: npt.NDArray[np.bool_] = self.images.targets.matrix.toarray().astype(np.bool_)
        return truth & self.is_rare

    @property
    def n_rare(self) -> list[int]:
        """Rare concepts, fold by fold."""
        folds = self.images.folds
        return [int(self.is_rare[folds == fold][0].sum()) for fold in np.unique(folds)]

    def adjusted(self, probs: Floats, strength: float) -> Floats:
        """Probabilities with so much of the concepts' log share of the training images taken off.

        The mean over pairs is left in, so that thresholds stay on the same grid.

        Source: Menon et al. 2021, arXiv:2007.07314, adjustment after training.
        """
        if not strength:
            return probs
        folds = self.images.folds
        sizes = np.array([(folds != fold).sum() for fold in folds])
        share = np.log((self.n_learnt + 0.5) / (sizes[:, None] + 1))
        odds = logit(np.clip(probs.astype(np.float64), _CLIP, 1 - _CLIP))
        found: Floats = expit(odds - strength * (share - share.mean())).astype(np.float32)
        return found

    def point(self, probs: Floats) -> "TailPoint":
        """What probabilities (N, L) reach at one threshold, the best of the other folds."""
        images = self.images
        decided = cross_fitted_decisions(
            probs, images.targets, folds=images.folds, empty_truth=images.empty_truth
        ).toarray()
        return TailPoint(
            f1=images.image_f1(csr_array(decided)),
            n_hit=(self.rare_pairs & decided).sum(axis=1),
            n_decided=(self.is_rare & decided).sum(axis=1),
        )


@dataclass(frozen=True, kw_only=True)
class TailPoint:
    """Decisions of N images.

    Attributes:
        f1: (N,) NaN where an image is left out of the mean.
        n_hit: (N,) true pairs with a rare concept that are decided.
        n_decided: (N,) rare concepts that are decided.
    """

    f1: npt.NDArray[np.float64]
    n_hit: Counts
    n_decided: Counts


@dataclass(frozen=True, kw_only=True)
class TailRow:
    """A method at a strength of the adjustment, beside what it is compared with.

    Attributes:
        name: of the method.
        strength: of the adjustment.
        f1, recall, precision: sample F1; recall and precision of rare concepts.
        f1_gain, recall_gain: paired differences.
        relative: recall over that of what it is compared with, less 1; NaN where that is 0.
    """

    name: str
    strength: float
    f1: float
    f1_gain: Interval
    recall: float
    recall_gain: Interval
    relative: float
    precision: float


class Comparison:
    """Points beside a first one, on the same images; intervals draw whole groups anew."""

    def __init__(self, tail: Tail, first: TailPoint) -> None:
        self.tail, self.first = tail, first
        self.groups = group_numbers(tail.images.groups)
        n_groups = int(self.groups.max()) + 1
        rng = np.random.default_rng(0)
        drawn = (rng.integers(n_groups, size=n_groups) for _ in range(N_RESAMPLES))
        self.draws = np.stack([np.bincount(d, minlength=n_groups) for d in drawn])
        self.n_true = tail.rare_pairs.sum(axis=1)
        drawn_pairs = self.draws @ self._by_group(self.n_true)
        self.draws = self.draws[drawn_pairs > 0]  # without a pair there is no recall
        self.true_drawn = drawn_pairs[drawn_pairs > 0]

    def _by_group(self, counts: Counts) -> npt.NDArray[np.float64]:
        return np.bincount(self.groups, weights=counts).astype(np.float64)

    def row(self, name: str, strength: float, point: TailPoint) -> TailRow:
        """The row of a point."""
        n_true, n_hit = int(self.n_true.sum()), int(point.n_hit.sum())
        n_first = int(self.first.n_hit.sum())
        gained = (n_hit - n_first) / n_true
        drawn = self.draws @ self._by_group(point.n_hit - self.first.n_hit) / self.true_drawn
        low, high = np.quantile(drawn, (0.025, 0.975))
        gain = point.f1 - self.first.f1
        return TailRow(
            name=name,
            strength=strength,
            f1=mean_in_order(point.f1),
            f1_gain=bootstrap(gain, groups=self.tail.images.groups, n_resamples=N_RESAMPLES),
            recall=n_hit / n_true,
            recall_gain=Interval(gained, float(low), float(high), n_true),
            relative=n_hit / n_first - 1 if n_first else np.nan,
            precision=n_hit / max(1, int(point.n_decided.sum())),
        )


def rows_of(
    tail: Tail, answers: Sequence[tuple[str, Floats]], *, strengths: Sequence[float] = STRENGTHS
) -> list[TailRow]:
    """Every answer at every strength, compared with the first answer as it is.

    Args:
        tail: the images.
        answers: names and probabilities (N, L).
        strengths: of the adjustment.
    """
    comparison = Comparison(tail, tail.point(answers[0][1]))
    return [
        comparison.row(name, strength, tail.point(tail.adjusted(probs, strength)))
        for name, probs in answers
        for strength in strengths
    ]
