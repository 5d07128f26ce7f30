"""Approximate cosine nearest neighbours for archives past a million images: an inverted file."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from core.errors import ConfigError
from fusion.retrieval.nearest import Floats, Neighbours, unit_vectors

Codes = Literal["float32", "float16", "uint8"]

_FACTORY: dict[Codes, str] = {"float32": "Flat", "float16": "SQfp16", "uint8": "SQ8"}

_ROWS = 16_384
"""Rows at once: at 1,280 features 84 MB."""

_SAMPLED = 40
"""Vectors a list that k-means sees; faiss asks for 39."""


@dataclass(frozen=True)
class ApproximateIndex:
    """Vectors in lists around the centres of k-means; a query looks into the nearest lists alone.

    Attributes:
        index: of faiss, searched under its numbers of the rows.
        n_rows: vectors in it.
    """

    index: Any
    n_rows: int

    @property
    def n_lists(self) -> int:
        """Number of lists; a search of all of them is an exhaustive one."""
        return int(self.index.nlist)

    def find_nearest(self, queries: Floats, *, k: int, n_probe: int = 32) -> Neighbours:
        """The k most similar rows of the nearest lists.

        Args:
            queries: (Q, D); their length does not matter.
            k: neighbours; all N where there are fewer.
            n_probe: lists that are searched, all where there are fewer. Time grows with it, and so
                does the share of the true neighbours that are found (`recall_at_k`).

        Returns:
            Rows as given to `build_index`; -1 where the lists held fewer than k.

        Raises:
            ValueError: k or n_probe is below 1, the number of features differs, or a query has no
                finite length.
        """
        if k < 1 or n_probe < 1:
            raise ValueError(f"expected k and n_probe of at least 1, found {k} and {n_probe}")
        if queries.ndim != 2 or queries.shape[1] != self.index.d:
            raise ValueError(f"queries are {queries.shape}, the index has {self.index.d} features")
        faiss = _import_faiss()
        k = min(k, self.n_rows)
        settings = faiss.SearchParametersIVF(nprobe=min(n_probe, self.n_lists))
        rows = np.empty((len(queries), k), dtype=np.int32)
        similarity = np.empty((len(queries), k), dtype=np.float32)
        for start in range(0, len(queries), _ROWS):
            here = slice(start, start + _ROWS)
            asked = unit_vectors(queries[here]).numpy()
            similarity[here], rows[here] = self.index.search(asked, k, params=settings)
        similarity[rows < 0] = -np.inf
        return Neighbours(rows=rows, similarity=similarity)


def build_index(
    memory: Floats,
    *,
    codes: Codes = "float32",
    n_lists: int | None = None,
    among: npt.NDArray[np.integer] | None = None,
    seed: int = 0,
) -> ApproximateIndex:
    """An inverted file (IVF) of unit vectors, read block by block.

    The lists hold the vectors themselves: similarities are exact, and every true neighbour is found
    once enough lists are searched. Product quantisation (IVF-PQ) is far smaller, but loses
    neighbours whatever is searched, unless they are ranked again by the vectors. A million vectors
    of 1,280 numbers are 5.1 GB; `codes` of float16 halve and of uint8 quarter that, with a number
    still stored for each number.

    Args:
        memory: (N, D), an array mapped from disk included.
        codes: how a number is stored.
        n_lists: lists; None for 4 sqrt(N), but never so many that k-means has fewer than 40 vectors
            a list.
        among: row numbers, distinct, that alone are put in; None for all. One index a category
            searches within it.
        seed: of the sample that k-means sees, and of its start.

    Raises:
        ConfigError: faiss is not installed.
        ValueError: there is nothing to put in, `n_lists` is out of range, or a vector has no finite
            length.
    """
    faiss = _import_faiss()
    rows = np.arange(len(memory)) if among is None else np.asarray(among)
    if not len(rows):
        raise ValueError("the memory is empty: nothing to search")
    most = max(1, len(rows) // _SAMPLED)
    if n_lists is None:
        n_lists = min(most, round(4 * len(rows) ** 0.5))
    if not 1 <= n_lists <= most:
        raise ValueError(f"n_lists: expected 1 to {most} for {len(rows)} rows, found {n_lists}")
    kind = f"IVF{n_lists},{_FACTORY[codes]}"
    index = faiss.index_factory(memory.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed, index.cp.spherical = seed, True
    index.cp.min_points_per_centroid = 1  # a single list of few rows is no reason to warn
    n_sampled = min(len(rows), _SAMPLED * n_lists)
    sampled = np.random.default_rng(seed).choice(len(rows), n_sampled, replace=False)
    index.train(unit_vectors(memory[rows[np.sort(sampled)]]).numpy())
    for start in range(0, len(rows), _ROWS):
        block = rows[start : start + _ROWS]
        index.add_with_ids(unit_vectors(memory[block]).numpy(), block.astype(np.int64))
    return ApproximateIndex(index=index, n_rows=len(rows))


def recall_at_k(approximate: Neighbours, exact: Neighbours) -> float:
    """Share of the exact neighbours of all queries that the approximate search found.

    Higher is better; order and similarity do not count.

    Raises:
        ValueError: the shapes differ, or there is no exact neighbour.
    """
    if approximate.rows.shape != exact.rows.shape:
        raise ValueError(
            f"approximate neighbours are {approximate.rows.shape}, exact ones {exact.rows.shape}"
        )
    found, true = (_pairs(of.rows) for of in (approximate, exact))
    if not len(true):
        raise ValueError("no exact neighbours: recall is not defined")
    return float(np.isin(true, found, assume_unique=True).mean())


def _pairs(rows: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Query and row of each neighbour that exists, as one number."""
    numbers = (np.arange(len(rows), dtype=np.int64)[:, None] << 32) + rows
    return numbers[rows >= 0]


def _import_faiss() -> Any:
    """faiss, at torch's number of threads.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import faiss
    except ImportError:
        raise ConfigError(
            "an approximate index: run `pip install 'radfuse[retrieval]'` first"
        ) from None
    faiss.omp_set_num_threads(torch.get_num_threads())
    return faiss
