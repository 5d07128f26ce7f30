"""Losses for missing labels: values worked by hand, plain references, where they let go."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from training.losses.imbalance import focal
from training.losses.missing_labels import hill, splc

LOG_2 = math.log(2)


def entry(prob: float, target: float) -> tuple[Tensor, Tensor]:
    return torch.logit(torch.tensor([[prob]]).double()), torch.tensor([[target]]).double()


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(12, 7, generator=generator, dtype=torch.float64)
    return logits, (torch.rand(12, 7, generator=generator) < 0.3).double()


def pull(prob: float) -> float:
    """Gradient of the logit of an absent concept under `hill`."""
    logits = torch.logit(torch.tensor([[prob]]).double()).requires_grad_(True)
    loss = hill(logits, torch.zeros(1, 1).double())
    return float(torch.autograd.grad(loss.sum(), logits)[0])


def test_hill_is_the_one_worked_by_hand() -> None:
    # present at logit 1: q = sigmoid(1 - 1) = .5, .5^2 ln 2; absent, p = .5: (1.5 - .5) .25
    present = hill(torch.tensor([[1.0]]), torch.tensor([[1.0]]))
    assert float(present) == pytest.approx(0.25 * LOG_2)
    assert float(hill(*entry(0.5, 0))) == pytest.approx(0.25)


def test_hill_is_the_formulas_of_the_paper() -> None:
    logits, targets = batch()
    z, y = logits.numpy(), targets.numpy()
    p, q = 1 / (1 + np.exp(-z)), 1 / (1 + np.exp(1 - z))
    expected = np.where(y == 1, -((1 - q) ** 2) * np.log(q), (1.5 - p) * p**2)
    np.testing.assert_allclose(hill(logits, targets).numpy(), expected, rtol=1e-12)


def test_hill_pulls_hardest_in_the_middle_and_lets_go_of_the_surest() -> None:
    # 3 p^2 (1 - p)^2: at .5 it is 3 / 16, at .1 and .9 it is 3 * .0081
    assert pull(0.5) == pytest.approx(3 / 16)
    assert pull(0.1) == pytest.approx(0.0243)
    assert pull(0.9) == pytest.approx(0.0243)
    assert 0 < pull(0.999) < 1e-5


def test_present_concepts_of_hill_and_splc_cost_the_same() -> None:
    logits, _ = batch()
    ones = torch.ones_like(logits)
    torch.testing.assert_close(hill(logits, ones), splc(logits, ones, correct=True))


@pytest.mark.parametrize("correct", [False, True])
def test_splc_is_the_rule_of_the_paper(correct: bool) -> None:
    def cost(z: float, y: float) -> float:
        z -= y  # the margin
        p = 1 / (1 + math.exp(-z))
        if y == 1 or (correct and p > 0.6):
            return (1 - p) ** 2 * -math.log(p)
        return p**2 * -math.log(1 - p)

    logits, targets = batch()
    expected = np.vectorize(cost)(logits.numpy(), targets.numpy())
    loss = splc(logits, targets, correct=correct).numpy()
    np.testing.assert_allclose(loss, expected, rtol=1e-12)


def test_splc_without_margin_and_correction_is_focal() -> None:
    logits, targets = batch()
    uncorrected = splc(logits, targets, correct=False, margin=0)
    torch.testing.assert_close(uncorrected, focal(logits, targets))


def test_only_an_absent_concept_above_tau_is_taken_as_present() -> None:
    # p = .61: present costs .39^2 (-ln .61); p = .59: absent .59^2 (-ln .41)
    above, below = splc(*entry(0.61, 0), correct=True), splc(*entry(0.59, 0), correct=True)
    assert float(above) == pytest.approx(-(0.39**2) * math.log(0.61))
    assert float(below) == pytest.approx(-(0.59**2) * math.log(0.41))


def test_correction_turns_the_pull_around() -> None:
    def direction(correct: bool) -> float:
        logits = torch.tensor([[2.0]], requires_grad=True)
        loss = splc(logits, torch.zeros(1, 1), correct=correct)
        return float(torch.autograd.grad(loss.sum(), logits)[0])

    assert direction(False) > 0 > direction(True)
