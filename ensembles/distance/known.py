"""How far an image lies from the known ones of its category.

The distance of an image is the mean of 1 - cosine over the five nearest known images of its own
category, of all categories where too few are known of that one. Categories differ in how densely
they are known, so that a distance is told by its logarithm, less that of the category's usual one:
0 for an image like those that were learnt from, 0.7 for one twice as far.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from core.categories import CATEGORIES, UNKNOWN
from core.errors import PredictionsError
from core.metrics import Scores, group_numbers
from core.storage.arrays import load_array, save_array
from core.storage.documents import read_object
from core.storage.folders import write_json
from core.storage.tables import meant_as_written
from ensembles.distance.features import N_DIRECTIONS, Floats, product

Parts = npt.NDArray[np.integer]
Rows = npt.NDArray[np.intp]

NEIGHBOURS = 5

LEAST_KNOWN = 20
"""Known images of a category below which its images are compared with all."""

MOST_KNOWN = 5_000
"""Of a category; of more, so many are drawn."""

_NAMES = (*CATEGORIES, UNKNOWN)
_ALL = "all"
_POINTS, _CATEGORIES, _USUAL = "points.npy", "categories.npy", "usual.json"
FILES = (_POINTS, _CATEGORIES, _USUAL)
"""Of known images in a folder."""

_LONGEST = 1.01  # of points, whose length is 1 but for two bytes a number
_FARTHEST = 20.0  # of logarithms of distances: they lie between those of 1e-6 and 2

_AT_ONCE = 512  # points compared at once


@dataclass(frozen=True, kw_only=True)
class Nearest:
    """Known images that lie nearest to N points.

    Attributes:
        rows: (N, k) rows of the known images, in no order but the first `NEIGHBOURS` being the
            nearest; -1 where there are fewer.
        cosines: (N, k), NaN likewise.
        own: (N,) whether they are of the point's category alone.
    """

    rows: Rows
    cosines: Floats
    own: npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class KnownImages:
    """M images that sources learn from, as points.

    Attributes:
        points: (M, `N_DIRECTIONS`) of length 1.
        categories: (M,) numbers of categories, `len(CATEGORIES)` for one that is not known.
        rows: (M,) which of the images that were given these are; of very many some are drawn.
        usual: by category, and for all, the logarithm of the usual distance; none before
            `with_usual`.
    """

    points: Floats
    categories: npt.NDArray[np.uint8]
    rows: Rows
    usual: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, points: Floats, categories: Sequence[str]) -> "KnownImages":
        """Images whose usual distances are not known yet.

        Args:
            points: (N, `N_DIRECTIONS`).
            categories: N of them.
        """
        numbers = category_numbers(categories)
        rows = _drawn(numbers)
        return cls(points=points[rows], categories=numbers[rows], rows=rows)

    def nearest(
        self, points: Floats, categories: Sequence[str], *, k: int, parts: "_Apart | None" = None
    ) -> Nearest:
        """The k known images nearest to each of N points.

        Args:
            points: (N, `N_DIRECTIONS`).
            categories: N of them, given or guessed.
            k: at least `NEIGHBOURS`.
            parts: numbers of the N points and of the M known images; known ones of a point's own
                number are passed over. None passes over none.
        """
        numbers = category_numbers(categories)
        found = Nearest(
            rows=np.full((len(points), k), -1, dtype=np.intp),
            cosines=np.full((len(points), k), np.nan, dtype=np.float32),
            own=np.zeros(len(points), dtype=np.bool_),
        )
        for rows, among, own in self._searches(numbers, parts):
            found.own[rows] = own
            n = min(k, len(among))
            if n:
                found.rows[rows, :n], found.cosines[rows, :n] = self._search(points[rows], among, n)
        return found

    def _searches(
        self, numbers: npt.NDArray[np.uint8], parts: "_Apart | None"
    ) -> Iterator[tuple[Rows, Rows, bool]]:
        """Points, known images that they are compared with, whether of the category alone."""
        asked, known = parts or (np.zeros(len(numbers)), np.ones(len(self.points)))
        for part in np.unique(asked):
            apart = known != part
            for number in np.unique(numbers[asked == part]).tolist():
                among = np.flatnonzero(apart & (self.categories == number))
                own = number < len(CATEGORIES) and len(among) >= LEAST_KNOWN
                rows = np.flatnonzero((asked == part) & (numbers == number))
                yield rows, among if own else np.flatnonzero(apart), own

    def _search(self, points: Floats, among: Rows, n: int) -> tuple[Rows, Floats]:
        """(m, n) nearest rows and their cosines, the `NEIGHBOURS` nearest first."""
        rows = np.empty((len(points), n), dtype=np.intp)
        cosines = np.empty((len(points), n), dtype=np.float32)
        known = self._wide[among].T
        for start in range(0, len(points), _AT_ONCE):
            block = slice(start, start + _AT_ONCE)
            found = product(points[block], known)
            if n < len(among):
                columns = np.argpartition(-found, n - 1, axis=1)[:, :n]
            else:
                columns = np.broadcast_to(np.arange(n), found.shape)
            own = np.take_along_axis(found, columns, axis=1)
            order = np.argsort(-own, axis=1, kind="stable")
            rows[block] = among[np.take_along_axis(columns, order, axis=1)]
            cosines[block] = np.take_along_axis(own, order, axis=1)
        return rows, cosines

    @cached_property
    def _wide(self) -> npt.NDArray[np.float64]:
        """The points in the 64 bits that products add up in, made once for all searches."""
        return self.points.astype(np.float64)

    def distances(self, nearest: Nearest, categories: Sequence[str]) -> Scores:
        """(N,) logarithms of distances, less the usual ones where they are known.

        Args:
            nearest: of `nearest`.
            categories: of the N points.
        """
        cosines = nearest.cosines[:, :NEIGHBOURS]
        there = ~np.isnan(cosines)
        total = np.where(there, 1.0 - cosines, 0.0).sum(axis=1)
        mean = np.where(there.any(axis=1), total / np.maximum(there.sum(axis=1), 1), 2.0)
        # A category may be known of which no image was compared: it takes the usual one of all.
        of_all = self.usual.get(_ALL, 0.0)
        usual = np.array([self.usual.get(name, of_all) for name in (*_NAMES, _ALL)])
        numbers = np.where(nearest.own, category_numbers(categories), len(_NAMES))
        return np.asarray(np.log(np.maximum(mean, 1e-6)) - usual[numbers])

    def with_usual(
        self, nearest: Nearest, categories: Sequence[str], *, weights: Scores
    ) -> "KnownImages":
        """The same, with the usual distances of images that were compared with them: medians.

        Args:
            nearest: of N points.
            categories: N of them.
            weights: (N,) of the images, see `group_weights`.
        """
        distances = replace(self, usual={}).distances(nearest, categories)
        numbers = category_numbers(categories)
        usual = {_ALL: _median(distances, weights)}
        for number in np.unique(numbers[nearest.own]).tolist():
            own = nearest.own & (numbers == number)
            usual[_NAMES[number]] = _median(distances[own], weights[own])
        return replace(self, usual=usual)

    def save(self, folder: Path) -> None:
        """Write three files into a folder that is there; points take two bytes a number."""
        save_array(folder / _POINTS, self.points.astype(np.float16))
        save_array(folder / _CATEGORIES, self.categories)
        write_json(folder / _USUAL, dict(self.usual))

    @classmethod
    def load(cls, folder: Path) -> "KnownImages":
        """Read what `save` wrote.

        Raises:
            PredictionsError: a file is not as it was written.
        """
        categories = load_array(folder / _CATEGORIES)
        sound = categories.dtype == np.uint8 and categories.ndim == 1 and categories.size > 0
        if not sound or categories.max() >= len(_NAMES):
            raise PredictionsError(f"{folder / _CATEGORIES}: not as it was written")
        stored = load_array(folder / _POINTS)
        sound = stored.dtype == np.float16 and stored.shape == (len(categories), N_DIRECTIONS)
        points = stored.astype(np.float32) if sound else np.full((1, 1), np.nan, dtype=np.float32)
        if not (np.linalg.norm(points, axis=1) < _LONGEST).all():  # NaN is not
            raise PredictionsError(f"{folder / _POINTS}: not as it was written")
        usual = read_object(folder / _USUAL)
        with meant_as_written(folder / _USUAL):
            if _ALL not in usual or not usual.keys() <= {*_NAMES, _ALL}:
                raise ValueError("not the categories that there are")
            usual = {name: _logarithm(value) for name, value in usual.items()}
        return cls(
            points=points,
            categories=np.asarray(categories),
            rows=np.arange(len(points)),
            usual=usual,
        )


def _logarithm(value: object) -> float:
    if not isinstance(value, float | int) or not abs(float(value)) < _FARTHEST:
        raise ValueError(f"{value!r} is no distance")
    return float(value)


def group_weights(groups: Sequence[str]) -> Scores:
    """(N,) weights by which every group counts the same: new images come in new groups."""
    numbers = group_numbers(groups)
    return np.asarray(1.0 / np.bincount(numbers)[numbers])


def _median(values: Scores, weights: Scores) -> float:
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, reached[-1] / 2)])


_Apart = tuple[Parts, Parts]


def category_numbers(categories: Sequence[str]) -> npt.NDArray[np.uint8]:
    """(N,) number of each category."""
    return np.array([_NAMES.index(name) for name in categories], dtype=np.uint8)


def _drawn(numbers: npt.NDArray[np.uint8]) -> Rows:
    """Rows that are kept, in their order: all, unless a category has too many."""
    rng, kept = np.random.default_rng(0), [np.array([], dtype=np.intp)]
    for number in np.unique(numbers):
        own = np.flatnonzero(numbers == number)
        kept.append(own if len(own) <= MOST_KNOWN else rng.permutation(own)[:MOST_KNOWN])
    return np.sort(np.concatenate(kept))
