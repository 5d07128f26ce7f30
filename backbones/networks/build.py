"""Networks from a config: the only caller of timm.create_model."""

import copy
import difflib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import timm
import torch
from timm.models import VGG
from torch import Tensor, nn

from backbones.networks.carriers import Normalisation
from backbones.networks.layers import head_distances
from backbones.networks.weights import (
    carried_state,
    carrier_of,
    is_detector_run,
    network_state,
    normalisation_of,
    read_state,
)
from backbones.settings.config import BackboneConfig
from core.errors import ConfigError


class Backbone(nn.Module):
    """A convolutional network from uint8 images to features, pooled or as the last layer has them.

    Scaling to [0, 1] and the network's own mean and deviation are applied within, so that nobody
    can forget or double them.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        n_flat: int = 0,
    ) -> None:
        """Wrap a network.

        Args:
            network: of timm, without a classifier.
            mean: of its images' channels, in [0, 1].
            std: their deviation.
            n_flat: numbers of its last feature map, which are then given as they are; 0 to pool.
        """
        super().__init__()
        self.network = network
        self.is_flat = n_flat > 0
        pooled: int = network.num_features  # type: ignore[assignment]  # an int in timm
        self.n_features = n_flat or int(pooled)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, D) of uint8 images (B, 3, H, W)."""
        scaled = (images.float() - self.mean) / self.std
        features: Tensor = (
            self.network.forward_features(scaled).flatten(1)  # type: ignore[operator]  # timm's
            if self.is_flat
            else self.network(scaled)
        )
        return features

    def pooling(self) -> "Backbone":
        """This network with pooled features as output, whether or not it was trained on those."""
        if not self.is_flat:
            return self
        pooled = copy.copy(self)
        pooled.is_flat, pooled.n_features = False, int(self.network.num_features)  # type: ignore[arg-type]
        return pooled

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
            ConfigError: timm does not know the network's blocks.
        """
        found = head_distances(self.backbone.network, coarse=False)
        return {_NETWORK + name: distance for name, distance in found.items()}

    def not_decayed(self) -> list[str]:
        """Patterns of parameters that the network itself wants left as they are."""
        patterns: set[str] = getattr(self.backbone.network, "no_weight_decay", set)()
        return [_NETWORK + pattern for pattern in patterns]


_NETWORK = "backbone.network."


def unlock_last(detector: Detector, n_stages: int) -> None:
    """Let the last stages of the network learn, and what comes after them; freeze the others.

    A stage is what timm counts as one: the blocks of one resolution, or of one width, in a
    convolutional network and in a Swin transformer, a block of a plain transformer, a layer of a
    VGG. The stem is the first. Frozen layers stay in evaluation mode, see `Backbone.train`.

    Args:
        detector: is changed; its head always learns.
        n_stages: counted from the end; more than there are unlock everything.

    Raises:
        ConfigError: timm does not know the network's stages.
    """
    network = detector.backbone.network
    distances = head_distances(network, coarse=True)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(distances[name] <= n_stages)
    detector.train(detector.training)


def check_network(config: BackboneConfig) -> None:
    """Refuse a network that timm does not have.

    Raises:
        ConfigError: it has none of that name (the nearest ones are named), or not with that tag.
    """
    if not timm.is_model(config.backbone):
        near = difflib.get_close_matches(config.backbone, timm.list_models())
        hint = f"; like it: {', '.join(near)}" if near else ""
        raise ConfigError(f"backbone: timm has no network {config.backbone!r}{hint}")
    try:
        timm.models.get_pretrained_cfg(config.backbone)
    except RuntimeError as error:  # a tag that it does not know
        raise ConfigError(f"backbone: {error}") from None


def build_backbone(config: BackboneConfig, *, size: int | None = None, start: int = 0) -> Backbone:
    """The config's network with its weights, without a classifier.

    Args:
        config: network and weights.
        size: of the images, for transformers, which are built for one; None for the config's first.
        start: which network of the detector that the weights are of, where they are a detector's.

    Raises:
        ConfigError: timm has no such network, or its weights cannot be had.
    """
    check_network(config)
    size = size or config.image_sizes[0]
    try:
        network = timm.create_model(
            config.backbone, pretrained=config.weights == "hub", num_classes=0
        )
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"weights: timm's hub cannot be reached ({reason}); give --weights FILE, or --weights"
            " package where one carries them"
        ) from None
    except RuntimeError as error:  # the hub has none for this network
        reason = str(error).partition(" Use `pretrained=False`")[0]
        raise ConfigError(
            f"weights: {reason} Give --weights FILE, or --weights none for random ones"
        ) from None
    if isinstance(network, VGG):  # its features are what its convolutions give, as of any other
        network.pre_logits = nn.Identity()
    if is_detector_run(config.weights):  # a transformer that was resized before it learnt
        _resize(network, size)
        _load_weights(network, config, start=start)
    else:
        _load_weights(network, config)
        _resize(network, size)
    data = timm.data.resolve_model_data_config(network)
    own = normalisation_of(config) or Normalisation(mean=data["mean"], std=data["std"])
    n_flat = _n_flat(network, size) if config.pooling == "none" else 0
    return Backbone(network, mean=own.mean, std=own.std, n_flat=n_flat)


def _n_flat(network: nn.Module, size: int) -> int:
    """Numbers in the last feature map of an image of this size."""
    shapes_only = copy.deepcopy(network).to("meta").eval()
    features: Tensor = shapes_only.forward_features(  # type: ignore[operator]  # timm's
        torch.empty(1, 3, size, size, device="meta")
    )
    return features.numel()


def _resize(network: nn.Module, size: int) -> None:
    """Have a transformer take images of this size; its embeddings of positions are resampled."""
    resize: Callable[..., None] | None = getattr(network, "set_input_size", None)
    if resize is not None:
        resize(img_size=(size, size))


def _load_weights(network: nn.Module, config: BackboneConfig, *, start: int = 0) -> None:
    if config.weights in ("none", "hub"):
        return
    if config.weights == "package":
        state = carried_state(carrier_of(config), network.state_dict())
    elif is_detector_run(config.weights):
        state = network_state(Path(config.weights), start)
    else:
        state = read_state(Path(config.weights))
    own = network.state_dict()
    unfit = [name for name in own if name in state and state[name].shape != own[name].shape]
    if not unfit:  # the file may have a classifier, the network has none
        unfit = network.load_state_dict(state, strict=False).missing_keys
    if unfit:
        raise ConfigError(
            f"weights: {config.weights} does not fit {config.backbone}: {len(unfit)} of its"
            f" {len(own)} tensors are missing or of another shape, first {unfit[0]!r}"
        )
