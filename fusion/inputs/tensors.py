"""What fusion networks are given of an image, and what they are built from."""

from dataclasses import dataclass

import torch
from torch import Tensor

from training.heads import Standardise
from training.predict import Rows

HeadInputs = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class NetworkInputs:
    """N images as fusion networks see them.

    Attributes:
        features: (N, D) pooled features.
        category: (N, 7) certainty of each category: 1 at a known one, a posterior at a guessed one,
            zeros where nothing can be said. Rows sum to 1 or are 0.
        metadata: (N, M) further columns of the image table as numbers; M may be 0.
        widths: columns of each encoder's features; () for one.
    """

    features: Tensor
    category: Tensor
    metadata: Tensor
    widths: tuple[int, ...] = ()

    def batch(self, rows: Rows) -> HeadInputs:
        """Inputs of these images."""
        chosen = torch.from_numpy(rows)
        return self.features[chosen], self.category[chosen], self.metadata[chosen]


@dataclass(frozen=True, kw_only=True)
class Training:
    """The training images that a network is built for.

    Attributes:
        inputs: features (n, D), category (n, 7) and metadata (n, M).
        targets: (n, L) float, the true concepts.
        known: (n, 7) category that concepts are counted by where that is not the one of the inputs:
            of images whose concepts tell it the inputs have a guess.
        widths: columns of each encoder's features; () for one.
    """

    inputs: HeadInputs
    targets: Tensor
    known: Tensor | None = None
    widths: tuple[int, ...] = ()

    def standardise(self) -> Standardise:
        """The layer that standardises features like theirs."""
        return Standardise.fitted(self.inputs[0], widths=self.widths)

    @property
    def counted(self) -> Tensor:
        """(n, 7) category that concepts are counted by."""
        return self.inputs[1] if self.known is None else self.known

    @property
    def n_concepts(self) -> int:
        """L."""
        return self.targets.shape[1]

    @property
    def n_features(self) -> int:
        """D."""
        return self.inputs[0].shape[1]

    @property
    def n_context(self) -> int:
        """7 + M."""
        return self.inputs[1].shape[1] + self.inputs[2].shape[1]

    def prior(self, *, strength: float = 1.0) -> Tensor:
        """(7, L) share of a category's training images with each concept.

        The share among all images counts as `strength` further images, so that no share is 0 or 1
        where a concept occurs, and a category without images has the share among all.
        """
        category, n = self.counted, len(self.targets)
        rate = (self.targets.sum(dim=0) + 0.5) / (n + 1)
        counts, sizes = category.T @ self.targets, category.sum(dim=0)
        return (counts + strength * rate) / (sizes + strength)[:, None]

    def seen(self) -> Tensor:
        """(7, L) 1 where a training image of the category has the concept.

        A category without training images has seen all.
        """
        category = self.counted
        counts = category.T @ self.targets
        none = category.sum(dim=0) == 0
        return ((counts > 0) | none[:, None]).float()
