"""Retrieval as a member of fusion: what the most similar training images show."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from core.categories import CATEGORIES
from core.editions import empty_truth_rule
from core.images import ImageTable
from core.predictions import Probs
from core.progress import say
from fusion.config import FuseConfig
from fusion.inputs.gather import SPLITS, Given
from fusion.result import Fused, Made, as_predictions
from fusion.retrieval.approximate import build_index
from fusion.retrieval.nearest import Floats, Neighbours, find_nearest
from fusion.retrieval.votes import VoteChoice, choose_votes, draw_queries, find_by_category, vote
from training.heads import Standardise

Search = Callable[[Floats, int], Neighbours]
"""The so many nearest training images of queries."""

_UNLIKELY = 0.02
"""A category that the features find less likely than this is not searched."""


def retrieval(given: Given, config: FuseConfig, made: Made, *, by_category: bool) -> Fused:
    """Concepts of the nearest training images, of the same category or of all.

    Features are standardised on train: retrieval alone is hardly better for it, but it errs less
    like the networks do, and their mean gains. How many neighbours vote, and how much the nearest
    count, is chosen on train, where each image looks among the other folds.
    """
    archive = Archive(given, config)
    chosen = archive.choose(by_category=by_category)
    name = "retrieval" if by_category else "retrieval-global"

    def answer(*, withheld: bool) -> dict[str, Probs]:
        found = {}
        for split in SPLITS:
            images = given.corpus.images(split)
            likely = given.likely(images, withheld=withheld) if by_category else None
            found[split] = archive.votes(images, likely, k=chosen.k, temperature=chosen.temperature)
        return found

    guessed = by_category and given.withheld is not None
    return Fused(
        predictions=as_predictions(name, given, answer(withheld=False)),
        withheld=as_predictions(name, given, answer(withheld=True)) if guessed else {},
        chosen={"k": chosen.k, "temperature": chosen.temperature},
    )


class Archive:
    """The training images, to be looked up by their features."""

    def __init__(self, given: Given, config: FuseConfig) -> None:
        self.given, self.config = given, config
        self.train = given.training_images()
        rows, features = given.rows(self.train), given.evidence.features
        standardise = Standardise.fitted(features[torch.from_numpy(rows)])
        self.features: Floats = standardise(features).numpy()
        self.memory = self.features[rows]
        self.targets = self.train.targets(given.corpus.labels)
        names = np.array(self.train.categories, dtype=np.str_)
        self._rows_of = {c: np.flatnonzero(names == c) for c in CATEGORIES}
        self._searches: dict[str, Search] = {}

    def choose(self, *, by_category: bool) -> VoteChoice:
        """How many neighbours vote, and at which temperature: chosen on train alone."""
        folds, device = self.train.folds, self.given.device
        rows, k = draw_queries(len(self.train), seed=self.config.seed), max(self.config.k)
        find: Any = find_nearest
        if by_category:
            find = partial(
                find_by_category,
                query_categories=self.train.take(rows).categories,
                memory_categories=self.train.categories,
            )
        apart = (folds[rows], folds)
        found = find(self.memory[rows], self.memory, k=k, device=device, apart=apart)
        return choose_votes(
            found,
            self.targets,
            rows=rows,
            folds=folds,
            ks=self.config.k,
            temperatures=self.config.temperature,
            empty_truth=empty_truth_rule(self.given.corpus.edition),
        )

    def votes(
        self,
        images: ImageTable,
        likely: npt.NDArray[np.float32] | None,
        *,
        k: int,
        temperature: float,
    ) -> Probs:
        """(n, L) votes for some images.

        Args:
            images: n images that have features.
            likely: (n, 7) certainty of each category: neighbours are looked for in those that are
                likely, and their votes weighed by it. An image of which nothing is known, or whose
                category has no training images, is compared with all; so are all without it.
            k: neighbours that vote.
            temperature: the smaller, the more the nearest count.
        """
        queries = self.features[self.given.rows(images)]
        probs = np.zeros((len(queries), self.targets.matrix.shape[1]), dtype=np.float32)
        said = np.zeros((len(queries), 1), dtype=np.float32)
        cast = partial(vote, targets=self.targets.matrix, k=k, temperature=temperature)
        if likely is None:
            likely = np.zeros((len(queries), len(CATEGORIES)), dtype=np.float32)
        for column, category in enumerate(CATEGORIES):
            weight = likely[:, [column]]
            here = np.flatnonzero(weight > _UNLIKELY)
            if len(here) and len(self._rows_of[category]):
                found = self._search(category)(queries[here], k)
                probs[here] += weight[here] * cast(found)
                said[here] += weight[here]
        rest = np.flatnonzero(said == 0)
        if len(rest):
            probs[rest], said[rest] = cast(self._search("")(queries[rest], k)), 1
        mean: Probs = np.minimum(probs / said, 1)
        return mean

    def _search(self, category: str) -> Search:
        """A search among the training images of a category, or of all."""
        if category not in self._searches:
            self._searches[category] = self._new_search(category)
        return self._searches[category]

    def _new_search(self, category: str) -> Search:
        among = self._rows_of[category] if category else None
        n_images = len(self.memory) if among is None else len(among)
        if n_images < self.config.approximate_from:
            device = self.given.device
            return lambda queries, k: find_nearest(
                queries, self.memory, k=k, among=among, device=device
            )
        say(f"{n_images:,} training images of {category or 'all categories'}: approximate search")
        index = build_index(self.memory, among=among, seed=self.config.seed)
        return lambda queries, k: index.find_nearest(queries, k=k)
