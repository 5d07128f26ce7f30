"""Shallow networks of one build that are computed as one: their weights lie in one tensor each."""

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.functional import dropout, linear

from backbones.compute import Compute, Inputs
from backbones.schedule import build_schedule
from training.config import FitConfig
from training.optim import OPTIMIZERS, parameter_groups


class Stacked:
    """S networks with all that changes while they learn, as `Trainee` is for one.

    A network's parameters and buffers are views of the stack's: what the stack learns, the network
    has, and it is scored as any other. Where a running mean of weights is kept, they are views of
    that. `release` gives each its own again.

    Every update is of single weights by themselves (the optimisers, the running mean) or of one
    network's (`clip_norm`), so a network learns what it would alone. Rates are the same for all.

    Layers that normalise over a batch keep statistics of their own in each network.

    Attributes:
        models: the networks that still learn.
        weights: their parameters by name, (S, ...).
        state: their buffers by name, (S, ...).
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        config: FitConfig,
        compute: Compute,
        *,
        steps_per_epoch: int,
    ) -> None:
        """Stack networks that differ in weights and buffers alone.

        Raises:
            ValueError: they differ in more.
        """
        _refuse_unlike(models)
        self.compute = compute
        self.models = [model.to(compute.device) for model in models]
        first = self.models[0]
        self._pass = _made_for_stacks(copy.deepcopy(first), compute.device).train()
        self.weights = {
            name: nn.Parameter(values, requires_grad=first.get_parameter(name).requires_grad)
            for name, values in _stack([dict(m.named_parameters()) for m in self.models]).items()
        }
        self.state = _stack([dict(model.named_buffers()) for model in self.models])
        names = {parameter: name for name, parameter in first.named_parameters()}
        groups = [  # of the networks: a stacked bias looks like a matrix, which is decayed
            {**group, "params": [self.weights[names[single]] for single in group["params"]]}
            for group in parameter_groups(first, config)
        ]
        self.optimizer = OPTIMIZERS[config.optimizer](groups, config)
        self.schedule = build_schedule(self.optimizer, config, steps_per_epoch=steps_per_epoch)
        self._tensors = _Tensors(self.weights, self.state)
        self.ema = ModelEmaV3(self._tensors, config.ema, use_warmup=True) if config.ema else None
        self.clip_norm = config.clip_norm
        self._show()

    def _show(self) -> None:
        """Let the networks' tensors be views of what is scored."""
        scored = (self._tensors if self.ema is None else self.ema.module).by_name()
        for place, model in enumerate(self.models):
            for name, tensor in _tensors(model).items():
                tensor.data = scored[name].data[place]

    def logits(self, inputs: Inputs) -> Tensor:
        """Logits (S, B, L) of inputs (S, B, ...), as in training; dropout differs between all."""

        def one(weights: Any, state: Any, *own: Tensor) -> Any:
            return functional_call(self._pass, {**weights, **state}, own)

        # The networks differ in their random numbers.
        all_at_once = vmap(one, randomness="different")
        with self.compute.speed.autocast(self.compute.device):
            logits: Tensor = all_at_once(self.weights, self.state, *inputs)
        return logits.float()

    def update(self, losses: Tensor, *, n_updates: int) -> None:
        """One optimiser's step.

        Args:
            losses: (S,) of each network; none depends on another's weights.
            n_updates: which step it is, from 1.
        """
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(losses.sum())
        if self.clip_norm:
            self._clip()
        self.optimizer.step()
        self.schedule.step()
        if self.ema is not None:
            self.ema.update(self._tensors, step=n_updates)

    def _clip(self) -> None:
        """Shorten each network's gradient, as `clip_grad_norm_` does that of one."""
        grads = [p.grad for p in self.weights.values() if p.grad is not None]
        norms = [torch.linalg.vector_norm(grad.flatten(1), dim=1) for grad in grads]
        norm = torch.linalg.vector_norm(torch.stack(norms), dim=0)
        share = (self.clip_norm / (norm + 1e-6)).clamp(max=1)
        for grad in grads:
            grad.mul_(share.view(-1, *[1] * (grad.ndim - 1)))

    def kept_state(self, place: int) -> dict[str, Tensor]:
        """A copy of the weights of a network, as they are scored."""
        state = self.models[place].state_dict()
        return {name: tensor.clone() for name, tensor in state.items()}

    def release(self, places: Sequence[int]) -> None:
        """Give the networks at these places tensors of their own; the others go on learning."""
        for place in places:
            for tensor in _tensors(self.models[place]).values():
                tensor.data = tensor.data.clone()
        left = [place for place in range(len(self.models)) if place not in places]
        self.models = [self.models[place] for place in left]
        self.optimizer.zero_grad(set_to_none=True)
        for values in self.optimizer.state.values():
            for name, value in values.items():
                if value.ndim:  # a count of steps is one for all
                    values[name] = value[left]
        for kept in (self._tensors, *([] if self.ema is None else [self.ema.module])):
            for tensor in kept.by_name().values():
                tensor.data = tensor.data[left]
        self._show()


def why_apart(config: FitConfig, compute: Compute) -> str:
    """What keeps networks from being trained as a stack; empty where nothing does."""
    reasons = {
        "schedule plateau": config.schedule == "plateau",
        "precision fp16": compute.speed.precision == "fp16",
        "compiled networks": compute.speed.compiled,
        "channels-last networks": compute.speed.channels_last,
        f"micro_batch {config.micro_batch}": 0 < config.micro_batch < config.batch_size,
        f"{compute.world.size} processes": compute.world.size > 1,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


class _Tensors(nn.Module):
    """Stacked tensors as a module, which the running mean asks for."""

    def __init__(self, weights: dict[str, nn.Parameter], state: dict[str, Tensor]) -> None:
        super().__init__()
        for name, weight in weights.items():
            self.register_parameter(name.replace(".", "/"), weight)  # torch refuses a dot
        for name, tensor in state.items():
            self.register_buffer(name.replace(".", "/"), tensor)

    def by_name(self) -> dict[str, Tensor]:
        """The tensors by their names in a network."""
        return {name.replace("/", "."): tensor for name, tensor in _tensors(self).items()}


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, those that are not saved among them."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _stack(tensors: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """(S, ...) of each name."""
    return {name: torch.stack([own[name].detach() for own in tensors]) for name in tensors[0]}


def _refuse_unlike(models: Sequence[nn.Module]) -> None:
    first = models[0]
    for number, model in enumerate(models):
        kinds = [[type(layer) for layer in m.modules()] for m in (first, model)]
        shapes = [{name: t.shape for name, t in _tensors(m).items()} for m in (first, model)]
        if kinds[0] != kinds[1]:
            raise ValueError(f"network {number} has other layers than network 0")
        unlike = [name for name, shape in shapes[0].items() if shapes[1].get(name) != shape]
        if unlike or len(shapes[0]) != len(shapes[1]):
            raise ValueError(
                f"network {number} has tensors of other shapes than network 0: {unlike[:5]}"
            )


def _made_for_stacks(model: nn.Module, device: str) -> nn.Module:
    """The model with the same layers, computed so that a stack of them is fast."""
    for layer in model.modules():
        if type(layer) is nn.Linear:
            layer.forward = partial(_linear, layer)  # type: ignore[method-assign]
        elif type(layer) is nn.Dropout and device == "cpu":
            layer.forward = partial(_dropout, layer)  # type: ignore[method-assign]
    return model


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """The same as the layer gives.

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
