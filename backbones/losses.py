"""Losses of multi-label detectors: (logits, targets) -> (B, L), unreduced.

The loop takes the mean over both axes, so a learning rate means the same under every loss. A loss
of whole images (soft-F1) stands in each of the image's L entries, one of whole concepts
(sigmoid-F1) in each of the concept's B. Targets lie in [0, 1]: mixup and smoothing soften them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from backbones.fit_config import LossName
from backbones.imbalance import asymmetric, distribution_balanced, focal
from backbones.missing_labels import hill, splc
from backbones.soft_f1 import f1_plus_bce, f1_times_bce, sigmoid_f1, soft_f1

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Known:
    """What a loss may know beyond the batch.

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

INFORMED: dict[LossName, Callable[[Known], Loss]] = {
    "distribution-balanced": lambda known: partial(
        distribution_balanced, positives=known.positives, n_images=known.n_images
    ),
    "splc": lambda known: partial(splc, correct=known.epoch > 1),
}
"""Losses that look at the training set or at the epoch."""


def loss_for(name: LossName, known: Known) -> Loss:
    """The loss of that name, for the epoch that runs."""
    return INFORMED[name](known) if name in INFORMED else LOSSES[name]
