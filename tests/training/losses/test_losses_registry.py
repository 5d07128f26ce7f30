"""What every loss keeps to: its shape, finite values and gradients, soft targets, learning."""

import math
from typing import get_args

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from torch.nn.functional import binary_cross_entropy_with_logits

from core.errors import ConfigError
from training.config import FitConfig, LossName
from training.losses import registry as losses
from training.losses.imbalance import asymmetric
from training.losses.registry import CONTEXT_LOSSES, LOSSES, Loss, LossContext, bce, loss_for

NAMES: tuple[LossName, ...] = get_args(LossName)
OF_ENTRIES: tuple[LossName, ...] = ("bce", "focal", "asymmetric", "hill", "splc")

TARGETS = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]], dtype=torch.float64)
PROBS = torch.tensor([[0.9, 0.4, 0.2, 0.1], [0.2, 0.1, 0.5, 0.2]], dtype=torch.float64)
LOGITS = torch.logit(PROBS)

every_loss = pytest.mark.parametrize("name", NAMES)


def loss_of(name: LossName, *, n_concepts: int = 4, epoch: int = 2) -> Loss:
    """A loss that knows of 10 images: concepts on none of them, on one, on two ..."""
    positives = torch.arange(n_concepts, dtype=torch.float32)
    return loss_for(name, LossContext(positives=positives, n_images=10, epoch=epoch))


def test_every_name_that_settings_allow_has_one_loss() -> None:
    assert sorted([*LOSSES, *CONTEXT_LOSSES]) == sorted(NAMES)


def test_bce_is_the_negative_log_of_the_probability_of_the_truth() -> None:
    loss = bce(LOGITS, TARGETS)
    assert float(loss[0, 0]) == pytest.approx(-math.log(0.9))  # true, given 0.9
    assert float(loss[0, 2]) == pytest.approx(-math.log(0.8))  # false, given 0.2
    expected = binary_cross_entropy_with_logits(LOGITS, TARGETS)
    torch.testing.assert_close(loss.mean(), expected)


def test_splc_corrects_labels_after_the_first_epoch() -> None:
    sure, absent = torch.tensor([[2.0]]), torch.zeros(1, 1)
    first, second, third = (
        float(loss_of("splc", n_concepts=1, epoch=epoch)(sure, absent)) for epoch in (1, 2, 3)
    )
    # p = .8808: .8808^2 (-ln .1192) = 1.65, then .1192^2 (-ln .8808) = .0018
    assert first == pytest.approx(1.65, abs=0.001)
    assert second == third == pytest.approx(0.0018, abs=0.0001)


def test_distribution_balanced_takes_its_counts_from_the_training_set() -> None:
    logits, both = torch.zeros(1, 2), torch.ones(1, 2)
    context = LossContext(positives=torch.tensor([90.0, 2.0]), n_images=100, epoch=1)
    loss = loss_for("distribution-balanced", context)(logits, both)
    even = LossContext(positives=torch.tensor([46.0, 46.0]), n_images=100, epoch=1)
    balanced = loss_for("distribution-balanced", even)(logits, both)
    assert float(loss[0, 1]) > float(loss[0, 0])
    assert float(balanced[0, 1]) == float(balanced[0, 0])


@every_loss
def test_losses_do_not_reduce_and_take_whole_batches(name: LossName) -> None:
    loss = loss_of(name)(LOGITS, TARGETS)
    assert loss.shape == LOGITS.shape
    assert loss.dtype == LOGITS.dtype
    assert float(loss.min()) >= 0


@every_loss
@pytest.mark.parametrize("target", [0.0, 0.05, 0.5, 1.0])
def test_values_and_gradients_are_finite_at_any_logit(name: LossName, target: float) -> None:
    loss_fn = loss_of(name, n_concepts=9)
    steps = torch.tensor([-200.0, -100.0, -20.0, -0.3, 0.0, 0.7, 20.0, 100.0, 200.0])
    for row in (steps, torch.full((9,), -200.0), torch.full((9,), 200.0)):
        for values in (row, row.bfloat16().float()):
            logits = values.repeat(2, 1).requires_grad_(True)
            loss = loss_fn(logits, torch.full((2, 9), target))
            (gradient,) = torch.autograd.grad(loss.mean(), logits)
            assert torch.isfinite(loss).all()
            assert torch.isfinite(gradient).all()
            assert float(loss.detach().min()) >= 0


@every_loss
def test_empty_images_and_concepts_have_finite_gradients(name: LossName) -> None:
    targets = torch.zeros(3, 4)
    targets[0, 1:3] = 1  # images 1 and 2 are empty; concepts 0 and 3 on none
    for truth in (targets, torch.zeros(3, 4)):
        logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss_of(name)(logits, truth).mean(), logits)
        assert torch.isfinite(gradient).all()


