"""Which of the training images are learnt from: the strategies by name."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from corpus.sampling.candidates import CandidateImages, Mask, Numbers, Rows
from corpus.sampling.config import SampleConfig, Within
from corpus.sampling.facility_location import most_similar_to_all
from corpus.sampling.k_centre import farthest_first
from corpus.sampling.near_identical import without_near_identical
from corpus.sampling.quick_head import cross_entropy, out_of_fold, uncertainty
from corpus.sampling.strata import (
    Strata,
    of_categories,
    of_dominant_sets,
    shares_of_strata,
    with_rare_concepts,
)
from corpus.sampling.weighted import draw, inverse_frequency, repeat_factors


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which of N images are kept.

    Attributes:
        kept: (N,) whether the image is.
        protected: (N,) whether it is because one of its concepts is rare.
        rank: (N,) when it was chosen, from 1 on: 0 of those that are kept for their rare concepts,
            and of those that are left out. Of `distinct` when it was left out.
    """

    kept: Mask
    protected: Mask
    rank: npt.NDArray[np.int64]


def choose(candidates: CandidateImages, config: SampleConfig, *, seed: int) -> Choice:
    """The images that are kept: a function of the candidates, the settings and the seed.

    Images with rare concepts are kept first; where they are more than the share that is asked for,
    more is kept.

    Args:
        candidates: N images.
        config: how.
        seed: of draws, and of the first image of farthest-first traversals.
    """
    n = len(candidates)
    if config.keeps_all or not n:
        nothing = np.zeros(n, dtype=np.bool_)
        return Choice(kept=~nothing, protected=nothing, rank=np.zeros(n, dtype=np.int64))
    protected = with_rare_concepts(candidates.targets, rare=config.rare)
    n_kept = max(math.ceil(config.keep * n - 1e-9), int(protected.sum()), 1)
    if n_kept == n:
        return Choice(kept=~np.zeros_like(protected), protected=protected, rank=np.zeros(n, int))
    task = _Task(
        candidates=candidates,
        protected=protected,
        n=n_kept - int(protected.sum()),
        strata=_strata(candidates, config.within),
        power=config.power,
        rng=np.random.default_rng(seed),
    )
    rank = np.zeros(n, dtype=np.int64)
    if config.strategy == "distinct":
        dropped = task.dropped()
        rank[dropped] = np.arange(1, len(dropped) + 1)
        kept = rank == 0
        return Choice(kept=kept, protected=protected & kept, rank=rank)
    taken = STRATEGIES[config.strategy](task)
    rank[taken] = np.arange(1, len(taken) + 1)
    return Choice(kept=protected | (rank > 0), protected=protected, rank=rank)


def _strata(candidates: CandidateImages, within: Within) -> Strata:
    if within == "dominant":
        return of_dominant_sets(candidates.categories, candidates.targets)
    if within == "category":
        return of_categories(candidates.categories)
    return np.zeros(len(candidates), dtype=np.intp)


@dataclass(frozen=True, kw_only=True)
class _Task:
    """What a strategy is given: n images are to be taken beside the protected ones."""

    candidates: CandidateImages
    protected: Mask
    n: int
    strata: Strata
    power: float
    rng: np.random.Generator

    def drawn(self, weights: Numbers) -> Rows:
        """Of all images that are left, by weight."""
        rows = np.flatnonzero(~self.protected)
        return rows[draw(weights[rows], self.n, rng=self.rng)]

    def by_stratum(self, take: Callable[[Rows, Rows, int], Rows]) -> Rows:
        """What is taken of one stratum after the other, in turn.

        The ranks of a stratum are spread over those of all, so that the first images of the whole
        are the first of each.

        Args:
            take: of the rows of a stratum, those of them that are kept already and a number, the
                rows to take.
        """
        numbers, sizes = np.unique(self.strata, return_counts=True)
        least = np.array([self.protected[self.strata == k].sum() for k in numbers], dtype=np.intp)
        shares = shares_of_strata(
            sizes, self.n + int(self.protected.sum()), least=least, power=self.power
        )
        taken, places = [], []
        for number, n, own in zip(numbers.tolist(), shares.tolist(), least.tolist(), strict=True):
            rows = np.flatnonzero(self.strata == number)
            found = take(rows, rows[self.protected[rows]], n - own)
            taken.append(found)
            places.append((np.arange(len(found)) + 0.5) / max(len(found), 1))
        in_turn: Rows = np.argsort(np.concatenate(places), kind="stable")
        return np.concatenate(taken)[in_turn]

    def dropped(self) -> Rows:
        """Near-identical images that are left out."""
        n_left = self.n + int(self.protected.sum())
        return without_near_identical(
            self.candidates.units(), n_left, strata=self.strata, protected=self.protected
        )


def _random(task: _Task) -> Rows:
    return task.drawn(np.ones(len(task.candidates)))


def _stratified(task: _Task) -> Rows:
    def take(rows: Rows, kept: Rows, n: int) -> Rows:
        return task.rng.permutation(np.setdiff1d(rows, kept))[:n]

    return task.by_stratum(take)


def _k_centre(task: _Task) -> Rows:
    units = task.candidates.units()

    def take(rows: Rows, kept: Rows, n: int) -> Rows:
        if not n:
            return rows[:0]
        start: Rows = np.searchsorted(rows, kept)
        first = np.zeros(0, dtype=np.intp)
        if not len(start):
            start = first = task.rng.integers(len(rows), size=1).astype(np.intp)
        further = farthest_first(units[rows], n - len(first), start=start)
        taken: Rows = np.concatenate([first, further])
        return rows[taken]

    return task.by_stratum(take)


def _facility_location(task: _Task) -> Rows:
    units = task.candidates.units()

    def take(rows: Rows, kept: Rows, n: int) -> Rows:
        start = np.searchsorted(rows, kept)
        return rows[most_similar_to_all(units[rows], n, start=start)]

    return task.by_stratum(take)


STRATEGIES: dict[str, Callable[[_Task], Rows]] = {
    "random": _random,
    "stratified": _stratified,
    "inverse-frequency": lambda task: task.drawn(inverse_frequency(task.candidates.targets)),
    "repeat-factor": lambda task: task.drawn(repeat_factors(task.candidates.targets)),
    "k-centre": _k_centre,
    "facility-location": _facility_location,
    "uncertainty": lambda task: task.drawn(uncertainty(out_of_fold(task.candidates))),
    "loss": lambda task: task.drawn(
        cross_entropy(out_of_fold(task.candidates), task.candidates.targets)
    ),
}
"""By name: the images that are taken beside the protected ones, in order. `distinct` drops images
in place of taking them."""
