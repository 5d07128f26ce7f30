"""What the category says of concepts, built into a network's logits."""

import torch
from torch import Tensor, nn

from fusion.inputs.tensors import Training
from fusion.networks.heads import Blind, OneHot
from training.config import FitConfig

_LEAST = 1e-4
"""Least share of a concept: without it a concept never seen in a category could not be learnt to
stand in it, nor be decided where the category is wrong."""


class PriorOffset(nn.Module):
    """Log odds of the concept in the category, and what the image adds to them.

        logits = logit(sum_c P(c) P(concept | c)) + head(features)

    Without a category the shares among all training images take its place.
    """

    def __init__(self, train: Training, config: FitConfig) -> None:
        super().__init__()
        self.head = Blind(train, config)
        self.prior: Tensor
        self.rate: Tensor
        self.register_buffer("prior", train.prior())
        self.register_buffer("rate", train.targets.mean(dim=0))

    def forward(self, features: Tensor, category: Tensor, metadata: Tensor) -> Tensor:
        """Logits (B, L)."""
        unsaid = 1 - category.sum(dim=1, keepdim=True)
        share = category @ self.prior + unsaid * self.rate
        offset = torch.logit(share.clamp(_LEAST, 1 - _LEAST))
        logits: Tensor = offset + self.head(features, category, metadata)
        return logits


class Masked(nn.Module):
    """The one-hot head, with concepts ruled out that no training image of the category has.

    logits = head(features, category) + log(sum_c P(c) [concept seen in c])
    """

    def __init__(self, train: Training, config: FitConfig) -> None:
        super().__init__()
        self.head = OneHot(train, config)
        self.seen: Tensor
        self.register_buffer("seen", train.seen())

    def forward(self, features: Tensor, category: Tensor, metadata: Tensor) -> Tensor:
        """Logits (B, L)."""
        unsaid = 1 - category.sum(dim=1, keepdim=True)
        allowed = (category @ self.seen + unsaid).clamp(_LEAST, 1)
        logits: Tensor = torch.log(allowed) + self.head(features, category, metadata)
        return logits
