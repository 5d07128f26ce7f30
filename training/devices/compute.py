"""Where and how a model runs, on how many processes; never part of a fingerprint.

What torchrun needs is here, and nothing where it is not used. One process with the whole batch and
many with a part each must learn the same: torch synchronises batch normalisation on CUDA devices
only, so on processors its statistics are shared here, by gloo.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn

from core.errors import ConceptError, first_line, is_out_of_memory
from core.progress import say
from training.devices.speed import PLAIN, Speed

T = TypeVar("T")

_PATIENCE = timedelta(days=2)
"""How long a process waits for the first: as long as features or a cache may take to make."""


@dataclass(frozen=True)
class World:
    """The processes that work together.

    Attributes:
        rank: number of this one; the first, 0, writes and speaks.
        size: how many there are.
        control: a group on the processor (gloo) for flags, scores and predictions; None for one
            process alone. Gradients travel in the default group (NCCL between GPUs).
    """

    rank: int = 0
    size: int = 1
    control: Any = None

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def share(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """This process' part of some rows: a run of them, in order, the first parts larger."""
        return np.array_split(rows, self.size)[self.rank]

    def join(self, part: npt.NDArray[Any], n_rows: int) -> npt.NDArray[Any]:
        """All (n_rows, ...) rows of the processes' shares, on every process.

        Args:
            part: (n, ...) this process' rows, of the rows that `share` gave it.
            n_rows: how many there are in all.
        """
        if self.size == 1:
            return part
        lengths = [len(rows) for rows in np.array_split(np.arange(n_rows), self.size)]
        parts = self.gather(torch.from_numpy(part), lengths, group=self.control)
        joined: npt.NDArray[Any] = np.concatenate([part.numpy() for part in parts])
        return joined

    def gather(self, part: Tensor, lengths: list[int], *, group: Any = None) -> list[Tensor]:
        """Every process' tensor, of these lengths; equal shapes travel, so all are padded."""
        padded = part.new_zeros((max(lengths), *part.shape[1:]))
        padded[: len(part)] = part
        parts = [torch.empty_like(padded) for _ in lengths]
        dist.all_gather(parts, padded, group=group)
        return [part[:n] for part, n in zip(parts, lengths, strict=True)]

    def most(self, value: int) -> int:
        """The largest of the processes' values."""
        if self.size == 1:
            return value
        shared = torch.tensor(value)
        dist.all_reduce(shared, dist.ReduceOp.MAX, group=self.control)
        return int(shared)

    def everyone(self, value: T) -> list[T]:
        """Small values of all processes, in the order of their ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.control)
        return values

    def wait(self) -> None:
        """Go on when all are here."""
        if self.size > 1:
            dist.barrier(group=self.control)

    def in_turn(self, make: Callable[[], T]) -> T:
        """What `make` gives; the first process makes it, the others find it made.

        For work whose results lie in the workspace: caches, features, the phantom corpus.
        """
        if not self.first:
            self.wait()
            return make()
        made = make()
        self.wait()
        return made


ALONE = World()


@contextmanager
def joined(device: str) -> Iterator[World]:
    """The world that torchrun describes in the environment; `ALONE` without it.

    Args:
        device: where this process computes. Gradients travel by NCCL between CUDA devices, else by
            gloo: between processors, and between processes that share a CUDA device, which NCCL
            refuses.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    if cuda := device.startswith("cuda"):
        torch.cuda.set_device(device)
    n_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    by_nccl = cuda and n_here <= torch.cuda.device_count()
    dist.init_process_group("nccl" if by_nccl else "gloo", timeout=_PATIENCE)
    try:
        control = dist.new_group(backend="gloo", timeout=_PATIENCE)
        yield World(rank=dist.get_rank(), size=dist.get_world_size(), control=control)
    finally:
        dist.destroy_process_group()


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
            ConceptError: memory is too small for a single image.
        """
        parts: list[npt.NDArray[np.float32]] = []
        start = 0
        while start < len(rows) or not parts:
            chosen = rows[start : start + self.batch_size]
            try:
                parts.append(work(chosen))
            except (RuntimeError, MemoryError, OSError) as error:
                if not is_out_of_memory(error):
                    raise
                if self.batch_size == 1:
                    raise ConceptError(
                        f"out of memory with a single image at once ({first_line(error)}); take"
                        " smaller image_sizes or a smaller backbone"
                    ) from None
                tried, self.batch_size = self.batch_size, -(-self.batch_size // 2)
                say(f"out of memory with {tried} images at once: going on with {self.batch_size}")
                continue
            start += max(len(chosen), 1)
            if between is not None:
                between()
        return np.concatenate(parts)


def synchronised(model: nn.Module, *, device: str) -> nn.Module:
    """The model with batch normalisation over all processes; names of parameters stay."""
    if device.startswith("cuda"):
        converted: nn.Module = convert_sync_batchnorm(model)
        return converted
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and not isinstance(module, _Synced):
            module.__class__ = _synced_class(type(module))
    return model


def _synced_class(kind: type[nn.BatchNorm2d]) -> type[nn.BatchNorm2d]:
    """The kind of normalisation (timm's hold their activation) with statistics of all."""
    return type(f"Synced{kind.__name__}", (_Synced, kind), {})


class _Synced(nn.BatchNorm2d):
    """Mixed into a batch normalisation: in training, mean and variance of all processes."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        if not self.training:
            return super().forward(input)
        n = _sum(input.new_tensor(input.numel() / input.shape[1], dtype=torch.float32))
        values = input.float()
        mean = _sum(values.sum((0, 2, 3))) / n
        centred = values - mean.view(1, -1, 1, 1)
        variance = _sum(centred.square().sum((0, 2, 3))) / n
        self._remember(mean.detach(), variance.detach() * n / (n - 1).clamp_min(1))
        scaled = centred * (variance + self.eps).rsqrt().view(1, -1, 1, 1)
        if self.affine:
            scaled = scaled * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
        scaled = scaled.to(input.dtype)
        for after in ("drop", "act"):  # timm's layers hold their activation
            if hasattr(self, after):
                scaled = getattr(self, after)(scaled)
        return scaled

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


class _Sum(torch.autograd.Function):
    """Sum over processes; so is its gradient, as every process' loss depends on the sum."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


def _sum(value: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(value)
    return total
