"""Losses for incomplete labels: an absent concept that is predicted surely may be a missing one.

Both are linear in the target, as those of `imbalance` are.
"""

import torch
from torch import Tensor

from training.losses.imbalance import focused


def hill(
    logits: Tensor, targets: Tensor, *, lam: float = 1.5, margin: float = 1.0, gamma: float = 2.0
) -> Tensor:
    """Loss that lets go of absent concepts it is sure of, (B, L).

    With q = sigmoid(z - margin):

        y (1 - q)^gamma (-log q) + (1 - y) (lam - p) p^2

    The gradient of an absent concept's logit is p^2 (1 - p) (2 lam - 3 p): with lam = 1.5 a hill
    over p, highest at 1/2 and flat towards 1, where a label is often missing.

    Args:
        logits: (B, L).
        targets: (B, L) in [0, 1].
        lam: lambda of the paper, at least 1.5: below, absent concepts with p > 2 lam / 3 would be
            pushed up.
        margin: what is taken off the logits of present concepts.
        gamma: focus among present concepts, 0 or more.

    Source: Zhang et al. 2021, arXiv:2112.07368; xinyu1205/robust-loss-mlml.
    """
    probs = torch.sigmoid(logits)
    present = focused(logits - margin, gamma=gamma)
    return targets * present + (1 - targets) * (lam - probs) * probs**2


def splc(
    logits: Tensor,
    targets: Tensor,
    *,
    correct: bool,
    tau: float = 0.6,
    margin: float = 1.0,
    gamma: float = 2.0,
) -> Tensor:
    """Focal margin loss that takes sure false positives for missing labels, (B, L).

    With q = sigmoid(z - margin) and f(p) = (1 - p)^gamma (-log p):

        y f(q) + (1 - y) f(1 - p)    where p <= tau, or labels are not corrected
        y f(q) + (1 - y) f(p)        where p > tau: taken as present

    Args:
        logits: (B, L).
        targets: (B, L) in [0, 1].
        correct: whether labels are corrected: not in the first epoch, where nothing is sure.
        tau: probability above which an absent concept is taken as present.
        margin: what is taken off the logits of concepts labelled present.
        gamma: focus, 0 or more.

    Source: Zhang et al. 2021, arXiv:2112.07368, self-paced loss correction;
        xinyu1205/robust-loss-mlml.
    """
    present = focused(logits - margin, gamma=gamma)
    mirrored = -logits
    if correct:
        mirrored = torch.where(torch.sigmoid(logits) > tau, logits, mirrored)
    absent = focused(mirrored, gamma=gamma)
    return targets * present + (1 - targets) * absent
