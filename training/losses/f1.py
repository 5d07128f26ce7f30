"""Losses made of a soft F1: of each image, alone and with cross-entropy, or of each concept.

A true positive counts by its probability, so F1 has a gradient.
"""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

_EPSILON = 1e-7  # keras.backend.epsilon(), as in listing 1.2 of the paper


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
    return soft_f1(logits, targets).mean() * _bce(logits, targets)


def f1_plus_bce(logits: Tensor, targets: Tensor) -> Tensor:
    """Soft-F1 loss plus binary cross-entropy, (B, L)."""
    return soft_f1(logits, targets) + _bce(logits, targets)


def sigmoid_f1(logits: Tensor, targets: Tensor, *, beta: float = 1.0, eta: float = 0.0) -> Tensor:
    """One minus the soft F1 of each concept over the batch, in each entry of its column, (B, L).

    With s = sigmoid(beta (z + eta)), sums over the images of the batch:

        tp = sum y s    fp = sum (1 - y) s    fn = sum y (1 - s)    F = 2 tp / (2 tp + fp + fn)

    The mean over (B, L) is one minus the macro F1. A concept that no image of the batch has gets
    F = 0 whatever is predicted and teaches nothing: rare concepts want large batches, and where
    `micro_batch` parts them, each part has its own F.

    Args:
        logits: (B, L).
        targets: (B, L) in [0, 1].
        beta: steepness; the steeper, the nearer to the F1 of decided concepts, and the fewer
            entries have a gradient.
        eta: what is added to a logit; concepts are decided where z > -eta.

    Source: Benedict et al. 2021, arXiv:2108.10566, section 4. Their code puts probabilities where
        the paper has logits; this is the paper's.
    """
    decided = torch.sigmoid(beta * (logits + eta))
    tp = (targets * decided).sum(dim=0)
    # 2 tp + fp + fn = sum s + sum y
    f1 = 2 * tp / (decided.sum(dim=0) + targets.sum(dim=0) + _EPSILON)
    return (1 - f1).expand_as(logits)


def _bce(logits: Tensor, targets: Tensor) -> Tensor:
    return binary_cross_entropy_with_logits(logits, targets, reduction="none")
