"""Shallow networks on [pooled features, category]."""

import torch
from torch import Tensor, nn

from backbones.fit_config import FitConfig
from backbones.heads import Standardise, build_head
from core.categories import CATEGORIES

_CATEGORY_SCALE = 3.0
"""Weight of the one-hot entries against standardised features: seven numbers among a thousand learn
too slowly at the features' own scale."""


class OneHotHead(nn.Module):
    """Category one-hot concatenated to the pooled features, then fully connected layers.

    The extension that the iml team named as future work (2020); Nunnari et al., CD-MAKE 2020,
    compare it with other ways of using metadata.
    """

    def __init__(self, features: Tensor, n_concepts: int, config: FitConfig) -> None:
        """Build for the training images' features (N, D), which set the standardisation."""
        super().__init__()
        self.standardise = Standardise.fitted(features)
        self.layers = build_head(features.shape[1] + len(CATEGORIES), n_concepts, config)

    def forward(self, features: Tensor, category: Tensor) -> Tensor:
        """Logits (B, L) of features (B, D) and one-hot categories (B, 7)."""
        known = [self.standardise(features), _CATEGORY_SCALE * category]
        logits: Tensor = self.layers(torch.cat(known, dim=1))
        return logits
