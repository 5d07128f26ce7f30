"""Which stages learn, which layers are how far from the head."""

import copy

import pytest
import timm
import torch
from torch import nn

from backbones.encoders.encoder import Normalisation, head_distances
from backbones.encoders.timm_networks import TimmEncoder
from backbones.networks.build import Backbone, Detector, unlock_last
from core.errors import ConfigError

# How the names of each stage's parameters begin, from the stem on.
STAGES = {
    "tf_efficientnet_lite0": ["conv_stem", *(f"blocks.{i}." for i in range(7))],
    "tf_efficientnetv2_s": ["conv_stem", *(f"blocks.{i}." for i in range(6))],
    "mobilenetv3_large_100": ["conv_stem", *(f"blocks.{i}." for i in range(7))],
    "resnet18": ["conv1", *(f"layer{i}." for i in (1, 2, 3, 4))],
    "resnet50": ["conv1", *(f"layer{i}." for i in (1, 2, 3, 4))],
    "densenet121": ["features.conv0", *(f"features.denseblock{i}." for i in (1, 2, 3, 4))],
    "convnext_tiny": ["stem", *(f"stages.{i}." for i in range(4))],
    "swin_tiny_patch4_window7_224": ["patch_embed", *(f"layers.{i}." for i in range(4))],
    "vit_small_patch14_dinov2": ["patch_embed", *(f"blocks.{i}." for i in range(12))],
    "vgg16": [f"features.{i}." for i in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)],
    # a convolution and, one further, its normalisation
    "vgg11_bn": [f"features.{i}." for i in (0, 4, 8, 11, 15, 18, 22, 25)],
    "test_efficientnet": ["conv_stem", *(f"blocks.{i}." for i in range(5))],
    "test_resnet": ["conv1", *(f"layer{i}." for i in (1, 2, 3, 4))],
    "test_vit": ["patch_embed", *(f"blocks.{i}." for i in range(6))],
}

# What comes after the last stage lies beside the classifier (0) or counts to the last stage (1).
AFTER = {
    "tf_efficientnet_lite0": {"conv_head.weight": 1, "bn2.bias": 1},
    "mobilenetv3_large_100": {"conv_head.weight": 0},
    "densenet121": {"features.norm5.weight": 0},
    "convnext_tiny": {"head.norm.weight": 0},
    "swin_tiny_patch4_window7_224": {"norm.weight": 0},
    "vit_small_patch14_dinov2": {"norm.weight": 1},
    "vgg16": {"pre_logits.fc1.weight": 0},
    "vgg11_bn": {"features.26.weight": 1, "features.23.weight": 2},
}


def network_of(name: str) -> nn.Module:
    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=0)
    return network


def detector_of(name: str) -> Detector:
    torch.manual_seed(0)
    backbone = Backbone(
        network_of(name),
        encoder=TimmEncoder(name),
        normalisation=Normalisation((0.5, 0.5, 0.5), (0.2, 0.2, 0.2)),
        size=64,
    )
    return Detector(backbone, nn.Linear(backbone.n_features, 2))


def learns(detector: Detector) -> set[str]:
    """Names of the network's parameters that learn."""
    named = detector.backbone.network.named_parameters()
    return {name for name, value in named if value.requires_grad}


def images() -> torch.Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=rng)


@pytest.mark.parametrize("name", STAGES)
def test_stages_are_counted_from_the_head(name: str) -> None:
    with torch.device("meta"):
        network = network_of(name)
    distances = head_distances(TimmEncoder("any"), network, coarse=True)
    assert distances.keys() == dict(network.named_parameters()).keys()
    for n, start in enumerate(reversed(STAGES[name]), start=1):
        assert {distances[key] for key in distances if key.startswith(start)} == {n}
    assert max(distances.values()) == len(STAGES[name])
    assert AFTER.get(name, {}).items() <= distances.items()


@pytest.mark.parametrize("name", timm.list_models("test_*"))
def test_all_of_timms_test_networks_have_stages_and_blocks(name: str) -> None:
    with torch.device("meta"):
        network = network_of(name)
    stages, blocks = (
        head_distances(TimmEncoder("any"), network, coarse=coarse) for coarse in (True, False)
    )
    assert stages.keys() == blocks.keys() == dict(network.named_parameters()).keys()
    assert max(blocks.values()) >= max(stages.values()) >= 4
    assert all(stages[key] <= blocks[key] for key in stages)  # a block is no more than a stage


