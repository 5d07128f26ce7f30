"""Losses for imbalance: values worked by hand, plain references, and cross-entropy as the limit."""

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from training.losses.imbalance import asymmetric, distribution_balanced, focal, focused

LOG_2 = math.log(2)


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(12, 7, generator=generator, dtype=torch.float64)
    return logits, (torch.rand(12, 7, generator=generator) < 0.3).double()


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return binary_cross_entropy_with_logits(logits, targets, reduction="none")


def entry(prob: float, target: float) -> tuple[Tensor, Tensor]:
    return torch.logit(torch.tensor([[prob]]).double()), torch.tensor([[target]]).double()


def test_focal_is_the_one_worked_by_hand() -> None:
    # present, p = .9: (.1)^2 (-ln .9); absent, p = .9: (.9)^2 (-ln .1)
    assert float(focal(*entry(0.9, 1))) == pytest.approx(-0.01 * math.log(0.9))
    assert float(focal(*entry(0.9, 0))) == pytest.approx(-0.81 * math.log(0.1))


def test_alpha_weighs_present_concepts_and_the_rest_of_one_absent_ones() -> None:
    assert float(focal(*entry(0.5, 1), alpha=0.2)) == pytest.approx(0.2 * 0.25 * LOG_2)
    assert float(focal(*entry(0.5, 0), alpha=0.2)) == pytest.approx(0.8 * 0.25 * LOG_2)


def test_no_focus_is_cross_entropy() -> None:
    logits, targets = batch()
    expected = cross_entropy(logits, targets)
    torch.testing.assert_close(focal(logits, targets, gamma=0), expected)
    plain = asymmetric(logits, targets, gamma_neg=0, gamma_pos=0, margin=0)
    torch.testing.assert_close(plain, expected)


def test_equal_focus_without_margin_is_focal() -> None:
    logits, targets = batch()
    equal = asymmetric(logits, targets, gamma_neg=2, gamma_pos=2, margin=0)
    torch.testing.assert_close(equal, focal(logits, targets))


def test_focal_treats_present_and_absent_alike() -> None:
    logits, targets = batch()
    torch.testing.assert_close(focal(logits, targets), focal(-logits, 1 - targets))


