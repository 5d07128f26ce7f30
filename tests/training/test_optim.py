"""Optimisers: groups of parameters, rates by layer, one step worked by hand."""

import io
import math
from typing import Any

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay
from torch import nn

from backbones.encoders.encoder import Normalisation
from backbones.encoders.timm_networks import TimmEncoder
from backbones.networks.build import Backbone, Detector, unlock_last
from backbones.settings.config import BackboneConfig
from core.errors import ConfigError
from training.config import FitConfig, OptimizerName, ScheduleName
from training.heads import Standardise, build_head
from training.optim import Schedule, build_optimizer, build_schedule, parameter_groups


def detector_of(name: str, *, device: str = "meta") -> Detector:
    with torch.device(device):
        network = timm.create_model(name, pretrained=False, num_classes=0)
        backbone = Backbone(
            network,
            encoder=TimmEncoder(name),
            normalisation=Normalisation((0.5,) * 3, (0.2,) * 3),
            size=TimmEncoder(name).stated().size,
        )
        return Detector(backbone, nn.Linear(network.num_features, 2))


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
        Standardise(4), nn.BatchNorm1d(4), build_head(4, 3, config=FitConfig(hidden=(5,)))
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
    detector = detector_of("xcit_nano_12_p8_224")
    if "pos_embed.*" not in detector.backbone.network.no_weight_decay():  # type: ignore[operator]
        pytest.skip("this version of timm lists no pattern")
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
    with pytest.raises(ConfigError, match="the stages of a PoolingVisionTransformer are not known"):
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


OPTIMIZERS: tuple[OptimizerName, ...] = ("adamw", "nadam", "sgd")
SCHEDULES: tuple[ScheduleName, ...] = ("one-cycle", "cosine", "constant", "plateau")


class Training:
    """A small network that learns, a batch a step."""

    def __init__(self, *, steps_per_epoch: int, **settings: Any) -> None:
        torch.manual_seed(0)
        self.config = FitConfig(learning_rate=0.1, **settings)
        self.model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        self.optimizer = build_optimizer(self.model, self.config)
        self.schedule: Schedule = build_schedule(
            self.optimizer, self.config, steps_per_epoch=steps_per_epoch
        )
        self.steps_per_epoch = steps_per_epoch
        self.n_steps = 0

    def step(self) -> list[float]:
        """Take a step, and end the epoch where it ends; the rates that the step had."""
        rates = self.schedule.rates()
        rng = torch.Generator().manual_seed(self.n_steps)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.model(torch.randn(8, 3, generator=rng)).square().mean()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        self.n_steps += 1
        if self.n_steps % self.steps_per_epoch == 0:
            self.schedule.end_epoch(loss=1.0, f1=0.5)  # a plateau from the first epoch on
        return rates

    def state(self) -> dict[str, Any]:
        """Through a file, as a checkpoint would."""
        file = io.BytesIO()
        states = (self.model.state_dict(), self.optimizer.state_dict(), self.schedule.state_dict())
        torch.save(states, file)
        file.seek(0)
        return {"n_steps": self.n_steps, "states": torch.load(file, weights_only=True)}

    def restore(self, state: dict[str, Any]) -> None:
        self.n_steps = state["n_steps"]
        model, optimizer, schedule = state["states"]
        self.model.load_state_dict(model)
        self.optimizer.load_state_dict(optimizer)
        self.schedule.load_state_dict(schedule)


def rates_of(n: int, *, steps_per_epoch: int, **settings: Any) -> list[float]:
    training = Training(steps_per_epoch=steps_per_epoch, **settings)
    return [training.step()[0] for _ in range(n)]


def with_groups(rates: list[float], **settings: Any) -> tuple[torch.optim.Optimizer, Schedule]:
    """An optimiser with a group a rate, as layer_decay makes them."""
    groups = [{"params": [nn.Parameter(torch.ones(1))], "lr": rate} for rate in rates]
    optimizer = torch.optim.SGD(groups, momentum=0.9)
    return optimizer, build_schedule(optimizer, FitConfig(**settings), steps_per_epoch=5)


