"""The images that a choice is made among, as plain values."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from core.images import ImageTable
from core.labels import LabelSpace
from core.metrics import column_sums

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class CandidateImages:
    """N labelled training images; every sequence has N entries in one order.

    A choice is a function of these values and of a seed, so that no image that is not among them
    can influence it.

    Attributes:
        image_ids: distinct ids.
        categories: their imaging categories, as they are learnt from.
        targets: (N, L) boolean, CSR with sorted columns: their concepts.
        folds: (N,) fold of each; whole groups share one.
        features: (N, D) pooled features; None where the strategy needs none.

    Raises:
        ValueError: lengths differ.
    """

    image_ids: tuple[str, ...]
    categories: tuple[str, ...]
    targets: csr_array
    folds: npt.NDArray[np.integer]
    features: Floats | None = None

    def __post_init__(self) -> None:
        lengths = {len(self.image_ids), len(self.categories), self.targets.shape[0]}
        lengths |= {len(self.folds)}
        lengths |= set() if self.features is None else {len(self.features)}
        if len(lengths) > 1:
            raise ValueError(f"candidates: columns have {sorted(lengths)} rows")

    @classmethod
    def of(
        cls, table: ImageTable, labels: LabelSpace, *, features: Floats | None = None
    ) -> "CandidateImages":
        """The images of a table.

        Args:
            table: N images whose concepts are known.
            labels: the concepts that count.
            features: (N, D), in the order of the table.

        Raises:
            AlignmentError: the concepts of an image are not known.
        """
        return cls(
            image_ids=table.image_ids,
            categories=table.categories,
            targets=table.targets(labels).matrix,
            folds=table.folds,
            features=features,
        )

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def n_images(self) -> npt.NDArray[np.int64]:
        """(L,) images of each concept."""
        return column_sums(self.targets)

    def units(self) -> Floats:
        """(N, D) features about their mean, each row of length 1; rows of length 0 stay 0.

        Pooled features are all positive: without the mean taken off every image is similar to
        every other.

        Raises:
            ValueError: there are no features.
        """
        if self.features is None:
            raise ValueError("candidates: no features")
        mean = self.features.mean(axis=0, dtype=np.float64).astype(np.float32)
        units: Floats = self.features - mean
        for start in range(0, len(units), _AT_ONCE):
            block = units[start : start + _AT_ONCE]
            lengths = np.sqrt(np.einsum("ij,ij->i", block, block))
            block /= np.where(lengths > 0, lengths, 1)[:, None]
        return units


_AT_ONCE = 4096
