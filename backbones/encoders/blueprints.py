"""Blueprints from anywhere: networks are named, and nothing outside the bundle is asked or run.

A blueprint is a plain name that a library knows by itself, or a description in JSON. What it
describes is laid out without memory and held against the tensors in the file before it is built, so
that no text makes more than lies in the file.
"""

import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from backbones.encoders.worlds import encoder_of
from core.errors import BundleError, ConfigError, first_line
from core.storage.documents import parse_json

_BY_NAME = ("", "timm", "torchvision", "xrv", "open_clip")
"""Libraries whose plain names stand for networks within them; "" for a name without a library."""

_LONGEST = 50_000  # characters
_MOST = 200_000  # that all numbers of a description may sum to: widths, layers, sizes
_DEEPEST = 12
_NETWORK = "network."


def check_blueprint(text: str) -> None:
    """Refuse a string that could reach out of the bundle, or hide something large.

    Args:
        text: what is to be built.

    Raises:
        BundleError: it names a folder, a hub or an address, or is no description.
    """
    world, colon, name = text.partition(":")
    if not colon:
        world, name = "", text
    if "{" not in name:
        if world not in _BY_NAME or not name or {*name} & {*"/\\:"} or len(text) > 200:
            raise BundleError(
                f"backbone {_short(text)}: not a network's name alone; a bundle reaches for no"
                " folder and no hub"
            )
        return
    try:
        said = parse_json(name) if len(name) <= _LONGEST else None
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise BundleError(f"backbone {_short(text)}: no description of a network")
    total = _checked(said, depth=0)
    if not total <= _MOST:  # NaN is not
        raise BundleError(f"backbone {_short(text)}: of larger numbers than networks have")


def _checked(value: Any, *, depth: int) -> float:
    """The sum of all numbers in a description, whose texts are words."""
    if depth > _DEEPEST:
        raise BundleError("backbone: a description that nests too deeply")
    if isinstance(value, dict):
        return math.fsum(_checked(own, depth=depth + 1) for pair in value.items() for own in pair)
    if isinstance(value, list):
        return math.fsum(_checked(own, depth=depth + 1) for own in value)
    if isinstance(value, str) and {*value} & {*"/\\:"}:
        raise BundleError(
            f"backbone: {_short(value)} in a description of a network; a bundle reaches for no"
            " folder and no hub"
        )
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return abs(value) if abs(value) <= _MOST else math.inf
    return 0.0


def check_layout(text: str, tensors: Mapping[str, Tensor], *, size: int) -> None:
    """Refuse a description whose network has other tensors, before any memory is taken for it.

    A plain name stands for a network that its library knows, and is not looked at here.

    Args:
        text: a checked blueprint.
        tensors: of the network, their names below `network.`.
        size: of its images, in pixels.

    Raises:
        BundleError: it cannot be laid out, or has other tensors.
        ConfigError: its library refuses it.
    """
    if "{" not in text:
        return
    encoder = encoder_of(text)
    try:
        with torch.device("meta"), _bounded(40 * len(tensors) + 2_000):
            network = encoder.build(pretrained=False)
            encoder.resize(network, size)
    except ConfigError:
        raise
    except Exception as error:  # noqa: BLE001 - any library's, of tampered text
        reason = first_line(error)[:200]
        raise BundleError(
            f"backbone {_short(text)}: cannot be laid out without memory ({reason})"
        ) from None
    expected = {_NETWORK + name: own.shape for name, own in network.state_dict().items()}
    found = {name: own.shape for name, own in tensors.items() if name.startswith(_NETWORK)}
    if expected != found:
        odd = sorted(n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n))
        raise BundleError(f"backbone {_short(text)}: {odd[0]!r} is not among its tensors as it is")


@contextmanager
def _bounded(most: int) -> Iterator[None]:
    """Stop a network that this thread builds once it has more layers and weights than this."""
    own, n_there = threading.get_ident(), 0

    def count(module: nn.Module, name: str, part: Any) -> None:
        nonlocal n_there
        if threading.get_ident() == own:
            n_there += 1
            if n_there > most:
                raise RuntimeError("more layers than its tensors need")

    hooks = [
        register_module_parameter_registration_hook(count),
        register_module_module_registration_hook(count),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _short(text: str) -> str:
    return ascii(text[:80] + "..." if len(text) > 80 else text)
