"""open_clip's networks: the image tower of a model by name, from the hub, from a folder."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import timm
from torch import Tensor, nn

from backbones.encoders.blocks import block_groups
from backbones.encoders.downloads import hub_folder, hub_weights, package
from backbones.encoders.encoder import LastMap, Normalisation, Stated, brief, unknown_layers
from backbones.encoders.timm_networks import TimmEncoder
from backbones.networks.checkpoint_files import read_checkpoint
from backbones.networks.licences import licence_beside
from core.errors import ConfigError, first_line
from core.storage.documents import parse_json, plain_file
from corpus.images.decode import Resample

_CONFIG = "open_clip_config.json"

_WORLD, _HUB, _LOCAL = "open_clip:", "hf-hub:", "local-dir:"

_WEIGHTS = (
    *("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors"),
    *("open_clip_pytorch_model.bin", "open_clip_pytorch_model.pth"),
    *("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth"),
)
"""Names of weights in a folder, in open_clip's order."""

_TOWER = "visual."
"""What the names of the image tower's parameters begin with in a whole model."""

_TIMM = TimmEncoder("trunk")
"""Asked for the trunks of timm; none of its answers depend on a name."""


@dataclass(frozen=True)
class _Model:
    """What is known of a model before it is built.

    Attributes:
        embed_dim: numbers of an image's embedding.
        vision: settings of the image tower.
        quick_gelu: whether it has that activation.
        images: settings of its images.
        source: of its weights.
        folder: where they lie, if in a folder.
        repo: of the hub that has them; "" for none.
        names: of their files, the best first.
    """

    embed_dim: int
    vision: dict[str, Any]
    quick_gelu: bool
    images: dict[str, Any]
    source: str
    folder: Path | None = None
    repo: str = ""
    names: tuple[str, ...] = _WEIGHTS


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
        folder = _folder_of(self.given)
        return self.given if folder is None else f"{_WORLD}{_LOCAL}{folder.absolute()}"

    def stated(self) -> Stated:
        """As `Encoder.stated`, by the model's `preprocess_cfg`."""
        return _stated(self.text)

    def blueprint(self) -> str:
        """The tower's settings and those of its images as JSON."""
        model = _found(self.text)
        parts = {
            "embed_dim": model.embed_dim,
            "vision_cfg": model.vision,
            "quick_gelu": model.quick_gelu,
            "preprocess_cfg": model.images,
        }
        return _WORLD + json.dumps(parts, sort_keys=True)

    def build(self, *, pretrained: bool) -> nn.Module:
        """As `Encoder.build`; the text tower is never built."""
        model = _found(self.text)
        path = self._weights(model) if pretrained else None
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

    def _weights(self, model: _Model) -> Path:
        """The file with the model's weights, downloaded where they are the hub's.

        Raises:
            ConfigError: there are none, or the hub cannot be reached.
        """
        found = None
        if model.repo:
            commit = model.folder.name if model.folder else None
            found = hub_weights(model.repo, commit=commit, names=model.names)
        elif model.folder is not None:
            found = next(iter(_weights_in(model.folder)), None)
        if found is None:
            raise ConfigError(
                f"weights: {self.text} has none under its name; give --weights FILE, a name with"
                f" the tag of its weights{_tags(self.text)}, or --weights none for random ones"
            )
        return found

    def resize(self, network: nn.Module, size: int) -> None:
        """As `Encoder.resize`; embeddings of positions are resampled, as open_clip does it."""
        if _side(network.image_size) == size:
            return
        if hasattr(network, "trunk"):
            _TIMM.resize(network.trunk, size)  # type: ignore[arg-type]  # a module
            network.image_size = (size, size)  # type: ignore[assignment]
            return
        is_transformer = hasattr(network, "transformer")
        patch = _side(network.patch_size) if is_transformer else 32
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


def _side(size: Any) -> int:
    """One side of a square that is written as a number or as two."""
    return int(size[0] if isinstance(size, list | tuple) else size)


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
        state["positional_embedding"] = _resampled(positions, _side(network.grid_size))
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
    model = _found(text)
    images = model.images
    mean, std = (tuple(float(v) for v in _three(images[name])) for name in ("mean", "std"))
    resample: Resample = "bilinear" if images["interpolation"] == "bilinear" else "bicubic"
    local = model.folder is not None and not model.repo
    return Stated(
        size=_side(images["size"]),
        normalisation=Normalisation(mean, std),
        resample=resample,
        source=model.source,
        licence=licence_beside(model.folder) if model.folder is not None else "",
        files=_weights_in(model.folder) if local and model.folder is not None else (),
    )


def _three(values: float | list[float]) -> list[float]:
    return list(values) if isinstance(values, list | tuple) else [values] * 3


def _weights_in(folder: Path) -> tuple[Path, ...]:
    """The file that open_clip takes from a folder."""
    return tuple(folder / name for name in _WEIGHTS if (folder / name).is_file())[:1]


