"""Features of pairs as linear models take them: nothing missing, of mean 0 and deviation 1.

They are made row by row where they are used: neither the matrix of all pairs nor that of some
folds is ever copied.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ensembles.compiled import compiled, in_blocks

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]


class RowView:
    """Rows of a matrix that is shared; it reads like the array of them, and nothing writes to it.

    Attributes:
        matrix: (m, F).
        places: (n,) row of the matrix that each row is.
    """

    def __init__(self, matrix: Floats, places: Ints) -> None:
        self.matrix = matrix
        self.places = places

    @property
    def shape(self) -> tuple[int, int]:
        """(n, F)."""
        return len(self.places), self.matrix.shape[1]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, key: Any) -> Floats:
        """A copy of what `key` would take of the array: rows, or rows and columns."""
        rows, *columns = key if isinstance(key, tuple) else (key,)
        if rows is Ellipsis or len(columns) > 1:
            raise IndexError(f"expected rows, or rows and columns; found {key!r}")
        taken: Floats = self.matrix[(self.places[rows], *columns)]
        return taken

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("rows of a shared matrix cannot be one array without a copy")
        return self.matrix[self.places].astype(dtype or self.matrix.dtype, copy=False)


FeatureRows = Floats | RowView
"""A matrix, or some rows of one."""


def take_rows(
    values: FeatureRows, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.integer]
) -> RowView:
    """The rows of an (n,) mask, or those of these numbers."""
    matrix, places = with_places(values)
    return RowView(matrix, places[chosen])


def with_places(values: FeatureRows) -> tuple[Floats, Ints]:
    """The matrix and the (n,) places of the rows in it."""
    if isinstance(values, RowView):
        return values.matrix, values.places
    return values, np.arange(len(values), dtype=np.int32)


CHUNK = 16_384
"""Rows that are added up together; the chunks' sums are added in order, whatever the threads."""


@dataclass(frozen=True, kw_only=True)
class Standard:
    """How features are made complete and brought to one scale.

    Attributes:
        n_logits, n_ranks: the first columns are the log odds of this many sources, the next ones
            the ranks of as many. Where one is missing because the source does not cover the pair,
            it takes the mean of the row's known ones of its kind.
        mean, scale: (F,) are then taken off and divided by; the scale of a feature that never
            varies is 1.
    """

    n_logits: int
    n_ranks: int
    mean: Floats
    scale: Floats

    @classmethod
    def plain(cls, n_features: int) -> "Standard":
        """Leaves features as they are."""
        zeros, ones = np.zeros(n_features, np.float32), np.ones(n_features, np.float32)
        return cls(n_logits=0, n_ranks=0, mean=zeros, scale=ones)

    @classmethod
    def of_names(cls, names: tuple[str, ...], *, mean: Floats, scale: Floats) -> "Standard":
        """For features of these names: `logit ...`, then `rank ...`, then any others."""
        kinds = ("logit ", "rank ")
        n_logits, n_ranks = (sum(name.startswith(kind) for name in names) for kind in kinds)
        first = [kinds[0]] * n_logits + [kinds[1]] * n_ranks
        assert all(name.startswith(kind) for name, kind in zip(names, first, strict=False))
        return cls(n_logits=n_logits, n_ranks=n_ranks, mean=mean, scale=scale)

    @classmethod
    def of(cls, features: FeatureRows, names: tuple[str, ...]) -> "Standard":
        """Mean and deviation of (n, F) features, n above 0."""
        unscaled = cls.plain(len(names))
        filled = cls.of_names(names, mean=unscaled.mean, scale=unscaled.scale)
        matrix, places = with_places(features)
        n_chunks = -(-len(places) // CHUNK)
        sums = np.zeros((n_chunks, 2, matrix.shape[1]))
        origin = np.empty((1, matrix.shape[1]), dtype=np.float32)
        _fill(matrix, places[:1], *filled.numbers, origin)

        def work(first: int, last: int) -> None:
            for chunk in range(first, last):
                rows = places[chunk * CHUNK : (chunk + 1) * CHUNK]
                _moments(matrix, rows, *filled.numbers, origin[0], sums[chunk])

        in_blocks(n_chunks, work, worth_it=2)
        first, second = sums.sum(axis=0) / len(places)
        deviation = np.sqrt(np.maximum(second - first**2, 0.0)).astype(np.float32)
        mean = (origin[0] + first).astype(np.float32)
        scale = np.where(deviation > 0, deviation, np.float32(1.0))
        return cls.of_names(names, mean=mean, scale=scale)

    @property
    def numbers(self) -> tuple[int, int, Floats, Floats]:
        """What compiled functions are given: a division would take three times as long."""
        return self.n_logits, self.n_ranks, self.mean, np.float32(1.0) / self.scale

    def of_rows(self, features: FeatureRows) -> Floats:
        """(n, F) the features as linear models take them."""
        matrix, places = with_places(features)
        out = np.empty((len(places), matrix.shape[1]), dtype=np.float32)
        in_blocks(len(places), lambda a, b: _fill(matrix, places[a:b], *self.numbers, out[a:b]))
        return out


@compiled
def fill_row(
    row: Floats, n_logits: int, n_ranks: int, mean: Floats, by: Floats, out: Floats
) -> None:
    """Write one row of features as linear models take them, into the first of `out`."""
    n_missing = 0
    for a in range(n_logits + n_ranks):
        n_missing += np.isnan(row[a])
    for a in range(len(mean)):
        out[a] = (row[a] - mean[a]) * by[a]
    if n_missing == 0:
        return
    first = 0
    for size in (n_logits, n_ranks):
        total, n_known = 0.0, 0
        for a in range(first, first + size):
            if not np.isnan(row[a]):
                total += row[a]
                n_known += 1
        instead = np.float32(total / n_known) if n_known else np.float32(np.nan)
        for a in range(first, first + size):
            if np.isnan(row[a]):
                out[a] = (instead - mean[a]) * by[a]
        first += size


@compiled
def _fill(
    matrix: Floats,
    places: Ints,
    n_logits: int,
    n_ranks: int,
    mean: Floats,
    by: Floats,
    out: Floats,
) -> None:
    for k in range(len(places)):
        fill_row(matrix[places[k]], n_logits, n_ranks, mean, by, out[k])


@compiled
def _moments(
    matrix: Floats,
    places: Ints,
    n_logits: int,
    n_ranks: int,
    mean: Floats,
    by: Floats,
    origin: Floats,
    sums: npt.NDArray[np.float64],
) -> None:
    """Add distances from the origin, and their squares, to the sums."""
    x = np.empty(len(mean), dtype=np.float32)
    for k in range(len(places)):
        fill_row(matrix[places[k]], n_logits, n_ranks, mean, by, x)
        for a in range(len(mean)):
            away = np.float64(x[a]) - origin[a]
            sums[0, a] += away
            sums[1, a] += away * away
