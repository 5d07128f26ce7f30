"""What open_clip's models are, by their files: settings, images, weights. Nothing is built."""

from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import timm

from backbones.encoders.downloads import hub_folder, hub_weights, package
from backbones.encoders.encoder import brief
from core.errors import ConfigError, first_line
from core.storage.documents import parse_json, plain_file

_CONFIG = "open_clip_config.json"

WORLD, LOCAL, _HUB = "open_clip:", "local-dir:", "hf-hub:"

_WEIGHTS = (
    *("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors"),
    *("open_clip_pytorch_model.bin", "open_clip_pytorch_model.pth"),
    *("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth"),
)
"""Names of weights in a folder, in open_clip's order."""


@dataclass(frozen=True)
class OpenClipModel:
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
        texts: settings of the text tower; {} where they are not known.
    """

    embed_dim: int
    vision: dict[str, Any]
    quick_gelu: bool
    images: dict[str, Any]
    source: str
    folder: Path | None = None
    repo: str = ""
    names: tuple[str, ...] = _WEIGHTS
    texts: dict[str, Any] = field(default_factory=dict)


def side_of(size: Any) -> int:
    """One side of a square that is written as a number or as two."""
    return int(size[0] if isinstance(size, list | tuple) else size)


def weights_in(folder: Path) -> tuple[Path, ...]:
    """The file that open_clip takes from a folder."""
    return tuple(folder / name for name in _WEIGHTS if (folder / name).is_file())[:1]


@lru_cache(maxsize=64)
def open_clip_model(text: str) -> OpenClipModel:
    """What is known of a model by its string.

    Raises:
        ConfigError: as `Encoder.stated`.
    """
    name = text.removeprefix(WORLD)
    package("open_clip", extra="open-clip")
    if name.startswith("{"):
        try:
            parts = parse_json(name)
        except ValueError as error:
            raise _no_model(text, first_line(error)) from None
        return _model(text, parts, parts, source="a blueprint")
    if name.startswith(_HUB):
        return _of_hub(text, name.removeprefix(_HUB))
    folder = open_clip_folder(text)
    if folder is None:
        return _of_name(text, name)
    if not (folder / _CONFIG).is_file():
        raise ConfigError(f"backbone: {folder}: no folder with a {_CONFIG}, as open_clip saves it")
    return _of_folder(text, folder, source=folder.resolve().name)


def open_clip_weights(text: str) -> Path:
    """The file with a model's weights, downloaded where they are the hub's.

    Raises:
        ConfigError: there are none, or the hub cannot be reached.
    """
    model, found = open_clip_model(text), None
    if model.repo:
        commit = model.folder.name if model.folder else None
        found = hub_weights(model.repo, commit=commit, names=model.names)
    elif model.folder is not None:
        found = next(iter(weights_in(model.folder)), None)
    if found is None:
        raise ConfigError(
            f"weights: {text} has none under its name; give --weights FILE, a name with"
            f" the tag of its weights{_tags(text)}, or --weights none for random ones"
        )
    return found


def open_clip_folder(text: str) -> Path | None:
    """The folder that a string names; None where it names something else."""
    name = text.removeprefix(WORLD)
    folder = Path(name.removeprefix(LOCAL)).expanduser()
    is_folder = name.startswith(LOCAL) or (not name.startswith(("{", _HUB)) and folder.is_dir())
    return folder if is_folder else None


def _of_hub(text: str, repo: str) -> OpenClipModel:
    folder = hub_folder(repo, config=_CONFIG)
    source = f"Hugging Face's hub, {repo} at {folder.name[:12]}"
    found = _of_folder(text, folder, source=source)
    return replace(found, repo=repo)


def _of_folder(text: str, folder: Path, *, source: str) -> OpenClipModel:
    try:
        path = plain_file(folder / _CONFIG, error=ConfigError)
        settings = parse_json(path.read_text(encoding="utf-8"))
        parts, images = settings["model_cfg"], settings.get("preprocess_cfg") or {}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise _no_model(text, f"its {_CONFIG}: {first_line(error)}") from None
    return replace(_model(text, parts, images, source=source), folder=folder)


def _of_name(text: str, name: str) -> OpenClipModel:
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


def _model(text: str, parts: Any, images: Any, *, source: str) -> OpenClipModel:
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
        texts = dict(parts.get("text_cfg") or {})
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
    return OpenClipModel(
        embed_dim=embed_dim,
        vision=vision,
        quick_gelu=quick_gelu,
        images={**stated, "size": int(height)},  # the tower's, as open_clip sets it
        source=source,
        texts=texts,
    )


def _no_model(text: str, reason: str) -> ConfigError:
    return ConfigError(f"backbone: {brief(text)}: not a model as open_clip saves them ({reason})")


def _tags(text: str) -> str:
    """The tags of weights that open_clip knows for the string's model, for a message."""
    pretrained = package("open_clip.pretrained", extra="open-clip")
    name = text.removeprefix(WORLD).partition("/")[0]
    tags = pretrained.list_pretrained_tags_by_model(name)
    return f" ({', '.join(tags)})" if tags else ""
