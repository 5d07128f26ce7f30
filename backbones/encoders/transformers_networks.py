"""transformers' networks: the vision tower of a model of the hub or of a folder."""

import inspect
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from backbones.encoders.blocks import block_groups
from backbones.encoders.encoder import LastMap, Normalisation, Stated
from backbones.encoders.hub import (
    first_line,
    hub_folder,
    hub_weights,
    licence_in,
    package,
    quiet_hub,
)
from core.errors import ConfigError
from corpus.images.decode import Resample

_CONFIG, _IMAGES = "config.json", ("preprocessor_config.json", "processor_config.json")

_INDEX = ".index.json"

_WEIGHTS = (
    *("model.safetensors", f"model.safetensors{_INDEX}"),
    *("pytorch_model.bin", f"pytorch_model.bin{_INDEX}"),
)
"""Names of weights in a folder, in the order of transformers."""

_RESAMPLE: dict[int, Resample] = {0: "nearest", 2: "bilinear"}
"""Pillow's numbers of filters; all others are bicubic, or close to it."""


@dataclass(frozen=True, kw_only=True)
class _Family:
    """How networks of a type are asked.

    Attributes:
        own: their own features: what their `pooler` gives, the class `token`, or the `mean`.
        arguments: that they are built with.
        norm: layer that their own pooling puts the tokens through, which they give bare; "" for
            none.
        n_other: tokens before the places that are none of those that parameters are named after.
    """

    own: Literal["pooler", "token", "mean"] = "pooler"
    arguments: tuple[tuple[str, Any], ...] = ()
    norm: str = ""
    n_other: int = 0


_CLIP = _Family(norm="post_layernorm")

# The pooler of these is a layer of its own, which many of their weights lack: it would be random.
_TOKEN = _Family(own="token", arguments=(("add_pooling_layer", False),))

FAMILIES: dict[str, _Family] = {
    "clip_vision_model": _CLIP,
    "chinese_clip_vision_model": _CLIP,
    "mlcd_vision_model": _CLIP,
    "siglip_vision_model": _Family(),
    "dinov2": _Family(),
    "dinov2_with_registers": _Family(),
    "dinov3_vit": _Family(),
    "dinov3_convnext": _Family(n_other=1),
    "vit": _TOKEN,
    "deit": _TOKEN,
    "vit_msn": _Family(own="token"),
    "beit": _Family(),
    "data2vec-vision": _Family(arguments=(("add_pooling_layer", True),)),
    "ijepa": _Family(own="mean", arguments=(("add_pooling_layer", False),)),
    "swin": _Family(),
    "swinv2": _Family(),
    "focalnet": _Family(),
    "convnext": _Family(),
    "convnextv2": _Family(),
    "resnet": _Family(),
    "regnet": _Family(),
    "mobilenet_v2": _Family(),
    "mobilevit": _Family(),
    "poolformer": _Family(own="mean"),
    "pvt_v2": _Family(own="mean"),
    "segformer": _Family(own="mean"),
}
"""Networks of images by the `model_type` of their settings."""

_WITH_TEXT = ("clip", "chinese_clip", "siglip")
"""Models of images and texts whose `vision_config` is a network of images."""

_TOKENS = ("cls_token", "class_embedding", "distillation_token", "register_tokens")
"""Last names of parameters that are tokens before those of the places, the class token first."""


@dataclass(frozen=True, kw_only=True)
class _Vision:
    """What is known of a model before it is built.

    Attributes:
        config: settings of the network of images, in transformers' class.
        images: of its images, as `_images_in` says.
        source: of its weights.
        folder: where its files lie; None for none.
        repo: of the hub that has them; "" for none.
    """

    config: Any
    images: dict[str, Any]
    source: str
    folder: Path | None = None
    repo: str = ""

    @property
    def family(self) -> _Family:
        """How it is asked."""
        return FAMILIES[self.config.model_type]


