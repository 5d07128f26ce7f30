"""Exact cosine nearest neighbours, in blocks of queries and of memory."""

from collections.abc import Sized
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.integer]

_ROWS = 4096
"""Rows of memory at once: at 1,280 features 21 MB, normalised while they are in the cache."""

_CELLS = 2**23
"""Similarities at once, 32 MB: 2,048 queries, the fastest of the shapes tried on two cores."""

_FULL = 16
"""Queries are filled up to a multiple of it: matrix products of one, two or three rows, and on two
threads of up to eleven, add up otherwise than larger ones, and an image's own similarities must not
depend on what is asked with it."""


@dataclass(frozen=True)
class Neighbours:
    """The rows of a memory that lie nearest to Q queries, the nearest first.

    Attributes:
        rows: (Q, k) int32 row numbers of the memory; -1 where there are fewer than k.
        similarity: (Q, k) float32 cosines; -inf where there is no row.

    Raises:
        ValueError: the shapes differ.
    """

    rows: npt.NDArray[np.int32]
    similarity: Floats

    def __post_init__(self) -> None:
        if self.rows.ndim != 2 or self.rows.shape != self.similarity.shape:
            raise ValueError(
                f"neighbours: rows are {self.rows.shape}, similarities {self.similarity.shape}"
            )

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def k(self) -> int:
        """Neighbours of each query, those that do not exist included."""
        return int(self.rows.shape[1])

    def first(self, k: int) -> "Neighbours":
        """The k nearest alone."""
        return Neighbours(rows=self.rows[:, :k], similarity=self.similarity[:, :k])


class UnitRows(Sized, Protocol):
    """A memory that gives its own unit vectors, which it may have kept from the last time."""

    ndim: int
    shape: tuple[int, int]

    def unit_vectors(self, chosen: slice | Labels, device: str) -> Tensor:
        """(M, D) some of its rows, as the function of that name gives them."""
        ...


