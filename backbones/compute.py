"""Where and how a model runs; never part of a fingerprint."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from backbones.distributed import ALONE, World
from backbones.speed import PLAIN, Speed
from core.progress import say

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


class FittingBatches:
    """Batches of work that learns nothing, halved for good where memory runs out."""

    def __init__(self, batch_size: int) -> None:
        """Begin with so many images at once."""
        self.batch_size = batch_size

    def joined(
        self,
        rows: npt.NDArray[np.intp],
        work: Callable[[npt.NDArray[np.intp]], npt.NDArray[np.float32]],
        *,
        between: Callable[[], None] | None = None,
    ) -> npt.NDArray[np.float32]:
        """(n, ...) what the work gives for the rows, in their order.

        Args:
            rows: (n,) the images; without any, the work is asked once, for the width of its answer.
            work: (B, ...) for B of the rows.
            between: called after each batch.

        Raises:
            RuntimeError: of the work; memory is too small for a single image, for instance.
        """
        parts: list[npt.NDArray[np.float32]] = []
        start = 0
        while start < len(rows) or not parts:
            chosen = rows[start : start + self.batch_size]
            try:
                parts.append(work(chosen))
            except RuntimeError as error:
                if self.batch_size == 1 or not is_out_of_memory(error):
                    raise
                tried, self.batch_size = self.batch_size, -(-self.batch_size // 2)
                say(f"out of memory with {tried} images at once: going on with {self.batch_size}")
                continue
            start += max(len(chosen), 1)
            if between is not None:
                between()
        return np.concatenate(parts)