def take_steps(optimizer: torch.optim.Optimizer, schedule: Schedule, n: int) -> None:
    for _ in range(n):
        for group in optimizer.param_groups:
            group["params"][0].grad = torch.ones(1)
        optimizer.step()
        schedule.step()


def test_one_cycle_rises_for_three_tenths_of_the_steps_and_falls_in_the_rest() -> None:
    found = rates_of(20, steps_per_epoch=10, epochs=2, schedule="one-cycle")
    # 20 steps: the highest after 0.3 * 20 - 1 = 5 steps, the last after 19.
    low, high, last = 0.1 / 25, 0.1, 0.1 / 25 / 1e4
    up = [high + (low - high) / 2 * (1 + math.cos(math.pi * k / 5)) for k in range(6)]
    down = [last + (high - last) / 2 * (1 + math.cos(math.pi * k / 14)) for k in range(1, 15)]
    assert found == pytest.approx(up + down, rel=1e-9)
    assert found[0] == pytest.approx(0.004)
    assert max(found) == found[5] == pytest.approx(0.1)


def test_one_cycle_turns_momentum_the_other_way() -> None:
    training = Training(steps_per_epoch=10, epochs=2, schedule="one-cycle", optimizer="sgd")
    momenta = []
    for _ in range(20):
        momenta.append(training.optimizer.param_groups[0]["momentum"])
        training.step()
    assert (momenta[0], momenta[5], momenta[19]) == pytest.approx((0.95, 0.85, 0.95))


def test_cosine_warms_up_in_steps_of_one_size_and_falls_along_half_a_cosine() -> None:
    found = rates_of(12, steps_per_epoch=4, epochs=3, warmup=1, schedule="cosine")
    # 4 steps up; 8 down by cos(pi k / 8), k = 0..7: (1 + .9239) / 2, (1 + .7071) / 2, ...
    shares = [0.25, 0.5, 0.75, 1, 1, 0.96194, 0.85355, 0.69134, 0.5, 0.30866, 0.14645, 0.03806]
    assert found == pytest.approx([0.1 * share for share in shares], abs=1e-6)


def test_parts_of_an_epoch_count_in_the_warm_up() -> None:
    found = rates_of(6, steps_per_epoch=4, epochs=2, warmup=0.625, schedule="constant")
    # 0.625 * 4 = 2.5 steps: 1 / 2.5, 2 / 2.5, then the rate
    assert found == pytest.approx([0.04, 0.08, 0.1, 0.1, 0.1, 0.1])


def test_without_a_warm_up_constant_is_constant_and_cosine_begins_at_the_rate() -> None:
    assert set(rates_of(6, steps_per_epoch=3, epochs=2, schedule="constant")) == {0.1}
    assert rates_of(2, steps_per_epoch=2, epochs=1, schedule="cosine") == pytest.approx([0.1, 0.05])


def test_a_warm_up_longer_than_the_training_never_reaches_the_rate() -> None:
    found = rates_of(4, steps_per_epoch=2, epochs=2, warmup=4, schedule="cosine")
    assert found == pytest.approx([0.1 * k / 8 for k in (1, 2, 3, 4)])


def test_plateau_lowers_the_rate_after_more_epochs_without_gain_than_patience() -> None:
    schedule = Training(steps_per_epoch=1, schedule="plateau", plateau_patience=1).schedule
    found = []
    for loss in (1.0, 0.9, 0.9, 0.95, 0.85, 0.9, 0.9, 0.9, 0.9):
        schedule.end_epoch(loss=loss, f1=None)
        found.append(schedule.rates()[0])
    # Gains: 1.0, 0.9, 0.85. 0.9 and 0.95 make it fall; later 0.9 and 0.9, and once more.
    falls = [0, 0, 0, 1, 1, 1, 2, 2, 3]
    assert found == pytest.approx([0.1 * 0.2**n for n in falls])