@dataclass(frozen=True)
class TransformersEncoder:
    """The network of images of a model of transformers; code of a model's own is never run.

    Its own features are what the model pools itself; of the types whose pooler is a layer that most
    weights lack (ViT, DeiT), the class token before it.

    Attributes:
        text: after `transformers:` the name `ORG/NAME` on the hub, a folder as `save_pretrained`
            writes it, or the JSON of a blueprint.
    """

    text: str

    def stated(self) -> Stated:
        """As `Encoder.stated`, by the settings of the model's own image processor."""
        return _stated(self.text)

    def blueprint(self) -> str:
        """The settings of the network and of its images as JSON."""
        found = _found(self.text)
        config = {k: v for k, v in found.config.to_dict().items() if k not in _NOT_BUILT_OF}
        parts = {"config": config, "images": found.images}
        return "transformers:" + json.dumps(parts, sort_keys=True)

    def build(self, *, pretrained: bool) -> nn.Module:
        """As `Encoder.build`."""
        found = _found(self.text)
        transformers = _transformers()
        kind = transformers.MODEL_MAPPING[type(found.config)]
        arguments = dict(found.family.arguments)
        if pretrained:
            return self._filled(kind, found, arguments)
        try:
            network: nn.Module = kind._from_config(found.config, dtype=torch.float32, **arguments)
        except (TypeError, ValueError, RuntimeError, LookupError, ImportError) as error:
            raise ConfigError(
                f"backbone: {_brief(self.text)}: transformers cannot build it ({first_line(error)})"
            ) from None
        return network

    def _filled(self, kind: Any, found: _Vision, arguments: dict[str, Any]) -> nn.Module:
        """The network with all of its weights.

        Raises:
            ConfigError: they cannot be had or read, or some are missing.
        """
        if found.repo and found.folder is not None:
            _fetch(found.repo, found.folder)
        if found.folder is None or not weights_in(found.folder):
            raise ConfigError(
                f"weights: {_brief(self.text)} has none ({_WEIGHTS[0]} or {_WEIGHTS[2]}); give"
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
        except _UNREADABLE as error:
            raise ConfigError(
                f"weights: {_brief(self.text)}: cannot be read ({first_line(error)})"
            ) from None
        except Exception as error:
            if type(error).__name__ not in ("UnpicklingError", "SafetensorError"):
                raise
            raise ConfigError(f"weights: {_brief(self.text)}: not weights alone") from None
        missing = sorted(report["missing_keys"])
        if missing:
            raise ConfigError(
                f"weights: {_brief(self.text)} lacks {len(missing)} tensors of its network, first"
                f" {missing[0]!r}, which would be random"
            )
        built: nn.Module = network
        return built

    def resize(self, network: nn.Module, size: int) -> None:
        """As `Encoder.resize`: embeddings of positions are resampled with every image."""
        config: Any = network.config
        own, patch = getattr(config, "image_size", None), getattr(config, "patch_size", None)
        if size in (own, _found(self.text).images["size"]) or not isinstance(patch, int):
            return
        if size % patch:
            raise ConfigError(
                f"backbone: {_brief(self.text)} takes images of a multiple of {patch} pixels, not"
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


_NOT_BUILT_OF = (
    *("_name_or_path", "architectures", "auto_map", "dtype", "torch_dtype", "transformers_version"),
    *("id2label", "label2id", "problem_type", "num_labels"),
)
"""Settings that a network's shape and answers do not depend on."""

_UNREADABLE = (RuntimeError, ValueError, EOFError, LookupError, OSError, TypeError, AttributeError)


def _answer(network: nn.Module, images: Tensor) -> Any:
    """What a network of transformers says of images of any size."""
    arguments = {}
    if images.shape[-1] != getattr(network.config, "image_size", None) and _interpolates(
        type(network)
    ):
        arguments["interpolate_pos_encoding"] = True
    return network(images, **arguments)


@lru_cache(maxsize=64)
def _interpolates(kind: type[nn.Module]) -> bool:
    return "interpolate_pos_encoding" in inspect.signature(kind.forward).parameters


def _type_of(network: nn.Module) -> str:
    return str(network.config.model_type)  # type: ignore[union-attr]  # transformers'


def _n_tokens(network: nn.Module) -> int:
    """Tokens before those of the places: class, distillation, registers."""
    named = [(n.rpartition(".")[2], p) for n, p in network.named_parameters()]
    tokens = [p.shape for name, p in named if name in _TOKENS]
    return sum(shape[1] if len(shape) == 3 else 1 for shape in tokens)


def _transformers() -> Any:
    """The package, silent: what matters of its warnings is raised here."""
    found = package("transformers", extra="transformers")
    found.logging.set_verbosity_error()
    found.logging.disable_progress_bar()
    quiet_hub()
    return found


def weights_in(folder: Path) -> tuple[Path, ...]:
    """The files of weights that transformers takes from a folder, all parts of one form."""
    for name in _WEIGHTS:
        path = folder / name
        if path.is_file():
            return tuple(folder / part for part in _parts(path))
    return ()


def _parts(path: Path) -> list[str]:
    """Names of the files that an index names; the file's own where it is none."""
    if not path.name.endswith(_INDEX):
        return [path.name]
    try:
        return sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"weights: {path}: not an index of weights ({first_line(error)})"
        ) from None


def _fetch(repo: str, folder: Path) -> None:
    """Have a model's weights in its folder of the hub's cache.

    Raises:
        ConfigError: the hub cannot be reached.
    """
    found = hub_weights(repo, commit=folder.name, names=_WEIGHTS)
    for part in _parts(found) if found is not None else ():
        hub_weights(repo, commit=folder.name, names=(part,))


@lru_cache(maxsize=64)
def _stated(text: str) -> Stated:
    found = _found(text)
    images = found.images
    local = found.folder is not None and not found.repo
    return Stated(
        size=int(images["size"]),
        normalisation=Normalisation(tuple(images["mean"]), tuple(images["std"])),
        resample=images["resample"],
        source=found.source,
        licence=licence_in(found.folder) if found.folder is not None else "",
        files=weights_in(found.folder) if local and found.folder is not None else (),
    )


@lru_cache(maxsize=64)
def _found(text: str) -> _Vision:
    """What is known of a model by its string.

    Raises:
        ConfigError: as `Encoder.stated`.
    """
    name = text.removeprefix("transformers:")
    _transformers()
    if name.startswith("{"):
        try:
            parts = json.loads(name)
            raw, images = parts["config"], parts["images"]
            images = {key: images[key] for key in ("size", "mean", "std", "resample")}
        except (ValueError, LookupError, TypeError):
            raise ConfigError(
                f"backbone: {_brief(text)} is no blueprint of a network of transformers"
            ) from None
        return _Vision(config=_vision_config(text, raw), images=images, source="a blueprint")
    folder, repo = Path(name).expanduser(), ""
    source = folder.resolve().name
    if not folder.is_dir():
        if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name):
            raise ConfigError(
                f"backbone: {text}: no such folder, nor a name ORG/NAME of Hugging Face's hub"
            )
        folder, repo = hub_folder(name, config=_CONFIG, beside=_IMAGES), name
        source = f"Hugging Face's hub, {repo} at {folder.name[:12]}"
    try:
        raw = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"backbone: {text}: no {_CONFIG} there, as save_pretrained writes it"
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"backbone: {text}: its {_CONFIG}: {first_line(error)}") from None
    config = _vision_config(text, raw)
    images = _images_in(folder, config=config, text=text)
    return _Vision(config=config, images=images, source=source, folder=folder, repo=repo)


