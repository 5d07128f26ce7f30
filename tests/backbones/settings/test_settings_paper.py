"""The ten experiments of the paper: what is built for each, without weights."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from backbones.networks.build import Detector, build_backbone
from backbones.settings.config import BackboneConfig
from backbones.settings.paper import EXPERIMENTS
from backbones.settings.presets import PRESETS
from training.heads import build_head
from training.optim import build_optimizer

N_CONCEPTS = 3047

# Table 4, a row each: network, input size, hflip, widths, batch size, loss, rate reduction.
TABLE_4 = {
    1: ("vgg16", 227, False, (2048, 2048), 32, "bce", (0.2, 3, "loss")),
    2: ("vgg16", 227, False, (4096, 4096), 32, "bce", (0.2, 3, "loss")),
    3: ("vgg16", 227, True, (4096, 4096), 32, "bce", (0.2, 5, "f1")),
    4: ("vgg16", 450, True, (4096, 4096), 24, "bce", (0.2, 5, "f1")),
    5: ("resnet50", 224, True, (4096, 4096), 16, "bce", None),
    6: ("densenet169", 224, False, (4096, 4096), 32, "bce", None),
    7: ("densenet169", 224, True, (4096, 4096), 32, "bce", None),
    8: ("vgg16", 227, True, (4096, 4096, 4096), 32, "bce", (0.2, 5, "f1")),
    9: ("vgg16", 227, True, (4096, 4096), 48, "f1*bce", (0.2, 5, "f1")),
    10: ("vgg16", 227, True, (4096, 4096), 48, "f1+bce", (0.2, 5, "f1")),
}

VGG16, RESNET50, DENSENET169 = 14_714_688, 23_508_032, 12_484_480  # convolutions of each
F_224, F_450 = 7 * 7, 14 * 14  # places in the last feature map; 227 px give as many as 224


def connected(n_inputs: int, *widths: int) -> int:
    """Weights and biases of fully connected layers."""
    sizes = (n_inputs, *widths, N_CONCEPTS)
    return sum((a + 1) * b for a, b in pairwise(sizes))


N_PARAMETERS = {
    1: VGG16 + connected(512 * F_224, 2048, 2048),
    2: VGG16 + connected(512 * F_224, 4096, 4096),
    4: VGG16 + connected(512 * F_450, 4096, 4096),
    5: RESNET50 + connected(2048 * F_224, 4096, 4096),
    6: DENSENET169 + connected(1664 * F_224, 4096, 4096),
    8: VGG16 + connected(512 * F_224, 4096, 4096, 4096),
}
N_PARAMETERS |= {3: N_PARAMETERS[2], 9: N_PARAMETERS[2], 10: N_PARAMETERS[2]}
N_PARAMETERS |= {7: N_PARAMETERS[6]}

every_experiment = pytest.mark.parametrize("number", sorted(TABLE_4))


def on_meta(config: BackboneConfig) -> Detector:
    with torch.device("meta"):
        backbone = build_backbone(replace(config, weights="none"))
        return Detector(backbone, build_head(backbone.n_features, N_CONCEPTS, config=config))


@every_experiment
def test_a_preset_says_what_the_row_of_the_table_says(number: int) -> None:
    config = PRESETS[f"paper-{number}"]
    network, size, hflip, widths, batch_size, loss, reduction = TABLE_4[number]
    assert config is EXPERIMENTS[number]
    assert config.backbone.partition(".")[0] == network
    assert (config.image_sizes, config.resample) == ((size,), "nearest")
    assert config.augment == ("both" if hflip else "none")
    assert (config.hidden, config.dropout, config.input_dropout) == (widths, 0.5, 0.0)
    assert (config.batch_size, config.loss) == (batch_size, loss)
    if reduction is None:
        assert config.schedule == "constant"
    else:
        assert config.schedule == "plateau"
        keras_patience = config.plateau_patience + 1  # torch waits for one epoch more than it says
        named = (config.plateau_factor, keras_patience, config.plateau_on)
        assert named == reduction
    assert (config.stop_threshold, config.regime, config.pooling) == (0.5, "full", "none")


@every_experiment
def test_its_network_has_as_many_parameters_as_counted_by_hand(number: int) -> None:
    detector = on_meta(PRESETS[f"paper-{number}"])
    parameters = list(detector.parameters())
    assert sum(p.numel() for p in parameters) == N_PARAMETERS[number]
    assert all(p.requires_grad for p in parameters)


@every_experiment
def test_its_head_is_fully_connected_layers_with_dropout_on_the_flattened_map(number: int) -> None:
    detector = on_meta(PRESETS[f"paper-{number}"])
    head = list(detector.head.modules())
    linear = [layer for layer in head if isinstance(layer, nn.Linear)]
    dropout = [layer.p for layer in head if isinstance(layer, nn.Dropout)]
    widths = TABLE_4[number][3]
    assert [layer.out_features for layer in linear] == [*widths, N_CONCEPTS]
    assert linear[0].in_features == detector.backbone.n_features
    assert dropout == [0.0, *(0.5 for _ in widths)]
    size = TABLE_4[number][1]
    image = torch.empty(2, 3, size, size, dtype=torch.uint8, device="meta")
    assert detector.eval()(image).shape == (2, N_CONCEPTS)


@every_experiment
def test_its_optimiser_is_nadam_with_the_papers_numbers(number: int) -> None:
    optimizer = build_optimizer(nn.Linear(2, 2), PRESETS[f"paper-{number}"])
    assert isinstance(optimizer, torch.optim.NAdam)
    [weights, biases] = optimizer.param_groups
    for group in (weights, biases):
        assert (group["lr"], group["momentum_decay"], group["eps"]) == (1e-5, 0.9, 1e-7)
        assert (group["betas"], group["weight_decay"]) == ((0.9, 0.999), 0.0)


def test_the_vgg16_of_listing_1_1_has_its_number_of_parameters() -> None:
    detector = on_meta(PRESETS["paper-3"])
    assert detector.backbone.n_features == 25_088
    # 14,714,688 + 102,764,544 + 16,781,312 + 12,483,559
    assert sum(p.numel() for p in detector.parameters()) == 146_744_103
