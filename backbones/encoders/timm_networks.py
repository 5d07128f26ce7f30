"""timm's networks: by name, from its hub, from a folder. The only caller of timm.create_model."""

import difflib
import inspect
import json
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import timm
import timm.models._hub as hub
from timm.models import VGG, group_parameters
from torch import Tensor, nn

from backbones.encoders.downloads import hub_at_once, hub_reachable
from backbones.encoders.encoder import LastMap, Normalisation, Stated, unknown_layers
from core.errors import ConfigError, first_line
from core.storage.documents import parse_json
from corpus.images.decode import Resample

_RESAMPLE: dict[str, Resample] = {"bilinear": "bilinear", "nearest": "nearest"}
"""timm's names of filters; all others are bicubic, or close to it."""

_FOLDER = "local-dir:"


@dataclass(frozen=True)
class TimmEncoder:
    """A network of timm.

    Attributes:
        given: `NAME[.TAG]`, the same after `timm:`, `hf-hub:ORG/NAME`, `local-dir:PATH`, or
            `timm:` and the JSON of a blueprint.
    """

    given: str

    @property
    def text(self) -> str:
        """The string, without `timm:` before a name, a folder by its whole path."""
        if self.given.startswith(_FOLDER):
            return _FOLDER + str(Path(self.given.removeprefix(_FOLDER)).absolute())
        return self.given if "{" in self.given else self.given.removeprefix("timm:")

    def stated(self) -> Stated:
        """As `Encoder.stated`, by timm's `pretrained_cfg`."""
        return _stated(self.text)

    def blueprint(self) -> str:
        """The name; of a hub or a folder, architecture, arguments and scaling as JSON."""
        if ":" not in self.text or "{" in self.text:
            return self.text
        _, architecture, arguments = _configured(self.text)
        images = asdict(self.stated().normalisation)  # of an edited folder other features come
        return "timm:" + json.dumps(
            {"architecture": architecture, "arguments": arguments, "images": images}
        )

    def build(self, *, pretrained: bool) -> nn.Module:
        """As `Encoder.build`."""
        name, arguments = self.text, {}
        _, architecture, known = _configured(name)  # refuses what there is not
        if "{" in name:
            name, arguments = architecture, known
        try:
            with hub_at_once() if pretrained else nullcontext():
                network: nn.Module = timm.create_model(
                    name, pretrained=pretrained, num_classes=0, **arguments
                )
        except OSError as error:
            raise _out_of_reach(self.text, error) from None
        except TypeError as error:  # an argument of a folder's or a blueprint's
            raise ConfigError(f"backbone: {architecture}: {first_line(error)}") from None
        except RuntimeError as error:
            if not pretrained:
                raise ConfigError(f"backbone: {first_line(error)}") from None
            reason = str(error).partition(" Use `pretrained=False`")[0]  # the hub has none for it
            raise ConfigError(
                f"weights: {reason} Give --weights FILE, or --weights none for random ones"
            ) from None
        if isinstance(network, VGG):  # its features are what its convolutions give, as of any other
            network.pre_logits = nn.Identity()
        return network

    def resize(self, network: nn.Module, size: int) -> None:
        """As `Encoder.resize`; a transformer's embeddings of positions are resampled."""
        resize: Callable[..., None] | None = getattr(network, "set_input_size", None)
        if resize is not None:
            with warnings.catch_warnings():  # of its indexing, when it resamples Swin's tables
                warnings.filterwarnings("ignore", module=r"timm\.layers\.interpolate")
                resize(img_size=(size, size))

    def own(self, network: nn.Module, images: Tensor) -> Tensor:
        """As `Encoder.own`."""
        features: Tensor = network(images)
        return features

    def last_map(self, network: nn.Module, images: Tensor) -> LastMap:
        """As `Encoder.last_map`."""
        found = network.forward_features(images)  # type: ignore[operator]  # timm's
        if not isinstance(found, Tensor):
            raise ConfigError(
                f"pooling: the last layer of a {type(network).__name__} gives several maps, not"
                " one; use own"
            )
        if found.ndim == 3:  # tokens: (B, N, D)
            leads = getattr(network, "global_pool", "") == "token" and found.shape[1] > 1
            n_tokens = int(getattr(network, "num_prefix_tokens", leads))
            token = found[:, 0] if n_tokens else None
            return LastMap(places=found[:, n_tokens:].transpose(1, 2), token=token)
        if getattr(network, "output_fmt", "NCHW") == "NHWC":
            found = found.permute(0, 3, 1, 2)
        return LastMap(places=found.flatten(2))

    def layer_groups(self, network: nn.Module, *, coarse: bool) -> list[list[str]]:
        """As `Encoder.layer_groups`, by timm's `group_matcher`.

        Normalisation that is a group of its own, as in a VGG, joins the layer before it. The last
        group is what timm counts to the classifier: in some networks the last norm or a layer after
        pooling.
        """
        own = dict(network.named_parameters())
        classifier = _classifier(network)
        # The classifier takes part in the grouping, so that what timm counts to it can be told
        # apart.
        names_only = SimpleNamespace(named_parameters={**own, classifier: None}.items)
        groups: list[list[str]] = []
        after: list[str] = []
        for names in _timm_groups(names_only, network, coarse=coarse):
            if classifier in names:
                after = [name for name in names if name in own]
            elif groups and all(own[name].ndim <= 1 for name in names):
                groups[-1] += names
            else:
                groups.append(names)
        if len(groups) < 2:
            raise unknown_layers(network)
        return [*groups, after]

    def not_decayed(self, network: nn.Module) -> list[str]:
        """As `Encoder.not_decayed`."""
        return list(getattr(network, "no_weight_decay", set)())


