"""Pretrained weights from packages, from files, or none: never downloaded here, never unpickled."""

import struct
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from backbones.networks.carriers import CARRIERS, Carrier, Normalisation, State, file_sha256
from backbones.onnx_tensors import read_onnx_tensors
from backbones.settings.config import BackboneConfig
from backbones.start import is_detector_run, run_normalisation, weights_file
from core.errors import ConfigError

NAMED_WEIGHTS = ("package", "hub", "none")
"""Settings of `weights` that are not a file."""


@dataclass(frozen=True)
class Origin:
    """Which weights a setting stands for.

    Attributes:
        text: for a reader: a package with its version, a file, a run or weights of timm's hub, with
            the SHA-256 where there is a file to know beforehand; or `random`.
        identity: what tells these weights from others; of a file what it holds, wherever it lies.
        normalisation: what they expect of images, where that is not timm's own for the network.
    """

    text: str
    identity: str
    normalisation: Normalisation | None = None

    def __str__(self) -> str:
        return self.text


def origin_of(config: BackboneConfig) -> Origin:
    """Which weights the config's network starts from.

    Raises:
        ConfigError: no package carries them, or the file is missing.
    """
    if config.weights == "none":
        return Origin("random", config.weights)
    if config.weights == "hub":
        known = timm.models.get_pretrained_cfg(config.backbone)
        text = f"timm's hub, {getattr(known, 'hf_hub_id', None) or config.backbone}"
        return Origin(text, text)
    if config.weights == "package":
        carrier = carrier_of(config)
        text = f"{carrier.requirement}, sha256 {carrier.sha256}"
        return Origin(text, text, carrier.normalisation)  # the bare file would be scaled otherwise
    path = Path(config.weights)
    if is_detector_run(config.weights):
        run, digest = path.resolve(), file_sha256(weights_file(path))
        text = f"{run.parent.name}/{run.name}, sha256 {digest}"
        return Origin(text, digest, run_normalisation(path))
    if not path.is_file():
        raise ConfigError(
            f"weights: {path}: no such weights file; expected a file, the run folder of a"
            f" detector, or one of {', '.join(NAMED_WEIGHTS)}"
        )
    digest = file_sha256(path)
    return Origin(f"{path.name}, sha256 {digest}", digest)


def carrier_of(config: BackboneConfig) -> Carrier:
    """The package that carries weights of the config's network, installed or not.

    Raises:
        ConfigError: there is none.
    """
    if config.backbone not in CARRIERS:
        raise ConfigError(
            f"weights: no package carries {config.backbone} (only {', '.join(CARRIERS)}); give"
            " --weights FILE, --weights hub where there is a network, or --weights none for random"
            " ones"
        )
    return CARRIERS[config.backbone]


def check_weights(config: BackboneConfig) -> None:
    """Refuse weights of a package that is missing or broken, before any work is done.

    Raises:
        ConfigError: the package is not there, or its file is not the pinned one.
    """
    if config.weights == "package":
        carrier_of(config).find()


def normalisation_of(config: BackboneConfig) -> Normalisation | None:
    """What the config's weights expect of images, where that is not timm's own for the network.

    A detector that starts from another goes on with that one's.
    """
    if config.weights == "package":
        return carrier_of(config).normalisation
    if is_detector_run(config.weights):
        return run_normalisation(Path(config.weights))
    return None


def carried_state(carrier: Carrier, network: State) -> State:
    """A carrier's tensors by the names of timm's network.

    Args:
        carrier: of the network.
        network: its own state.

    Raises:
        ConfigError: the package is not installed, or its file is not the pinned one.
    """
    path = carrier.find()
    if path.suffix == ".onnx":
        arrays = read_onnx_tensors(path)
        return carrier.rename({n: torch.from_numpy(a) for n, a in arrays.items()}, network)
    return carrier.rename(read_state(path), network)


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
