"""A model with everything that changes while it learns, saved and restored as one state."""

from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from training.config import FitConfig
from training.devices.compute import Compute, synchronised
from training.losses.registry import Loss
from training.optim import build_optimizer, build_schedule


class Learner:
    """A model, its optimiser, schedule, gradient scaler and running mean of weights.

    Attributes:
        model: on its device, in its memory format.
        forward: the same, as a step calls it: compiled, and with gradients shared between
            processes.
        micro_batch: images at once in this process; 0 for all of a step.
    """

    def __init__(
        self,
        model: nn.Module,
        config: FitConfig,
        compute: Compute,
        *,
        steps_per_epoch: int,
        optimizer: Optimizer | None = None,
    ) -> None:
        """Prepare to learn; by the config's optimiser of the model where none is given."""
        self.config, self.compute = config, compute
        self.model = compute.speed.place(model.to(compute.device))
        if compute.world.size > 1:
            self.model = synchronised(self.model, device=compute.device)
        self.forward = self._shared(self.model)
        if compute.speed.compiled:
            self.forward = torch.compile(self.forward)
        self.optimizer = optimizer or build_optimizer(self.model, config)
        self.schedule = build_schedule(self.optimizer, config, steps_per_epoch=steps_per_epoch)
        fp16 = compute.speed.precision == "fp16"
        self.scaler = torch.amp.GradScaler(torch.device(compute.device).type, enabled=fp16)
        self.ema = ModelEmaV3(self.model, config.ema, use_warmup=True) if config.ema else None
        self.clip_norm = config.clip_norm
        self.micro_batch = config.micro_batch

    def _shared(self, model: nn.Module) -> Any:
        if self.compute.world.size == 1:
            return model
        device = torch.device(self.compute.device)
        return DistributedDataParallel(
            model,
            device_ids=[device.index or 0] if device.type == "cuda" else None,
            broadcast_buffers=False,  # normalisation is synchronised as it goes
        )

    @property
    def averaged(self) -> nn.Module:
        """The model with the running mean of its weights; the model itself where none is kept."""
        module: nn.Module = self.model if self.ema is None else self.ema.module
        return module

    def scored(self, place: int) -> nn.Module:
        """The network at a place, as it is scored and kept; here there is one."""
        return self.averaged

    def kept_state(self, place: int) -> dict[str, Tensor]:
        """A copy of its weights."""
        state = self.scored(place).state_dict()
        state.update({name: tensor.clone() for name, tensor in state.items()})
        return state

    def release(self, places: list[int]) -> None:
        """Let the networks at these places go; one by itself shares nothing."""

    def mean_losses(
        self, losses: list[Loss], logits: Tensor, *, targets: Tensor, epoch: int
    ) -> Tensor:
        """() mean of the one network's loss."""
        return losses[0](logits, targets).mean()

    def update(self, *, n_updates: int) -> None:
        """One optimiser's step by the gradients that are there; the n-th in all."""
        if self.clip_norm:
            self.scaler.unscale_(self.optimizer)
            self._clip()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        if self.ema is not None:
            self.ema.update(self.model, step=n_updates)

    def _clip(self) -> None:
        """Shorten a gradient that is longer than `clip_norm`."""
        nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)

    def state(self) -> dict[str, Any]:
        """Everything to save, with the random states of every process."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "ema": None if self.ema is None else self.ema.module.state_dict(),
            "micro_batch": self.micro_batch,
            "random": self.compute.world.everyone(_random_state(self.compute.device)),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Load a saved state; a process that it does not know keeps its own random state.

        The state may come from another number of processes.
        """
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        if self.ema is not None:
            self.ema.module.load_state_dict(state["ema"])
        self.micro_batch = state["micro_batch"]
        rank = self.compute.world.rank
        if rank < len(state["random"]):
            _set_random_state(state["random"][rank], self.compute.device)


def _random_state(device: str) -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device.startswith("cuda"):
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _set_random_state(states: dict[str, Tensor], device: str) -> None:
    torch.set_rng_state(states["cpu"])
    if device.startswith("cuda") and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
