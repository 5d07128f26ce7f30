"""Optimisers from a config, the rate and decay of each parameter, and rates over a training."""

import math
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn
from torch.optim import SGD, AdamW, NAdam, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from training.config import FitConfig

Groups = list[dict[str, Any]]


@runtime_checkable
class Layered(Protocol):
    """A model with layers at several distances from its head; any other counts as all head."""

    def head_distances(self) -> dict[str, int]:
        """How many blocks of layers each parameter lies from the head, by name; 0 where none."""
        ...

    def not_decayed(self) -> list[str]:
        """Patterns of names of parameters that are not decayed, whatever their shape."""
        ...


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

    The rate of a block of layers is learning_rate * rate_per_layer**d, d blocks from the head
    (BEiT, Bao et al. 2021; ELECTRA, Clark et al. 2020); the head has d = 0. Biases, normalisation
    and what the network itself names (embeddings of positions, say) are not decayed.

    Returns:
        Groups in the order in which the model has them, each with params, lr and weight_decay.

    Raises:
        ConfigError: layer_decay is below 1, and timm does not know the network's blocks.
    """
    layer_decay = config.rate_per_layer
    distances: dict[str, int] = {}
    spared: list[str] = []
    if isinstance(model, Layered):
        spared = model.not_decayed()
        if layer_decay < 1:
            distances = model.head_distances()
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


class Schedule:
    """Sets the rates of an optimiser.

    Its state and the optimiser's together give the same rates again, to the last bit.
    """

    def __init__(self, scheduler: LRScheduler) -> None:
        self.scheduler = scheduler

    def step(self) -> None:
        """Go on after a step of the optimiser."""

    def end_epoch(self, *, loss: float, f1: float | None) -> None:
        """Go on after an epoch with this loss and, where images stop it, their F1.

        Args:
            loss: of the stopping images, or where none stop, of the training images.
            f1: of the stopping images.
        """

    def rates(self) -> list[float]:
        """The rate of each parameter group at the next step; after the last one, at that."""
        return [group["lr"] for group in self.scheduler.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Where the schedule is, in plain types."""
        return self.scheduler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Be there; the optimiser's state holds the rates themselves."""
        self.scheduler.load_state_dict(state)


def build_schedule(optimizer: Optimizer, config: FitConfig, *, steps_per_epoch: int) -> Schedule:
    """The config's schedule; the rates that the optimiser has now are the highest.

    one-cycle
        From a 25th up to the rate in 30 % of the steps, then down, both along half a cosine;
        momentum goes the other way (Smith and Topin 2017, as torch has it).
    cosine
        `warm_up`, then half a cosine to 0 at the end of the last epoch.
    constant
        `warm_up`, then the rate.
    plateau
        The rate is multiplied by plateau_factor as soon as more than plateau_patience epochs in a
        row gained nothing (a share of 1e-4 at least), and they are counted anew. No warm-up.
        Without stopping images the loss must gain, whatever plateau_on says.

    Args:
        optimizer: its rates are changed.
        config: name and settings of the schedule, epochs.
        steps_per_epoch: steps of the optimiser in an epoch.
    """
    if config.schedule == "plateau":
        return _ByGain(optimizer, config)
    n_steps = config.epochs * steps_per_epoch
    n_warm = config.warmup * steps_per_epoch
    return _BySteps(SCHEDULERS[config.schedule](optimizer, n_warm, n_steps), n_steps=n_steps)


def warm_up(step: int, *, n_warm: float) -> float:
    """Share of the rate at this step, counted from 0: (step + 1) / n_warm, at most 1.

    Example:
        >>> [warm_up(step, n_warm=2.5) for step in range(4)]
        [0.4, 0.8, 1.0, 1.0]
    """
    return min(1.0, (step + 1) / n_warm) if n_warm else 1.0


def warm_cosine(step: int, *, n_warm: float, n_steps: int) -> float:
    """Share of the rate at this step of so many: `warm_up`, then half a cosine to 0 at n_steps.

    Example:
        >>> [round(warm_cosine(step, n_warm=1, n_steps=5), 3) for step in range(5)]
        [1.0, 1.0, 0.854, 0.5, 0.146]
    """
    if step < n_warm:
        return warm_up(step, n_warm=n_warm)
    return (1 + math.cos(math.pi * (step - n_warm) / (n_steps - n_warm))) / 2


def _one_cycle(optimizer: Optimizer, _: float, n_steps: int) -> LRScheduler:
    highest = [group["lr"] for group in optimizer.param_groups]
    # A cycle of one step is its last, at a 250,000th of the rate: nothing would be learnt.
    return OneCycleLR(optimizer, highest, total_steps=max(n_steps, 2))


def _cosine(optimizer: Optimizer, n_warm: float, n_steps: int) -> LRScheduler:
    return LambdaLR(optimizer, lambda step: warm_cosine(step, n_warm=n_warm, n_steps=n_steps))


def _constant(optimizer: Optimizer, n_warm: float, _: int) -> LRScheduler:
    return LambdaLR(optimizer, lambda step: warm_up(step, n_warm=n_warm))


SCHEDULERS: dict[str, Callable[[Optimizer, float, int], LRScheduler]] = {
    "one-cycle": _one_cycle,
    "cosine": _cosine,
    "constant": _constant,
}


class _BySteps(Schedule):
    """Rates that the number of steps decides."""

    def __init__(self, scheduler: LRScheduler, *, n_steps: int) -> None:
        super().__init__(scheduler)
        self.n_steps = n_steps

    def step(self) -> None:
        """Go on, if the optimiser did, and if there is another step.

        A first step whose gradients overflow in half precision is left out: nothing was learnt, and
        torch would warn of a schedule ahead of its optimiser.
        """
        if self.scheduler.optimizer.state and self.scheduler.last_epoch + 1 < self.n_steps:
            self.scheduler.step()


class _ByGain(Schedule):
    """Rates that fall where an epoch gains nothing any more."""

    def __init__(self, optimizer: Optimizer, config: FitConfig) -> None:
        self.on = config.plateau_on
        self.plateau = ReduceLROnPlateau(
            optimizer,
            factor=config.plateau_factor,
            patience=config.plateau_patience,
            eps=0,  # torch leaves rates below 1e-8 as they are; layer_decay reaches there
        )
        super().__init__(self.plateau)

    def end_epoch(self, *, loss: float, f1: float | None) -> None:
        """Lower the rates if the loss, or what the F1 lacks to 1, has not fallen for long."""
        self.plateau.step(loss if self.on == "loss" or f1 is None else 1 - f1)
