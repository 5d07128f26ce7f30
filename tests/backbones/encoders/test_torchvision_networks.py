"""torchvision's networks: its own features, its weights, its layers."""

import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor

from backbones.encoders import downloads
from backbones.encoders.encoder import Normalisation, head_distances
from backbones.encoders.torchvision_networks import TorchvisionEncoder, load_trunk
from backbones.networks.build import Backbone, build_backbone
from backbones.networks.weights import settled
from backbones.settings.config import BackboneConfig
from core.errors import ConfigError
from tests.backbones.encoders.conftest import Features, assert_alike


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where torchvision keeps what it downloads, empty; no server answers."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr(downloads, "reachable", lambda server: False)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def kept(name: str, *, hub: Path) -> nn.Module:
    """A random network, as if its weights had been downloaded."""
    torch.manual_seed(0)
    network: nn.Module = models.get_model(name, weights=None).train()
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    for layer in norms:
        layer.momentum = None
    if norms:  # with statistics of something, or numbers vanish on the way
        with torch.no_grad():
            network(torch.rand(4, 3, 64, 64))
    address = models.get_model_weights(name).DEFAULT.url
    torch.save(network.state_dict(), hub / Path(address).name)
    return network.eval()


def owners(name: str, network: nn.Module, pictures: list[Path], *, node: str) -> list[Tensor]:
    """What torchvision's own transform and its extractor of features make of the pictures."""
    preset = models.get_model_weights(name).DEFAULT.transforms()
    preset.resize_size = [preset.crop_size[0]] * 2  # to the square, nothing is cropped
    extractor = create_feature_extractor(network, {node: "features"})
    with torch.inference_mode():
        return [
            extractor(preset(Image.open(path).convert("RGB"))[None])["features"][0].flatten()
            for path in pictures
        ]


@pytest.mark.parametrize(
    ("name", "node"),
    [
        ("shufflenet_v2_x0_5", "mean"),
        pytest.param("resnet18", "flatten", marks=pytest.mark.slow),
        pytest.param("densenet121", "flatten", marks=pytest.mark.slow),
        pytest.param("convnext_tiny", "classifier.1", marks=pytest.mark.slow),
        pytest.param("swin_t", "flatten", marks=pytest.mark.slow),
        pytest.param("vit_b_16", "getitem_5", marks=pytest.mark.slow),
    ],
)
def test_features_are_those_of_torchvisions_own_forward_pass(
    name: str, node: str, hub: Path, pictures: list[Path], features: Features
) -> None:
    network = kept(name, hub=hub)
    paths = pictures[::3] if name == "shufflenet_v2_x0_5" else pictures
    config = BackboneConfig(backbone=f"torchvision:{name}", image_sizes=(), resample="own")
    assert_alike(features(config, paths), owners(name, network, paths, node=node))


SMALL = {
    "alexnet": 256,
    "squeezenet1_1": 512,
    "mnasnet0_5": 1280,
    "mobilenet_v3_small": 1024,
    "regnet_x_400mf": 400,
    "resnet18": 512,
    "googlenet": 1024,
}


@pytest.mark.parametrize(("name", "width"), SMALL.items())
def test_networks_give_their_own_features_and_a_map_at_other_sizes(name: str, width: int) -> None:
    config = BackboneConfig(backbone=f"torchvision:{name}", weights="none", image_sizes=(64,))
    with torch.device("cpu" if name.startswith("regnet") else "meta"):  # that counts in tensors
        backbone = build_backbone(settled(config))
        images = torch.zeros(2, 3, 64, 64)
    assert backbone.n_features == width
    assert backbone.train()(images.byte()).shape == (2, width)
    places = backbone.eval().encoder.last_map(backbone.network, images).places
    assert places.shape[0] == 2
    assert places.shape[1] == {"mobilenet_v3_small": 576}.get(name, width)
    check_groups(backbone)


def check_groups(backbone: Backbone) -> None:
    """Each parameter is counted once, and a block is no more than a stage."""
    stages, blocks = (
        head_distances(backbone.encoder, backbone.network, coarse=coarse)
        for coarse in (True, False)
    )
    names = dict(backbone.network.named_parameters()).keys()
    assert stages.keys() == blocks.keys() == names
    assert max(blocks.values()) >= max(stages.values()) >= 3
    assert all(stages[name] <= blocks[name] for name in names)


