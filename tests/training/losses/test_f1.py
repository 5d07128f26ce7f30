"""Soft F1 of images and of concepts, against values worked by hand."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from training.losses.f1 import f1_plus_bce, f1_times_bce, sigmoid_f1, soft_f1


def logits_of(*probs: list[float]) -> Tensor:
    return torch.logit(torch.tensor(probs, dtype=torch.float64))


TARGETS = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]], dtype=torch.float64)
LOGITS = logits_of([0.9, 0.4, 0.2, 0.1], [0.2, 0.1, 0.5, 0.2])
MEAN_BCE = float(binary_cross_entropy_with_logits(LOGITS, TARGETS))

# First image: tp = .9 + .4 = 1.3, fp = .2 + .1 = .3, fn = .1 + .6 = .7;
#   P = 1.3 / 1.6 = .8125, R = 1.3 / 2 = .65, F = 2 * .8125 * .65 / 1.4625 = .722222
# Second: tp = .5, fp = .2 + .1 + .2 = .5, fn = .5; P = R = .5, F = .5
LOSS_1 = 1 - 13 / 18
LOSS_2 = 0.5


def test_soft_f1_is_the_one_worked_by_hand_in_each_entry_of_its_image() -> None:
    loss = soft_f1(LOGITS, TARGETS)
    assert loss.shape == (2, 4)
    torch.testing.assert_close(loss[0], torch.full((4,), LOSS_1).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(loss[1], torch.full((4,), LOSS_2).double(), atol=1e-6, rtol=0)


def test_soft_f1_is_the_listing_of_the_paper() -> None:
    def one_minus_f1(y_true: Tensor, y_pred: Tensor) -> float:
        epsilon, total = 1e-7, 0.0
        for y, p in zip(y_true.tolist(), y_pred.tolist(), strict=True):
            tp = sum(a * b for a, b in zip(y, p, strict=True))
            fp = sum((1 - a) * b for a, b in zip(y, p, strict=True))
            fn = sum(a * (1 - b) for a, b in zip(y, p, strict=True))
            precision, recall = tp / (tp + fp + epsilon), tp / (tp + fn + epsilon)
            total += 2 * precision * recall / (precision + recall + epsilon)
        return 1 - total / len(y_true)

    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(16, 30, generator=generator, dtype=torch.float64)
    targets = (torch.rand(16, 30, generator=generator) < 0.2).double()
    expected = one_minus_f1(targets, torch.sigmoid(logits))
    assert float(soft_f1(logits, targets).mean()) == pytest.approx(expected, abs=1e-12)


def test_the_product_has_the_product_of_the_means_as_its_mean() -> None:
    product = float(f1_times_bce(LOGITS, TARGETS).mean())
    assert product == pytest.approx((LOSS_1 + LOSS_2) / 2 * MEAN_BCE, abs=1e-7)
    # not the mean of products of single images, which differs:
    bce = binary_cross_entropy_with_logits(LOGITS, TARGETS, reduction="none")
    assert product != pytest.approx(float((soft_f1(LOGITS, TARGETS) * bce).mean()), abs=1e-3)


def test_the_sum_has_the_sum_of_the_means_as_its_mean() -> None:
    mean = float(f1_plus_bce(LOGITS, TARGETS).mean())
    assert mean == pytest.approx((LOSS_1 + LOSS_2) / 2 + MEAN_BCE, abs=1e-7)


def test_the_right_answer_costs_nothing_and_the_wrong_one_everything() -> None:
    sure = torch.where(TARGETS > 0, 50.0, -50.0)
    assert float(soft_f1(sure, TARGETS).max()) == pytest.approx(0.0, abs=1e-6)
    assert float(soft_f1(-sure, TARGETS).min()) == pytest.approx(1.0, abs=1e-6)
    # The last concept is on no image: its F is 0 and its loss 1, right or wrong.
    expected = torch.tensor([0.0, 0.0, 0.0, 1.0]).expand(2, 4)
    torch.testing.assert_close(sigmoid_f1(sure, TARGETS).float(), expected, atol=1e-6, rtol=0)
    assert float(sigmoid_f1(-sure, TARGETS).min()) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("logit", [-200.0, 0.0, 200.0])
def test_an_image_without_concepts_has_loss_1_and_no_gradient_and_no_nan(logit: float) -> None:
    logits = torch.full((1, 5), logit, requires_grad=True)
    loss = soft_f1(logits, torch.zeros(1, 5))
    torch.testing.assert_close(loss, torch.ones(1, 5), rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(loss.mean(), logits)
    torch.testing.assert_close(gradient, torch.zeros(1, 5), rtol=0, atol=0)


def test_sigmoid_f1_is_the_one_worked_by_hand_in_each_entry_of_its_concept() -> None:
    # tp = .9, .4, .5, 0; sums of probabilities 1.1, .5, .7, .3; sums of targets 1, 1, 1, 0
    # F = 1.8 / 2.1, .8 / 1.5, 1 / 1.7, 0 / .3
    expected = 1 - torch.tensor([18 / 21, 8 / 15, 10 / 17, 0.0], dtype=torch.float64)
    loss = sigmoid_f1(LOGITS, TARGETS)
    torch.testing.assert_close(loss, expected.expand(2, 4), atol=1e-6, rtol=0)


def test_sigmoid_f1_shifts_then_steepens_the_logits() -> None:
    # (0 + 1) * 2 = 2 = the first logit, (-1 + 1) * 2 = 0 the second: p = .880797, .5
    loss = sigmoid_f1(torch.tensor([[0.0], [-1.0]]), torch.tensor([[1.0], [0.0]]), beta=2, eta=1)
    p = 1 / (1 + 2.718281828459045**-2)
    assert float(loss[0, 0]) == pytest.approx(1 - 2 * p / (p + 0.5 + 1), abs=1e-6)


def test_a_steep_sigmoid_f1_is_the_macro_f1_of_what_is_decided() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(40, 6, generator=generator)
    targets = (torch.rand(40, 6, generator=generator) < 0.4).float()
    decided = (logits > 0).float()
    f1 = 2 * (decided * targets).sum(0) / (decided.sum(0) + targets.sum(0))  # none is 0 / 0
    loss = sigmoid_f1(logits, targets, beta=1e5)
    assert float(loss.mean()) == pytest.approx(1 - float(f1.mean()), abs=1e-5)


def test_a_concept_that_no_image_of_the_batch_has_teaches_sigmoid_f1_nothing() -> None:
    logits = LOGITS.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(sigmoid_f1(logits, TARGETS).mean(), logits)
    assert bool((gradient[:, 3] == 0).all())
    assert bool((gradient[:, :3] != 0).all())
