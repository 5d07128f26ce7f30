"""Losses of multi-label detectors: (logits, targets) -> (B, L), unreduced.

The loop takes the mean over both axes, so a learning rate means the same under every loss. A loss
of whole images (soft-F1) stands in each of the image's L entries.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

Loss = Callable[[Tensor, Tensor], Tensor]

_EPSILON = 1e-7  # keras.backend.epsilon(), as in listing 1.2 of the paper


def bce(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy of each entry, (B, L)."""
    return binary_cross_entropy_with_logits(logits, targets, reduction="none")


def soft_f1(logits: Tensor, targets: Tensor) -> Tensor:
    """One minus the soft F1 of each image, in each of its entries, (B, L).

    With p the probabilities and y the targets of one image, sums over its labels:

        tp = sum y p    fp = sum (1 - y) p    fn = sum y (1 - p)
        P = tp / (tp + fp + eps)    R = tp / (tp + fn + eps)    F = 2 P R / (P + R + eps)

    An image without true concepts has F = 0 whatever is predicted, so it teaches nothing.

    Source: listing 1.2 of the iml paper, ImageCLEFmed Caption 2020.
    """
    probs = torch.sigmoid(logits)
    tp = (targets * probs).sum(dim=1)
    fp = ((1 - targets) * probs).sum(dim=1)
    fn = (targets * (1 - probs)).sum(dim=1)
    precision = tp / (tp + fp + _EPSILON)
    recall = tp / (tp + fn + _EPSILON)
    f1 = 2 * precision * recall / (precision + recall + _EPSILON)
    return (1 - f1).unsqueeze(1).expand_as(logits)


def f1_times_bce(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean soft-F1 loss of the batch times the binary cross-entropy, (B, L).

    The product is of the two means, as in listing 1.3 of the paper: its mean over (B, L) is
    mean(1 - F) * mean(bce).
    """
    return soft_f1(logits, targets).mean() * bce(logits, targets)


def f1_plus_bce(logits: Tensor, targets: Tensor) -> Tensor:
    """Soft-F1 loss plus binary cross-entropy, (B, L)."""
    return soft_f1(logits, targets) + bce(logits, targets)


LOSSES: dict[str, Loss] = {
    "bce": bce,
    "soft-f1": soft_f1,
    "f1*bce": f1_times_bce,
    "f1+bce": f1_plus_bce,
}