def test_plateau_on_f1_wants_it_to_rise() -> None:
    settings = {"schedule": "plateau", "plateau_patience": 0, "plateau_factor": 0.5}
    schedule = Training(steps_per_epoch=1, plateau_on="f1", **settings).schedule
    found = []
    for f1 in (0.3, 0.4, 0.4, 0.5, 0.2):
        schedule.end_epoch(loss=1.0, f1=f1)
        found.append(schedule.rates()[0])
    assert found == pytest.approx([0.1, 0.1, 0.05, 0.05, 0.025])


def test_plateau_on_f1_without_stopping_images_goes_by_the_loss() -> None:
    settings = {"schedule": "plateau", "plateau_patience": 0}
    schedule = Training(steps_per_epoch=1, plateau_on="f1", **settings).schedule
    found = []
    for loss in (3.0, 2.0, 2.0):
        schedule.end_epoch(loss=loss, f1=None)
        found.append(schedule.rates()[0])
    assert found == pytest.approx([0.1, 0.1, 0.02])


def test_plateau_has_no_warm_up() -> None:
    assert rates_of(2, steps_per_epoch=2, schedule="plateau", warmup=2) == [0.1, 0.1]


def test_plateau_lowers_tiny_rates_too() -> None:
    _, schedule = with_groups([1e-3, 1e-9], schedule="plateau", plateau_patience=0)
    for _ in range(2):
        schedule.end_epoch(loss=1.0, f1=None)
    assert schedule.rates() == pytest.approx([2e-4, 2e-10], rel=1e-12, abs=0)


@pytest.mark.parametrize("name", SCHEDULES)
def test_groups_keep_the_ratio_of_their_rates(name: ScheduleName) -> None:
    settings: dict[str, Any] = {"schedule": name, "epochs": 2, "warmup": 0.5, "plateau_patience": 0}
    optimizer, schedule = with_groups([1.0, 0.25], **settings)
    for _ in range(2):
        take_steps(optimizer, schedule, 4)
        schedule.end_epoch(loss=1.0, f1=None)
        head, below = schedule.rates()
        assert below == pytest.approx(head / 4)
    assert 0 < head <= 1


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("n_steps", [1, 2, 3])
def test_trainings_of_few_steps_and_steps_past_the_end_have_a_rate(
    name: ScheduleName, n_steps: int
) -> None:
    found = rates_of(n_steps + 3, steps_per_epoch=n_steps, epochs=1, schedule=name)
    assert 0.02 <= found[0] <= 0.1
    assert found[n_steps:] == [found[n_steps]] * 3  # it stays where the last step had it
    assert name == "plateau" or found[n_steps] == found[n_steps - 1]


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_first_step_that_the_optimiser_left_out_does_not_count(name: ScheduleName) -> None:
    training = Training(steps_per_epoch=4, epochs=2, schedule=name, optimizer="nadam")
    training.schedule.step()  # and torch gives no warning, which would fail here
    expected = rates_of(3, steps_per_epoch=4, epochs=2, schedule=name, optimizer="nadam")
    assert [training.step()[0] for _ in range(3)] == expected


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("stopped", [0, 1, 5, 6])
def test_going_on_in_the_middle_gives_the_same_rates_and_weights(
    optimizer: OptimizerName, name: ScheduleName, stopped: int
) -> None:
    settings: dict[str, Any] = {"optimizer": optimizer, "schedule": name, "plateau_patience": 0}
    settings |= {"epochs": 4, "warmup": 1.5, "steps_per_epoch": 3}
    whole, first, second = (Training(**settings) for _ in range(3))
    rates = [whole.step() for _ in range(12)]
    assert [first.step() for _ in range(stopped)] == rates[:stopped]
    for parameter in second.model.parameters():
        nn.init.zeros_(parameter)  # the weights must come from the state
    second.restore(first.state())
    assert [second.step() for _ in range(12 - stopped)] == rates[stopped:]
    for mine, theirs in zip(second.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)
