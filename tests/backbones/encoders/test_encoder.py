"""What every encoder offers: what it expects of images, its name in a folder's, its layers."""

import pytest
import torch
from torch import Tensor, nn

from backbones.encoders.encoder import Normalisation, head_distances, short_name
from backbones.encoders.timm_networks import TimmEncoder
from backbones.networks.build import Backbone
from core.errors import ConfigError

GREY = torch.tensor([[[[255]], [[0]], [[102]]]], dtype=torch.uint8)  # one pixel


class Flat(TimmEncoder):
    """The pixels as they come."""

    def own(self, network: nn.Module, images: Tensor) -> Tensor:
        return images.flatten(1)


def test_a_network_of_one_channel_is_given_the_mean_of_the_colours() -> None:
    backbone = Backbone(
        nn.Identity(), encoder=Flat("any"), normalisation=Normalisation((0.5,), (0.25,)), size=1
    )
    # ((255 + 0 + 102) / 3 / 255 - 0.5) / 0.25 = (0.46667 - 0.5) / 0.25
    torch.testing.assert_close(backbone(GREY), torch.tensor([[-0.1333333]]))
    assert backbone.n_features == 1


def test_a_range_of_values_is_a_mean_and_a_deviation() -> None:
    """Of 0 to 255 into -1024 to 1024, as TorchXRayVision has it: (2 x - 1) 1024."""
    grey = Normalisation((0.5,), (0.5 / 1024,))
    backbone = Backbone(nn.Identity(), encoder=Flat("any"), normalisation=grey, size=1)
    levels = torch.tensor([0, 255, 51], dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 3, 1, 1)
    # -1024, 1024, (0.4 - 1) * 1024
    torch.testing.assert_close(backbone(levels).flatten(), torch.tensor([-1024.0, 1024.0, -614.4]))


@pytest.mark.parametrize(
    ("mean", "std", "found"),
    [((0.5, 0.5), (1, 1), "2 and 2"), ((0.5,), (1, 1, 1), "1 and 3"), ((), (), "0 and 0")],
)
def test_a_normalisation_has_as_many_means_as_deviations(
    mean: tuple[float, ...], std: tuple[float, ...], found: str
) -> None:
    with pytest.raises(ConfigError, match=f"one number each for grey images or three .* {found}"):
        Normalisation(mean, std)


def test_a_deviation_is_above_0() -> None:
    with pytest.raises(ConfigError, match=r"^std: expected .*, found 0"):
        Normalisation((0.5, 0.5, 0.5), (1, 0, -1))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("resnet50.a1_in1k", "resnet50.a1_in1k"),
        ("timm:resnet50", "resnet50"),
        ("hf-hub:timm/eva02_tiny", "eva02_tiny"),
        ("local-dir:/data/my models/net v2/", "net-v2"),
        ("local-dir:..", "local-dir"),
        ("local-dir:/data/Lungen-Ü 2", "Lungen-U-2"),  # a bundle's files are of plain letters
        ("local-dir:/data/.模型/", "local-dir"),
        ("local-dir:/data/.cache", "cache"),
        ("open_clip:ViT-B-32/openai", "ViT-B-32-openai"),
        ("open_clip:hf-hub:org/BiomedCLIP", "BiomedCLIP"),
        ("torchvision:swin_t", "swin_t"),
        ("xrv:densenet121-res224-all", "densenet121-res224-all"),
        ('timm:{"architecture": "test_vit", "arguments": {}}', "timm"),
        ("local-dir:" + 80 * "x", 60 * "x"),
    ],
)
def test_the_name_of_a_folder_keeps_what_tells_encoders_apart(text: str, name: str) -> None:
    assert short_name(text) == name


def test_parameters_are_counted_from_the_head_in_groups() -> None:
    class Grouped(TimmEncoder):
        def layer_groups(self, network: nn.Module, *, coarse: bool) -> list[list[str]]:
            return [["stem", "norm"], ["block"], ["last"]] if coarse else [["stem"], []]

    assert head_distances(Grouped("any"), nn.Identity(), coarse=True) == {
        **{"stem": 2, "norm": 2, "block": 1, "last": 0}
    }
    assert head_distances(Grouped("any"), nn.Identity(), coarse=False) == {"stem": 1}
