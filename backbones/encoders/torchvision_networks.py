"""torchvision's networks of classification, by name; trunks and stages of its kinds of network."""

import difflib
import re
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from backbones.encoders.downloads import downloaded
from backbones.encoders.encoder import LastMap, Normalisation, Stated, unknown_layers
from backbones.networks.checkpoint_files import read_checkpoint
from core.errors import ConfigError
from corpus.images.decode import Resample


@dataclass(frozen=True)
class TorchvisionEncoder:
    """A network of torchvision.

    Its own features are what goes into its last layer: of VGG, AlexNet and SqueezeNet, whose
    classifiers are larger than one, the mean over the places of what their convolutions give.

    Attributes:
        given: `torchvision:NAME`, with the default weights under that name, or
            `torchvision:NAME.WEIGHTS`, as `resnet50.IMAGENET1K_V1`.
    """

    given: str

    @property
    def text(self) -> str:
        """The string."""
        return self.given

    def stated(self) -> Stated:
        """As `Encoder.stated`, by the transforms of torchvision's weights."""
        return _stated(self.given)

    def blueprint(self) -> str:
        """The string itself."""
        return self.given

    def build(self, *, pretrained: bool) -> nn.Module:
        """As `Encoder.build`."""
        from torchvision.models import get_model

        name, weights = _named(self.given)
        arguments: dict[str, Any] = {}
        if name in ("googlenet", "inception_v3"):
            # They were made for other means than those that torchvision states, and turn them.
            arguments = {"aux_logits": False, "transform_input": True, "init_weights": False}
        elif name.startswith("vit_"):
            arguments = {"image_size": self.stated().size}
        network: nn.Module = get_model(name, weights=None, **arguments)
        _remove_classifier(network)
        if pretrained:
            folder = Path(torch.hub.get_dir()) / "checkpoints"
            path = downloaded(weights.url, folder=folder, what=f"torchvision's weights of {name}")
            load_trunk(network, read_checkpoint(path).tensors, path=path)
        return network

    def resize(self, network: nn.Module, size: int) -> None:
        """As `Encoder.resize`; a ViT's embeddings of positions are resampled."""
        from torchvision.models import VisionTransformer
        from torchvision.models.vision_transformer import interpolate_embeddings

        if isinstance(network, VisionTransformer):
            if size % network.patch_size:
                raise ConfigError(
                    f"image_sizes: {self.given} takes multiples of {network.patch_size} pixels,"
                    f" found {size}"
                )
            held = "encoder.pos_embedding"
            state = OrderedDict({held: network.encoder.pos_embedding.detach()})
            resized = interpolate_embeddings(size, network.patch_size, state)
            network.encoder.pos_embedding = nn.Parameter(resized[held])
            network.image_size = size
            network.seq_length = resized[held].shape[1]
        elif type(network).__name__ == "MaxVit" and size != self.stated().size:
            raise ConfigError(
                f"image_sizes: {self.given} takes {self.stated().size} pixels alone, found {size}"
            )

    def own(self, network: nn.Module, images: Tensor) -> Tensor:
        """As `Encoder.own`."""
        if type(network).__name__ in _OF_CONVOLUTIONS:
            return trunk(network, images).flatten(2).mean(2)
        features: Tensor = network(images)
        return features

    def last_map(self, network: nn.Module, images: Tensor) -> LastMap:
        """As `Encoder.last_map`."""
        from torchvision.models import VisionTransformer

        if isinstance(network, VisionTransformer):
            patches = network._process_input(images)
            tokens = torch.cat((network.class_token.expand(len(patches), -1, -1), patches), dim=1)
            found: Tensor = network.encoder(tokens)
            return LastMap(places=found[:, 1:].transpose(1, 2), token=found[:, 0])
        return LastMap(places=trunk(network, images).flatten(2))

    def layer_groups(self, network: nn.Module, *, coarse: bool) -> list[list[str]]:
        """As `Encoder.layer_groups`."""
        return stage_groups(network, coarse=coarse)

    def not_decayed(self, network: nn.Module) -> list[str]:
        """As `Encoder.not_decayed`."""
        return ["class_token", "encoder.pos_embedding", "*relative_position_bias_table"]


