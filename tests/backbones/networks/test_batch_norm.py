"""Folding leaves the outputs alone, and the network it was given."""

import copy
import weakref

import pytest
import timm
import torch
from torch import Tensor, nn

from backbones.networks.batch_norm import folded


def trained_like(network: nn.Module) -> nn.Module:
    """The network with normalisations that do something, in evaluation mode."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(module.bias, 0, 0.3, generator=generator)
    return network.eval()


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "tf_efficientnet_lite0"])
def test_the_folded_network_gives_the_same_features_without_normalising(name: str) -> None:
    torch.manual_seed(0)
    network = trained_like(timm.create_model(name, pretrained=False, num_classes=0))
    images = torch.randn(2, 3, 64, 64)
    fast = folded(network, images[:1])
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())
    with torch.inference_mode():
        expected, found = network(images), fast(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_the_network_itself_is_not_changed() -> None:
    network = trained_like(timm.create_model("test_resnet", pretrained=False, num_classes=0))
    before = copy.deepcopy(network.state_dict())
    folded(network, torch.randn(1, 3, 64, 64))
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_outputs_of_a_layer_are_let_go_before_the_next_but_one_is_reached() -> None:
    convolutions = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
    layers = [layer for each in convolutions for layer in (each, nn.BatchNorm2d(4))]
    network = trained_like(nn.Sequential(*layers))
    outputs: list[weakref.ref[Tensor]] = []
    alive: list[int] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        alive.append(sum(earlier() is not None for earlier in outputs))
        outputs.append(weakref.ref(output))

    for convolution in convolutions:
        convolution.register_forward_hook(note)
    fast = folded(network, torch.randn(1, 3, 8, 8))
    assert alive[:2] == [0, 0]  # in the pass that looks which normalisation follows which layer
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())


class Twice(nn.Module):
    """Uses the output of a convolution beside its normalisation: folding would change it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(images)
        added: Tensor = self.norm(maps) + maps
        return added


def test_a_network_that_cannot_be_folded_is_given_back() -> None:
    network = trained_like(Twice())
    assert folded(network, torch.randn(1, 3, 8, 8)) is network
