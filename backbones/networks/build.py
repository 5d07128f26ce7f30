"""Networks from a config, whatever library they are of."""

import copy
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from backbones.encoders.encoder import Encoder, Normalisation, head_distances
from backbones.encoders.pooling import GeneralisedMean, Given, pooled
from backbones.encoders.worlds import encoder_of
from backbones.networks.checkpoint_files import read_checkpoint
from backbones.networks.matching import fitted_tensors
from backbones.networks.weights import (
    carried_state,
    carrier_of,
    is_detector_run,
    network_state,
    normalisation_of,
    pooling_state,
    weights_in_words,
)
from backbones.settings.config import BackboneConfig
from core.errors import ConfigError
from core.progress import say


class Backbone(nn.Module):
    """A network from uint8 images to features, pooled or as the last layer has them.

    Scaling to [0, 1], grey levels of a network that takes one channel, and the network's own mean
    and deviation are applied within, so that nobody can forget or double them.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        encoder: Encoder,
        normalisation: Normalisation,
        pooling: Given = "own",
        size: int,
    ) -> None:
        """Wrap a network.

        Args:
            network: built by the encoder.
            encoder: how it is asked.
            normalisation: of its images.
            pooling: what is made of its last layer.
            size: of its images, in pixels; without pooling it takes no other.

        Raises:
            ConfigError: the network cannot be asked for images of this size, or so pooled.
        """
        super().__init__()
        self.network = network
        self.encoder = encoder
        self.pooling: Given = pooling
        self.generalised = GeneralisedMean() if pooling == "gem" else None
        self.mean: Tensor
        self.std: Tensor
        n_channels = normalisation.n_channels
        for name, values in (("mean", normalisation.mean), ("std", normalisation.std)):
            scaled = 255 * torch.tensor(values).view(1, n_channels, 1, 1)
            self.register_buffer(name, scaled, persistent=False)
        self.n_features = _width(self, size)

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, D), or places (B, D, P), of uint8 images (B, 3, H, W)."""
        scaled = self.scaled(images)
        if self.pooling == "own":
            return self.encoder.own(self.network, scaled)
        found = self.encoder.last_map(self.network, scaled)
        return pooled(found, self.pooling, mean=self.generalised)

    def scaled(self, images: Tensor) -> Tensor:
        """What the network itself is given, (B, C, H, W), of uint8 images (B, 3, H, W)."""
        levels = images.float()
        if self.mean.shape[1] == 1:
            levels = levels.mean(dim=1, keepdim=True)
        return (levels - self.mean) / self.std

    def as_pooled(self, size: int) -> "Backbone":
        """This network with pooled features as output, whether or not it was trained on those.

        Args:
            size: of its images, in pixels.
        """
        if self.pooling not in ("none", "places"):
            return self
        other = copy.copy(self)
        other.pooling = "own"
        other.n_features = _width(other, size)
        return other

    def train(self, mode: bool = True) -> Self:
        """Training mode for what learns; frozen layers keep evaluating.

        Their normalisation would else go on to adapt its mean and deviation, which later layers and
        the pretrained weights rely on.
        """
        super().train(mode)
        for layer in self.network.modules():
            frozen = [not parameter.requires_grad for parameter in layer.parameters()]
            if frozen and all(frozen):
                layer.eval()
        return self


def _width(backbone: Backbone, size: int) -> int:
    """Numbers of an image's features."""
    was, device = backbone.training, backbone.mean.device
    example = torch.zeros(1, 3, size, size, dtype=torch.uint8, device=device)
    backbone.eval()
    try:
        with torch.no_grad():
            n_features = backbone(example).shape[1]
    except (RuntimeError, AssertionError, ValueError, LookupError, TypeError) as error:
        if device.type == "meta":  # whoever lays it out without memory tries again with some
            raise
        said = str(error).strip().splitlines()
        reason = f" ({said[0]})" if said else ""  # many an assertion says nothing
        if "channels" in reason or "channel dimension" in reason:
            raise ConfigError(
                f"mean, std: {backbone.encoder.text} takes images of other channels than their"
                f" {backbone.mean.shape[1]}{reason}; give one number each for grey images, three"
                " for colour"
            ) from None
        raise ConfigError(
            f"backbone: {backbone.encoder.text} does not take images of {size} pixels{reason}; give"
            " other image_sizes, or `--set image_sizes=` for its own"
        ) from None
    finally:
        backbone.train(was)
    return int(n_features)


