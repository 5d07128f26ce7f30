"""Concepts of the most similar training images: exact cosine nearest neighbours, in blocks."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array

from core.categories import UNKNOWN

_BLOCK = 512  # queries at once: 512 x 80,723 similarities are 165 MB


def retrieve(
    queries: npt.NDArray[np.float32],
    memory: npt.NDArray[np.float32],
    targets: csr_array,
    *,
    k: int,
    temperature: float,
    device: str = "cpu",
) -> npt.NDArray[np.float32]:
    """Share of each concept among the k nearest neighbours, weighted by similarity.

        w_j = exp(cos(q, m_j) / temperature), normalised over the k nearest

    Args:
        queries: (Q, D) features; their length does not matter.
        memory: (N, D) features of labelled images.
        targets: (N, L) boolean, their concepts.
        k: neighbours; all N where there are fewer.
        temperature: the smaller, the more the nearest counts.
        device: where similarities are computed.

    Returns:
        (Q, L) in [0, 1].

    Raises:
        ValueError: the memory is empty.
    """
    if not len(memory):
        raise ValueError("retrieval needs at least one labelled image")
    stored = _unit(memory, device).T
    k = min(k, len(memory))
    found = []
    for start in range(0, len(queries), _BLOCK):
        similarity = _unit(queries[start : start + _BLOCK], device) @ stored
        top, columns = similarity.topk(k, dim=1)
        weights = torch.softmax(top / temperature, dim=1)
        found.append(_votes(weights.cpu().numpy(), columns.cpu().numpy(), targets))
    if not found:
        return np.empty((0, targets.shape[1]), dtype=np.float32)
    return np.clip(np.concatenate(found), 0.0, 1.0)  # weights sum to 1 but for rounding


def retrieve_by_category(
    queries: npt.NDArray[np.float32],
    memory: npt.NDArray[np.float32],
    targets: csr_array,
    *,
    query_categories: Sequence[str],
    memory_categories: Sequence[str],
    k: int,
    temperature: float,
    device: str = "cpu",
) -> npt.NDArray[np.float32]:
    """`retrieve` among the training images of the query's own category.

    An image of unknown category, or of one without training images, is compared with all of them.
    Per-category retrieval on frozen features scored 0.3924 in 2020, without it 0.345.
    """
    probs = np.empty((len(queries), targets.shape[1]), dtype=np.float32)
    asked = np.array(query_categories, dtype=np.str_)
    stored = np.array(memory_categories, dtype=np.str_)
    for category in np.unique(asked):
        rows = asked == category
        among = stored == category
        if category == UNKNOWN or not among.any():
            among = np.ones(len(memory), dtype=np.bool_)
        probs[rows] = retrieve(
            queries[rows],
            memory[among],
            targets[among],
            k=k,
            temperature=temperature,
            device=device,
        )
    return probs


def _unit(vectors: npt.NDArray[np.float32], device: str) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.tensor(vectors, device=device), dim=1)


def _votes(
    weights: npt.NDArray[np.float32], columns: npt.NDArray[np.int64], targets: csr_array
) -> npt.NDArray[np.float32]:
    """(Q, L) weighted concept counts of the neighbours, as one sparse product."""
    n_queries, k = columns.shape
    pointers = np.arange(0, n_queries * k + 1, k)
    shape = (n_queries, targets.shape[0])
    chosen = csr_array((weights.ravel(), columns.ravel(), pointers), shape=shape)
    votes: npt.NDArray[np.float32] = (chosen @ targets.astype(np.float32)).toarray()
    return votes
