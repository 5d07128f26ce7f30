"""Concepts of the most similar training images: votes, their settings, and the strategy."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array
from torch import Tensor

from core.categories import CATEGORIES, UNKNOWN
from core.editions import EmptyTruth, empty_truth_rule
from core.images import ImageTable
from core.labels import Targets
from core.metrics import Scores, cross_fitted_f1, mean_in_order
from core.predictions import Probs
from core.progress import say
from fusion.config import FuseConfig
from fusion.inputs.gather import SPLITS, FusionInputs
from fusion.result import Earlier, FusedResult, as_predictions
from fusion.retrieval.approximate import build_index
from fusion.retrieval.nearest import Floats, Labels, Neighbours, find_nearest
from training.heads import Standardise

_BLOCK = 1024  # queries that vote at once: their sparse votes are some 3 MB

QueryRows = npt.NDArray[np.int64]


def find_by_category(
    queries: Floats,
    memory: Floats,
    *,
    query_categories: Sequence[str],
    memory_categories: Sequence[str],
    k: int,
    device: str = "cpu",
    apart: tuple[Labels, Labels] | None = None,
) -> Neighbours:
    """Nearest neighbours in the query's own category, as rows of the whole memory.

    Per-category retrieval on frozen features scored 0.3924 in 2020, without it 0.345.

    An image of unknown category, or of one that the memory has none of, is compared with all. For
    other arguments see `find_nearest`.
    """
    k = min(k, len(memory))
    rows = np.empty((len(queries), k), dtype=np.int32)
    similarity = np.empty((len(queries), k), dtype=np.float32)
    asked = np.array(query_categories, dtype=np.str_)
    stored = np.array(memory_categories, dtype=np.str_)
    for category in np.unique(asked):
        here = np.flatnonzero(asked == category)
        among = np.flatnonzero(stored == category)
        found = find_nearest(
            queries[here],
            memory,
            k=k,
            device=device,
            among=None if category == UNKNOWN or not len(among) else among,
            apart=None if apart is None else (apart[0][here], apart[1]),
        )
        rows[here], similarity[here] = found.rows, found.similarity
    return Neighbours(rows=rows, similarity=similarity)


def vote(neighbours: Neighbours, targets: csr_array, *, k: int, temperature: float) -> Floats:
    """Share of each concept among the k nearest neighbours, weighted by similarity.

        w_j = exp(cos(q, m_j) / temperature), normalised over the k nearest that exist

    One search at the largest k serves every smaller one and every temperature. A query without any
    neighbour gets zeros: nothing speaks for a concept.

    Args:
        neighbours: of Q queries.
        targets: (N, L) boolean, concepts of the memory.
        k: neighbours that vote; all N where there are fewer.
        temperature: the smaller, the more the nearest counts.

    Returns:
        (Q, L) in [0, 1].

    Raises:
        ValueError: k is below 1 or beyond what was searched, or the temperature is not above 0.
    """
    n_memory = int(targets.shape[0])
    if not 1 <= min(k, n_memory) <= neighbours.k:
        raise ValueError(f"k: expected 1 to the {neighbours.k} neighbours found, got {k}")
    if not temperature > 0:
        raise ValueError(f"temperature: expected above 0, found {temperature}")
    nearest = neighbours.first(k)
    weights = _weights(nearest.similarity, temperature)
    rows = np.maximum(nearest.rows, 0)  # those that do not exist weigh nothing
    concepts = targets.astype(np.float32)
    votes = np.empty((len(nearest), targets.shape[1]), dtype=np.float32)
    for start in range(0, len(nearest), _BLOCK):
        here = slice(start, start + _BLOCK)
        n_here = len(rows[here])
        pointers = np.arange(0, n_here * nearest.k + 1, nearest.k)
        parts = (weights[here].ravel(), rows[here].ravel(), pointers)
        votes[here] = (csr_array(parts, shape=(n_here, n_memory)) @ concepts).toarray()
    return np.clip(votes, 0.0, 1.0)  # weights sum to 1 but for rounding


def _weights(similarity: Floats, temperature: float) -> Floats:
    """(Q, k) softmax, 0 where there is no neighbour."""
    exists = np.isfinite(similarity)
    above = np.where(exists, similarity - np.where(exists[:, :1], similarity[:, :1], 0), -np.inf)
    weights = np.exp(above.astype(np.float64) / temperature)
    total = weights.sum(axis=1, keepdims=True)
    return (weights / np.where(total > 0, total, 1.0)).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class VoteChoice:
    """How many neighbours vote, and at which temperature.

    Attributes:
        k: the neighbours chosen.
        temperature: the temperature chosen.
        scores: cross-fitted sample F1 of every (k, temperature) that was tried.
    """

    k: int
    temperature: float
    scores: Mapping[tuple[int, float], float]


def draw_queries(n_images: int, *, n_queries: int = 4000, seed: int = 0) -> QueryRows:
    """Row numbers, ascending, of the training images that settings are chosen on.

    Comparing 65,000 with each other takes sixteen times as long as asking 4,000 of them, whose mean
    F1 has a standard error of about 0.005, and paired differences a smaller one.
    """
    drawn = np.random.default_rng(seed).permutation(n_images)[:n_queries]
    return np.sort(drawn).astype(np.int64)


def choose_votes(
    neighbours: Neighbours,
    targets: Targets,
    *,
    rows: QueryRows,
    folds: Labels,
    ks: Sequence[int],
    temperatures: Sequence[float],
    empty_truth: EmptyTruth,
) -> VoteChoice:
    """The fewest neighbours that no other number beats by a standard error.

    Chosen on train alone: training images are asked that searched the other folds only, and each
    setting is scored by its sample F1 at one cross-fitted threshold. Each k is taken at its best
    temperature (the first of equals); the smallest k is kept whose mean paired difference to the
    best one is within a standard error of that difference, images taken as independent.

    Args:
        neighbours: (Q, k) at the largest of `ks`, found with `apart=(folds[rows], folds)`.
        targets: of the N training images.
        rows: (Q,) which training images the queries are.
        folds: (N,) fold of each training image; groups are not torn apart by them.
        ks: numbers of neighbours to try.
        temperatures: temperatures to try.
        empty_truth: what an image without true concepts scores.

    Raises:
        ValueError: there is nothing to choose from, a neighbour shares its query's fold, or a k is
            beyond what was searched.
    """
    if not ks or not temperatures:
        raise ValueError("expected at least one k and one temperature to choose from")
    shared = (folds[neighbours.rows] == folds[rows][:, None]) & (neighbours.rows >= 0)
    if shared.any():
        n_torn = int(shared.any(axis=1).sum())
        raise ValueError(f"{n_torn} of {len(rows)} images have neighbours in their own fold")
    asked, own = targets.rows(rows), folds[rows]
    scores: dict[tuple[int, float], float] = {}
    of_k: dict[int, tuple[float, float, Scores]] = {}
    for k in sorted(set(ks)):
        for temperature in temperatures:
            probs = vote(neighbours, targets.matrix, k=k, temperature=temperature)
            f1 = cross_fitted_f1(probs, asked, folds=own, empty_truth=empty_truth)
            score = scores[k, temperature] = mean_in_order(f1)
            if k not in of_k or score > of_k[k][0]:
                of_k[k] = score, temperature, f1
    best = max(of_k.values(), key=lambda kept: kept[0])[2]
    k = next(k for k, (_, _, f1) in of_k.items() if _within_noise(best - f1))
    return VoteChoice(k=k, temperature=of_k[k][1], scores=scores)


def _within_noise(gains: Scores) -> bool:
    """Whether a mean gain is at most its standard error."""
    kept = gains[~np.isnan(gains)]
    return bool(kept.mean() <= kept.std() / len(kept) ** 0.5)


Search = Callable[[Floats, int], Neighbours]
"""The so many nearest training images of queries."""

_UNLIKELY = 0.02
"""A category that the features find less likely than this is not searched."""


def retrieval(
    fusion_inputs: FusionInputs, config: FuseConfig, *, earlier: Earlier, by_category: bool
) -> FusedResult:
    """Concepts of the nearest training images, of the same category or of all.

    Features are standardised on train: retrieval alone is hardly better for it, but it errs less
    like the networks do, and their mean gains. How many neighbours vote, and how much the nearest
    count, is chosen on train, where each image looks among the other folds.
    """
    archive = Archive(fusion_inputs, config)
    chosen = archive.choose(by_category=by_category)
    name = "retrieval" if by_category else "retrieval-global"

    def answer(*, without_category: bool) -> dict[str, Probs]:
        found = {}
        for split in SPLITS:
            images = fusion_inputs.corpus.images(split)
            likely = (
                fusion_inputs.likely(images, without_category=without_category)
                if by_category
                else None
            )
            found[split] = archive.votes(images, likely, k=chosen.k, temperature=chosen.temperature)
        return found

    guessed = by_category and fusion_inputs.without_category is not None
    return FusedResult(
        predictions=as_predictions(name, fusion_inputs, probs=answer(without_category=False)),
        without_category=as_predictions(name, fusion_inputs, probs=answer(without_category=True))
        if guessed
        else {},
        chosen={"k": chosen.k, "temperature": chosen.temperature, REFERENCE_BITS: 16},
    )


REFERENCE_BITS = "reference_bits"
"""Of a number of the reference features, in the record of a run; 32 where there is none."""


def as_references(features: Floats) -> npt.NDArray[np.float16]:
    """(N, D) features as they are kept of the images that others are compared with.

    In 16 bits they take half the place, and what is said of new images elsewhere is the same to the
    last bit. A feature beyond the largest number is that number.
    """
    largest = np.finfo(np.float16).max
    return np.clip(features, -largest, largest).astype(np.float16)


def for_neighbours(features: Tensor, widths: Sequence[int]) -> Standardise:
    """What standardises features that are compared; each encoder then weighs as much as another.

    A standardised feature has a deviation of 1, so of encoders with 2,560 and 384 of them the first
    would decide who is near. Deviations are taken sqrt(d M / D) times as large, d of the D features
    being those of one of M encoders.

    Args:
        features: (N, D) of the training images.
        widths: columns of each encoder, from the left; () for one.
    """
    layer, n_encoders = Standardise.fitted(features, widths=widths), max(1, len(widths))
    if len({*widths}) > 1:
        share = torch.tensor(widths) * (n_encoders / features.shape[1])
        layer.std.mul_(share.sqrt().repeat_interleave(torch.tensor(widths)))
    return layer


class Memory:
    """Training images that votes are taken from, whatever they were read from.

    Args:
        features: (N, D) standardised, anything that gives rows as an array does.
        targets: (N, L) boolean, their concepts.
        categories: N of theirs, also those that only labels tell.
        approximate_from: images from which on an approximate index is built.
        seed: of that index.
        device: where similarities are computed.
    """

    def __init__(
        self,
        features: Floats,
        targets: csr_array,
        *,
        categories: Sequence[str],
        approximate_from: int,
        seed: int,
        device: str,
    ) -> None:
        self.features, self.targets, self.device = features, targets, device
        self.approximate_from, self.seed = approximate_from, seed
        self.categories = tuple(categories)
        names = np.array(categories, dtype=np.str_)
        self._rows_of = {c: np.flatnonzero(names == c) for c in CATEGORIES}
        self._searches: dict[str, Search] = {}

    def votes(
        self,
        queries: Floats,
        likely: npt.NDArray[np.float32] | None,
        *,
        k: int,
        temperature: float,
    ) -> Probs:
        """(n, L) votes for some images.

        Args:
            queries: (n, D) their features, standardised likewise.
            likely: (n, 7) certainty of each category: neighbours are looked for in those that are
                likely, and their votes weighed by it. An image of which nothing is known, or whose
                category has no training images, is compared with all; so are all without it.
            k: neighbours that vote.
            temperature: the smaller, the more the nearest count.
        """
        probs = np.zeros((len(queries), self.targets.shape[1]), dtype=np.float32)
        said = np.zeros((len(queries), 1), dtype=np.float32)
        cast = partial(vote, targets=self.targets, k=k, temperature=temperature)
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

    def nearest(self, queries: Floats) -> Neighbours:
        """The one nearest training image, of any category, of each of (n, D) queries."""
        return self._search("")(queries, 1)

    def _search(self, category: str) -> Search:
        """A search among the training images of a category, or of all."""
        if category not in self._searches:
            self._searches[category] = self._new_search(category)
        return self._searches[category]

    def _new_search(self, category: str) -> Search:
        among = self._rows_of[category] if category else None
        n_images = len(self.features) if among is None else len(among)
        if n_images < self.approximate_from:
            return lambda queries, k: find_nearest(
                queries, self.features, k=k, among=among, device=self.device
            )
        say(f"{n_images:,} training images of {category or 'all categories'}: approximate search")
        index = build_index(self.features, among=among, seed=self.seed)
        return lambda queries, k: index.find_nearest(queries, k=k)


class Archive:
    """The training images, to be looked up by their features."""

    def __init__(self, fusion_inputs: FusionInputs, config: FuseConfig) -> None:
        self.fusion_inputs, self.config = fusion_inputs, config
        self.train = fusion_inputs.training_images()
        rows, features = fusion_inputs.rows(self.train), fusion_inputs.network_inputs.features
        widths = fusion_inputs.network_inputs.widths
        standardise = for_neighbours(features[torch.from_numpy(rows)], widths)
        self.features: Floats = standardise(features).numpy()
        references = torch.from_numpy(as_references(features.numpy()[rows])).float()
        self.targets = self.train.targets(fusion_inputs.corpus.labels)
        self.memory = Memory(
            standardise(references).numpy(),
            self.targets.matrix,
            categories=self.train.categories,
            approximate_from=config.approximate_from,
            seed=config.seed,
            device=fusion_inputs.device,
        )

    def choose(self, *, by_category: bool) -> VoteChoice:
        """How many neighbours vote, and at which temperature: chosen on train alone."""
        folds, device = self.train.folds, self.fusion_inputs.device
        rows, k = draw_queries(len(self.train), seed=self.config.seed), max(self.config.k)
        find: Any = find_nearest
        if by_category:
            find = partial(
                find_by_category,
                query_categories=self._asked(self.train.take(rows)),
                memory_categories=self.train.categories,
            )
        apart = (folds[rows], folds)
        found = find(
            self.memory.features[rows], self.memory.features, k=k, device=device, apart=apart
        )
        return choose_votes(
            found,
            self.targets,
            rows=rows,
            folds=folds,
            ks=self.config.k,
            temperatures=self.config.temperature,
            empty_truth=empty_truth_rule(self.fusion_inputs.corpus.edition),
        )

    def _asked(self, images: ImageTable) -> list[str]:
        """Categories by which images are looked up: given, else the likeliest guess."""
        likely = self.fusion_inputs.likely(images)
        best = [CATEGORIES[column] for column in likely.argmax(axis=1)]
        return [name if row.any() else UNKNOWN for name, row in zip(best, likely, strict=True)]

    def votes(
        self,
        images: ImageTable,
        likely: npt.NDArray[np.float32] | None,
        *,
        k: int,
        temperature: float,
    ) -> Probs:
        """(n, L) votes for some images that have features; see `Memory.votes`."""
        queries = self.features[self.fusion_inputs.rows(images)]
        return self.memory.votes(queries, likely, k=k, temperature=temperature)