class Detector(nn.Module):
    """Backbone and head: uint8 images to logits."""

    def __init__(self, backbone: Backbone, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, L) of uint8 images (B, 3, H, W)."""
        logits: Tensor = self.head(self.backbone(images))
        return logits

    def head_distances(self) -> dict[str, int]:
        """How many blocks of layers each parameter of the network lies from the head.

        Raises:
            ConfigError: the network's blocks are not known.
        """
        found = head_distances(self.backbone.encoder, self.backbone.network, coarse=False)
        return {_NETWORK + name: distance for name, distance in found.items()}

    def not_decayed(self) -> list[str]:
        """Patterns of parameters that the network itself wants left as they are."""
        patterns = self.backbone.encoder.not_decayed(self.backbone.network)
        return [*(_NETWORK + pattern for pattern in patterns), "head.queries"]


_BACKBONE = "backbone."
_NETWORK = f"{_BACKBONE}network."


def backbone_state(detector: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a detector's backbone, of all of its own."""
    return {
        name.removeprefix(_BACKBONE): tensor
        for name, tensor in detector.items()
        if name.startswith(_BACKBONE)
    }


def unlock_last(detector: Detector, n_stages: int) -> None:
    """Let the last stages of the network learn, and what comes after them; freeze the others.

    A stage is what the network's library counts as one: the blocks of one resolution, or of one
    width, in a convolutional network and in a Swin transformer, a block of a plain transformer, a
    layer of a VGG. The stem is the first. Frozen layers stay in evaluation mode, see
    `Backbone.train`.

    Args:
        detector: is changed; its head always learns.
        n_stages: counted from the end; more than there are unlock everything.

    Raises:
        ConfigError: the network's stages are not known.
    """
    network = detector.backbone.network
    distances = head_distances(detector.backbone.encoder, network, coarse=True)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(distances[name] <= n_stages)
    detector.train(detector.training)


def build_backbone(config: BackboneConfig, *, size: int | None = None, start: int = 0) -> Backbone:
    """The config's network with its weights, without a classifier.

    Args:
        config: network and weights.
        size: of the images, for transformers, which are built for one; None for the config's first.
        start: which network of the detector that the weights are of, where they are a detector's.

    Raises:
        ConfigError: there is no such network, its weights cannot be had, or it takes no images of
            that size.
    """
    encoder = encoder_of(config.backbone)
    size = size or config.image_sizes[0]
    network = encoder.build(pretrained=weights_in_words(config) == "hub")
    if is_detector_run(config.weights):  # a transformer that was resized before it learnt
        encoder.resize(network, size)
        _load_weights(network, config, start=start)
    else:
        _load_weights(network, config)
        encoder.resize(network, size)
    backbone = Backbone(
        network,
        encoder=encoder,
        normalisation=normalisation_of(config),
        pooling=config.given,
        size=size,
    )
    if backbone.generalised is not None and is_detector_run(config.weights):
        own = backbone.generalised.state_dict()  # kept where that one pooled otherwise
        backbone.generalised.load_state_dict(own | pooling_state(Path(config.weights), start))
    return backbone


def _load_weights(network: nn.Module, config: BackboneConfig, *, start: int = 0) -> None:
    weights = weights_in_words(config)
    if weights in ("none", "hub"):
        return
    if weights == "package":
        state = carried_state(carrier_of(config), network.state_dict())
    elif is_detector_run(weights):
        state = network_state(Path(weights), start)
    else:
        file = read_checkpoint(Path(weights))
        taken = fitted_tensors(file, network, name=config.backbone, partial=config.partial_weights)
        _say_once(taken.line)
        network.load_state_dict(taken.tensors, strict=False)
        return
    own = network.state_dict()
    unfit = [name for name in own if name in state and state[name].shape != own[name].shape]
    if not unfit:  # the file may have a classifier, the network has none
        unfit = network.load_state_dict(state, strict=False).missing_keys
    if unfit:
        raise ConfigError(
            f"weights: {config.weights} does not fit {config.backbone}: {len(unfit)} of its"
            f" {len(own)} tensors are missing or of another shape, first {unfit[0]!r}"
        )


@cache
def _say_once(line: str) -> None:
    """Each network of a detector starts from the same file."""
    say(line)
