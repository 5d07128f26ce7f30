"""Losses of multi-label detectors: (logits, targets) -> (B, L), unreduced.

The loop takes the mean over both axes, so a learning rate means the same under every loss. A loss
of whole images (soft-F1) stands in each of the image's L entries, one of whole concepts
(sigmoid-F1) in each of the concept's B. Targets lie in [0, 1]: mixup and smoothing soften them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from training.config import LossName
from training.losses.f1 import f1_plus_bce, f1_times_bce, sigmoid_f1, soft_f1
from training.losses.imbalance import asymmetric, distribution_balanced, focal
from training.losses.missing_labels import hill, splc

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class LossContext:
    """What a loss may use beyond the batch.

    Attributes:
        positives: (L,) training images with each concept.
        n_images: training images.
        epoch: the one that runs, counted from 1.
    """

    positives: Tensor
    n_images: int
    epoch: int


def bce(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy of each entry, (B, L)."""
    return binary_cross_entropy_with_logits(logits, targets, reduction="none")


LOSSES: dict[LossName, Loss] = {
    "bce": bce,
    "soft-f1": soft_f1,
    "f1*bce": f1_times_bce,
    "f1+bce": f1_plus_bce,
    "focal": focal,
    "asymmetric": asymmetric,
    "sigmoid-f1": sigmoid_f1,
    "hill": hill,
}
"""Losses that look at the batch alone."""

CONTEXT_LOSSES: dict[LossName, Callable[[LossContext], Loss]] = {
    "distribution-balanced": lambda context: partial(
        distribution_balanced, positives=context.positives, n_images=context.n_images
    ),
    "splc": lambda context: partial(splc, correct=context.epoch > 1),
}
"""Losses that look at the training set or at the epoch."""


def loss_for(
    name: LossName,
    context: LossContext,
    *,
    temperature: float = 1.0,
    asymmetry: Mapping[str, float] | None = None,
) -> Loss:
    """The loss of that name, for the epoch that runs, of logits divided by the temperature.

    Args:
        name: of `LOSSES` or `CONTEXT_LOSSES`.
        context: what it may use beyond the batch.
        temperature: what logits are divided by.
        asymmetry: arguments of `asymmetric`; None for the authors'.
    """
    loss = CONTEXT_LOSSES[name](context) if name in CONTEXT_LOSSES else LOSSES[name]
    if name == "asymmetric" and asymmetry is not None:
        loss = lambda z, y: asymmetric(z, y, **asymmetry)  # noqa: E731
    if temperature == 1:
        return loss
    return lambda logits, targets: loss(logits / temperature, targets)


def loss_of(
    probs: npt.NDArray[np.float32], targets: csr_array, *, loss: Loss, device: str = "cpu"
) -> float:
    """Mean loss of probabilities that were predicted.

    Probabilities of 0 and 1 count as 1e-7 off, as Keras has it. Losses that tie the images of a
    batch together see 1,024 at a time.

    Args:
        probs: (n, L) in [0, 1], at least one row.
        targets: (n, L) boolean, CSR.
        loss: as a training takes it.
        device: where to compute.
    """
    total = 0.0
    for start in range(0, len(probs), _AT_ONCE):
        part = torch.from_numpy(probs[start : start + _AT_ONCE]).to(device)
        truth = torch.from_numpy(targets[start : start + _AT_ONCE].toarray()).to(device)
        logits = torch.logit(part.clamp(_CLIP, 1 - _CLIP))
        total += float(loss(logits, truth.float()).mean()) * len(part)
    return total / len(probs)


_CLIP = 1e-7
_AT_ONCE = 1024
