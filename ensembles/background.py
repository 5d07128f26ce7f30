"""What the training labels say of a concept before an image is looked at."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from core.categories import CATEGORIES
from core.labels import Targets
from core.metrics import column_sums
from ensembles.pairs import Floats


@dataclass(frozen=True, kw_only=True)
class Background:
    """Frequencies of L concepts in the training images.

    Attributes:
        n_train: (L,) training images of each concept.
        rate: (L,) smoothed share of training images with each concept, within (0, 1).
        prior: (C, L) smoothed P(concept | category), rows as in `CATEGORIES`.
        given: (L, L) smoothed P(column's concept | row's concept).
        category_share: (C,) share of each category in the training images.
    """

    n_train: npt.NDArray[np.int64]
    rate: Floats
    prior: Floats
    given: Floats
    category_share: Floats

    @classmethod
    def of(cls, targets: Targets, categories: Sequence[str]) -> "Background":
        """Frequencies in training images.

        Shares are drawn towards the concept's overall rate with the weight of a few images: a
        category or concept seen in two images says little. Images of unknown category count for
        the rate only.

        Args:
            targets: the true concepts of the training images.
            categories: their categories.
        """
        matrix = targets.matrix.astype(np.float32)
        n_train = column_sums(targets.matrix)
        rate = ((n_train + 0.5) / (len(targets) + 1.0)).astype(np.float32)
        names = np.array(categories, dtype=np.str_)
        member = csr_array(np.array([names == c for c in CATEGORIES]).astype(np.float32))
        size: Floats = np.asarray(member.sum(axis=1), dtype=np.float32).ravel()
        in_category = (member @ matrix).toarray()
        prior = (in_category + _IMAGES * rate) / (size[:, None] + _IMAGES)
        together = (matrix.T @ matrix).toarray()
        given = (together + _IMAGES * rate) / (n_train[:, None] + _IMAGES)
        return cls(
            n_train=n_train,
            rate=rate,
            prior=prior.astype(np.float32),
            given=given.astype(np.float32),
            category_share=((size + 1.0) / (size.sum() + len(CATEGORIES))).astype(np.float32),
        )

    def category_weights(self, categories: Sequence[str]) -> Floats:
        """(N, C) certainty of each image's category: 1 where it is known, the shares where not."""
        weights = np.tile(self.category_share, (len(categories), 1))
        names = np.array(categories, dtype=np.str_)
        for number, category in enumerate(CATEGORIES):
            weights[names == category] = np.arange(len(CATEGORIES)) == number
        return weights


_IMAGES = 3.0
