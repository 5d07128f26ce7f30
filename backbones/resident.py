"""Inputs and targets that lie on the device, and the batches of several networks out of them."""

import numpy as np
import torch
from torch import Tensor

from backbones.compute import Compute, Inputs
from training.batches import Examples
from training.config import FitConfig
from training.predict import Rows


class Resident:
    """Examples whose inputs and targets are read once, where they are small.

    The inputs of n images, and their targets, stay on the device if they take less than 1 GB each;
    else they are read and made dense for each batch, as `Step` does for one network.

    Attributes:
        examples: n images.
        compute: where.
    """

    def __init__(self, examples: Examples, config: FitConfig, compute: Compute) -> None:
        self.examples, self.config, self.compute = examples, config, compute
        self._inputs = self._all_inputs()
        n_bytes = int(np.prod(examples.targets.shape))
        self._targets = self._dense(slice(None)) if n_bytes < _MOST_BYTES else None

    def _all_inputs(self) -> Inputs | None:
        """Those of all images; None where they are many."""
        rows, size = self.examples.rows, self.examples.n_at_once
        first = self.examples.batches(rows[:1])
        if sum(tensor.nbytes for tensor in first) * len(rows) >= _MOST_BYTES:
            return None
        parts = [
            self.compute.take(self.examples.batches(rows[start : start + size]))
            for start in range(0, len(rows), size)
        ]
        return tuple(torch.cat(tensors) for tensors in zip(*parts, strict=True))

    def _dense(self, places: slice | Rows) -> Tensor:
        dense = torch.from_numpy(self.examples.targets[places].toarray())
        return dense.to(self.compute.device)

    def inputs(self, places: Rows | Tensor) -> Inputs:
        """Inputs of the images at these places among the examples, as they are."""
        if self._inputs is None:
            rows = self.examples.rows[_on_host(places)]
            return self.compute.take(self.examples.batches(rows))
        chosen = torch.as_tensor(places).to(self.compute.device)
        return tuple(tensor.index_select(0, chosen) for tensor in self._inputs)

    def batches(
        self, places: Tensor, *, epoch: int, number: int, seeds: list[int]
    ) -> tuple[Inputs, Tensor]:
        """A batch for each of S networks, augmented, mixed and smoothed as `fit` does it.

        Args:
            places: (S, B) among the examples, on the device.
            epoch: from 1.
            number: of the batch in the epoch, from 0.
            seeds: S, of the networks' mixup.

        Returns:
            Inputs (S, B, ...) and targets (S, B, L).
        """
        inputs, y = self._taken(places, epoch), self._truth(places)
        if alpha := self.config.mixup:
            rngs = [np.random.default_rng((seed, epoch, number)) for seed in seeds]
            shares = torch.tensor([rng.beta(alpha, alpha) for rng in rngs], dtype=torch.float32)
            partners = places.roll(1, dims=1)
            others = (*self._taken(partners, epoch), self._truth(partners))
            *mixed, y = (
                _mixed(x, z, shares.to(x.device)) for x, z in zip((*inputs, y), others, strict=True)
            )
            inputs = tuple(mixed)
        smoothing = self.config.negative_smoothing
        return inputs, y + (1 - y) * smoothing if smoothing else y

    def _taken(self, places: Tensor, epoch: int) -> Inputs:
        """(S, B, ...): the networks' images at once."""
        flat = places.flatten()
        inputs = self.inputs(flat)
        if self.examples.augment is not None:
            inputs = self.examples.augment(inputs, self.examples.rows[_on_host(flat)], epoch)
        return tuple(_by_network(tensor, places) for tensor in inputs)

    def _truth(self, places: Tensor) -> Tensor:
        """(S, B, L)."""
        flat = places.flatten()
        chosen = self._targets
        dense = self._dense(_on_host(flat)) if chosen is None else chosen.index_select(0, flat)
        return _by_network(dense.float(), places)


_MOST_BYTES = 2**30


def _on_host(places: Rows | Tensor) -> Rows:
    return places.cpu().numpy() if isinstance(places, Tensor) else places


def _by_network(flat: Tensor, places: Tensor) -> Tensor:
    """(S, B, ...) of (S * B, ...)."""
    return flat.reshape(*places.shape, *flat.shape[1:])


def _mixed(x: Tensor, z: Tensor, shares: Tensor) -> Tensor:
    """(S, B, ...) by each network's share."""
    a = shares.view(-1, *[1] * (x.ndim - 1))
    return a * x.float() + (1 - a) * z
