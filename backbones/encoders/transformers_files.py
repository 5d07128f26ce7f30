"""What transformers' models are, by their files: settings, images, weights. Nothing is built."""

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from backbones.encoders.downloads import hub_folder, hub_weights, package, quiet_hub
from backbones.encoders.encoder import brief
from core.errors import ConfigError, first_line
from core.storage.documents import parse_json, plain_file
from corpus.images.decode import Resample

WORLD = "transformers:"

_CONFIG, _IMAGES = "config.json", ("preprocessor_config.json", "processor_config.json")

_INDEX = ".index.json"

WEIGHTS = (
    *("model.safetensors", f"model.safetensors{_INDEX}"),
    *("pytorch_model.bin", f"pytorch_model.bin{_INDEX}"),
)
"""Names of weights in a folder, in the order of transformers."""

_RESAMPLE: dict[int, Resample] = {0: "nearest", 2: "bilinear"}
"""Pillow's numbers of filters; all others are bicubic, or close to it."""


@dataclass(frozen=True, kw_only=True)
class NetworkFamily:
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


_CLIP = NetworkFamily(norm="post_layernorm")

# The pooler of these is a layer of its own, which many of their weights lack: it would be random.
_TOKEN = NetworkFamily(own="token", arguments=(("add_pooling_layer", False),))

FAMILIES: dict[str, NetworkFamily] = {
    "clip_vision_model": _CLIP,
    "chinese_clip_vision_model": _CLIP,
    "mlcd_vision_model": _CLIP,
    "siglip_vision_model": NetworkFamily(),
    "dinov2": NetworkFamily(),
    "dinov2_with_registers": NetworkFamily(),
    "dinov3_vit": NetworkFamily(),
    "dinov3_convnext": NetworkFamily(n_other=1),
    "vit": _TOKEN,
    "deit": _TOKEN,
    "vit_msn": NetworkFamily(own="token"),
    "beit": NetworkFamily(),
    "data2vec-vision": NetworkFamily(arguments=(("add_pooling_layer", True),)),
    "ijepa": NetworkFamily(own="mean", arguments=(("add_pooling_layer", False),)),
    "swin": NetworkFamily(),
    "swinv2": NetworkFamily(),
    "focalnet": NetworkFamily(),
    "convnext": NetworkFamily(),
    "convnextv2": NetworkFamily(),
    "resnet": NetworkFamily(),
    "regnet": NetworkFamily(),
    "mobilenet_v2": NetworkFamily(),
    "mobilevit": NetworkFamily(),
    "poolformer": NetworkFamily(own="mean"),
    "pvt_v2": NetworkFamily(own="mean"),
    "segformer": NetworkFamily(own="mean"),
}
"""Networks of images by the `model_type` of their settings."""

_WITH_TEXT = ("clip", "chinese_clip", "siglip")
"""Models of images and texts whose `vision_config` is a network of images."""


@dataclass(frozen=True, kw_only=True)
class VisionModel:
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
    def family(self) -> NetworkFamily:
        """How it is asked."""
        return FAMILIES[self.config.model_type]


_NOT_BUILT_OF = (
    *("architectures", "auto_map", "dtype", "torch_dtype", "transformers_version"),
    *("id2label", "label2id", "problem_type", "num_labels", "text_config"),
    # Some of their values name code on the hub.
    *("attn_implementation", "experts_implementation", "quantization_config", "use_kernels"),
)
"""Settings that a network's shape and answers do not depend on."""

UNREADABLE = (RuntimeError, ValueError, EOFError, LookupError, OSError, TypeError, AttributeError)


def transformers_package() -> Any:
    """The package, silent: what matters of its warnings is raised here."""
    found = package("transformers", extra="transformers")
    found.logging.set_verbosity_error()
    found.logging.disable_progress_bar()
    quiet_hub()
    return found


def weights_in(folder: Path) -> tuple[Path, ...]:
    """The files of weights that transformers takes from a folder, all parts of one form."""
    for name in WEIGHTS:
        path = folder / name
        if path.is_file():
            return tuple(folder / part for part in _parts(path))
    return ()


