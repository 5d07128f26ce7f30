"""Shallow networks on pooled features and metadata; one class a strategy.

Concatenation, what the category says of concepts, modulation (FiLM, MetaNet, MetaBlock), and a
mixture of experts. All take features (B, D), category (B, 7) and metadata (B, M) and give logits
(B, L). The category may be a posterior where it is not known.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from fusion.inputs.tensors import Training
from training.config import FitConfig
from training.heads import build_head

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
    return build_head(n_inputs, config.hidden[0], config=replace(config, hidden=()))


def further_layers(n_inputs: int, n_concepts: int, *, config: FitConfig) -> nn.Sequential:
    """What follows the first hidden layer: activation and dropout lie before it."""
    return build_head(
        n_inputs, n_concepts, config=replace(config, hidden=config.hidden[1:], input_dropout=0)
    )


class NoMetadata(nn.Module):
    """The head without metadata: what every other is compared with."""

    def __init__(self, train: Training, config: FitConfig) -> None:
        super().__init__()
        self.standardise = train.standardise()
        self.layers = build_head(train.n_features, train.n_concepts, config=config)

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
        self.standardise = train.standardise()
        self.layers = build_head(
            train.n_features + train.n_context, train.n_concepts, config=config
        )

    def forward(self, features: Tensor, category: Tensor, metadata: Tensor) -> Tensor:
        """Logits (B, L)."""
        known = torch.cat([self.standardise(features), context(category, metadata)], dim=1)
        logits: Tensor = self.layers(known)
        return logits


class OneHotLate(nn.Module):
    """Category one-hot concatenated to the first hidden layer: the second one sees it."""

    def __init__(self, train: Training, config: FitConfig) -> None:
        super().__init__()
        self.standardise = train.standardise()
        self.first = first_layers(train.n_features, config)
        self.dropout = nn.Dropout(config.dropout)
        width = config.hidden[0] + train.n_context
        self.further = further_layers(width, train.n_concepts, config=config)

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
        self.standardise = train.standardise()
        self.embed = nn.Linear(train.n_context, _N_EMBEDDED, bias=False)
        nn.init.normal_(self.embed.weight)
        self.layers = build_head(train.n_features + _N_EMBEDDED, train.n_concepts, config=config)

    def forward(self, features: Tensor, category: Tensor, metadata: Tensor) -> Tensor:
        """Logits (B, L)."""
        embedded = self.embed(torch.cat([category, metadata], dim=1))
        logits: Tensor = self.layers(torch.cat([self.standardise(features), embedded], dim=1))
        return logits


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
        self.standardise = train.standardise()
        self.first = first_layers(train.n_features + train.n_context, config)
        self.further = further_layers(config.hidden[0], train.n_concepts, config=config)
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


_N_MIDDLE = 32
"""Units between metadata and the gates of MetaNet; the authors take more, for more metadata."""


class Film(nn.Module):
    """Scale and shift of each unit of the first hidden layer, as the metadata says.

        h' = (1 + gamma(metadata)) * h + beta(metadata)

    Source: Perez et al., AAAI 2018 (arXiv:1709.07871), equation 1. It starts as no modulation.
    """

    def __init__(self, train: Training, config: FitConfig) -> None:
        super().__init__()
        self.standardise = train.standardise()
        self.first = first_layers(train.n_features, config)
        self.modulate = nn.Linear(train.n_context, 2 * config.hidden[0])
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)
        self.dropout = nn.Dropout(config.dropout)
        self.further = further_layers(config.hidden[0], train.n_concepts, config=config)

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
        self.standardise = train.standardise()
        self.gate = nn.Sequential(
            nn.Linear(train.n_context, _N_MIDDLE),
            nn.ReLU(),
            nn.Linear(_N_MIDDLE, train.n_features),
            nn.Sigmoid(),
        )
        self.layers = build_head(train.n_features, train.n_concepts, config=config)

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
        self.standardise = train.standardise()
        self.scale = nn.Linear(train.n_context, train.n_features)
        self.shift = nn.Linear(train.n_context, train.n_features)
        nn.init.ones_(self.scale.bias)
        self.layers = build_head(train.n_features, train.n_concepts, config=config)

    def forward(self, features: Tensor, category: Tensor, metadata: Tensor) -> Tensor:
        """Logits (B, L)."""
        known = context(category, metadata)
        kept = torch.tanh(self.scale(known) * self.standardise(features))
        logits: Tensor = self.layers(4 * torch.sigmoid(kept + self.shift(known)) - 2)
        return logits


_LEAST = 1e-4
"""Least share of a concept: without it a concept never seen in a category could not be learnt to
stand in it, nor be decided where the category is wrong."""


def category_odds(category: Tensor, *, prior: Tensor, rate: Tensor) -> Tensor:
    """(B, L) log odds of the concepts by categories (B, 7), of all images where nothing is said.

    Args:
        category: certainty of each category.
        prior: (7, L) share of each concept in each category.
        rate: (L,) share of each among all training images.
    """
    unsaid = 1 - category.sum(dim=1, keepdim=True)
    share = category @ prior + unsaid * rate
    return torch.logit(share.clamp(_LEAST, 1 - _LEAST))


class PriorOffset(nn.Module):
    """Log odds of the concept in the category, and what the image adds to them.

        logits = logit(sum_c P(c) P(concept | c)) + head(features)

    Without a category the shares among all training images take its place.
    """

    def __init__(self, train: Training, config: FitConfig) -> None:
        super().__init__()
        self.head = NoMetadata(train, config)
        self.prior: Tensor
        self.rate: Tensor
        self.register_buffer("prior", train.prior())
        self.register_buffer("rate", train.targets.mean(dim=0))

    def forward(self, features: Tensor, category: Tensor, metadata: Tensor) -> Tensor:
        """Logits (B, L)."""
        offset = category_odds(category, prior=self.prior, rate=self.rate)
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