@lru_cache(maxsize=64)
def _stated(text: str) -> Stated:
    own, architecture, arguments = _configured(text)
    if not own:  # of a blueprint of before, or written by hand
        raise ConfigError(
            f"backbone: the blueprint of {architecture} does not say how images are scaled;"
            ' expected "images": {"mean": [...], "std": [...]} in it'
        )
    grey = arguments.get("in_chans", own.get("input_size", (3,))[0]) == 1
    if grey:  # as timm does for them, which however warns
        own = {**own, **{k: (sum(own[k]) / len(own[k]),) for k in ("mean", "std") if own.get(k)}}
    data = timm.data.resolve_data_config(pretrained_cfg=own)
    _, size, _ = data["input_size"]
    mean, std = (
        tuple(float(v) for v in data[name])[: 1 if grey else 3] for name in ("mean", "std")
    )
    files: tuple[Path, ...] = ()
    source = f"timm's hub, {own.get('hf_hub_id') or architecture}"
    if text.startswith("hf-hub:"):
        source = f"Hugging Face's hub, {text.removeprefix('hf-hub:')}"
    elif text.startswith(_FOLDER):
        folder = Path(text.removeprefix(_FOLDER))
        source, files = folder.resolve().name, _weights_in(folder)
    return Stated(
        size=int(size),
        normalisation=Normalisation(mean, std),
        resample=_RESAMPLE.get(data["interpolation"], "bicubic"),
        source=source,
        licence=str(own.get("license") or ""),
        files=files,
    )


def _weights_in(folder: Path) -> tuple[Path, ...]:
    """Files that timm looks for in a folder."""
    names = ("model.safetensors", "pytorch_model.bin", "pytorch_model.pth")
    return tuple(folder / name for name in names if (folder / name).is_file())[:1]


@lru_cache(maxsize=64)
def _configured(text: str) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """What timm knows of the weights, the architecture, and its arguments.

    Raises:
        ConfigError: as `Encoder.stated`.
    """
    world, colon, name = text.partition(":")
    if name.startswith("{"):
        return _parts(name)
    if not colon:
        _check_name(text)
        known = timm.models.get_pretrained_cfg(text)
        return (known.to_dict() if known else {}), text, {}
    if world == "local-dir" and not (Path(name) / "config.json").is_file():
        raise ConfigError(f"backbone: {name}: no folder with a config.json, as timm saves them")
    load = hub.load_model_config_from_hf if world == "hf-hub" else hub.load_model_config_from_path
    try:
        with hub_at_once() if world == "hf-hub" else nullcontext():
            own, architecture, arguments = load(name)
    except OSError as error:
        raise _out_of_reach(text, error) from None
    except (RuntimeError, ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"backbone: {text}: not a model as timm saves them ({error})") from None
    if not timm.is_model(architecture):
        raise ConfigError(f"backbone: {text}: timm has no network {architecture!r}")
    return dict(own), architecture, _without_classes(arguments or {})


def _without_classes(arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments of an architecture, less the number of classes: there is no classifier here."""
    return {name: value for name, value in arguments.items() if name != "num_classes"}


def _check_name(name: str) -> None:
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models())
        hint = f"; like it: {', '.join(near)}" if near else ""
        if "/" in name or Path(name).is_dir():  # of a folder, or of the hub
            hint = (
                "; say of which library it is: local-dir:PATH or hf-hub:ORG/NAME of timm,"
                " transformers:PATH or ORG/NAME, open_clip:PATH or hf-hub:ORG/NAME"
            )
        raise ConfigError(f"backbone: timm has no network {name!r}{hint}")
    try:
        timm.models.get_pretrained_cfg(name)
    except RuntimeError as error:  # a tag that it does not know
        raise ConfigError(f"backbone: {error}") from None


def _parts(text: str) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """Scaling, architecture and arguments of a blueprint; those of before have no scaling."""
    try:
        parts = parse_json(text)
        architecture, arguments = parts["architecture"], parts["arguments"]
        images = parts.get("images") or {}
        own = {name: tuple(map(float, images[name])) for name in ("mean", "std") if images}
    except (ValueError, LookupError, TypeError):
        raise ConfigError(f"backbone: {text!r} is no blueprint of a network of timm") from None
    # What create_model takes for itself names files, `checkpoint_path` one that it would unpickle.
    reserved = {*inspect.signature(timm.create_model).parameters}
    if (
        not isinstance(architecture, str)
        or not isinstance(arguments, dict)
        or (reserved & {*arguments})
    ):
        raise ConfigError(f"backbone: {text!r} is no blueprint of a network of timm")
    _check_name(architecture)
    return own, architecture, _without_classes(arguments)


def _out_of_reach(text: str, error: OSError) -> ConfigError:
    reason = f" ({first_line(error)})" if hub_reachable() else ": it cannot be reached from here"
    return ConfigError(
        f"weights: {text}: nothing to be had from timm's hub{reason}; give --weights FILE,"
        " --weights package where one carries them, or --weights none for random ones"
    )


def _timm_groups(
    names_only: SimpleNamespace, network: nn.Module, *, coarse: bool
) -> list[list[str]]:
    matcher = getattr(network, "group_matcher", None)
    if matcher is None:
        raise unknown_layers(network)
    try:
        return list(group_parameters(names_only, matcher(coarse=coarse)).values())
    except AssertionError:  # timm's way to say that it has no stages for this network
        raise unknown_layers(network) from None


def _classifier(network: nn.Module) -> str:
    """Name of the weights that the network was built without."""
    settings = getattr(network, "pretrained_cfg", {})
    name = settings.get("classifier") or "head"
    return f"{name if isinstance(name, str) else name[0]}.weight"
