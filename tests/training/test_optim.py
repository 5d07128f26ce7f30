"""Optimisers: groups of parameters, rates by layer, one step worked by hand."""

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay
from torch import nn

from backbones.networks.build import Backbone, Detector
from backbones.networks.layers import unlock_last
from backbones.settings.config import BackboneConfig
from core.errors import ConfigError
from training.config import FitConfig, OptimizerName
from training.heads import Standardise, build_head
from training.optim import build_optimizer, parameter_groups


def detector_of(name: str, *, device: str = "meta") -> Detector:
    with torch.device(device):
        network = timm.create_model(name, pretrained=False, num_classes=0)
        return Detector(
            Backbone(network, mean=(0.5,) * 3, std=(0.2,) * 3), nn.Linear(network.num_features, 2)
        )


def by_name(model: nn.Module, config: FitConfig) -> dict[str, tuple[float, float]]:
    """Rate and weight decay of each parameter that an optimiser has."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {
        names[parameter]: (group["lr"], group["weight_decay"])
        for group in parameter_groups(model, config)
        for parameter in group["params"]
    }


def one_number(optimizer: OptimizerName, value: float) -> tuple[nn.Linear, torch.optim.Optimizer]:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, value)
    config = FitConfig(optimizer=optimizer, learning_rate=0.1, weight_decay=0.5)
    return model, build_optimizer(model, config)


def test_weights_are_decayed_and_biases_and_normalisation_are_not() -> None:
    head = nn.Sequential(
        Standardise(4), nn.BatchNorm1d(4), build_head(4, 3, FitConfig(hidden=(5,)))
    )
    found = by_name(head, FitConfig(learning_rate=0.01, weight_decay=0.3))
    assert found == {
        "1.weight": (0.01, 0.0),
        "1.bias": (0.01, 0.0),
        "2.1.weight": (0.01, 0.3),
        "2.1.bias": (0.01, 0.0),
        "2.4.weight": (0.01, 0.3),
        "2.4.bias": (0.01, 0.0),
    }


def test_what_a_network_lists_is_not_decayed() -> None:
    found = by_name(detector_of("test_vit"), BackboneConfig(weight_decay=0.3))
    positions = "backbone.network.pos_embed"  # (1, n, D), which timm's no_weight_decay names
    assert found[positions] == (1e-3, 0.0)
    assert found["backbone.network.blocks.0.attn.qkv.weight"] == (1e-3, 0.3)


def test_a_pattern_that_a_network_lists_covers_what_it_matches() -> None:
    detector = detector_of("xcit_nano_12_p8_224")  # lists "pos_embed.*"
    found = by_name(detector, BackboneConfig(weight_decay=0.3))
    convolution = "backbone.network.pos_embed.token_projection.weight"
    assert found[convolution] == (1e-3, 0.0)


def test_rates_by_layer_are_those_listed_by_hand() -> None:
    config = BackboneConfig(learning_rate=0.8, layer_decay=0.5, weight_decay=0.1)
    found = by_name(detector_of("test_resnet"), config)
    rates = {".".join(name.split(".")[:3]): rate for name, (rate, _) in found.items()}
    # One block in each of four stages: 0.8, and half as much for each further one.
    assert rates == {
        "head.weight": 0.8,
        "head.bias": 0.8,
        "backbone.network.layer4": 0.4,
        "backbone.network.layer3": 0.2,
        "backbone.network.layer2": 0.1,
        "backbone.network.layer1": 0.05,
        "backbone.network.conv1": 0.025,
        "backbone.network.bn1": 0.025,
    }
    assert found["backbone.network.layer3.0.bn1.weight"] == (0.2, 0.0)
    assert found["backbone.network.layer3.0.conv1.weight"] == (0.2, 0.1)


@pytest.mark.parametrize("name", ["resnet18", "convnext_tiny", "vit_small_patch14_dinov2"])
def test_rates_by_layer_agree_with_timm(name: str) -> None:
    with torch.device("meta"):
        whole = timm.create_model(name, pretrained=False, num_classes=2)
    spared = whole.no_weight_decay() if hasattr(whole, "no_weight_decay") else ()
    groups = param_groups_layer_decay(whole, 0.1, spared, layer_decay=0.7)
    names = {parameter: key for key, parameter in whole.named_parameters()}
    expected = {
        names[parameter]: (2 * group["lr_scale"], group["weight_decay"])
        for group in groups
        for parameter in group["params"]
    }
    config = BackboneConfig(learning_rate=2, layer_decay=0.7, weight_decay=0.1)
    found = by_name(detector_of(name), config)
    classifier = whole.pretrained_cfg["classifier"]
    assert expected.pop(f"{classifier}.weight") == found.pop("head.weight")
    assert expected.pop(f"{classifier}.bias") == found.pop("head.bias")
    assert found.keys() == {f"backbone.network.{key}" for key in expected}
    for key, value in expected.items():
        assert found[f"backbone.network.{key}"] == pytest.approx(value)


def test_without_layer_decay_all_have_one_rate_and_no_stages_are_asked_for() -> None:
    detector = detector_of("pit_ti_224")  # timm does not know its stages
    assert {rate for rate, _ in by_name(detector, BackboneConfig()).values()} == {1e-3}
    with pytest.raises(ConfigError, match="does not know the stages of a PoolingVisionTransformer"):
        build_optimizer(detector, BackboneConfig(layer_decay=0.9))


def test_frozen_parameters_are_left_out() -> None:
    detector = detector_of("test_resnet")
    unlock_last(detector, 1)
    found = by_name(detector, BackboneConfig(layer_decay=0.5))
    assert {key for key in found if not key.startswith("backbone.network.layer4.")} == {
        "head.weight",
        "head.bias",
    }
    assert found["backbone.network.layer4.0.conv1.weight"][0] == 0.5e-3


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        # Rate 0.1, decay 0.5, weight 2, gradient 3. The first step of Adam is the rate by sign:
        ("adamw", 2 * (1 - 0.1 * 0.5) - 0.1),
        # sgd: gradient with decay 3 + 0.5 * 2 = 4 is the momentum; Nesterov goes 4 + 0.9 * 4 = 7.6.
        ("sgd", 2 - 0.1 * 7.6),
        # nadam: mu_t = 0.9 (1 - 0.5 * 0.96 ** (0.004 t)), mu_1 = 0.4500735, mu_2 = 0.4501469;
        # m = 0.1 * 3; sqrt(v) = 3; so 0.1 (1 - mu_1) / (1 - mu_1) * 3 / 3 = 0.1 and
        # 0.1 mu_2 / (1 - mu_1 mu_2) * 0.3 / 3 = 0.1 * 0.564518 * 0.1 = 0.0056452.
        ("nadam", 2 * (1 - 0.1 * 0.5) - 0.1 - 0.0056452),
    ],
)
def test_the_first_step_is_the_one_worked_by_hand(
    optimizer: OptimizerName, expected: float
) -> None:
    model, built = one_number(optimizer, 2.0)
    (3 * model(torch.ones(1, 1))).sum().backward()
    built.step()
    assert model.weight.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("optimizer", ["adamw", "nadam", "sgd"])
def test_every_optimiser_finds_a_minimum(optimizer: OptimizerName) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(64, 3)
    targets = inputs @ torch.tensor([[1.0], [-2.0], [0.5]]) + 0.3
    model = nn.Linear(3, 1)
    config = FitConfig(optimizer=optimizer, learning_rate=0.02, weight_decay=0)
    built = build_optimizer(model, config)
    for _ in range(400):
        built.zero_grad()
        (model(inputs) - targets).square().mean().backward()
        built.step()
    torch.testing.assert_close(model.weight, torch.tensor([[1.0, -2.0, 0.5]]), atol=1e-2, rtol=0)


def keras_nadam(gradients: list[float], *, rate: float, schedule_decay: float) -> list[float]:
    """A weight that starts at 0, after each step, as keras.optimizers.Nadam of 2019 computes it."""
    beta_1, beta_2, epsilon = 0.9, 0.999, 1e-7
    weight, m, v, m_schedule, weights = 0.0, 0.0, 0.0, 1.0, []
    for t, g in enumerate(gradients, start=1):
        momentum_t = beta_1 * (1 - 0.5 * 0.96 ** (t * schedule_decay))
        momentum_t_1 = beta_1 * (1 - 0.5 * 0.96 ** ((t + 1) * schedule_decay))
        m_schedule_new = m_schedule * momentum_t
        m_schedule_next = m_schedule * momentum_t * momentum_t_1
        g_prime = g / (1 - m_schedule_new)
        m = beta_1 * m + (1 - beta_1) * g
        m_prime = m / (1 - m_schedule_next)
        v = beta_2 * v + (1 - beta_2) * g * g
        v_prime = v / (1 - beta_2**t)
        m_bar = (1 - momentum_t) * g_prime + momentum_t_1 * m_prime
        weight -= rate * m_bar / (v_prime**0.5 + epsilon)
        m_schedule = m_schedule_new
        weights.append(weight)
    return weights


@pytest.mark.parametrize("schedule_decay", [0.004, 0.9])
@pytest.mark.parametrize("scale", [1.0, 1e-6])  # at 1e-6 epsilon is a tenth of the gradients
def test_nadam_takes_the_steps_of_keras(schedule_decay: float, scale: float) -> None:
    gradients = [scale * g for g in (1.0, -0.5, 0.25, 2.0, 0.1, -1.0)]
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.zeros_(model.weight)
    config = FitConfig(
        optimizer="nadam", learning_rate=0.1, weight_decay=0.0,
        momentum_decay=schedule_decay, epsilon=1e-7,
    )  # fmt: skip
    optimizer, reached = build_optimizer(model, config), []
    for gradient in gradients:
        model.weight.grad = torch.tensor([[gradient]], dtype=torch.float64)
        optimizer.step()
        reached.append(model.weight.item())
    expected = keras_nadam(gradients, rate=0.1, schedule_decay=schedule_decay)
    assert reached == pytest.approx(expected, rel=1e-6)