@lru_cache(maxsize=64)
def _found(text: str) -> _Model:
    """What is known of a model by its string.

    Raises:
        ConfigError: as `Encoder.stated`.
    """
    name = text.removeprefix(_WORLD)
    package("open_clip", extra="open-clip")
    if name.startswith("{"):
        try:
            parts = parse_json(name)
        except ValueError as error:
            raise _no_model(text, first_line(error)) from None
        return _model(text, parts, parts, source="a blueprint")
    if name.startswith(_HUB):
        return _of_hub(text, name.removeprefix(_HUB))
    folder = _folder_of(text)
    if folder is None:
        return _of_name(text, name)
    if not (folder / _CONFIG).is_file():
        raise ConfigError(f"backbone: {folder}: no folder with a {_CONFIG}, as open_clip saves it")
    return _of_folder(text, folder, source=folder.resolve().name)


def _folder_of(text: str) -> Path | None:
    """The folder that a string names; None where it names something else."""
    name = text.removeprefix(_WORLD)
    folder = Path(name.removeprefix(_LOCAL)).expanduser()
    is_folder = name.startswith(_LOCAL) or (not name.startswith(("{", _HUB)) and folder.is_dir())
    return folder if is_folder else None


def _of_hub(text: str, repo: str) -> _Model:
    folder = hub_folder(repo, config=_CONFIG)
    source = f"Hugging Face's hub, {repo} at {folder.name[:12]}"
    found = _of_folder(text, folder, source=source)
    return replace(found, repo=repo)


def _of_folder(text: str, folder: Path, *, source: str) -> _Model:
    try:
        path = plain_file(folder / _CONFIG, error=ConfigError)
        settings = parse_json(path.read_text(encoding="utf-8"))
        parts, images = settings["model_cfg"], settings.get("preprocess_cfg") or {}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise _no_model(text, f"its {_CONFIG}: {first_line(error)}") from None
    return replace(_model(text, parts, images, source=source), folder=folder)


def _of_name(text: str, name: str) -> _Model:
    """A model that open_clip knows by name, with or without a tag of weights."""
    factory = package("open_clip.factory", extra="open-clip")
    pretrained = package("open_clip.pretrained", extra="open-clip")
    known = factory.list_models()
    architecture, tag = name.replace("/", "-"), ""
    if architecture not in known:
        head, _, tag = name.rpartition("/")
        architecture = head.replace("/", "-")
    if architecture not in known:
        import difflib

        near = difflib.get_close_matches(name, known)
        hint = f"; like it: {', '.join(near)}" if near else ""
        raise ConfigError(f"backbone: open_clip has no model {name!r}, nor is it a folder{hint}")
    parts, images, repo = factory.get_model_config(architecture), {}, ""
    names: tuple[str, ...] = _WEIGHTS
    source = f"open_clip, {architecture}"
    if tag:
        images = pretrained.get_pretrained_cfg(architecture, tag)
        repo, _, file = str(images.get("hf_hub", "")).rpartition("/")
        if not repo:
            raise ConfigError(f"backbone: {text}: no such weights{_tags(text)}")
        if bool(images.get("quick_gelu")) != bool(parts.get("quick_gelu")):
            other = architecture.removesuffix("-quickgelu")
            other += "" if other != architecture else "-quickgelu"
            raise ConfigError(
                f"backbone: {text}: those weights are of {other}, whose activation is another;"
                f" name open_clip:{other}/{tag}"
            )
        if file:
            names = (file,)
        source = f"open_clip, {architecture}, {tag} ({repo})"
    model = _model(text, parts, images, source=source)
    return replace(model, repo=repo, names=names)


def _model(text: str, parts: Any, images: Any, *, source: str) -> _Model:
    """The parts of a model's settings that are kept, those of its images completed.

    Raises:
        ConfigError: they are not a model's.
    """
    transform = package("open_clip.transform", extra="open-clip")
    try:
        vision = dict(parts["vision_cfg"])
        given = images.get("preprocess_cfg", images)
        stated = transform.merge_preprocess_dict(transform.PreprocessCfg(), given)
        side = vision.get("image_size", 224)
        height, width = side if isinstance(side, list | tuple) else (side, side)
        embed_dim, quick_gelu = int(parts["embed_dim"]), bool(parts.get("quick_gelu", False))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise _no_model(text, f"{type(error).__name__}: {first_line(error)}") from None
    trunk = vision.get("timm_model_name")
    if trunk and not timm.is_model(trunk):  # it may name a hub, which is not asked here
        raise _no_model(text, f"timm has no network {trunk!r}")
    if height != width:
        raise ConfigError(
            f"backbone: {brief(text)} takes images of {height} x {width} pixels, not square ones"
        )
    return _Model(
        embed_dim=embed_dim,
        vision=vision,
        quick_gelu=quick_gelu,
        images={**stated, "size": int(height)},  # the tower's, as open_clip sets it
        source=source,
    )


def _no_model(text: str, reason: str) -> ConfigError:
    return ConfigError(f"backbone: {brief(text)}: not a model as open_clip saves them ({reason})")


def _tags(text: str) -> str:
    """The tags of weights that open_clip knows for the string's model, for a message."""
    pretrained = package("open_clip.pretrained", extra="open-clip")
    name = text.removeprefix(_WORLD).partition("/")[0]
    tags = pretrained.list_pretrained_tags_by_model(name)
    return f" ({', '.join(tags)})" if tags else ""