def find_nearest(
    queries: Floats,
    memory: Floats | UnitRows,
    *,
    k: int,
    device: str = "cpu",
    among: npt.NDArray[np.integer] | None = None,
    apart: tuple[Labels, Labels] | None = None,
) -> Neighbours:
    """The k rows of highest cosine similarity, compared one by one.

    Nothing of the size of the memory, nor of queries times memory, is ever made: an array mapped
    from disk is read block by block, once for every 2,048 queries. Blocks cost next to nothing
    beside their matrix product, because only entries above the k-th best so far are looked at.

    Equal similarities come in the order of their rows. (Equal vectors need not be of equal
    similarity to the last bit: a matrix product may add up its edges in another order.) A vector of
    length zero is similar to nothing, 0.

    Args:
        queries: (Q, D); their length does not matter.
        memory: (N, D), an array mapped from disk included, or what gives its unit vectors.
        k: neighbours; all N where there are fewer.
        device: where similarities are computed.
        among: row numbers, ascending and distinct, that alone are searched; None for all.
        apart: labels of the queries (Q,) and of the memory (N,): rows of a query's own label are
            left out. With folds as labels each image searches the other folds only.

    Raises:
        ValueError: the memory is empty, k is below 1, shapes do not fit, or a vector has no finite
            length.
    """
    _check(queries, memory, k=k, apart=apart)
    k = min(k, len(memory))
    n_searched = len(memory) if among is None else len(among)
    rows = np.empty((len(queries), k), dtype=np.int32)
    similarity = np.empty((len(queries), k), dtype=np.float32)
    n_at_once = max(1, _CELLS // max(_ROWS, k))
    for start in range(0, len(queries), n_at_once):
        here = slice(start, start + n_at_once)
        asked = unit_vectors(queries[here], device)
        whole = torch.nn.functional.pad(asked, (0, 0, 0, -len(asked) % _FULL))
        best = _Best.none(len(asked), k, asked.device)
        for first in range(0, n_searched, _ROWS):
            block = slice(first, min(first + _ROWS, n_searched))
            searched = block if among is None else among[block]
            found = (whole @ _unit_rows(memory, searched, device).T)[: len(asked)]
            if apart is not None:
                own, theirs = (
                    torch.as_tensor(np.asarray(label, dtype=np.int64), device=asked.device)
                    for label in (apart[0][here], apart[1][searched])
                )
                found.masked_fill_(own[:, None] == theirs, -torch.inf)
            best = best.merged(found, first)
        rows[here], similarity[here] = best.rows.cpu().numpy(), best.similarity.cpu().numpy()
    if among is not None:
        rows[rows >= 0] = among[rows[rows >= 0]]
    return Neighbours(rows=rows, similarity=similarity)


def unit_vectors(vectors: Floats, device: str = "cpu") -> Tensor:
    """A copy of (N, D) vectors at length 1; a vector of zeros stays one.

    Raises:
        ValueError: a vector has no finite length.
    """
    found = torch.tensor(vectors, dtype=torch.float32, device=device)
    length = torch.linalg.vector_norm(found, dim=1, keepdim=True)
    if not torch.isfinite(length).all():
        raise ValueError("vectors to compare must be finite, and of finite length")
    return found.div_(length.clamp_min(torch.finfo(torch.float32).tiny))


def _unit_rows(memory: Floats | UnitRows, chosen: slice | Labels, device: str) -> Tensor:
    if isinstance(memory, np.ndarray):
        return unit_vectors(memory[chosen], device)
    return memory.unit_vectors(chosen, device)


@dataclass(frozen=True)
class _Best:
    """The best so far of B queries, as `Neighbours`; equal ones by row."""

    rows: Tensor
    similarity: Tensor

    @classmethod
    def none(cls, n_queries: int, k: int, device: torch.device) -> "_Best":
        return cls(
            torch.full((n_queries, k), -1, dtype=torch.int32, device=device),
            torch.full((n_queries, k), -torch.inf, device=device),
        )

    def merged(self, found: Tensor, first: int) -> "_Best":
        """The best of these and of a block (B, M) of similarities, whose rows start at `first`.

        After N rows a block in no order holds k M / N entries a query above the k-th best: a few.
        They are gathered to the left of a narrow matrix and sorted with the former ones. Where they
        are more than k (the first block; the first one of a query's category), the k best of the
        block will do.
        """
        k = self.rows.shape[1]
        bar = self.similarity[:, -1:]
        above = found > bar
        if bool(torch.isinf(bar).any()):
            above &= found >= found.topk(min(k, found.shape[1]), dim=1).values[:, -1:]
        query, column, counts = _entries(above)
        if bool((counts > k).any()):
            crowded = (counts > k).nonzero(as_tuple=True)[0]
            those = found[crowded]
            above[crowded] &= those >= those.topk(k, dim=1).values[:, -1:]
            query, column, counts = _entries(above)
        if not len(query):
            return self
        place = torch.arange(len(query), device=found.device) - (counts.cumsum(0) - counts)[query]
        shape = (len(found), int(counts.max()))
        similarity = found.new_full(shape, -torch.inf)
        similarity[query, place] = found[query, column]
        rows = self.rows.new_full(shape, -1)
        rows[query, place] = (column + first).to(torch.int32)
        similarity = torch.cat((self.similarity, similarity), dim=1)
        rows = torch.cat((self.rows, rows), dim=1)
        ordered = similarity.sort(dim=1, descending=True, stable=True)
        return _Best(rows.gather(1, ordered.indices[:, :k]), ordered.values[:, :k].contiguous())


def _entries(above: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows and columns of the true entries of (B, M), in order, and how many each row has.

    Counting them so takes a fifth of the time of a sum over booleans.
    """
    query, column = above.nonzero(as_tuple=True)
    return query, column, torch.bincount(query, minlength=len(above))


def _check(
    queries: Floats,
    memory: Floats | UnitRows,
    *,
    k: int,
    apart: tuple[Labels, Labels] | None,
) -> None:
    if not len(memory):
        raise ValueError("the memory is empty: nothing to search")
    if k < 1:
        raise ValueError(f"k: expected at least 1, found {k}")
    if queries.ndim != 2 or memory.ndim != 2 or queries.shape[1] != memory.shape[1]:
        raise ValueError(f"queries are {queries.shape}, the memory {memory.shape}")
    if apart is not None and (len(apart[0]), len(apart[1])) != (len(queries), len(memory)):
        raise ValueError(
            f"apart: {len(apart[0])} and {len(apart[1])} labels for {len(queries)} queries and"
            f" {len(memory)} rows of memory"
        )
