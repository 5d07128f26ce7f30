"""Pooling of a network's last layer, by values worked by hand."""

import pytest
import torch
from torch import Tensor

from backbones.encoders.encoder import LastMap
from backbones.encoders.pooling import GeneralisedMean, Pooling, pooled
from backbones.networks.build import Backbone, build_backbone
from backbones.settings.config import BackboneConfig
from core.errors import ConfigError

PLACES = torch.tensor([[[1.0, 3.0], [5.0, 7.0]]])  # one image, two numbers at each of two places
TOKEN = torch.tensor([[10.0, 20.0]])


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("mean", [2, 6]),
        ("cls", [10, 20]),
        ("cls+mean", [10, 20, 2, 6]),
        ("none", [1, 3, 5, 7]),
    ],
)
def test_features_of_places_and_a_class_token(pooling: Pooling, expected: list[float]) -> None:
    found = pooled(LastMap(places=PLACES, token=TOKEN), pooling, mean=None)
    assert found.tolist() == [expected]


def test_a_generalised_mean_lies_between_the_mean_and_the_maximum() -> None:
    found = LastMap(places=torch.tensor([[[3.0, 4.0], [0.0, 2.0]]]))
    values = {
        exponent: pooled(found, "gem", mean=GeneralisedMean(exponent))[0].tolist()
        for exponent in (1.0, 2.0, 3.0, 60.0)
    }
    assert values[1.0] == pytest.approx([3.5, 1.0])
    assert values[2.0] == pytest.approx([12.5**0.5, 2**0.5])  # (9 + 16) / 2, (0 + 4) / 2
    assert values[3.0] == pytest.approx([45.5 ** (1 / 3), 4 ** (1 / 3)])  # (27 + 64) / 2, 8 / 2
    assert values[60.0] == pytest.approx([4, 2], rel=0.02)


def test_a_generalised_mean_learns_its_exponent_and_is_never_computed_roughly() -> None:
    mean = GeneralisedMean()
    places = torch.tensor([[[1.0, 3.0, -1.0]]], requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out: Tensor = mean(places.bfloat16())
    assert out.dtype is torch.float32
    assert out.item() == pytest.approx((28 / 3) ** (1 / 3), rel=1e-6)  # what is below 0 counts as 0
    out.sum().backward()  # type: ignore[no-untyped-call]
    assert mean.exponent.grad is not None
    assert mean.exponent.grad > 0


@pytest.mark.parametrize("pooling", ["cls", "cls+mean"])
def test_a_network_without_a_class_token_has_none_to_give(pooling: Pooling) -> None:
    with pytest.raises(ConfigError, match=r"this network has no class token; use own, mean or gem"):
        pooled(LastMap(places=PLACES), pooling, mean=None)


def vit(pooling: Pooling) -> Backbone:
    torch.manual_seed(0)
    config = BackboneConfig(
        backbone="test_vit", weights="none", image_sizes=(32,), regime="full", pooling=pooling
    )
    return build_backbone(config).eval()


def test_every_pooling_of_a_network_has_the_width_that_it_says() -> None:
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    widths = {"own": 64, "mean": 64, "cls": 64, "cls+mean": 128, "gem": 64, "none": 64 * 2 * 2}
    with torch.inference_mode():
        features = {pooling: vit(pooling)(images) for pooling in widths}  # type: ignore[arg-type]
    assert {name: found.shape for name, found in features.items()} == {
        name: (2, width) for name, width in widths.items()
    }
    torch.testing.assert_close(features["cls"], features["own"])  # timm's own pooling of it
    torch.testing.assert_close(
        features["cls+mean"], torch.cat((features["cls"], features["mean"]), dim=1)
    )
    torch.testing.assert_close(features["none"].view(2, 64, 4).mean(2), features["mean"])


def test_only_a_generalised_mean_has_something_to_learn() -> None:
    assert set(vit("gem").state_dict()) - set(vit("own").state_dict()) == {"generalised.exponent"}
