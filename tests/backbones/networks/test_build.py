"""Networks, heads and detectors from a config."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from backbones.encoders.encoder import Normalisation
from backbones.encoders.timm_networks import TimmEncoder
from backbones.networks.build import Backbone, Detector, build_backbone
from backbones.settings.config import BackboneConfig
from core.errors import ConfigError
from training.heads import build_head

TINY = BackboneConfig(backbone="test_efficientnet", weights="none")


def images(n: int = 3, size: int = 64) -> torch.Tensor:
    pixels = np.random.default_rng(0).integers(0, 256, (n, 3, size, size), dtype=np.uint8)
    return torch.from_numpy(pixels)


def test_a_backbone_scales_and_normalises_its_images_itself() -> None:
    network = nn.Sequential(nn.Flatten())
    backbone = Backbone(
        network,
        encoder=TimmEncoder("flatten"),
        normalisation=Normalisation((0.5, 0.4, 0.2), (0.5, 0.2, 0.1)),
        size=1,
    )
    one_pixel = torch.tensor([[[[255]], [[0]], [[51]]]], dtype=torch.uint8)
    # (1 - .5) / .5 = 1    (0 - .4) / .2 = -2    (.2 - .2) / .1 = 0
    torch.testing.assert_close(
        backbone(one_pixel), torch.tensor([[1.0, -2.0, 0.0]]), atol=1e-6, rtol=0
    )


def test_a_backbone_uses_the_mean_and_deviation_of_its_network() -> None:
    backbone = build_backbone(TINY).eval()
    data = timm.data.resolve_model_data_config(backbone.network)
    assert data["mean"] != (0.0, 0.0, 0.0)
    mean, std = (torch.tensor(data[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    with torch.inference_mode():
        by_hand = backbone.network((images().float() / 255 - mean) / std)
        torch.testing.assert_close(backbone(images()), by_hand, atol=1e-5, rtol=1e-5)


def test_mean_and_deviation_are_not_part_of_the_weights() -> None:
    backbone = build_backbone(TINY)
    assert backbone.state_dict().keys() == {f"network.{k}" for k in backbone.network.state_dict()}


def test_a_detector_gives_a_logit_an_image_and_concept() -> None:
    backbone = build_backbone(TINY)
    detector = Detector(backbone, build_head(backbone.n_features, 7, config=TINY)).eval()
    with torch.inference_mode():
        assert backbone(images()).shape == (3, backbone.n_features) == (3, 256)
        assert detector(images()).shape == (3, 7)


def test_the_weights_of_the_package_are_loaded_and_not_drawn() -> None:
    config = BackboneConfig()
    backbone = build_backbone(config).eval()
    again = build_backbone(config).eval()
    with torch.inference_mode():
        features = backbone(images(2, 96))
        torch.testing.assert_close(features, again(images(2, 96)), rtol=0, atol=0)
    assert features.shape == (2, 1280)
    assert backbone.mean.flatten().tolist() == [127.5] * 3  # lite networks: mean = std = 0.5
    assert backbone.std.flatten().tolist() == [127.5] * 3


def test_weights_come_from_a_file_with_or_without_a_classifier(tmp_path: Path) -> None:
    whole = timm.create_model("test_efficientnet", num_classes=5)
    state = whole.state_dict()
    save_file(state, tmp_path / "whole.safetensors")
    bare = {name: value for name, value in state.items() if not name.startswith("classifier.")}
    torch.save({"state_dict": bare}, tmp_path / "bare.pth")
    for name in ("whole.safetensors", "bare.pth"):
        config = BackboneConfig(backbone="test_efficientnet", weights=str(tmp_path / name))
        loaded = build_backbone(config).network.state_dict()
        torch.testing.assert_close(loaded["conv_stem.weight"], state["conv_stem.weight"])


def test_weights_of_another_network_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file(timm.create_model("test_resnet").state_dict(), path)
    config = BackboneConfig(backbone="test_efficientnet", weights=str(path))
    with pytest.raises(
        ConfigError, match=r"other\.safetensors does not fit test_efficientnet: \d+ of its \d+"
    ) as raised:
        build_backbone(config)
    assert "\n" not in str(raised.value)


def test_weights_of_another_shape_are_refused_in_one_line(tmp_path: Path) -> None:
    state = timm.create_model("test_efficientnet", num_classes=0).state_dict()
    state["conv_stem.weight"] = state["conv_stem.weight"][:3].clone()
    save_file(state, tmp_path / "narrow.safetensors")
    config = BackboneConfig(
        backbone="test_efficientnet", weights=str(tmp_path / "narrow.safetensors")
    )
    with pytest.raises(
        ConfigError, match=r"of another shape, first 'conv_stem\.weight', 3 x 3 x 3 x 3 for"
    ):
        build_backbone(config)


def test_an_unknown_backbone_is_answered_with_its_neighbours() -> None:
    with pytest.raises(ConfigError, match=r"'tf_efficientnet_lite9'; like it: tf_efficientnet_lit"):
        build_backbone(BackboneConfig(backbone="tf_efficientnet_lite9"))
    with pytest.raises(ConfigError, match=r"no network 'vgg61'; like it: .*vgg16"):
        build_backbone(BackboneConfig(backbone="vgg61"))
    with pytest.raises(ConfigError, match=r"no network '@@@@'$"):
        build_backbone(BackboneConfig(backbone="@@@@"))


def test_unknown_weights_of_a_known_backbone_are_named() -> None:
    config = BackboneConfig(backbone="test_efficientnet.in99k", weights="none")
    with pytest.raises(ConfigError, match=r"^backbone: Invalid pretrained tag \(in99k\) for test_"):
        build_backbone(config)


def test_a_backbone_without_a_carrier_says_what_else_there_is() -> None:
    with pytest.raises(
        ConfigError,
        match=r"no package carries test_resnet \(only tf_efficientnet_lite0, .*vgg16\); give"
        r" --weights FILE, --weights hub where there is a network, or --weights none for random",
    ):
        build_backbone(BackboneConfig(backbone="test_resnet", weights="package"))


def test_a_network_without_weights_on_the_hub_is_not_left_random() -> None:
    with pytest.raises(
        ConfigError,
        match=r"^weights: No pretrained weights exist for test_vit4\. Give --weights FILE, or"
        r" --weights none for random ones$",
    ):
        build_backbone(BackboneConfig(backbone="test_vit4", weights="hub"))


def test_without_a_network_the_hub_is_refused_and_nothing_is_left_random(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        ConfigError, match=r"^weights: test_resnet: nothing to be had from timm's hub.*; give --wei"
    ):
        build_backbone(BackboneConfig(backbone="test_resnet", weights="hub"))


def test_without_pooling_a_network_gives_its_last_map_and_pools_it_when_asked() -> None:
    flat = replace(TINY, regime="full", image_sizes=(64,), pooling="none")
    backbone = build_backbone(flat).eval()
    with torch.inference_mode():
        features = backbone(images())
        pooled = backbone.as_pooled(64)(images())
    assert features.shape == (3, backbone.n_features) == (3, 256 * 2 * 2)
    assert backbone.as_pooled(64).n_features == 256
    torch.testing.assert_close(features.view(3, 256, 4).mean(2), pooled)


def test_a_vgg_gives_what_its_convolutions_give() -> None:
    config = replace(TINY, backbone="vgg11", regime="full", image_sizes=(64,))
    with torch.device("meta"):  # 100 million weights go with its classifier
        backbone = build_backbone(config).eval()
    with torch.inference_mode():
        assert backbone(images().to("meta")).shape == (3, 512) == (3, backbone.n_features)
    assert {n.split(".")[1] for n, _ in backbone.named_parameters()} == {"features"}