def _vision_config(text: str, raw: Any) -> Any:
    """The settings of the network of images, in transformers' own class.

    Raises:
        ConfigError: it is not one of `FAMILIES`, or they are broken.
    """
    model_type = raw.get("model_type") if isinstance(raw, dict) else None
    if model_type not in (*FAMILIES, *_WITH_TEXT):
        own_code = ", and code of its own is never run" if "auto_map" in (raw or ()) else ""
        raise ConfigError(
            f"backbone: {_brief(text)} is of the type {model_type!r}, which is no network of images"
            f" known here{own_code}; known are {', '.join((*_WITH_TEXT, *FAMILIES))}"
        )
    transformers = _transformers()
    kept = {key: value for key, value in raw.items() if key not in _NOT_BUILT_OF}
    try:
        config = transformers.CONFIG_MAPPING[model_type].from_dict(kept)
    except Exception as error:
        # Its checks of settings raise errors of several packages.
        reason = first_line(error)
        raise ConfigError(f"backbone: {_brief(text)}: its settings: {reason}") from None
    return config.vision_config if model_type in _WITH_TEXT else config


def _images_in(folder: Path, *, config: Any, text: str) -> dict[str, Any]:
    """How a model's image processor prepares images, but for what it crops.

    Returns:
        `size`, `mean` and `std` of images in [0, 1], and `resample`.

    Raises:
        ConfigError: there is none, it is broken, or of images that are not square.
    """
    if not any((folder / name).is_file() for name in _IMAGES):
        raise ConfigError(
            f"backbone: {text}: no {_IMAGES[0]} there, which says how its images are prepared; put"
            " the one of the model that it was made from beside it"
        )
    try:
        processor = _transformers().AutoImageProcessor.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
        known = processor.to_dict()
        side = getattr(config, "image_size", None) or 224
        if known.get("do_resize", True):
            side = known["size"]
        if known.get("do_center_crop"):
            side = known["crop_size"]
        size = _side(side)
        # v = 255 x factor - offset of images x in [0, 1], then (v - mean) / std.
        factor = known["rescale_factor"] if known.get("do_rescale", True) else 1.0
        offset = 1.0 if known.get("rescale_offset") else 0.0
        mean, std = (0.0,) * 3, (1.0,) * 3
        if known.get("do_normalize", True):
            mean, std = _three(known["image_mean"]), _three(known["image_std"])
        resample = _RESAMPLE.get(int(known.get("resample", 3)), "bicubic")
    except _UNREADABLE as error:
        raise ConfigError(f"backbone: {text}: its {_IMAGES[0]}: {first_line(error)}") from None
    scale = 255 * float(factor)
    return {
        "size": size,
        "mean": [(value + offset) / scale for value in mean],
        "std": [value / scale for value in std],
        "resample": resample,
    }


def _three(values: Any) -> tuple[float, ...]:
    given = values if isinstance(values, list | tuple) else [values] * 3
    return tuple(float(value) for value in given)


def _side(size: Any) -> int:
    """Pixels of a square in any of the forms that they are written in.

    Raises:
        ValueError: it is not square, or not written.
    """
    if not isinstance(size, dict):
        return int(size[0] if isinstance(size, list | tuple) else size)
    edges = {size[name] for name in ("height", "width") if size.get(name)}
    edges = edges or {size.get("shortest_edge") or size.get("longest_edge")}
    if len(edges) != 1 or None in edges:
        raise ValueError(f"images of {size} are not square")
    return int(edges.pop())
