"""Where and how a model runs; never part of a fingerprint."""

from dataclasses import dataclass

import torch
from torch import Tensor

from training.devices.compute import ALONE, World
from training.devices.speed import PLAIN, Speed

Inputs = tuple[Tensor, ...]


@dataclass(frozen=True, kw_only=True)
class Compute:
    """Where and how a model runs.

    Attributes:
        device: `cpu`, `cuda` or `cuda:N`.
        speed: memory format and precision.
        world: the processes that train together.
    """

    device: str = "cpu"
    speed: Speed = PLAIN
    world: World = ALONE

    def take(self, inputs: Inputs) -> Inputs:
        """Inputs on the device, images in the memory format of the model."""
        moved = (tensor.to(self.device, non_blocking=True) for tensor in inputs)
        return tuple(self.speed.arrange(tensor) for tensor in moved)


_CPU_REFUSALS = ("can't allocate memory", "not enough memory")


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device, or the processor's allocator, had no memory left."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return any(text in str(error) for text in _CPU_REFUSALS)