def _parts(path: Path) -> list[str]:
    """Names of the files that an index names; the file's own where it is none."""
    if not path.name.endswith(_INDEX):
        return [path.name]
    try:
        return sorted(set(parse_json(path.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"weights: {path}: not an index of weights ({first_line(error)})"
        ) from None


def fetch_weights(repo: str, folder: Path) -> None:
    """Have a model's weights in its folder of the hub's cache.

    Raises:
        ConfigError: the hub cannot be reached.
    """
    found = hub_weights(repo, commit=folder.name, names=WEIGHTS)
    for part in _parts(found) if found is not None else ():
        hub_weights(repo, commit=folder.name, names=(part,))


@lru_cache(maxsize=64)
def vision_model(text: str) -> VisionModel:
    """What is known of a model by its string.

    Raises:
        ConfigError: as `Encoder.stated`.
    """
    name = text.removeprefix(WORLD)
    transformers_package()
    if name.startswith("{"):
        try:
            parts = parse_json(name)
            raw, images = parts["config"], parts["images"]
            images = {
                **{"size": int(images["size"]), "resample": str(images["resample"])},
                **{key: list(map(float, images[key])) for key in ("mean", "std")},
            }
            if images["resample"] not in ("bilinear", "bicubic", "nearest"):
                raise ValueError
        except (ValueError, LookupError, TypeError):
            raise ConfigError(
                f"backbone: {brief(text)} is no blueprint of a network of transformers"
            ) from None
        return VisionModel(config=_vision_config(text, raw), images=images, source="a blueprint")
    folder, repo = model_folder(text), ""
    source = folder.resolve().name if folder is not None else ""
    if folder is None:
        if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name):
            raise ConfigError(
                f"backbone: {text}: no such folder, nor a name ORG/NAME of Hugging Face's hub"
            )
        folder, repo = hub_folder(name, config=_CONFIG, beside=_IMAGES), name
        source = f"Hugging Face's hub, {repo} at {folder.name[:12]}"
    try:
        path = plain_file(folder / _CONFIG, error=ConfigError)
        raw = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"backbone: {text}: no {_CONFIG} there, as save_pretrained writes it"
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"backbone: {text}: its {_CONFIG}: {first_line(error)}") from None
    config = _vision_config(text, raw)
    images = _images_in(folder, config=config, text=text)
    return VisionModel(config=config, images=images, source=source, folder=folder, repo=repo)


def model_folder(text: str) -> Path | None:
    """The folder that a string names; None where it names something else."""
    name = text.removeprefix(WORLD)
    folder = Path(name).expanduser()
    return folder if not name.startswith("{") and folder.is_dir() else None


def _vision_config(text: str, raw: Any) -> Any:
    """The settings of the network of images, in transformers' own class.

    Raises:
        ConfigError: it is not one of `FAMILIES`, or they are broken.
    """
    model_type = raw.get("model_type") if isinstance(raw, dict) else None
    if model_type not in (*FAMILIES, *_WITH_TEXT):
        own_code = ", and code of its own is never run" if "auto_map" in (raw or ()) else ""
        raise ConfigError(
            f"backbone: {brief(text)} is of the type {model_type!r}, which is no network of images"
            f" known here{own_code}; known are {', '.join((*_WITH_TEXT, *FAMILIES))}"
        )
    transformers = transformers_package()
    from huggingface_hub.errors import StrictDataclassError

    try:
        config = transformers.CONFIG_MAPPING[model_type].from_dict(built_of(raw))
    except (*UNREADABLE, StrictDataclassError) as error:
        reason = first_line(error)
        raise ConfigError(f"backbone: {brief(text)}: its settings: {reason}") from None
    return config.vision_config if model_type in _WITH_TEXT else config


def built_of(settings: Any) -> Any:
    """Settings, at all depths without those that a network is not built of."""
    if not isinstance(settings, dict):
        return settings
    return {
        key: built_of(value)
        for key, value in settings.items()
        if not key.startswith("_") and key not in _NOT_BUILT_OF
    }


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
        processor = transformers_package().AutoImageProcessor.from_pretrained(
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
        mean: tuple[float, ...] = (0.0,) * 3
        std: tuple[float, ...] = (1.0,) * 3
        if known.get("do_normalize", True):
            mean, std = _three(known["image_mean"]), _three(known["image_std"])
        resample = _RESAMPLE.get(int(known.get("resample", 3)), "bicubic")
    except UNREADABLE as error:
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