_OF_CONVOLUTIONS = ("VGG", "AlexNet", "SqueezeNet")

_BEHIND = ("avgpool", "dropout", "fc", "classifier", "head", "heads")
"""Names of what lies behind the trunk of every network here."""

_AUXILIARY = re.compile(r"(aux\d|AuxLogits)\.")


@lru_cache(maxsize=64)
def _named(text: str) -> tuple[str, Any]:
    """The network's name and the weights, of torchvision's enumeration.

    Raises:
        ConfigError: torchvision has none of that name.
    """
    from torchvision import models

    name, _, tag = text.partition(":")[2].partition(".")
    known = models.list_models(models)  # those of classification alone
    if name not in known:
        near = difflib.get_close_matches(name, known)
        hint = f"; like it: {', '.join(near)}" if near else ""
        raise ConfigError(f"backbone: torchvision has no network of classification {name!r}{hint}")
    weights = models.get_model_weights(name)
    found = weights.__members__.get((tag or "DEFAULT").upper())
    if found is None:
        raise ConfigError(
            f"backbone: torchvision has no weights {tag!r} of {name}; expected one of"
            f" {', '.join(member.name for member in weights)}"
        )
    return name, found


@lru_cache(maxsize=64)
def _stated(text: str) -> Stated:
    _, weights = _named(text)
    transform = weights.transforms()
    filters: dict[str, Resample] = {"bilinear": "bilinear", "nearest": "nearest"}
    return Stated(
        size=int(transform.crop_size[0]),
        normalisation=Normalisation(tuple(transform.mean), tuple(transform.std)),
        resample=filters.get(transform.interpolation.value, "bicubic"),
        source=f"torchvision's hub, {weights}",
        licence=str(weights.meta.get("license", "")),
    )


def load_trunk(network: nn.Module, state: dict[str, Tensor], *, path: Path) -> None:
    """Give a network without its classifier the weights of one that has it.

    Args:
        network: is changed.
        state: by torchvision's names, of before 2018 as well.
        path: that they are from.

    Raises:
        ConfigError: tensors are missing, or of another shape.
    """
    named = {re.sub(r"(norm|relu|conv)\.([12])\.", r"\1\2.", n): t for n, t in state.items()}
    # Dense networks of before torch 0.4 have a dot there, no other network here has.
    state = named if type(network).__name__ == "DenseNet" else state
    state = {name: tensor for name, tensor in state.items() if not _AUXILIARY.match(name)}
    try:
        missing = network.load_state_dict(state, strict=False).missing_keys
    except RuntimeError as error:
        raise ConfigError(f"weights: {path}: {str(error).splitlines()[-1].strip()}") from None
    if missing:
        raise ConfigError(
            f"weights: {path}: {len(missing)} tensors of {type(network).__name__} are missing,"
            f" first {missing[0]!r}; delete the file and have it downloaded again"
        )


def _remove_classifier(network: nn.Module) -> None:
    """Leave out a network's last layer, and what drops a share of the numbers before it."""
    if type(network).__name__ in _OF_CONVOLUTIONS:
        network.classifier = nn.Identity()
        return
    for name in ("heads", "head", "fc", "classifier"):
        layers = getattr(network, name, None)
        if isinstance(layers, nn.Sequential):
            *before, _ = layers.named_children()
            kept = [(key, layer) for key, layer in before if not isinstance(layer, nn.Dropout)]
            setattr(network, name, nn.Sequential(OrderedDict(kept)))
        elif layers is not None:
            setattr(network, name, nn.Identity())
    if isinstance(getattr(network, "dropout", None), nn.Module):
        network.dropout = nn.Identity()


