"""One column of the image table as numbers, fitted on training images."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from core.errors import ConfigError, CorpusError, first_few

KINDS = ("categorical", "numeric", "multi")

_SEPARATOR = ";"

_FEW = 10
"""Up to so many whole numbers are codes: a number of its own for each loses nothing of a quantity,
while a quantity made of codes would order what has no order."""

_CLIP = 5.0
"""Deviations from the mean that a number may lie away: further out (an age of 999) a network knows
nothing. Of any training values at most 1 in 25 lies there (Chebyshev)."""

_MOST = 1000
"""Values with a number of their own: as many as pooled features."""

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, kw_only=True)
class Column:
    """What training images say of a column.

    Its numbers are one for each of its values (or one for its quantity), then one that is 1 where
    the column is missing and all others are 0.

    Attributes:
        name: of the image table's column.
        kind: one of `KINDS`.
        values: those with a number of their own, sorted; none of a numeric column.
        mean: of a numeric column, over the training images that have it.
        deviation: likewise; 0 for a constant, of which only the missing values tell something.
    """

    name: str
    kind: str
    values: tuple[str, ...] = ()
    mean: float = 0.0
    deviation: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(
                f"metadata: {self.name}: kind {self.kind!r}; expected one of {', '.join(KINDS)}"
            )

    @property
    def width(self) -> int:
        """How many numbers an image gets, that of missing included."""
        return (1 if self.kind == "numeric" else len(self.values)) + 1

    def encode(
        self, cells: Sequence[str], image_ids: Sequence[str]
    ) -> tuple[npt.NDArray[np.float32], list[str]]:
        """The numbers of images (N, width), and a line on each thing that was odd.

        Raises:
            CorpusError: text in a numeric column.
        """
        encode = self._encode_number if self.kind == "numeric" else self._encode_values
        rows, odd = encode(cells, image_ids)
        if len(cells) and not any(cells):
            odd.append(f"metadata: {self.name}: missing on all {len(cells)} images")
        return rows, odd

    def _encode_number(
        self, cells: Sequence[str], image_ids: Sequence[str]
    ) -> tuple[npt.NDArray[np.float32], list[str]]:
        numbers = _numbers(self.name, cells, image_ids)
        missing = np.isnan(numbers)
        # Where training shows one number, a weight on it never learns: another one would be noise.
        away = (numbers - self.mean) / (self.deviation or math.inf)
        scores = np.where(missing, 0.0, away)
        beyond = [i for i, score in zip(image_ids, scores, strict=True) if abs(score) > _CLIP]
        rows = np.stack([scores.clip(-_CLIP, _CLIP), missing], axis=1).astype(np.float32)
        if not beyond:
            return rows, []
        return rows, [
            f"metadata: {self.name}: {len(beyond)} of {len(cells)} images over {_CLIP:g} deviations"
            f" from training's mean, taken as {_CLIP:g}: {first_few(beyond)}"
        ]

    def _encode_values(
        self, cells: Sequence[str], image_ids: Sequence[str]
    ) -> tuple[npt.NDArray[np.float32], list[str]]:
        number_of = {value: number for number, value in enumerate(self.values)}
        rows = np.zeros((len(cells), self.width), dtype=np.float32)
        strange: dict[str, list[str]] = defaultdict(list)
        for row, cell in enumerate(cells):
            for value in _parts(cell, self.kind):
                if value in number_of:
                    rows[row, number_of[value]] = 1.0
                else:
                    strange[value].append(image_ids[row])
            if not rows[row].any():
                rows[row, -1] = 1.0
        if not strange:
            return rows, []
        n_images = len({image_id for ids in strange.values() for image_id in ids})
        common = sorted(strange.items(), key=lambda item: (-len(item[1]), item[0]))
        told = [f"{value!r} on {len(ids)} {first_few(ids, n=3)}" for value, ids in common[:5]]
        return rows, [
            f"metadata: {self.name}: {n_images} of {len(cells)} images with a value that too few"
            f" training images have, seen as missing: {', '.join(told)}"
            + (f" and {len(common) - 5} more" if len(common) > 5 else "")
        ]


def fit_column(
    name: str, cells: Sequence[str], *, image_ids: Sequence[str], kind: str | None, min_images: int
) -> tuple[Column, str]:
    """The column of training images, and a line on what it is.

    Args:
        name: of the column.
        cells: its values on the training images, "" where missing.
        image_ids: of these images.
        kind: one of `KINDS`; None recognises it.
        min_images: training images that a value needs for a number of its own; a rarer one is seen
            as missing, here and later.

    Raises:
        ConfigError: no image has a value, no value is frequent enough, or there are so many that
            they name images rather than describe them.
        CorpusError: text in a column that was called numeric.
    """
    given = [cell for cell in cells if cell]
    if not given:
        raise ConfigError(f"metadata: {name}: missing on all training images; leave it out")
    told = recognise(given) if kind is None else kind
    if told == "numeric":
        column = _fit_number(name, _numbers(name, cells, image_ids))
        what = f"mean {column.mean:.4g}, deviation {column.deviation:.4g}"
        if not column.deviation:
            what = f"always {column.mean:.4g}, so that only missing values tell something"
    else:
        column, rare = _fit_values(name, given, kind=told, min_images=min_images)
        n_values = len(column.values)
        what = f"{n_values} value{'s' if n_values > 1 else ''} {first_few(column.values)}"
        if rare:
            what += f", {len(rare)} on fewer than {min_images} images and seen as missing"
            what += f" {first_few(rare)}"
    n_missing = len(cells) - len(given)
    gaps = f"missing on {n_missing} of {len(cells)}" if n_missing else "never missing"
    how = " (recognised)" if kind is None else ""
    return column, f"metadata: {name}: {told}{how}, {what}; {gaps} in training"


def recognise(given: Sequence[str]) -> str:
    """The kind that values speak for.

    `multi` where a `;` stands in one; `numeric` where all are numbers and either one has a fraction
    or more than 10 differ; else `categorical`: few whole numbers are codes more often than
    quantities (a view, a grade, a sex of 0 and 1).

    Example:
        >>> recognise(["AP;lateral", "PA"]), recognise(["0", "1", "1"]), recognise(["1.5", "2"])
        ('multi', 'categorical', 'numeric')
    """
    if any(_SEPARATOR in cell for cell in given):
        return "multi"
    numbers = {_number(cell) for cell in given}
    if None in numbers:
        return "categorical"
    whole = all(number is not None and number.is_integer() for number in numbers)
    return "numeric" if len(numbers) > _FEW or not whole else "categorical"


def _fit_number(name: str, numbers: npt.NDArray[np.float64]) -> Column:
    known = np.sort(numbers[~np.isnan(numbers)])  # sums depend on the order
    if known[0] == known[-1]:  # the mean of equal numbers need not be that number
        return Column(name=name, kind="numeric", mean=float(known[0]))
    return Column(name=name, kind="numeric", mean=float(known.mean()), deviation=float(known.std()))


def _fit_values(
    name: str, given: Sequence[str], *, kind: str, min_images: int
) -> tuple[Column, list[str]]:
    """The column, and the values that are too rare for it."""
    n_images: dict[str, int] = defaultdict(int)
    for cell in given:
        for value in _parts(cell, kind):
            n_images[value] += 1
    values = sorted(value for value, n in n_images.items() if n >= min_images)
    if 2 * len(n_images) > len(given) or len(values) > _MOST:
        raise ConfigError(
            f"metadata: {name}: {len(n_images)} values on {len(given)} training images name images"
            f" rather than describe them; leave it out, or write {name}:numeric if these are"
            f" numbers: {first_few(sorted(n_images), n=3)}"
        )
    if not values:
        raise ConfigError(
            f"metadata: {name}: no value on {min_images} or more training images; leave it out"
        )
    rare = sorted(set(n_images) - set(values))
    return Column(name=name, kind=kind, values=tuple(values)), rare


def _parts(cell: str, kind: str) -> list[str]:
    """The distinct values of a cell, none where it is empty."""
    parts = cell.split(_SEPARATOR) if kind == "multi" else [cell]
    return [part for part in dict.fromkeys(part.strip() for part in parts) if part]


def _numbers(name: str, cells: Sequence[str], image_ids: Sequence[str]) -> npt.NDArray[np.float64]:
    """(N,) the cells as numbers, NaN where one is empty."""
    numbers = [_number(cell) if cell else math.nan for cell in cells]
    known = np.array([math.nan if n is None else n for n in numbers], dtype=np.float64)
    texts = [(cell, i) for cell, i, n in zip(cells, image_ids, numbers, strict=True) if n is None]
    if texts:
        (cell, image_id), more = texts[0], len(texts) - 1
        raise CorpusError(
            f"metadata: {name}: expected a number, found {cell!r} for image {image_id!r}"
            f"{f' and text for {more} more' if more else ''}; empty such cells and run `prepare`"
            f" again, or write {name}:categorical"
        )
    return known


def _number(cell: str) -> float | None:
    """The number that a cell is, None for text and for what float32 does not hold."""
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if abs(number) <= _LARGEST and "_" not in cell else None