@every_loss
def test_losses_of_single_precision_are_those_of_double(name: LossName) -> None:
    generator = torch.Generator().manual_seed(2)
    logits = 4 * torch.randn(32, 4, generator=generator)
    targets = (torch.rand(32, 4, generator=generator) < 0.3).float()
    single = loss_of(name)(logits, targets)
    double = loss_of(name)(logits.double(), targets.double())
    torch.testing.assert_close(single.double(), double, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", OF_ENTRIES)
def test_a_soft_target_costs_its_shares_of_present_and_absent(name: LossName) -> None:
    loss = loss_of(name)
    soft = torch.tensor([[0.05, 0.3, 0.5, 0.9]], dtype=torch.float64).expand(2, 4)
    present, absent = (loss(LOGITS, torch.full_like(LOGITS, y)) for y in (1.0, 0.0))
    torch.testing.assert_close(loss(LOGITS, soft), soft * present + (1 - soft) * absent)


@pytest.mark.parametrize("name", [*OF_ENTRIES, "soft-f1", "f1+bce", "distribution-balanced"])
def test_the_loss_of_a_batch_is_that_of_its_images_one_by_one(name: LossName) -> None:
    whole = loss_of(name)(LOGITS, TARGETS)
    single = [loss_of(name)(LOGITS[i : i + 1], TARGETS[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(whole, torch.cat(single))


@every_loss
def test_permuted_images_permute_rows(name: LossName) -> None:
    flipped = loss_of(name)(LOGITS.flip(0), TARGETS.flip(0)).flip(0)
    torch.testing.assert_close(flipped, loss_of(name)(LOGITS, TARGETS))


# No gradient flows through the focus of asymmetric: test_imbalance has its gradient.
@pytest.mark.parametrize("name", [name for name in NAMES if name != "asymmetric"])
@pytest.mark.parametrize("softening", [0.0, 0.1])
def test_gradients_are_those_of_finite_differences(name: LossName, softening: float) -> None:
    logits = LOGITS.clone().requires_grad_(True)
    targets = TARGETS + (1 - TARGETS) * softening
    loss = loss_of(name)
    assert torch.autograd.gradcheck(lambda x: loss(x, targets).mean(), (logits,))


@every_loss
def test_eight_images_are_learnt(name: LossName) -> None:
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(8, 16, generator=generator)
    targets = torch.zeros(8, 4)
    targets[torch.arange(8), torch.arange(8) % 4] = 1
    weights = torch.zeros(16, 4, requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=0.1)
    for step in range(100):
        optimizer.zero_grad()
        loss = loss_of(name, epoch=1 + step // 50)
        loss(features @ weights, targets).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    logits = (features @ weights).detach()
    present, absent = logits[targets == 1], logits[targets == 0]
    assert float(present.min()) > float(absent.max()) + 1


@pytest.mark.parametrize("name", ["bce", "f1*bce", "f1+bce", "soft-f1", "distribution-balanced"])
def test_the_loss_of_predictions_is_that_of_their_logits(name: LossName) -> None:
    known = loss_of(name)
    probs, targets = PROBS.numpy().astype(np.float32), csr_array(TARGETS.numpy().astype(np.bool_))
    expected = float(known(LOGITS.float(), TARGETS.float()).mean())
    assert losses.loss_of(probs, targets, loss=known) == pytest.approx(expected, rel=1e-5)


def test_the_loss_of_predictions_that_are_sure_is_finite() -> None:
    probs, targets = np.array([[1.0, 0.0]], dtype=np.float32), csr_array([[False, False]])
    # -ln 1e-7 = 16.1 for what is wrongly sure, nothing for the other
    assert losses.loss_of(probs, targets, loss=bce) == pytest.approx(16.1 / 2, rel=0.02)


def test_the_loss_of_many_predictions_is_a_mean_over_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    probs, truth = rng.random((10, 4)).astype(np.float32), csr_array(rng.random((10, 4)) < 0.3)
    whole = losses.loss_of(probs, truth, loss=bce)
    monkeypatch.setattr(losses, "_AT_ONCE", 4)  # parts of 4, 4 and 2
    assert losses.loss_of(probs, truth, loss=bce) == pytest.approx(whole, rel=1e-6)


def test_the_temperature_divides_logits_before_the_loss() -> None:
    context = LossContext(positives=torch.ones(4), n_images=10, epoch=1)
    cooled = loss_for("soft-f1", context, temperature=2.0)
    torch.testing.assert_close(cooled(LOGITS, TARGETS), LOSSES["soft-f1"](LOGITS / 2, TARGETS))


def test_the_asymmetry_of_the_loss_is_a_setting() -> None:
    context = LossContext(positives=torch.ones(4), n_images=10, epoch=1)
    config = FitConfig(loss="asymmetric", gamma_neg=2.0, gamma_pos=0.5, loss_margin=0.0)
    loss = loss_for("asymmetric", context, asymmetry=config.asymmetry)
    expected = asymmetric(LOGITS, TARGETS, gamma_neg=2.0, gamma_pos=0.5, margin=0.0)
    torch.testing.assert_close(loss(LOGITS, TARGETS), expected)
    plain = loss_for("asymmetric", context, asymmetry=FitConfig().asymmetry)
    torch.testing.assert_close(plain(LOGITS, TARGETS), LOSSES["asymmetric"](LOGITS, TARGETS))
    other = loss_for("bce", context, asymmetry=config.asymmetry)
    torch.testing.assert_close(other(LOGITS, TARGETS), bce(LOGITS, TARGETS))


def test_an_asymmetry_that_is_none_is_refused() -> None:
    for name in ("gamma_neg", "gamma_pos"):
        with pytest.raises(ConfigError, match=f"{name}: expected .*, found -1"):
            FitConfig(**{name: -1.0})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="loss_margin: expected"):
        FitConfig(loss_margin=1.0)
