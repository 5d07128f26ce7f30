"""Optimisers from a config: which rate and which decay each parameter has."""

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, AdamW, NAdam, Optimizer

from backbones.networks.build import Detector
from backbones.networks.layers import head_distances
from backbones.settings.config import BackboneConfig
from training.config import FitConfig

_NETWORK = "backbone.network."

Groups = list[dict[str, Any]]

OPTIMIZERS: dict[str, Callable[[Groups, FitConfig], Optimizer]] = {
    # Fused, a step of a head takes 1 ms instead of 7 to 20 on a processor.
    "adamw": lambda groups, config: AdamW(groups, eps=config.epsilon, fused=True),
    # Decoupled, so that weight_decay means the same as under adamw.
    "nadam": lambda groups, config: NAdam(
        groups,
        eps=config.epsilon,
        momentum_decay=config.momentum_decay,
        decoupled_weight_decay=True,
        foreach=True,
    ),
    # Fused, a first step whose gradients overflow would leave the momentum uninitialised.
    "sgd": lambda groups, _: SGD(groups, momentum=0.9, nesterov=True, foreach=True),
}


def build_optimizer(model: nn.Module, config: FitConfig) -> Optimizer:
    """The config's optimiser of those parameters that learn.

    Raises:
        ConfigError: layer_decay is below 1, and timm does not know the network's blocks.
    """
    return OPTIMIZERS[config.optimizer](parameter_groups(model, config), config)


def parameter_groups(model: nn.Module, config: FitConfig) -> Groups:
    """Parameters that learn, grouped by their rate and weight decay.

    The rate of a block of layers is learning_rate * layer_decay**d, d blocks from the head (BEiT,
    Bao et al. 2021; ELECTRA, Clark et al. 2020); the head has d = 0. Biases, normalisation and what
    the network itself names (embeddings of positions, say) are not decayed.

    Returns:
        Groups in the order in which the model has them, each with params, lr and weight_decay.

    Raises:
        ConfigError: layer_decay is below 1, and timm does not know the network's blocks.
    """
    layer_decay = config.layer_decay if isinstance(config, BackboneConfig) else 1.0
    distances: dict[str, int] = {}
    spared: list[str] = []
    if isinstance(model, Detector):
        network = model.backbone.network
        spared = [_NETWORK + pattern for pattern in getattr(network, "no_weight_decay", set)()]
        if layer_decay < 1:
            found = head_distances(network, coarse=False)
            distances = {_NETWORK + name: distance for name, distance in found.items()}
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = (distances.get(name, 0), _is_decayed(name, parameter, spared))
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": config.learning_rate * layer_decay**distance,
            "weight_decay": config.weight_decay if is_decayed else 0.0,
        }
        for (distance, is_decayed), parameters in groups.items()
    ]


def _is_decayed(name: str, parameter: torch.Tensor, spared: list[str]) -> bool:
    if parameter.ndim <= 1 or name.endswith(".bias"):
        return False
    return not any(fnmatchcase(name, pattern) for pattern in spared)
