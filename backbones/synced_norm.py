"""Batch normalisation over the batches of all processes.

One process with the whole batch and many with a part each must learn the same. torch synchronises
on CUDA devices only; on processors the statistics are shared here, by gloo.
"""

from typing import Any

import torch
import torch.distributed as dist
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn


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
