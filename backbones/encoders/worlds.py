"""Which library an encoder's string names."""

from collections.abc import Callable
from functools import lru_cache

from backbones.encoders.encoder import Encoder
from backbones.encoders.open_clip_networks import OpenClipEncoder
from backbones.encoders.timm_networks import TimmEncoder
from backbones.encoders.torchvision_networks import TorchvisionEncoder
from backbones.encoders.transformers_networks import TransformersEncoder
from backbones.encoders.xrv_networks import XrvEncoder
from core.errors import ConfigError

WORLDS: dict[str, Callable[[str], Encoder]] = {
    "timm": TimmEncoder,
    "hf-hub": TimmEncoder,
    "local-dir": TimmEncoder,
    "open_clip": OpenClipEncoder,
    "transformers": TransformersEncoder,
    "torchvision": TorchvisionEncoder,
    "xrv": XrvEncoder,
}
"""Encoders by what their string begins with, before the first colon; others are names of timm."""


@lru_cache(maxsize=64)
def encoder_of(text: str) -> Encoder:
    """The encoder of a string.

    Args:
        text: `WORLD:NAME` with a world of `WORLDS`, or a name of timm.

    Raises:
        ConfigError: there is no such world, or no name behind it.

    Example:
        >>> encoder_of("resnet50").text, encoder_of("timm:resnet50").text
        ('resnet50', 'resnet50')
    """
    world, colon, name = text.partition(":")
    if not colon:
        return TimmEncoder(text)
    if world not in WORLDS:
        raise ConfigError(
            f"backbone: {text!r}: {world!r} is no library of encoders; expected a name of timm or"
            f" one of {', '.join(f'{known}:NAME' for known in WORLDS)}"
        )
    if not name:
        raise ConfigError(f"backbone: {text!r}: expected a name behind the colon")
    return WORLDS[world](text)
