"""transformers' networks: the vision tower of a model of the hub or of a folder."""

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from backbones.encoders.blocks import block_groups
from backbones.encoders.encoder import LastMap, Normalisation, Stated, brief
from backbones.encoders.transformers_files import (
    FAMILIES,
    UNREADABLE,
    WEIGHTS,
    WORLD,
    VisionModel,
    built_of,
    fetch_weights,
    model_folder,
    transformers_package,
    vision_model,
    weights_in,
)
from backbones.networks.licences import licence_beside
from core.errors import ConfigError, first_line

_TOKENS = ("cls_token", "class_embedding", "distillation_token", "register_tokens")
"""Last names of parameters that are tokens before those of the places, the class token first."""


@dataclass(frozen=True)
class TransformersEncoder:
    """The network of images of a model of transformers; code of a model's own is never run.

    Its own features are what the model pools itself; of the types whose pooler is a layer that most
    weights lack (ViT, DeiT), the class token before it.

    Attributes:
        given: after `transformers:` the name `ORG/NAME` on the hub, a folder as `save_pretrained`
            writes it, or the JSON of a blueprint.
    """

    given: str

    @property
    def text(self) -> str:
        """The string, a folder by its whole path."""
        folder = model_folder(self.given)
        return self.given if folder is None else f"{WORLD}{folder.absolute()}"

    def stated(self) -> Stated:
        """As `Encoder.stated`, by the settings of the model's own image processor."""
        return _stated(self.text)

    def blueprint(self) -> str:
        """The settings of the network and of its images as JSON."""
        found = vision_model(self.text)
        parts = {"config": built_of(found.config.to_dict()), "images": found.images}
        return WORLD + json.dumps(parts, sort_keys=True)

    def build(self, *, pretrained: bool) -> nn.Module:
        """As `Encoder.build`."""
        found = vision_model(self.text)
        transformers = transformers_package()
        kind = transformers.MODEL_MAPPING[type(found.config)]
        arguments = dict(found.family.arguments)
        if pretrained:
            return self._filled(kind, found, arguments)
        try:
            network: nn.Module = kind._from_config(found.config, dtype=torch.float32, **arguments)
        except (TypeError, ValueError, RuntimeError, LookupError, ImportError) as error:
            raise ConfigError(
                f"backbone: {brief(self.text)}: transformers cannot build it ({first_line(error)})"
            ) from None
        return network

    def _filled(self, kind: Any, found: VisionModel, arguments: dict[str, Any]) -> nn.Module:
        """The network with all of its weights.

        Raises:
            ConfigError: they cannot be had or read, or some are missing.
        """
        if found.repo and found.folder is not None:
            fetch_weights(found.repo, found.folder)
        if found.folder is None or not weights_in(found.folder):
            raise ConfigError(
                f"weights: {brief(self.text)} has none ({WEIGHTS[0]} or {WEIGHTS[2]}); give"
                " --weights FILE, or --weights none for random ones"
            )
        try:
            network, report = kind.from_pretrained(
                str(found.folder),
                config=found.config,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                **arguments,
            )
        except UNREADABLE as error:
            raise ConfigError(
                f"weights: {brief(self.text)}: cannot be read ({first_line(error)})"
            ) from None
        except Exception as error:
            if type(error).__name__ not in ("UnpicklingError", "SafetensorError"):
                raise
            raise ConfigError(f"weights: {brief(self.text)}: not weights alone") from None
        missing = sorted(report["missing_keys"])
        if missing:
            raise ConfigError(
                f"weights: {brief(self.text)} lacks {len(missing)} tensors of its network, first"
                f" {missing[0]!r}, which would be random"
            )
        built: nn.Module = network
        return built

    def resize(self, network: nn.Module, size: int) -> None:
        """As `Encoder.resize`: embeddings of positions are resampled with every image."""
        config: Any = network.config
        own, patch = getattr(config, "image_size", None), getattr(config, "patch_size", None)
        if size in (own, vision_model(self.text).images["size"]) or not isinstance(patch, int):
            return
        if size % patch:
            raise ConfigError(
                f"backbone: {brief(self.text)} takes images of a multiple of {patch} pixels, not"
                f" {size}; give other image_sizes"
            )

    def own(self, network: nn.Module, images: Tensor) -> Tensor:
        """As `Encoder.own`."""
        own = FAMILIES[_type_of(network)].own
        if own == "pooler":
            pooled: Tensor = _answer(network, images).pooler_output
            return pooled.flatten(1)
        found = self.last_map(network, images)
        if own == "token":
            assert found.token is not None
            return found.token
        return found.places.mean(dim=2)

    def last_map(self, network: nn.Module, images: Tensor) -> LastMap:
        """As `Encoder.last_map`."""
        family = FAMILIES[_type_of(network)]
        found: Tensor = _answer(network, images).last_hidden_state
        if family.norm:
            found = getattr(network, family.norm)(found)
        if found.ndim == 4:
            return LastMap(places=found.flatten(2))
        n_tokens = _n_tokens(network)
        return LastMap(
            places=found[:, n_tokens + family.n_other :].transpose(1, 2),
            token=found[:, 0] if n_tokens else None,
        )

    def layer_groups(self, network: nn.Module, *, coarse: bool) -> list[list[str]]:
        """As `Encoder.layer_groups`, by the list of layers that holds most of the network."""
        return block_groups(network, coarse=coarse)

    def not_decayed(self, network: nn.Module) -> list[str]:
        """As `Encoder.not_decayed`: tokens and embeddings of positions."""
        spared = (*_TOKENS, "mask_token", "position_embeddings", "position_embedding")
        names = [name for name, _ in network.named_parameters()]
        return [name for name in names if set(name.split(".")[-2:]) & set(spared)]


def _answer(network: nn.Module, images: Tensor) -> Any:
    """What a network of transformers says of images of any size."""
    arguments = {}
    interpolates = "interpolate_pos_encoding" in _arguments(type(network).forward)
    if interpolates and images.shape[-1] != getattr(network.config, "image_size", None):
        arguments["interpolate_pos_encoding"] = True
    return network(images, **arguments)


@lru_cache(maxsize=64)
def _arguments(forward: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(forward).parameters)


def _type_of(network: nn.Module) -> str:
    return str(network.config.model_type)  # type: ignore[union-attr]  # transformers'


def _n_tokens(network: nn.Module) -> int:
    """Tokens before those of the places: class, distillation, registers."""
    named = [(n.rpartition(".")[2], p) for n, p in network.named_parameters()]
    tokens = [p.shape for name, p in named if name in _TOKENS]
    return sum(shape[1] if len(shape) == 3 else 1 for shape in tokens)


@lru_cache(maxsize=64)
def _stated(text: str) -> Stated:
    found = vision_model(text)
    images = found.images
    local = found.folder is not None and not found.repo
    return Stated(
        size=int(images["size"]),
        normalisation=Normalisation(tuple(images["mean"]), tuple(images["std"])),
        resample=images["resample"],
        source=found.source,
        licence=licence_beside(found.folder) if found.folder is not None else "",
        files=weights_in(found.folder) if local and found.folder is not None else (),
    )
