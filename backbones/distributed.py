"""Several processes that train one model: what torchrun needs, and nothing where it is not used."""

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
from torch import Tensor

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
