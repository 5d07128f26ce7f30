"""Probabilities of a model: the only place where logits become probabilities."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from training.devices.compute import Compute, FittingBatches, Inputs

Rows = npt.NDArray[np.intp]
Batches = Callable[[Rows], Inputs]
"""Inputs of the model for some images, by row number."""

_LEAST = 16
"""Rows of a batch: matrix products and convolutions of fewer have been seen to add up otherwise."""


def predict(
    model: nn.Module,
    batches: Batches,
    *,
    rows: Rows,
    compute: Compute,
    batch_size: int = 256,
    mirror: bool = False,
    between: Callable[[], None] | None = None,
) -> npt.NDArray[np.float32]:
    """Probabilities (len(rows), L), in [0, 1].

    Many processes take a share of the rows each, and all are given the whole. Where memory runs out
    the batches are halved. A batch of few rows is filled up with rows of its own: what is said of
    an image must not depend on those asked with it.

    Args:
        model: logits (B, L) of what `batches` gives.
        batches: inputs by row.
        rows: (n,) the images.
        compute: where and how.
        batch_size: images at once.
        mirror: the mean of the probabilities of the images and their mirrors.
        between: called after each batch.
    """
    compute.speed.place(model.to(compute.device)).eval()

    fitting = FittingBatches(batch_size)

    def probs(chosen: Rows) -> npt.NDArray[np.float32]:
        least = min(_LEAST, fitting.batch_size)
        whole = np.resize(chosen, least) if 0 < len(chosen) < least else chosen
        found = _probs(model, compute.take(batches(whole)), compute, mirror=mirror)
        return found[: len(chosen)]

    with torch.inference_mode():
        mine = fitting.joined(compute.world.share(rows), probs, between=between)
    return compute.world.join(mine, len(rows))


def _probs(
    model: nn.Module, inputs: Inputs, compute: Compute, *, mirror: bool
) -> npt.NDArray[np.float32]:
    with compute.speed.autocast(compute.device):
        probs = torch.sigmoid(model(*inputs).float())
        if mirror:
            probs = (probs + torch.sigmoid(model(inputs[0].flip(3), *inputs[1:]).float())) / 2
    values: npt.NDArray[np.float32] = probs.cpu().numpy()
    return values