def test_a_focus_below_1_has_a_gradient_where_the_answer_is_sure() -> None:
    logits = torch.tensor([-200.0, 0.0, 200.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(focused(logits, gamma=0.5).sum(), logits)
    # d/dz (1 - p)^g (-log p) = (1 - p)^g (g p log p - (1 - p)); at 0: sqrt(.5) (-.25 ln 2 - .5)
    middle = math.sqrt(0.5) * (-0.25 * LOG_2 - 0.5)
    torch.testing.assert_close(gradient, torch.tensor([-1.0, middle, 0.0]))


def test_asymmetric_is_the_one_worked_by_hand() -> None:
    # present, p = .9: (.1)^1 (-ln .9); absent, p = .55: q = .5, (.5)^4 (-ln .5) = ln 2 / 16
    assert float(asymmetric(*entry(0.9, 1))) == pytest.approx(-0.1 * math.log(0.9))
    assert float(asymmetric(*entry(0.55, 0))) == pytest.approx(LOG_2 / 16)


def test_an_absent_concept_below_the_margin_costs_nothing() -> None:
    assert float(asymmetric(*entry(0.049, 0))) == 0
    assert float(asymmetric(*entry(0.06, 0))) > 0


def test_no_gradient_flows_through_the_focus_of_asymmetric() -> None:
    probs = torch.tensor([[0.3, 0.55]], dtype=torch.float64)
    logits = torch.logit(probs).requires_grad_(True)
    loss = asymmetric(logits, torch.tensor([[1.0, 0.0]], dtype=torch.float64))
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    # present: weight (1 - .3)^1 times the gradient of -log p, p - 1 = -.7
    # absent: weight .5^4 times that of -log(1 - q), p (1 - p) / (1 - q) = .55 * .45 / .5 = .495
    expected = torch.tensor([[-0.49, 0.495 / 16]], dtype=torch.float64)
    torch.testing.assert_close(gradient, expected)


def test_surely_wrong_answers_of_asymmetric_cost_what_the_formula_says() -> None:
    logits = torch.tensor([[-100.0, 100.0]])
    loss = asymmetric(logits, torch.tensor([[1.0, 0.0]]))
    # -log p = 100; q = .95: .95^4 (-ln .05)
    torch.testing.assert_close(loss, torch.tensor([[100.0, -(0.95**4) * math.log(0.05)]]))


def test_distribution_balanced_is_the_one_worked_by_hand() -> None:
    # 10 images, concepts on 5 and 1 of them; the image has the first only, logits 0.
    # r = (1/5) / (1/5) = 1 and 1 / (1/5) = 5; w = .1 + sigmoid(8) and .1 + sigmoid(48) = 1.1
    # nu = .05 / 2 ln(10/5 - 1) = 0 and .025 ln 9; absent: 1.1 / 2 ln(1 + e^(2 (0 - nu)))
    loss = distribution_balanced(
        torch.zeros(1, 2).double(),
        torch.tensor([[1.0, 0.0]]).double(),
        positives=torch.tensor([5.0, 1.0]),
        n_images=10,
    )
    first = (0.1 + 1 / (1 + math.exp(-8))) * LOG_2
    second = 1.1 / 2 * math.log(1 + math.exp(-0.05 * math.log(9)))
    torch.testing.assert_close(loss, torch.tensor([[first, second]]).double())


def reference(
    z: npt.NDArray[np.float64], y: npt.NDArray[np.float64], n: list[int], n_images: int
) -> npt.NDArray[np.float64]:
    """The formulas of the paper, an entry at a time."""
    loss = np.zeros_like(z)
    for image in range(z.shape[0]):
        drawn = sum(1 / n[k] for k in range(len(n)) if y[image, k] == 1)
        for i in range(len(n)):
            weight = 0.1 + 1 / (1 + math.exp(-10 * (1 / n[i] / drawn - 0.2)))
            shifted = z[image, i] - 0.025 * math.log(n_images / n[i] - 1)
            if y[image, i] == 1:
                loss[image, i] = weight * math.log1p(math.exp(-shifted))
            else:
                loss[image, i] = weight / 2 * math.log1p(math.exp(2 * shifted))
    return loss


def test_distribution_balanced_is_the_reference() -> None:
    logits, targets = batch()
    targets[:, 2] = 1  # every image has a concept
    counts = [40, 3, 80, 1, 9, 25, 2]
    loss = distribution_balanced(logits, targets, positives=torch.tensor(counts), n_images=100)
    expected = reference(logits.numpy(), targets.numpy(), counts, 100)
    np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-12)


def test_even_weights_without_bias_and_tolerance_are_cross_entropy() -> None:
    logits, targets = batch()
    loss = distribution_balanced(
        logits,
        targets,
        positives=torch.arange(1, 8),
        n_images=20,
        alpha=0.5,
        beta=0,  # weight .5 + sigmoid(0) = 1
        scale=1,
        kappa=0,
    )
    torch.testing.assert_close(loss, cross_entropy(logits, targets))


def test_a_rare_concept_outweighs_the_frequent_one_beside_it() -> None:
    positives, both = torch.tensor([90.0, 2.0]), torch.ones(1, 2)
    loss = distribution_balanced(torch.zeros(1, 2), both, positives=positives, n_images=100)
    assert float(loss[0, 1]) > 2 * float(loss[0, 0])


def test_a_tolerated_negative_is_let_go_sooner() -> None:
    def pull(scale: float) -> float:
        logits = torch.tensor([[-3.0]], requires_grad=True)
        loss = distribution_balanced(
            logits, torch.zeros(1, 1), positives=torch.ones(1), n_images=2, scale=scale
        )
        return float(torch.autograd.grad(loss.sum(), logits)[0])

    # the bias is log(2 / 1 - 1) = 0: sigmoid(-15) is far less than sigmoid(-3)
    assert pull(5.0) < 0.01 * pull(1.0)


def test_images_without_concepts_have_the_highest_weights() -> None:
    half = torch.tensor([50.0, 50.0])  # the bias is log(100 / 50 - 1) = 0
    nothing = torch.zeros(1, 2)
    loss = distribution_balanced(nothing, nothing, positives=half, n_images=100)
    torch.testing.assert_close(loss, torch.full((1, 2), 1.1 * LOG_2 / 2))


def test_neither_smoothing_nor_the_lesser_image_of_a_mixture_changes_the_weights() -> None:
    def balanced(*targets: float) -> Tensor:
        positives = torch.tensor([50.0, 2.0, 2.0]).double()
        logits, truth = torch.zeros(1, 3).double(), torch.tensor([targets]).double()
        return distribution_balanced(logits, truth, positives=positives, n_images=100, kappa=0)[0]

    # At logit 0 a present concept costs w ln 2, an absent one half of it: (1 + y) / 2 w ln 2.
    hard, soft = balanced(1, 0, 0), balanced(0.9, 0.1, 0.4)
    torch.testing.assert_close(soft, hard * torch.tensor([0.95, 1.1, 1.4]).double())
    # The greater share counts as the image: the rare concept takes the weight of the first.
    assert float(balanced(0.4, 0.6, 0)[0]) < 0.5 * float(soft[0])


@pytest.mark.parametrize("positives", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("n_images", [1, 4])
def test_concepts_of_no_image_or_of_all_have_finite_losses(positives: float, n_images: int) -> None:
    logits = torch.tensor([[-100.0, 0.0, 100.0]], requires_grad=True)
    counts = torch.full((3,), min(positives, n_images))
    for target in (0.0, 0.4, 1.0):
        loss = distribution_balanced(
            logits, torch.full((1, 3), target), positives=counts, n_images=n_images
        )
        (gradient,) = torch.autograd.grad(loss.sum(), logits)
        assert torch.isfinite(loss).all()
        assert torch.isfinite(gradient).all()