def test_stages_and_blocks_are_counted_from_the_head() -> None:
    with torch.device("meta"):
        network = TorchvisionEncoder("torchvision:resnet18").build(pretrained=False)
        swin = TorchvisionEncoder("torchvision:swin_t").build(pretrained=False)
    encoder = TorchvisionEncoder("torchvision:any")
    stages = head_distances(encoder, network, coarse=True)
    assert stages["layer4.0.conv1.weight"] == stages["layer4.1.bn2.bias"] == 1
    assert stages["layer1.0.conv1.weight"] == 4
    assert stages["conv1.weight"] == stages["bn1.weight"] == 5
    blocks = head_distances(encoder, network, coarse=False)
    assert blocks["layer4.1.conv1.weight"] == 1
    assert blocks["layer4.0.downsample.0.weight"] == 2
    stages = head_distances(encoder, swin, coarse=True)
    assert stages["norm.weight"] == 0
    # the merging of patches belongs to the stage that it comes before
    assert stages["features.7.1.mlp.0.weight"] == stages["features.6.reduction.weight"] == 1
    assert stages["features.0.0.weight"] == 5


def test_a_vit_takes_other_sizes_by_resampling_its_positions() -> None:
    encoder = TorchvisionEncoder("torchvision:vit_b_32")
    with torch.device("meta"):
        network = encoder.build(pretrained=False)
    network.encoder.pos_embedding = nn.Parameter(torch.randn(1, 50, 768))  # type: ignore[union-attr]
    encoder.resize(network, 96)
    assert network.encoder.pos_embedding.shape == (1, 10, 768)  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match=r"takes multiples of 32 pixels, found 100$"):
        encoder.resize(network, 100)
    images = torch.zeros(1, 3, 96, 96, device="meta")
    network = network.to("meta")
    found = encoder.last_map(network, images)
    assert found.token is not None
    assert (found.places.shape, found.token.shape) == ((1, 768, 9), (1, 768))
    assert encoder.own(network, images).shape == (1, 768)


@pytest.mark.slow  # it is long in the making
def test_a_network_of_one_size_says_so() -> None:
    encoder = TorchvisionEncoder("torchvision:maxvit_t")
    with torch.device("meta"):
        network = encoder.build(pretrained=False)
    with pytest.raises(ConfigError, match=r"maxvit_t takes 224 pixels alone, found 96$"):
        encoder.resize(network, 96)
    assert encoder.own(network, torch.zeros(1, 3, 224, 224, device="meta")).shape == (1, 512)


def test_weights_state_their_images() -> None:
    stated = TorchvisionEncoder("torchvision:efficientnet_v2_s").stated()
    assert (stated.size, stated.resample) == (384, "bilinear")
    assert stated.normalisation == Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    swag = TorchvisionEncoder("torchvision:vit_b_16.imagenet1k_swag_e2e_v1").stated()
    assert (swag.size, swag.resample) == (384, "bicubic")
    assert swag.source == "torchvision's hub, ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1"
    assert "facebookresearch/SWAG" in swag.licence


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("torchvision:resnet19", "no network of classification 'resnet19'; like it: .*resnet18"),
        ("torchvision:fcn_resnet50", "no network of classification 'fcn_resnet50'"),
        ("torchvision:resnet50.V3", "no weights 'V3' of resnet50; expected one of IMAGENET1K_V1,"),
    ],
)
def test_what_torchvision_does_not_know_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TorchvisionEncoder(text).stated()


def test_weights_without_a_network_are_refused_at_once(hub: Path) -> None:
    with pytest.raises(
        ConfigError,
        match=r"^weights: torchvision's weights of resnet18 lie on download\.pytorch\.org, which"
        r" cannot be reached from here; give --weights FILE, or --weights none for random ones$",
    ):
        build_backbone(BackboneConfig(backbone="torchvision:resnet18", image_sizes=(64,)))
    assert not list(hub.iterdir())


def test_a_file_of_another_network_is_refused(hub: Path) -> None:
    state = models.shufflenet_v2_x0_5(weights=None).state_dict()
    file = hub / Path(models.ShuffleNet_V2_X0_5_Weights.DEFAULT.url).name
    config = BackboneConfig(backbone="torchvision:shufflenet_v2_x0_5", image_sizes=(64,))
    torch.save({n: t for n, t in state.items() if not n.startswith("conv5")}, file)
    with pytest.raises(ConfigError, match=r"of ShuffleNetV2 are missing, first 'conv5\.0\.weight"):
        build_backbone(config)
    torch.save({**state, "conv1.0.weight": torch.zeros(24, 3, 5, 5)}, file)
    with pytest.raises(ConfigError, match=r"size mismatch for conv1\.0\.weight"):
        build_backbone(config)


def test_dense_networks_of_before_2018_are_read() -> None:
    network, other = (models.DenseNet(growth_rate=4, block_config=(2, 1)) for _ in range(2))
    old = {
        re.sub(r"(norm|conv)([12])\.", r"\1.\2.", name): tensor
        for name, tensor in network.state_dict().items()
    }
    assert "features.denseblock1.denselayer1.conv.2.weight" in old
    load_trunk(other, old, path=Path("old.pth"))
    torch.testing.assert_close(dict(other.state_dict()), dict(network.state_dict()))
