"""TorchXRayVision's classifiers of chest X-rays: grey images, values from -1024 to 1024."""

import re
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from backbones.encoders.downloads import downloaded
from backbones.encoders.encoder import LastMap, Normalisation, Stated
from backbones.encoders.torchvision_networks import load_trunk, stage_groups, trunk
from backbones.networks.checkpoint_files import read_checkpoint
from core.errors import ConfigError


@dataclass(frozen=True)
class XrvEncoder:
    """A network of TorchXRayVision.

    Its own features are those that go into its classifier: `features2` of its DenseNet, `features`
    of its ResNet, without the scaling and the warnings that those come with.

    Attributes:
        given: `xrv:NAME`, as `xrv:densenet121-res224-all` and `xrv:resnet50-res512-all`.
    """

    given: str

    @property
    def text(self) -> str:
        """The string."""
        return self.given

    def stated(self) -> Stated:
        """As `Encoder.stated`."""
        name, _ = _named(self.given)
        found = re.search(r"-res(\d+)-", name)
        return Stated(
            size=int(found[1]) if found else 224,
            # The package's `normalize`: (2 x - 1) 1024 of levels x in [0, 1].
            normalisation=Normalisation((0.5,), (0.5 / 1024,)),
            resample="gaussian",
            source=f"TorchXRayVision's releases, {name}",
            licence="Apache-2.0",  # of the repository whose releases they are
        )

    def blueprint(self) -> str:
        """The string itself."""
        return self.given

    def build(self, *, pretrained: bool) -> nn.Module:
        """As `Encoder.build`; nothing is downloaded without `pretrained`."""
        name, address = _named(self.given)
        network = _dense() if name.startswith("densenet") else _residual()
        if pretrained:
            folder = Path(_package().utils.get_cache_dir())
            path = downloaded(address, folder=folder, what=f"TorchXRayVision's weights of {name}")
            load_trunk(network, read_checkpoint(path).tensors, path=path)
        return network

    def resize(self, network: nn.Module, size: int) -> None:
        """As `Encoder.resize`: they take any size."""

    def own(self, network: nn.Module, images: Tensor) -> Tensor:
        """As `Encoder.own`."""
        return trunk(network, images).mean(dim=(2, 3))

    def last_map(self, network: nn.Module, images: Tensor) -> LastMap:
        """As `Encoder.last_map`."""
        return LastMap(places=trunk(network, images).flatten(2))

    def layer_groups(self, network: nn.Module, *, coarse: bool) -> list[list[str]]:
        """As `Encoder.layer_groups`."""
        return stage_groups(network, coarse=coarse)

    def not_decayed(self, network: nn.Module) -> list[str]:
        """As `Encoder.not_decayed`."""
        return []


def _dense() -> nn.Module:
    network: nn.Module = _package().models.DenseNet(weights=None)
    network.classifier = nn.Identity()
    return network


def _residual() -> nn.Module:
    """The package's own cannot be made without a download; inside, it is torchvision's."""
    from torchvision.models import resnet50

    network: Any = resnet50(weights=None)
    network.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    network.fc = nn.Identity()
    built: nn.Module = network
    return built


@lru_cache(maxsize=1)
def _package() -> ModuleType:
    try:
        with warnings.catch_warnings():  # it mutes all warnings of whoever imports it
            import torchxrayvision
    except ImportError as error:
        raise ConfigError(
            "backbone: xrv needs the package torchxrayvision, which is not installed or lacks"
            f" {error.name or 'a part'}; run `pip install 'radfuse[xrv]'`"
        ) from None
    package: ModuleType = torchxrayvision
    return package


def _named(text: str) -> tuple[str, str]:
    """The network's name and the address of its weights."""
    name = text.partition(":")[2]
    # Beside the full names there are short ones of the same weights.
    known = {
        key: str(model["weights_url"])
        for key, model in _package().models.model_urls.items()
        if key.startswith(("densenet121-", "resnet50-"))
    }
    if name not in known:
        raise ConfigError(
            f"backbone: TorchXRayVision has no network {name!r}; expected one of {', '.join(known)}"
        )
    return name, known[name]
