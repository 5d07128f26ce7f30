"""Heads: fully connected layers on features or on answers, and where they start."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, linear
from torch.overrides import TorchFunctionMode

from training.config import FitConfig


class Standardise(nn.Module):
    """Features without the mean and deviation of the training images; kept in the weights."""

    mean: Tensor
    std: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("std", torch.ones(n_features))

    @classmethod
    def fitted(cls, features: Tensor, *, widths: Sequence[int] = ()) -> "Standardise":
        """The layer for these training features; a constant feature becomes 0.

        No deviation counts as less than a tenth of their mean. A filter that hardly any training
        image of a small category excites would else drown all others at the first image that does:
        at 150 PET images, 37,000 deviations from the mean.

        Args:
            features: (N, D).
            widths: columns of each encoder, from the left: deviations are held against those of
                their own, for another's may be a hundred times as large. () for one encoder.
        """
        layer = cls(features.shape[1])
        layer.mean.copy_(features.mean(dim=0))
        std = features.std(dim=0, unbiased=False)
        blocks = torch.split(std, [*widths] or [len(std)])
        floors = [own.clamp_min(max(float(own.mean()) / 10, 1e-6)) for own in blocks]
        layer.std.copy_(torch.cat(floors))
        return layer

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) in, (B, D) out."""
        return (features - self.mean) / self.std


def build_head(n_inputs: int, n_concepts: int, *, config: FitConfig) -> nn.Sequential:
    """Fully connected layers from features (B, D) to logits (B, L)."""
    head = _layers(n_inputs, n_concepts, config)
    if config.head_init == "glorot":
        start_as_glorot(head)
    return head


def start_as_glorot(head: nn.Module) -> None:
    """Draw all fully connected layers as Keras does, see `FitConfig.head_init`."""
    for layer in head.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, GroupedLayer):
            bound = (6 / sum(layer.weight.shape[1:])) ** 0.5
            nn.init.uniform_(layer.weight, -bound, bound)
            nn.init.zeros_(layer.bias)


class GroupedLayer(nn.Module):
    """A fully connected layer for each group of concepts, on the answer of the group's own query.

        logit of concept g k + j = w_kj . answer_k + b_(g k + j)

    g concepts a group; the last one may have fewer.

    Source: Ridnik et al., ML-Decoder, 2021, section 2.4.
    """

    def __init__(self, width: int, n_concepts: int, *, most_groups: int) -> None:
        """Deal L concepts into groups of one size, as many as that takes, `most_groups` at most."""
        super().__init__()
        n_each = -(-n_concepts // most_groups)
        self.n_groups = -(-n_concepts // n_each)
        self.weight = nn.Parameter(torch.empty(self.n_groups, width, n_each))
        self.bias = nn.Parameter(torch.empty(n_concepts))
        bound = width**-0.5  # as torch draws a fully connected layer
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, answers: Tensor) -> Tensor:
        """Logits (B, L) of answers (B, K, width)."""
        by_group = torch.bmm(answers.transpose(0, 1), self.weight)  # (K, B, g)
        return by_group.transpose(0, 1).flatten(1)[:, : len(self.bias)] + self.bias


@contextmanager
def weights_to_come() -> Iterator[None]:
    """Build networks without drawing weights, where each of them is about to be loaded.

    Drawing took a third of the time that a finished ensemble takes to be read.
    """
    with _Undrawn():
        yield


class _Undrawn(TorchFunctionMode):
    """Leaves out what `torch.nn.init` does, as Lightning's `empty_init`, and all other drawing.

    Of parameters alone: whoever draws into a tensor of its own looks at what came. A parameter that
    would be drawn is 0, since torch draws a truncated normal again for as long as values lie beyond
    its ends, and memory that nobody wrote may hold any.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        tensor = args[0] if args else (kwargs or {}).get("tensor")
        if isinstance(tensor, nn.Parameter):
            if func in (Tensor.uniform_, Tensor.normal_):
                with torch.no_grad():
                    return tensor.zero_()
            if getattr(func, "__module__", "") == "torch.nn.init":
                return tensor
        return func(*args, **(kwargs or {}))


def start_at_prior(model: nn.Module, positives: Tensor, *, n_images: int) -> None:
    """Set the biases of the last layer to the log odds of each concept.

    With p = (n + 1/2) / (N + 1), n of N training images having the concept, so that none starts at
    0 or 1. Lin et al., ICCV 2017 (RetinaNet), section 4.1, start all classes at one low prior.

    Args:
        model: its last fully connected layer has a bias for each of the L concepts, or one for all:
            that starts at the log odds of their mean p.
        positives: (L,) training images with each concept.
        n_images: training images.
    """
    last = [layer for layer in model.modules() if isinstance(layer, nn.Linear | GroupedLayer)][-1]
    shares = (positives + 0.5) / (n_images + 1)
    with torch.no_grad():
        if last.bias.shape != shares.shape:
            shares = shares.mean(dim=0, keepdim=True)
        last.bias.copy_(torch.logit(shares))


def _layers(n_inputs: int, n_concepts: int, config: FitConfig) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Dropout(config.input_dropout)]
    width = n_inputs
    for units in config.hidden:
        layers += [nn.Linear(width, units), nn.ReLU(), nn.Dropout(config.dropout)]
        width = units
    return nn.Sequential(*layers, nn.Linear(width, n_concepts))


def made_for_stacks(model: nn.Module, device: str) -> nn.Module:
    """The model with the same layers, computed so that a stack of them is fast."""
    for layer in model.modules():
        if type(layer) is nn.Linear:
            layer.forward = partial(_linear, layer)  # type: ignore[method-assign]
        elif type(layer) is nn.Dropout and device == "cpu":
            layer.forward = partial(_dropout, layer)  # type: ignore[method-assign]
    return model


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """The output of the layer, computed so that its gradient needs no copy.

    torch computes x W^T, whose gradient of a stack of W lies transposed in memory and is copied:
    of five heads on 2,560 features a third of a step's time. That of W x^T does not.
    """
    if x.ndim < 2:
        return linear(x, layer.weight, layer.bias)
    product = (layer.weight @ x.mT).mT
    return product if layer.bias is None else product + layer.bias


def _dropout(layer: nn.Dropout, x: Tensor) -> Tensor:
    """What the layer gives, by other random numbers, which a processor draws faster."""
    if not layer.p or not layer.training:
        return dropout(x, layer.p, layer.training)
    return x * ((torch.rand_like(x) >= layer.p) * (1 / (1 - layer.p)))
