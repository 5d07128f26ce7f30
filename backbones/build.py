"""Networks from a config: the only caller of timm.create_model."""

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import timm
import torch
from torch import Tensor, nn

from backbones.carriers import Normalisation
from backbones.config import BackboneConfig
from backbones.fit_config import FitConfig
from backbones.start import is_detector_run, network_state
from backbones.weights import carried_state, carrier_of, normalisation_of, read_state
from core.errors import ConfigError


class Backbone(nn.Module):
    """A convolutional network from uint8 images to pooled features.

    Scaling to [0, 1] and the network's own mean and deviation are applied within, so that nobody
    can forget or double them.
    """

    def __init__(self, network: nn.Module, *, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.n_features: int = int(network.num_features)  # type: ignore[arg-type]  # an int in timm
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Pooled features (B, D) of uint8 images (B, 3, H, W)."""
        pooled: Tensor = self.network((images.float() - self.mean) / self.std)
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


class Standardise(nn.Module):
    """Features without the mean and deviation of the training images; kept in the weights."""

    mean: Tensor
    std: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("std", torch.ones(n_features))

    @classmethod
    def fitted(cls, features: Tensor) -> "Standardise":
        """The layer for these training features (N, D); a constant feature becomes 0.

        No deviation counts as less than a tenth of their mean. A filter that hardly any training
        image of a small category excites would else drown all others at the first image that does:
        at 150 PET images, 37,000 deviations from the mean.
        """
        layer = cls(features.shape[1])
        layer.mean.copy_(features.mean(dim=0))
        std = features.std(dim=0, unbiased=False)
        layer.std.copy_(std.clamp_min(max(float(std.mean()) / 10, 1e-6)))
        return layer

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) in, (B, D) out."""
        return (features - self.mean) / self.std


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


def build_backbone(config: BackboneConfig, *, size: int | None = None) -> Backbone:
    """The config's network with its weights, without a classifier.

    Args:
        config: network and weights.
        size: of the images, for transformers, which are built for one; None for the config's first.

    Raises:
        ConfigError: timm has no such network, or its weights cannot be had.
    """
    check_network(config)
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
    if is_detector_run(config.weights):  # a transformer that was resized before it learnt
        _resize(network, size or config.image_sizes[0])
        _load_weights(network, config)
    else:
        _load_weights(network, config)
        _resize(network, size or config.image_sizes[0])
    data = timm.data.resolve_model_data_config(network)
    own = normalisation_of(config) or Normalisation(mean=data["mean"], std=data["std"])
    return Backbone(network, mean=own.mean, std=own.std)


def _resize(network: nn.Module, size: int) -> None:
    """Have a transformer take images of this size; its embeddings of positions are resampled."""
    resize: Callable[..., None] | None = getattr(network, "set_input_size", None)
    if resize is not None:
        resize(img_size=(size, size))


def _load_weights(network: nn.Module, config: BackboneConfig) -> None:
    if config.weights in ("none", "hub"):
        return
    if config.weights == "package":
        state = carried_state(carrier_of(config), network.state_dict())
    elif is_detector_run(config.weights):
        state = network_state(Path(config.weights))
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


def build_head(n_inputs: int, n_concepts: int, config: FitConfig) -> nn.Sequential:
    """Fully connected layers from features (B, D) to logits (B, L)."""
    layers: list[nn.Module] = [nn.Dropout(config.input_dropout)]
    width = n_inputs
    for units in config.hidden:
        layers += [nn.Linear(width, units), nn.ReLU(), nn.Dropout(config.dropout)]
        width = units
    return nn.Sequential(*layers, nn.Linear(width, n_concepts))
