"""Losses against values worked by hand and against their gradients."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from backbones.losses import LOSSES, bce, f1_plus_bce, f1_times_bce, soft_f1


def logits_of(*probs: list[float]) -> Tensor:
    return torch.logit(torch.tensor(probs, dtype=torch.float64))


TARGETS = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]], dtype=torch.float64)
LOGITS = logits_of([0.9, 0.4, 0.2, 0.1], [0.2, 0.1, 0.5, 0.2])

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


def test_bce_is_the_negative_log_of_the_probability_of_the_truth() -> None:
    loss = bce(LOGITS, TARGETS)
    assert float(loss[0, 0]) == pytest.approx(-math.log(0.9))  # true, given 0.9
    assert float(loss[0, 2]) == pytest.approx(-math.log(0.8))  # false, given 0.2
    expected = binary_cross_entropy_with_logits(LOGITS, TARGETS)
    torch.testing.assert_close(loss.mean(), expected)


def test_the_product_has_the_product_of_the_means_as_its_mean() -> None:
    product = float(f1_times_bce(LOGITS, TARGETS).mean())
    mean_bce = float(bce(LOGITS, TARGETS).mean())
    assert product == pytest.approx((LOSS_1 + LOSS_2) / 2 * mean_bce, abs=1e-7)
    # not the mean of products of single images, which differs:
    by_image = (soft_f1(LOGITS, TARGETS) * bce(LOGITS, TARGETS)).mean()
    assert product != pytest.approx(float(by_image), abs=1e-3)


def test_the_sum_has_the_sum_of_the_means_as_its_mean() -> None:
    mean = float(f1_plus_bce(LOGITS, TARGETS).mean())
    mean_bce = float(bce(LOGITS, TARGETS).mean())
    assert mean == pytest.approx((LOSS_1 + LOSS_2) / 2 + mean_bce, abs=1e-7)


def test_the_right_answer_costs_nothing_and_the_wrong_one_everything() -> None:
    sure = torch.where(TARGETS > 0, 50.0, -50.0)
    assert float(soft_f1(sure, TARGETS).max()) == pytest.approx(0.0, abs=1e-6)
    assert float(soft_f1(-sure, TARGETS).min()) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("logit", [-200.0, 0.0, 200.0])
def test_an_image_without_concepts_has_loss_1_and_no_gradient_and_no_nan(logit: float) -> None:
    logits = torch.full((1, 5), logit, requires_grad=True)
    loss = soft_f1(logits, torch.zeros(1, 5))
    torch.testing.assert_close(loss, torch.ones(1, 5), rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(loss.mean(), logits)
    torch.testing.assert_close(gradient, torch.zeros(1, 5), rtol=0, atol=0)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_stay_finite_where_probabilities_are_0_and_1(name: str) -> None:
    for logit in (-200.0, 200.0):
        logits = torch.full((2, 3), logit, requires_grad=True)
        loss = LOSSES[name](logits, torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))
        (gradient,) = torch.autograd.grad(loss.mean(), logits)
        assert torch.isfinite(loss).all()
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", LOSSES)
def test_losses_do_not_reduce_and_take_whole_batches(name: str) -> None:
    loss = LOSSES[name](LOGITS, TARGETS)
    assert loss.shape == LOGITS.shape
    assert float(loss.detach().min()) >= 0


@pytest.mark.parametrize("name", ["bce", "soft-f1", "f1+bce"])
def test_the_loss_of_a_batch_is_that_of_its_images_one_by_one(name: str) -> None:
    whole = LOSSES[name](LOGITS, TARGETS)
    single = [LOSSES[name](LOGITS[i : i + 1], TARGETS[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(whole, torch.cat(single))


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    logits = LOGITS.clone().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: LOSSES[name](x, TARGETS).mean(), (logits,))
