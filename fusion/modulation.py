"""Metadata that modulates what a network sees: FiLM, MetaNet, MetaBlock."""

import torch
from torch import Tensor, nn

from fusion.inputs.tensors import Training
from fusion.networks.heads import context, first_layers, further_layers
from training.config import FitConfig
from training.heads import Standardise, build_head

_N_MIDDLE = 32
"""Units between metadata and the gates of MetaNet; the authors take more, for more metadata."""


class Film(nn.Module):
    """Scale and shift of each unit of the first hidden layer, as the metadata says.

        h' = (1 + gamma(metadata)) * h + beta(metadata)

    Source: Perez et al., AAAI 2018 (arXiv:1709.07871), equation 1. It starts as no modulation.
    """

    def __init__(self, train: Training, config: FitConfig) -> None:
        super().__init__()
        self.standardise = Standardise.fitted(train.inputs[0])
        self.first = first_layers(train.n_features, config)
        self.modulate = nn.Linear(train.n_context, 2 * config.hidden[0])
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)
        self.dropout = nn.Dropout(config.dropout)
        self.further = further_layers(config.hidden[0], train.n_concepts, config)

    def forward(self, features: Tensor, category: Tensor, metadata: Tensor) -> Tensor:
        """Logits (B, L)."""
        gamma, beta = self.modulate(context(category, metadata)).chunk(2, dim=1)
        hidden = (1 + gamma) * self.first(self.standardise(features)) + beta
        logits: Tensor = self.further(self.dropout(torch.relu(hidden)))
        return logits


class MetaNet(nn.Module):
    """A gate in (0, 1) on each pooled feature, from a small network on the metadata.

        x' = sigmoid(W2 relu(W1 metadata)) * x

    Source: Li et al., ISBI 2020 (arXiv:1911.00986), as described by Pacheco and Krohling 2021.
    """

    def __init__(self, train: Training, config: FitConfig) -> None:
        super().__init__()
        self.standardise = Standardise.fitted(train.inputs[0])
        self.gate = nn.Sequential(
            nn.Linear(train.n_context, _N_MIDDLE),
            nn.ReLU(),
            nn.Linear(_N_MIDDLE, train.n_features),
            nn.Sigmoid(),
        )
        self.layers = build_head(train.n_features, train.n_concepts, config)

    def forward(self, features: Tensor, category: Tensor, metadata: Tensor) -> Tensor:
        """Logits (B, L)."""
        gate = self.gate(context(category, metadata))
        logits: Tensor = self.layers(gate * self.standardise(features))
        return logits


class MetaBlock(nn.Module):
    """Features gated as in a long short-term memory.

        x' = sigmoid(tanh(f(metadata) * x) + g(metadata)), f and g linear

    What leaves the gate is centred and scaled to the slope of the sigmoid: the next layer could do
    that itself, but on features between 0 and 1 it learnt so slowly that it lost 0.05.

    Source: Pacheco and Krohling, IEEE JBHI 2021, equation 3. Their batch normalisation of f and g
    is left out: of a handful of categories it has nothing to even out.
    """

    def __init__(self, train: Training, config: FitConfig) -> None:
        super().__init__()
        self.standardise = Standardise.fitted(train.inputs[0])
        self.scale = nn.Linear(train.n_context, train.n_features)
        self.shift = nn.Linear(train.n_context, train.n_features)
        nn.init.ones_(self.scale.bias)
        self.layers = build_head(train.n_features, train.n_concepts, config)

    def forward(self, features: Tensor, category: Tensor, metadata: Tensor) -> Tensor:
        """Logits (B, L)."""
        known = context(category, metadata)
        kept = torch.tanh(self.scale(known) * self.standardise(features))
        logits: Tensor = self.layers(4 * torch.sigmoid(kept + self.shift(known)) - 2)
        return logits
