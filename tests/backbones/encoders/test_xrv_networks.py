"""TorchXRayVision's networks: grey images, values to +-1024, features as the package gives them."""

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from backbones.encoders import downloads, xrv_networks
from backbones.encoders.encoder import Normalisation
from backbones.encoders.xrv_networks import XrvEncoder
from backbones.networks.build import build_backbone
from backbones.networks.weights import settled
from backbones.settings.config import BackboneConfig
from core.errors import ConfigError
from tests.backbones.encoders.conftest import Features, assert_alike
from tests.backbones.encoders.test_torchvision_networks import check_groups

with warnings.catch_warnings():  # it mutes all warnings
    xrv = pytest.importorskip("torchxrayvision")

DENSE, RESIDUAL = "xrv:densenet121-res224-all", "xrv:resnet50-res512-all"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without weights in it; no server answers."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(downloads, "reachable", lambda server: False)
    folder = tmp_path / ".torchxrayvision" / "models_data"
    folder.mkdir(parents=True)
    return folder


def kept(text: str, *, home: Path) -> None:
    """Random weights, as the package's downloads hold them: a whole module, and a state."""
    torch.manual_seed(0)
    name = text.partition(":")[2]
    file = home / Path(xrv.models.model_urls[name]["weights_url"]).name
    if text == DENSE:
        torch.save(xrv.models.DenseNet(num_classes=18), file)
        return
    encoder = XrvEncoder(text)
    network = encoder.build(pretrained=False)
    network.fc = nn.Linear(2048, 18)
    torch.save(network.state_dict(), file)


def owners(text: str, pictures: list[Path], *, size: int) -> list[Tensor]:
    """The package's own scaling and features; nothing is cropped, colours are averaged."""
    name = text.partition(":")[2]
    network = (xrv.models.DenseNet if text == DENSE else xrv.models.ResNet)(weights=name)
    features = network.features2 if text == DENSE else network.features
    resizer = xrv.datasets.XRayResizer(size)
    found = []
    with torch.inference_mode():
        for path in pictures:
            grey = np.asarray(Image.open(path).convert("RGB")).mean(axis=2)
            image = resizer(xrv.datasets.normalize(grey, 255)[None])
            found.append(features(torch.from_numpy(image)[None])[0])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("text", [DENSE, RESIDUAL])
def test_features_are_those_of_the_packages_own_forward_pass(
    text: str, home: Path, pictures: list[Path], features: Features
) -> None:
    kept(text, home=home)
    size = XrvEncoder(text).stated().size
    ours = features(BackboneConfig(backbone=text, image_sizes=(), resample="own"))
    assert_alike(ours, owners(text, pictures, size=size))


@pytest.mark.parametrize(("text", "size"), [(DENSE, 224), (RESIDUAL, 512)])
def test_images_are_grey_from_minus_to_plus_1024(text: str, size: int) -> None:
    stated = XrvEncoder(text).stated()
    assert (stated.size, stated.resample) == (size, "gaussian")
    assert stated.normalisation == Normalisation((0.5,), (0.5 / 1024,))


@pytest.mark.parametrize(("text", "width"), [(DENSE, 1024), (RESIDUAL, 2048)])
def test_networks_learn_at_other_sizes_without_a_word(
    text: str, width: int, capsys: pytest.CaptureFixture[str]
) -> None:
    config = BackboneConfig(backbone=text, weights="none", image_sizes=(64,), regime="full")
    with torch.device("meta"):
        backbone = build_backbone(settled(config)).train()
        features = backbone(torch.zeros(2, 3, 64, 64, dtype=torch.uint8))
    assert features.shape == (2, width)
    features.sum().backward()
    check_groups(backbone)
    assert capsys.readouterr() == ("", "")


def test_nothing_is_muted_by_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchxrayvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(xrv_networks, "_package", xrv_networks._package.__wrapped__)
    XrvEncoder(DENSE).stated()
    assert ("ignore", None, Warning, None, 0) not in warnings.filters


def test_weights_without_a_network_are_refused_at_once(home: Path) -> None:
    with pytest.raises(
        ConfigError,
        match=r"^weights: TorchXRayVision's weights of densenet121-res224-all lie on github\.com,"
        r" which cannot be reached from here; give --weights FILE",
    ):
        build_backbone(BackboneConfig(backbone=DENSE, image_sizes=(64,)))
    assert not list(home.iterdir())


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchxrayvision", None)
    monkeypatch.setattr(xrv_networks, "_package", xrv_networks._package.__wrapped__)
    with pytest.raises(ConfigError, match=r"run `pip install 'radfuse\[xrv\]'`$"):
        XrvEncoder(DENSE).stated()


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"has no network 'all'; expected one of densenet121-res224-all, .*res512"
    ):
        XrvEncoder("xrv:all").stated()