def test_blocks_are_counted_within_stages() -> None:
    with torch.device("meta"):
        network = network_of("resnet18")  # two blocks in each of four stages, and the stem
    distances = head_distances(TimmEncoder("any"), network, coarse=False)
    assert distances["layer4.1.conv2.weight"] == 1
    assert distances["layer4.0.conv1.weight"] == distances["layer4.0.downsample.0.weight"] == 2
    assert distances["layer3.1.bn1.bias"] == 3
    assert distances["layer1.0.conv1.weight"] == 8
    assert distances["conv1.weight"] == distances["bn1.weight"] == 9


def test_the_last_stages_and_the_head_learn_and_nothing_else() -> None:
    detector = detector_of("test_resnet")
    unlock_last(detector, 2)
    parts = {name.split(".")[0] for name in learns(detector)}
    assert parts == {"layer3", "layer4"}
    assert all(value.requires_grad for value in detector.head.parameters())


def test_what_comes_after_the_last_stage_learns_with_it() -> None:
    detector = detector_of("test_efficientnet")
    unlock_last(detector, 1)
    assert {name.split(".")[0] for name in learns(detector)} == {"blocks", "conv_head", "bn2"}
    assert not any(name.startswith("blocks.3") for name in learns(detector))


@pytest.mark.parametrize("n_stages", [5, 100])
def test_as_many_stages_as_there_are_and_more_unlock_everything(n_stages: int) -> None:
    detector = detector_of("test_resnet")  # the stem and four
    unlock_last(detector, 1)
    unlock_last(detector, n_stages)
    assert all(value.requires_grad for value in detector.parameters())
    assert all(module.training for module in detector.modules())


def test_statistics_of_frozen_normalisation_stay_and_those_of_unlocked_stages_move() -> None:
    detector = detector_of("test_resnet")
    unlock_last(detector, 1)
    before = copy.deepcopy(detector.state_dict())
    detector.eval()
    detector.train()
    optimizer = torch.optim.SGD(detector.parameters(), lr=0.1)
    for _ in range(2):
        detector(images()).square().mean().backward()
        optimizer.step()
    after = detector.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    unlocked = {name for name in before if name.startswith(("backbone.network.layer4", "head."))}
    assert moved == unlocked
    assert any(name.endswith("running_var") for name in unlocked)


def test_frozen_layers_evaluate_and_unlocked_ones_train() -> None:
    detector = detector_of("test_resnet")
    unlock_last(detector, 2)
    network = detector.backbone.network
    modes = {name: module.training for name, module in network.named_modules()}
    assert not modes["bn1"]
    assert not modes["layer2.0.bn1"]
    assert modes["layer3.0.bn1"]
    assert modes["layer4.0.bn1"]
    detector.eval()
    assert not any(module.training for module in detector.modules())


def test_a_copy_of_a_detector_keeps_its_frozen_layers_evaluating() -> None:
    detector = detector_of("test_resnet")
    unlock_last(detector, 1)
    twin = copy.deepcopy(detector).eval().train()
    assert [module.training for module in twin.modules()] == [
        module.training for module in detector.modules()
    ]


def test_without_frozen_layers_everything_trains() -> None:
    detector = detector_of("test_resnet").eval().train()
    assert all(module.training for module in detector.modules())


@pytest.mark.parametrize("name", ["pit_ti_224", "rdnet_tiny"])
def test_a_network_whose_stages_timm_does_not_know_is_refused(name: str) -> None:
    with torch.device("meta"):
        network = network_of(name)
    with pytest.raises(
        ConfigError, match=f"the stages of a {type(network).__name__} are not known"
    ):
        head_distances(TimmEncoder("any"), network, coarse=True)


def test_a_network_with_one_group_only_is_refused() -> None:
    network = nn.Sequential(nn.Linear(3, 3))
    network.group_matcher = lambda coarse: {"stem": "^0"}  # type: ignore[assignment]
    with pytest.raises(ConfigError, match="the stages of a Sequential are not known"):
        head_distances(TimmEncoder("any"), network, coarse=True)
