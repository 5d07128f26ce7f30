"""open_clip's networks: the image tower of a model by name, from the hub, from a folder."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn

from backbones.encoders.blocks import block_groups
from backbones.encoders.contrastive.open_clip_files import (
    LOCAL,
    WORLD,
    open_clip_folder,
    open_clip_model,
    open_clip_weights,
    side_of,
    weights_in,
)
from backbones.encoders.downloads import package
from backbones.encoders.encoder import LastMap, Normalisation, Stated, brief, unknown_layers
from backbones.encoders.timm_networks import TimmEncoder
from backbones.networks.checkpoint_files import read_checkpoint
from backbones.networks.licences import licence_beside
from core.errors import ConfigError, first_line
from corpus.images.decode import Resample

_TOWER = "visual."
"""What the names of the image tower's parameters begin with in a whole model."""

_TIMM = TimmEncoder("trunk")
"""Asked for the trunks of timm; none of its answers depend on a name."""


@dataclass(frozen=True)
class OpenClipEncoder:
    """The image tower of a model of open_clip.

    Its own features are the embedding that `encode_image` gives, not scaled to length 1.

    Attributes:
        given: after `open_clip:` a name with or without the tag of its weights, `MODEL/TAG`;
            `hf-hub:ORG/NAME`; `local-dir:PATH` or a path, a folder as open_clip saves them; or the
            JSON of a blueprint.
    """

    given: str

    @property
    def text(self) -> str:
        """The string, a folder by its whole path."""
        folder = open_clip_folder(self.given)
        return self.given if folder is None else f"{WORLD}{LOCAL}{folder.absolute()}"

    def stated(self) -> Stated:
        """As `Encoder.stated`, by the model's `preprocess_cfg`."""
        return _stated(self.text)

    def blueprint(self) -> str:
        """The tower's settings and those of its images as JSON."""
        model = open_clip_model(self.text)
        parts = {
            "embed_dim": model.embed_dim,
            "vision_cfg": model.vision,
            "quick_gelu": model.quick_gelu,
            "preprocess_cfg": model.images,
        }
        return WORLD + json.dumps(parts, sort_keys=True)

    def build(self, *, pretrained: bool) -> nn.Module:
        """As `Encoder.build`; the text tower is never built."""
        model = open_clip_model(self.text)
        path = open_clip_weights(self.text) if pretrained else None
        clip = package("open_clip.model", extra="open-clip")
        settings = {**model.vision, "timm_model_pretrained": False, "output_tokens": False}
        try:
            network: nn.Module = clip._build_vision_tower(
                model.embed_dim, settings, model.quick_gelu
            )
        except (TypeError, ValueError, RuntimeError, LookupError, AssertionError) as error:
            raise ConfigError(
                f"backbone: {self.text}: open_clip cannot build its image tower"
                f" ({first_line(error)})"
            ) from None
        if path is not None:
            _load(network, path)
        return network

    def resize(self, network: nn.Module, size: int) -> None:
        """As `Encoder.resize`; embeddings of positions are resampled, as open_clip does it."""
        if side_of(network.image_size) == size:
            return
        if hasattr(network, "trunk"):
            _TIMM.resize(network.trunk, size)  # type: ignore[arg-type]  # a module
            network.image_size = (size, size)  # type: ignore[assignment]
            return
        is_transformer = hasattr(network, "transformer")
        patch = side_of(network.patch_size) if is_transformer else 32
        if size % patch:
            raise ConfigError(
                f"backbone: {brief(self.text)} takes images of a multiple of {patch} pixels, not"
                f" {size}; give other image_sizes"
            )
        owner: Any = network if is_transformer else network.attnpool
        positions: nn.Parameter = owner.positional_embedding
        resampled = _resampled(positions, size // patch)
        owner.positional_embedding = nn.Parameter(resampled, requires_grad=positions.requires_grad)
        if is_transformer:
            network.grid_size = (size // patch, size // patch)  # type: ignore[assignment]
        network.image_size = (size, size) if is_transformer else size  # type: ignore[assignment]

    def own(self, network: nn.Module, images: Tensor) -> Tensor:
        """As `Encoder.own`: the image embedding, not scaled to length 1."""
        features: Tensor = network(images)
        return features

    def last_map(self, network: nn.Module, images: Tensor) -> LastMap:
        """As `Encoder.last_map`; before the projection into the space of texts."""
        if hasattr(network, "trunk"):
            return _TIMM.last_map(network.trunk, images)  # type: ignore[arg-type]  # a module
        if not hasattr(network, "transformer"):
            found = network.stem(images)  # type: ignore[operator]  # a method
            for stage in _stages(network):
                found = stage(found)
            return LastMap(places=found.flatten(2))
        tokens = network.transformer(network._embeds(images))  # type: ignore[operator]
        late = network.final_ln_after_pool or network.attn_pool is not None
        if not late or getattr(network, "attn_pool_contrastive", None) is not None:
            tokens = network.ln_post(tokens)  # type: ignore[operator]
        return LastMap(places=tokens[:, 1:].transpose(1, 2), token=tokens[:, 0])

    def layer_groups(self, network: nn.Module, *, coarse: bool) -> list[list[str]]:
        """As `Encoder.layer_groups`; a head or a projection lies behind the last block."""
        names = [name for name, _ in network.named_parameters()]
        if hasattr(network, "trunk"):
            groups = _TIMM.layer_groups(network.trunk, coarse=coarse)  # type: ignore[arg-type]
            within = [[f"trunk.{name}" for name in group] for group in groups]
            return [*within[:-1], [*within[-1], *(n for n in names if n.startswith("head."))]]
        if hasattr(network, "transformer"):
            return block_groups(network, coarse=coarse, behind=("proj",))
        if not hasattr(network, "attnpool"):
            raise unknown_layers(network)
        stem = [name for name in names if not name.startswith(("layer", "attnpool."))]
        groups = [stem]
        for number, stage in enumerate(_stages(network), start=1):
            starts = [f"layer{number}."]
            if not coarse:
                starts = [f"layer{number}.{block}." for block, _ in stage.named_children()]
            groups += [[n for n in names if n.startswith(start)] for start in starts]
        return [*groups, [name for name in names if name.startswith("attnpool.")]]

    def not_decayed(self, network: nn.Module) -> list[str]:
        """As `Encoder.not_decayed`."""
        if hasattr(network, "trunk"):
            inner = _TIMM.not_decayed(network.trunk)  # type: ignore[arg-type]  # a module
            return [f"trunk.{pattern}" for pattern in inner]
        spared: Callable[[], set[str]] | None = getattr(network, "no_weight_decay", None)
        return sorted(spared()) if spared is not None else ["attnpool.positional_embedding"]


def _stages(network: nn.Module) -> list[nn.Module]:
    return [getattr(network, f"layer{number}") for number in (1, 2, 3, 4)]


def _resampled(positions: Tensor, side: int) -> Tensor:
    """Embeddings (1 + P, D) of a class token and a square of places, for another square."""
    clip = package("open_clip.model", extra="open-clip")
    name = _TOWER + "positional_embedding"
    state = {name: positions.detach()}
    grid = SimpleNamespace(visual=SimpleNamespace(grid_size=(side, side)))
    clip.resize_pos_embed(state, grid)
    return state[name]


def _load(network: nn.Module, path: Path) -> None:
    """Fill the tower with the weights of a file of the whole model.

    Raises:
        ConfigError: the file cannot be read, or has not exactly the tower's tensors.
    """
    state = _tower_state(path)
    positions = state.get("positional_embedding")
    if positions is not None and hasattr(network, "grid_size"):
        state["positional_embedding"] = _resampled(positions, side_of(network.grid_size))
    own = network.state_dict()
    unfit = [n for n in own if n not in state or state[n].shape != own[n].shape]
    unfit += [name for name in state if name not in own]
    if unfit:
        raise ConfigError(
            f"weights: {path} does not fit the image tower of its settings: {len(unfit)} tensors"
            f" are missing, left over or of another shape, first {unfit[0]!r}"
        )
    network.load_state_dict(state)


def _tower_state(path: Path) -> dict[str, Tensor]:
    """The image tower's tensors of a file, by the tower's own names."""
    tensors = read_checkpoint(path).tensors
    plain = {re.sub(r"^module\.", "", name): tensor for name, tensor in tensors.items()}
    return {n.removeprefix(_TOWER): t for n, t in plain.items() if n.startswith(_TOWER)}


@lru_cache(maxsize=64)
def _stated(text: str) -> Stated:
    model = open_clip_model(text)
    images = model.images
    mean, std = (tuple(float(v) for v in _three(images[name])) for name in ("mean", "std"))
    resample: Resample = "bilinear" if images["interpolation"] == "bilinear" else "bicubic"
    local = model.folder is not None and not model.repo
    return Stated(
        size=side_of(images["size"]),
        normalisation=Normalisation(mean, std),
        resample=resample,
        source=model.source,
        licence=licence_beside(model.folder) if model.folder is not None else "",
        files=weights_in(model.folder) if local and model.folder is not None else (),
    )


def _three(values: float | list[float]) -> list[float]:
    return list(values) if isinstance(values, list | tuple) else [values] * 3
