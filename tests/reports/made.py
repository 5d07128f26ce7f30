"""Small image tables for the tests of `stats`."""

from collections.abc import Sequence

import numpy as np

from core.images import ImageTable
from core.labels import Concepts
from reports.statistics.labels import LabelledImages


def made_table(
    concepts: Sequence[Concepts | None],
    *,
    splits: Sequence[str] | str = "train",
    categories: Sequence[str] | str = "",
    groups: Sequence[str] | None = None,
) -> ImageTable:
    """Images with these concepts; a word instead of a column stands for all of them."""
    n = len(concepts)
    ids = tuple(f"i{row}" for row in range(n))
    return ImageTable(
        image_ids=ids,
        paths=ids,
        categories=(categories,) * n if isinstance(categories, str) else tuple(categories),
        splits=(splits,) * n if isinstance(splits, str) else tuple(splits),
        folds=np.full(n, -1, dtype=np.int16),
        groups=ids if groups is None else tuple(groups),
        concepts=tuple(concepts),
    )


def made_images(
    concepts: Sequence[Concepts | None],
    *,
    splits: Sequence[str] | str = "train",
    categories: Sequence[str] | str = "",
    groups: Sequence[str] | None = None,
) -> LabelledImages:
    """The labelled ones of such images."""
    table = made_table(concepts, splits=splits, categories=categories, groups=groups)
    return LabelledImages.of(table)
