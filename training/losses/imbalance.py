"""Losses for few present and many absent concepts, and for frequent and rare ones.

All are linear in the target: one of 0.3, from mixup or smoothing, costs three tenths of a present
concept and seven of an absent one. (The weights of `distribution_balanced` are not.)
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def focused(logits: Tensor, *, gamma: float) -> Tensor:
    """Cross-entropy of a present concept, less where it is found already.

        -(1 - p)^gamma log p

    Powers are taken of logarithms: at any logit value and gradient are finite, also for a gamma
    below 1. For an absent concept give the negative logits.

    Args:
        logits: any shape.
        gamma: 0 or more; 0 for cross-entropy.

    Returns:
        The same shape, 0 or more.
    """
    return -torch.exp(gamma * logsigmoid(-logits)) * logsigmoid(logits)


def focal(
    logits: Tensor, targets: Tensor, *, gamma: float = 2.0, alpha: float | None = None
) -> Tensor:
    """Cross-entropy of each entry, less where it is right already, (B, L).

        y alpha (1 - p)^gamma (-log p) + (1 - y) (1 - alpha) p^gamma (-log(1 - p))

    Args:
        logits: (B, L).
        targets: (B, L) in [0, 1].
        gamma: 0 or more; 0 for cross-entropy. 2 is the paper's.
        alpha: weight of present concepts in [0, 1]; None for weights of 1 on both sides.

    Source: Lin et al., ICCV 2017, arXiv:1708.02002.
    """
    present = targets * focused(logits, gamma=gamma)
    absent = (1 - targets) * focused(-logits, gamma=gamma)
    return present + absent if alpha is None else alpha * present + (1 - alpha) * absent


def asymmetric(
    logits: Tensor,
    targets: Tensor,
    *,
    gamma_neg: float = 4.0,
    gamma_pos: float = 1.0,
    margin: float = 0.05,
) -> Tensor:
    """Focal loss that forgives absent concepts more than present ones, (B, L).

    With q = max(p - margin, 0):

        y (1 - p)^gamma_pos (-log p) + (1 - y) q^gamma_neg (-log(1 - q))

    An absent concept below the margin costs nothing. No gradient flows through the powers: they
    weigh the entries, as in the authors' training code (`disable_torch_grad_focal_loss=True`).

    Args:
        logits: (B, L).
        targets: (B, L) in [0, 1].
        gamma_neg: focus among absent concepts, 0 or more.
        gamma_pos: focus among present concepts, 0 or more.
        margin: in [0, 1); 0 for none.

    Source: Ben-Baruch et al., ICCV 2021, arXiv:2009.14119; defaults of Alibaba-MIIL/ASL.
    """
    shifted = (torch.sigmoid(logits) - margin).clamp(min=0)
    # Without a margin q may round to 1; with one, 1 - q is at least the margin.
    absent = -torch.log1p(-shifted) if margin else -logsigmoid(-logits)
    focus_present = torch.sigmoid(-logits).detach() ** gamma_pos
    focus_absent = shifted.detach() ** gamma_neg
    present = -focus_present * logsigmoid(logits)
    return targets * present + (1 - targets) * focus_absent * absent


def distribution_balanced(
    logits: Tensor,
    targets: Tensor,
    *,
    positives: Tensor,
    n_images: int,
    alpha: float = 0.1,
    beta: float = 10.0,
    mu: float = 0.2,
    scale: float = 2.0,
    kappa: float = 0.05,
) -> Tensor:
    """Cross-entropy re-balanced between concepts and tolerant of absent ones, (B, L).

    With n_i the training images of concept i, N all of them, and k over the image's concepts:

        r_i = (1 / n_i) / sum_k (1 / n_k)           how much of the image is drawn for concept i
        w_i = alpha + sigmoid(beta (r_i - mu))      its weight, smoothed
        nu_i = kappa / scale log(N / n_i - 1)       a rare concept starts from a lower logit
        w_i (y l(z - nu_i) + (1 - y) l(-scale (z - nu_i)) / scale)    with l(z) = -log sigmoid(z)

    An absent concept's gradient fades sooner, once its logit is below nu_i. The image's concepts
    are those with a target of 1/2 or more, so neither smoothing nor the lesser image of a mixture
    passes for one. An image without concepts has the highest weights, alpha + 1. A concept of no
    training image counts as one of half an image, one of all as one of all but half.

    Args:
        logits: (B, L).
        targets: (B, L) in [0, 1].
        positives: (L,) training images with each concept.
        n_images: training images, 1 or more.
        alpha: least weight.
        beta: steepness of the weight.
        mu: share at which the weight is alpha + 1/2.
        scale: lambda of the paper, above 0; 1 for no tolerance.
        kappa: strength of the prior; 0 for none.

    Source: Wu et al., ECCV 2020, arXiv:2007.09654, without the focal factor that they combine it
        with; nu and the defaults (those of the 80 classes of COCO-LT) as in
        wutong16/DistributionBalancedLoss. For VOC-LT they take mu 0.3 and scale 5.
    """
    counts = positives.to(logits).clamp(0.5, n_images - 0.5)
    present = (targets >= 0.5).to(logits.dtype)
    # 1e-12 is far below the share of any training set: it stands for that of an empty image.
    share = 1 / counts / (present / counts).sum(dim=1, keepdim=True).clamp(min=1e-12)
    weight = alpha + torch.sigmoid(beta * (share - mu))
    shifted = logits - kappa / scale * torch.log(n_images / counts - 1)
    absent = -logsigmoid(-scale * shifted) / scale
    return weight * ((1 - targets) * absent - targets * logsigmoid(shifted))
