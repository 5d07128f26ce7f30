"""What the category alone says: how often each concept stands on the training images of it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from core.categories import CATEGORIES, UNKNOWN
from core.images import ImageTable
from core.labels import LabelSpace
from core.metrics import column_sums
from core.predictions import Predictions


@dataclass(frozen=True, kw_only=True)
class CategoryPrior:
    """Share of training images with each concept, by category.

    The category prior alone scored 0.3666 on the development set of 2020: more than any modelling
    added to it that year.

    Attributes:
        labels: the L concepts.
        probs: (L,) float32 by category; `UNKNOWN` holds the share among all images, which also
            stands for a category without training images.
        n_images: training images by category.
        fitted_on: ids of the training images.
    """

    labels: LabelSpace
    probs: Mapping[str, npt.NDArray[np.float32]]
    n_images: Mapping[str, int]
    fitted_on: frozenset[str]

    @classmethod
    def of(cls, train: ImageTable, labels: LabelSpace) -> "CategoryPrior":
        """Count the concepts of labelled images."""
        matrix = train.targets(labels).matrix
        categories = np.array(train.categories, dtype=np.str_)
        masks = {category: categories == category for category in CATEGORIES}
        masks[UNKNOWN] = np.ones(len(train), dtype=np.bool_)
        return cls(
            labels=labels,
            probs={
                category: (column_sums(matrix[mask]) / mask.sum()).astype(np.float32)
                for category, mask in masks.items()
                if mask.any()
            },
            n_images={category: int(mask.sum()) for category, mask in masks.items()},
            fitted_on=frozenset(train.image_ids),
        )

    def of_category(self, category: str) -> npt.NDArray[np.float32]:
        """(L,) probabilities for an image of this category."""
        return self.probs.get(category, self.probs[UNKNOWN])

    def predict(self, table: ImageTable) -> Predictions:
        """Predictions that give every image of a category equal probabilities."""
        rows = [self.of_category(category) for category in table.categories]
        probs = np.stack(rows) if rows else np.empty((0, len(self.labels)), dtype=np.float32)
        return Predictions(
            source="prior",
            image_ids=table.image_ids,
            labels=self.labels,
            probs=probs,
            fitted_on=self.fitted_on,
        )

    def constant(self, category: str, *, at_least: int = 20) -> tuple[str, ...]:
        """Concepts that stand on every training image of a category, if it has enough of them."""
        if category == UNKNOWN or self.n_images.get(category, 0) < max(at_least, 1):
            return ()
        return tuple(
            cui for cui, p in zip(self.labels.cuis, self.probs[category], strict=True) if p == 1.0
        )
