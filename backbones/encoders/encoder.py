"""What every encoder offers, whatever library it is of."""

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol

from torch import Tensor, nn

from core.config import Range, check_ranges, fingerprint
from core.errors import ConfigError
from corpus.images.decode import Resample

ChannelMean = Annotated[float, Range(least=-1_000, most=1_000)]
ChannelDeviation = Annotated[float, Range(least=1e-6, most=1_000)]
"""Of images in [0, 1]; those of 256 grey levels are up to 255."""


@dataclass(frozen=True)
class Normalisation:
    """What a network expects of its images in [0, 1], RGB or grey.

    A range of values is a mean and a deviation as well: -1024 to 1024 is 0.5 and 0.5 / 1024.

    Attributes:
        mean: that is subtracted, by channel: three, or one for a network of grey images.
        std: that is then divided by.

    Raises:
        ConfigError: they are not as many, neither one nor three, or out of their range.
    """

    mean: tuple[ChannelMean, ...]
    std: tuple[ChannelDeviation, ...]

    def __post_init__(self) -> None:
        check_ranges(self)
        if len(self.mean) != len(self.std) or len(self.mean) not in (1, 3):
            raise ConfigError(
                "mean, std: expected one number each for grey images or three for colour, found"
                f" {len(self.mean)} and {len(self.std)}"
            )

    @property
    def n_channels(self) -> int:
        """1 or 3."""
        return len(self.mean)


@dataclass(frozen=True, kw_only=True)
class Stated:
    """What a model says of itself, without being built.

    Attributes:
        size: of its images, in pixels.
        normalisation: of its images.
        resample: how they are scaled to the size.
        source: of the weights under its name, for a reader.
        licence: of those weights; "" where it is not stated.
        files: of those weights, where they lie on this machine.
    """

    size: int
    normalisation: Normalisation
    resample: Resample
    source: str
    licence: str = ""
    files: tuple[Path, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LastMap:
    """What a network's last layer says of the places of its images.

    Attributes:
        places: (B, D, P), P places of D numbers.
        token: (B, D) class token; None where there is none.
    """

    places: Tensor
    token: Tensor | None = None


class Encoder(Protocol):
    """A kind of network of some library: built from a string, and asked in that library's way.

    It holds no weights. Its methods are given the network that it built.
    """

    @property
    def text(self) -> str:
        """The string that it is built from."""
        ...

    def stated(self) -> Stated:
        """What the model says of itself.

        Raises:
            ConfigError: there is no such model, its package is missing, or only a network would
                know it and there is none.
        """
        ...

    def blueprint(self) -> str:
        """A string that builds the same network without weights on any machine, without files."""
        ...

    def build(self, *, pretrained: bool) -> nn.Module:
        """The network without a classifier, for images of its own size.

        Args:
            pretrained: with the weights under its name; else random ones.

        Raises:
            ConfigError: as `stated`, or there are no such weights.
        """
        ...

    def resize(self, network: nn.Module, size: int) -> None:
        """Have the network take images of this size, in pixels.

        Raises:
            ConfigError: it cannot.
        """
        ...

    def own(self, network: nn.Module, images: Tensor) -> Tensor:
        """(B, D) features as the model itself pools them, of normalised images (B, C, H, W)."""
        ...

    def last_map(self, network: nn.Module, images: Tensor) -> LastMap:
        """Its last layer's numbers of each place, normalised as before the model's own pooling."""
        ...

    def layer_groups(self, network: nn.Module, *, coarse: bool) -> list[list[str]]:
        """Names of parameters by groups of layers, from the stem to the head.

        Args:
            network: that it built.
            coarse: groups are stages; else blocks.

        Returns:
            All parameters, each once. The last group is what lies behind the last block, and may be
            empty.

        Raises:
            ConfigError: they are not known for this network.
        """
        ...

    def not_decayed(self, network: nn.Module) -> list[str]:
        """Patterns of parameters that the network itself wants left as they are."""
        ...


def head_distances(encoder: Encoder, network: nn.Module, *, coarse: bool) -> dict[str, int]:
    """How many groups of layers each parameter lies from the head.

    0 for what lies behind the last block, 1 for the last group before it.

    Args:
        encoder: of the network.
        network: without its classifier.
        coarse: groups are stages; else blocks.

    Returns:
        The distance of each name of `network.named_parameters()`.

    Raises:
        ConfigError: as `Encoder.layer_groups`.
    """
    groups = encoder.layer_groups(network, coarse=coarse)
    return {name: i for i, names in enumerate(reversed(groups)) for name in names}


def unknown_layers(network: nn.Module) -> ConfigError:
    """The error of a network whose groups of layers nobody told."""
    return ConfigError(
        f"backbone: the stages of a {type(network).__name__} are not known; use the regime full"
        " with layer_decay 1, or another network"
    )


def label_of(text: str) -> str:
    """An encoder's string as a part of names, distinct from that of any other encoder.

    A name of timm stands as it is; others are short, with four digits of the whole string.

    Example:
        >>> label_of("resnet50"), label_of("torchvision:resnet50")
        ('resnet50', 'resnet50-e145')
    """
    short = short_name(text)
    return f"{short}-{fingerprint(text)[:4]}" if ":" in text else short


def short_name(text: str) -> str:
    """An encoder's string as a part of a folder's name, and of a file's in a bundle.

    So it is of plain letters, and does not begin with a dot.

    Example:
        >>> short_name("tf_efficientnet_lite0"), short_name("transformers:./models/rad-dino/")
        ('tf_efficientnet_lite0', 'rad-dino')
        >>> short_name("open_clip:ViT-B-32/openai"), short_name("xrv:densenet121-res224-all")
        ('ViT-B-32-openai', 'densenet121-res224-all')
    """
    world, colon, name = text.partition(":")
    plain = name if colon else world
    if "{" in plain:
        return world
    parts = [part for part in re.split(r"[/\\]", plain) if part not in ("", ".", "..")]
    # An open_clip string has its pretrained tag after the slash; elsewhere that is the owner.
    keep = parts if world == "open_clip" and ":" not in plain else parts[-1:]
    letters = unicodedata.normalize("NFKD", "-".join(keep)).encode("ascii", "ignore").decode()
    return re.sub(r"[^\w.-]+", "-", letters).strip("-.")[:60] or world


def brief(text: str) -> str:
    """The beginning of a string, which may be a whole blueprint."""
    return text if len(text) <= 100 else f"{text[:100]}..."
