"""A mixture of experts: a network of all images and one a category, mixed concept by concept."""

import torch
from torch import Tensor, nn

from fusion.inputs.tensors import Training
from fusion.networks.heads import context, first_layers, further_layers
from training.config import FitConfig
from training.heads import Standardise

_SHARE = 4
"""An expert has a quarter of the general network's units: its images are fewer as well."""


class Experts(nn.Module):
    """Soft routing between specialists and a general network, learnt for each concept.

        logits = g * specialist + (1 - g) * general
        g = sum_c P(c) sigmoid(a_c), a_c one number a concept

    Source: Jacobs et al., Neural Computation 1991, with the category in place of a gating network.
    """

    def __init__(self, train: Training, config: FitConfig) -> None:
        super().__init__()
        n_categories = train.inputs[1].shape[1]
        self.standardise = Standardise.fitted(train.inputs[0])
        self.first = first_layers(train.n_features + train.n_context, config)
        self.further = further_layers(config.hidden[0], train.n_concepts, config)
        units = max(config.hidden[0] // _SHARE, 1)
        self.units = units
        self.input_dropout = nn.Dropout(config.input_dropout)
        self.own = nn.Linear(train.n_features, n_categories * units)
        self.answer = nn.Linear(n_categories * units, train.n_concepts)
        self.bias = nn.Linear(n_categories, train.n_concepts, bias=False)
        self.gate = nn.Linear(n_categories, train.n_concepts, bias=False)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.bias.weight)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, features: Tensor, category: Tensor, metadata: Tensor) -> Tensor:
        """Logits (B, L)."""
        seen = self.standardise(features)
        known = torch.cat([seen, context(category, metadata)], dim=1)
        general = self.further(self.dropout(torch.relu(self.first(known))))
        hidden = torch.relu(self.own(self.input_dropout(seen)))
        hidden = hidden.view(len(hidden), -1, self.units) * category.unsqueeze(2)
        special = self.answer(self.dropout(hidden.flatten(1))) + self.bias(category)
        gate = category @ torch.sigmoid(self.gate.weight.T)
        logits: Tensor = general + gate * (special - general)
        return logits
