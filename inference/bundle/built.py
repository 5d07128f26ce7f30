"""Networks built from a bundle's tensors, none of them larger than these."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from backbones.networks.build import Backbone
from backbones.settings.config import BackboneConfig
from inference.bundle.tensors import TensorFile
from inference.loaded.networks import bare_backbone


def backbone_of(
    config: BackboneConfig, tensors: Mapping[str, Tensor], *, stored: TensorFile
) -> Backbone:
    """A network with its weights, and with the mean and deviation that its images are scaled by.

    It is laid out without memory first and held against the tensors: whatever a bundle names,
    nothing is made that is larger than what lies in it.

    Args:
        config: its settings.
        tensors: by the network's own names, with `mean` and `std`.
        stored: their file.

    Raises:
        BundleError: they are not those of the network.
        ConfigError: timm has no such network.
    """
    own = {name: tensor for name, tensor in tensors.items() if name not in ("mean", "std")}
    for name in ("mean", "std"):
        scale = tensors.get(name)
        if scale is None or scale.shape != (1, 3, 1, 1) or not scale.dtype.is_floating_point:
            raise stored.error(f"lacks the {name} of its network's images")
    try:
        with torch.device("meta"):
            backbone = bare_backbone(config, normalisation=None)
    except (NotImplementedError, RuntimeError):  # it looks at numbers while it is built
        backbone = bare_backbone(config, normalisation=None)
    expected = backbone.state_dict()
    for name in sorted({*expected} | {*own}):
        if name not in own or name not in expected or not _alike(own[name], expected[name]):
            raise stored.error(f"tensor {name!r} is not that of a {config.backbone}")
    if any(buffer.is_meta and name not in expected for name, buffer in _unsaved(backbone)):
        backbone = bare_backbone(config, normalisation=None)  # with tables that it makes itself
    backbone.load_state_dict(own, assign=True)
    backbone.mean, backbone.std = tensors["mean"].clone(), tensors["std"].clone()
    return backbone


def _alike(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype


def _unsaved(backbone: Backbone) -> list[tuple[str, Tensor]]:
    """Buffers but for the scale of images, which is set anyway."""
    return [(n, b) for n, b in backbone.named_buffers() if n not in ("mean", "std")]


def check_widths(state: Mapping[str, Tensor], widths: Sequence[int], *, stored: TensorFile) -> None:
    """Refuse layers that are larger than all tensors together, before they are made.

    Args:
        state: tensors of the network.
        widths: numbers between its layers, from its features to its concepts.
        stored: the file of the tensors.

    Raises:
        BundleError: they are.
    """
    n_there = sum(tensor.numel() for tensor in state.values())
    pairs = pairwise(widths)
    if min(widths[1:]) < 1 or sum(a * b for a, b in pairs) > n_there:
        raise stored.error("layers of other widths than its tensors")
