"""Concepts of the most similar training images: votes of nearest neighbours, and their settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from core.categories import UNKNOWN
from core.labels import Targets
from core.metrics import EmptyTruth, Scores, cross_fitted_f1, mean_in_order
from fusion.retrieval.nearest import Floats, Labels, Neighbours, find_nearest

_BLOCK = 1024  # queries that vote at once: their sparse votes are some 3 MB

Rows = npt.NDArray[np.int64]


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


def draw_queries(n_images: int, *, n_queries: int = 4000, seed: int = 0) -> Rows:
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
    rows: Rows,
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
            f1 = cross_fitted_f1(probs, asked, own, empty_truth=empty_truth)
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