def trunk(network: nn.Module, images: Tensor) -> Tensor:
    """(B, D, H, W) what a convolutional network's or a Swin transformer's last layer gives."""
    turned = getattr(network, "_transform_input", None)
    found: Tensor = images if turned is None else turned(images)
    for layer in _trunk_layers(network):
        for part in layer if isinstance(layer, nn.ModuleList) else (layer,):
            found = part(found)
    return relu(found) if type(network).__name__ == "DenseNet" else found


def _trunk_layers(network: nn.Module) -> Iterator[nn.Module]:
    for name, layer in network.named_children():
        if name in _BEHIND:
            return
        yield layer


def stage_groups(network: nn.Module, *, coarse: bool) -> list[list[str]]:
    """Names of parameters by groups of layers, as `Encoder.layer_groups`.

    Args:
        network: of torchvision's kinds, without its classifier.
        coarse: groups are stages: the layers of one resolution, where the network names them so,
            else its layers as it lists them. Else blocks.

    Raises:
        ConfigError: it has no layers of known names.
    """
    units = dict(_units(network, coarse=coarse))
    own = dict(network.named_parameters())
    found: dict[str, list[str]] = {group: [] for group in units.values()}
    after: list[str] = []
    for name in own:
        unit = next((unit for unit in units if name.startswith(f"{unit}.")), None)
        if unit is not None:
            found[units[unit]].append(name)
        elif name.startswith(_LAST_LAYERS) or not units:
            after.append(name)
        else:  # a class token, embeddings of positions
            found[next(iter(found))].append(name)
    groups: list[list[str]] = []
    for names in found.values():
        if groups and all(own[name].ndim <= 1 for name in names):  # normalisation on its own
            groups[-1] += names
        elif names:
            groups.append(names)
    if len(groups) < 2:
        raise unknown_layers(network)
    return [*groups, after]


_LAST_LAYERS = (*(f"{name}." for name in _BEHIND), "norm.", "encoder.ln.")

_STAGE = re.compile(r"(inception|Mixed_|Conv2d_)\d")
"""What layers of one resolution begin with in GoogLeNet and Inception: `inception4`, `Mixed_5`."""


def _units(network: nn.Module, *, coarse: bool) -> Iterator[tuple[str, str]]:
    """Names of layers, from the stem on, each with that of the group which it belongs to."""
    between: list[str] = []
    for name, layer in _stages(network):
        if not coarse:
            yield from ((block, block) for block in _blocks(name, layer))
        elif _is_between_stages(layer):
            between.append(name)
        else:
            stage = _STAGE.match(name)
            yield from ((unit, stage[0] if stage else name) for unit in (*between, name))
            between.clear()


def _stages(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, layer in network.named_children():
        if name in (*_BEHIND, "norm"):
            return
        if name in ("features", "layers", "trunk_output", "blocks"):
            yield from ((f"{name}.{key}", inner) for key, inner in layer.named_children())
        elif name == "encoder":
            inside = layer.get_submodule("layers").named_children()
            yield from ((f"encoder.layers.{key}", inner) for key, inner in inside)
        else:
            yield name, layer


def _blocks(name: str, layer: nn.Module) -> Iterator[str]:
    kind = type(layer).__name__
    if kind == "MaxVitBlock":
        name, layer = f"{name}.layers", layer.get_submodule("layers")
    elif kind not in ("Sequential", "AnyStage", "_DenseBlock") or _has_convolution(layer):
        yield name
        return
    yield from (f"{name}.{key}" for key, _ in layer.named_children())


def _is_between_stages(layer: nn.Module) -> bool:
    """Whether a layer reduces what a stage gives, for the next."""
    if type(layer).__name__ in ("_Transition", "PatchMerging", "PatchMergingV2"):
        return True
    return [type(part).__name__ for part in layer.children()] == ["LayerNorm2d", "Conv2d"]


def _has_convolution(layer: nn.Module) -> bool:
    return any(isinstance(part, nn.Conv2d) for part in layer.children())
