"""Shallow networks on pooled features and metadata, by concatenation; one class a strategy.

All take features (B, D), category (B, 7) and metadata (B, M) and give logits (B, L). The category
may be a posterior where it is not known.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from fusion.inputs.tensors import Training
from training.config import FitConfig
from training.heads import Standardise, build_head

_CATEGORY_SCALE = 3.0
"""Weight of the one-hot entries against standardised features: seven numbers among a thousand learn
too slowly at the features' own scale."""

_N_EMBEDDED = 16
"""Numbers that a category is embedded in; 8 and 32 did as well."""


def context(category: Tensor, metadata: Tensor) -> Tensor:
    """(B, 7 + M) all that is known beside the image, at a scale that learns."""
    return torch.cat([_CATEGORY_SCALE * category, metadata], dim=1)


def first_layers(n_inputs: int, config: FitConfig) -> nn.Sequential:
    """The first hidden layer (B, units) before its activation, from inputs (B, n_inputs)."""
    if not config.hidden:
        raise ConfigError("hidden: this strategy needs at least one hidden layer")
    return build_head(n_inputs, config.hidden[0], replace(config, hidden=()))


def further_layers(n_inputs: int, n_concepts: int, config: FitConfig) -> nn.Sequential:
    """What follows the first hidden layer: activation and dropout lie before it."""
    return build_head(
        n_inputs, n_concepts, replace(config, hidden=config.hidden[1:], input_dropout=0)
    )


class Blind(nn.Module):
    """The head without metadata: what every other is compared with."""

    def __init__(self, train: Training, config: FitConfig) -> None:
        super().__init__()
        self.standardise = Standardise.fitted(train.inputs[0])
        self.layers = build_head(train.n_features, train.n_concepts, config)

    def forward(self, features: Tensor, category: Tensor, metadata: Tensor) -> Tensor:
        """Logits (B, L)."""
        logits: Tensor = self.layers(self.standardise(features))
        return logits


class OneHot(nn.Module):
    """Category one-hot concatenated to the pooled features, then fully connected layers.

    The extension that the iml team named as future work (2020); Nunnari et al., CD-MAKE 2020,
    compare it with other ways of using metadata.
    """

    def __init__(self, train: Training, config: FitConfig) -> None:
        super().__init__()
        self.standardise = Standardise.fitted(train.inputs[0])
        self.layers = build_head(train.n_features + train.n_context, train.n_concepts, config)

    def forward(self, features: Tensor, category: Tensor, metadata: Tensor) -> Tensor:
        """Logits (B, L)."""
        known = torch.cat([self.standardise(features), context(category, metadata)], dim=1)
        logits: Tensor = self.layers(known)
        return logits


class OneHotLate(nn.Module):
    """Category one-hot concatenated to the first hidden layer: the second one sees it."""

    def __init__(self, train: Training, config: FitConfig) -> None:
        super().__init__()
        self.standardise = Standardise.fitted(train.inputs[0])
        self.first = first_layers(train.n_features, config)
        self.dropout = nn.Dropout(config.dropout)
        width = config.hidden[0] + train.n_context
        self.further = further_layers(width, train.n_concepts, config)

    def forward(self, features: Tensor, category: Tensor, metadata: Tensor) -> Tensor:
        """Logits (B, L)."""
        hidden = self.dropout(torch.relu(self.first(self.standardise(features))))
        logits: Tensor = self.further(torch.cat([hidden, context(category, metadata)], dim=1))
        return logits


class Embedded(nn.Module):
    """A learned embedding of the category, concatenated to the pooled features.

    A posterior is embedded as the mean of the embeddings.
    """

    def __init__(self, train: Training, config: FitConfig) -> None:
        super().__init__()
        self.standardise = Standardise.fitted(train.inputs[0])
        self.embed = nn.Linear(train.n_context, _N_EMBEDDED, bias=False)
        nn.init.normal_(self.embed.weight)
        self.layers = build_head(train.n_features + _N_EMBEDDED, train.n_concepts, config)

    def forward(self, features: Tensor, category: Tensor, metadata: Tensor) -> Tensor:
        """Logits (B, L)."""
        embedded = self.embed(torch.cat([category, metadata], dim=1))
        logits: Tensor = self.layers(torch.cat([self.standardise(features), embedded], dim=1))
        return logits
