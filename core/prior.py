"""What the category alone says: how often each concept stands on the training images of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from core.categories import CATEGORIES, UNKNOWN
from core.images import ImageTable
from core.labels import LabelSpace, Targets
from core.metrics import column_sums
from core.predictions import Predictions, Probs
from core.storage.arrays import SharedRows


def count_by_category(
    targets: Targets, categories: Sequence[str]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(C, L) images of each category with each concept, and (C,) images, as in `CATEGORIES`.

    Every P(concept | category) is counted here; who needs it smoothed adds to the counts. (A fusion
    network, whose images may have a posterior in place of a category, adds up certainties instead.)

    Args:
        targets: the true concepts of N images.
        categories: N categories; images of unknown category are counted nowhere.
    """
    names = np.array(categories, dtype=np.str_)
    member = csr_array(np.array([names == c for c in CATEGORIES]).astype(np.int64))
    counts = (member @ targets.matrix.astype(np.int64)).toarray()
    return counts, np.asarray(member.sum(axis=1), dtype=np.int64).ravel()


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
        targets = train.targets(labels)
        counts, sizes = count_by_category(targets, train.categories)
        counts = np.concatenate([counts, [column_sums(targets.matrix)]])
        n_images = dict(zip((*CATEGORIES, UNKNOWN), [*sizes.tolist(), len(train)], strict=True))
        return cls(
            labels=labels,
            probs={
                category: (n_true / n_images[category]).astype(np.float32)
                for category, n_true in zip(n_images, counts, strict=True)
                if n_images[category]
            },
            n_images=n_images,
            fitted_on=frozenset(train.image_ids),
        )

    def of_category(self, category: str) -> npt.NDArray[np.float32]:
        """(L,) probabilities for an image of this category."""
        return self.probs.get(category, self.probs[UNKNOWN])

    def predict(self, table: ImageTable) -> Predictions:
        """Predictions that give every image of a category equal probabilities, kept once each."""
        names = sorted(set(table.categories)) or [UNKNOWN]
        place = {name: number for number, name in enumerate(names)}
        rows = np.array([place[category] for category in table.categories], dtype=np.intp)
        probs = SharedRows.of(np.stack([self.of_category(name) for name in names]), rows)
        return Predictions(
            source="prior",
            image_ids=table.image_ids,
            labels=self.labels,
            probs=cast(Probs, probs),
            fitted_on=self.fitted_on,
        )

    def constant(self, category: str, *, at_least: int = 20) -> tuple[str, ...]:
        """Concepts that stand on every training image of a category, if it has enough of them."""
        if category == UNKNOWN or self.n_images.get(category, 0) < max(at_least, 1):
            return ()
        return tuple(
            cui for cui, p in zip(self.labels.cuis, self.probs[category], strict=True) if p == 1.0
        )
