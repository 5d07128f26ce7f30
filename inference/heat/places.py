"""Where in an image a network's features come from: the last layer whose places they depend on.

Which layer that is, the network itself is asked, once, with one drawn image:

1. The last map, as the encoder gives it, where the features are pooled from it here, or are its
   mean over the places whoever pools (CNNs, Swin). Nothing is taken back through the network then.
2. Else the layer within the network that gives that map, if the features depend on its places:
   ConvNeXt, which normalises after the mean; attention that pools.
3. Else, where a class token is all that is kept, the places do not matter any more behind the last
   block. Its attention is given the tokens as its first normalisation leaves them, and that is the
   layer. Not the input of the block itself: what is normalised has no scale, so that its product
   with its own gradient is zero at every place.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from backbones.encoders.encoder import LastMap, brief
from backbones.encoders.pooling import Given, pooled
from backbones.networks.build import Backbone
from core.errors import ConfigError
from inference.loaded.networks import Look
from training.devices.compute import Compute

Layout = Literal["places", "maps", "maps, channels last", "tokens"]
"""(R, D, P); (R, D, h, w); (R, h, w, D); (R, n + P, D), of which the last P are places."""

_ALIKE = 1e-3  # of the largest number: rounding of two ways to compute the same, in bf16 as well


@dataclass(frozen=True, kw_only=True, eq=False)
class PlacedLayer:
    """A layer within a network that gives numbers of places.

    Attributes:
        module: the layer.
        call: which of its calls in a pass, from 1: some activations are called many times.
        layout: of what it gives.
        before: whether it is what the module is given that counts.
    """

    module: nn.Module
    call: int
    layout: Layout
    before: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class SeenImage:
    """Features of an image, and what they were computed from.

    Attributes:
        features: (R, D): of the image and, where R is 2, of its mirror.
        leaf: the numbers of the places, which the features can be traced back to.
        layout: of those.
        n_places: P.
        means: columns of the features that are means over the places of the leaf's channels, in
            their order; None where there are none.
    """

    features: Tensor
    leaf: Tensor
    layout: Layout
    n_places: int
    means: slice | None

    def evidence(self, gradients: Tensor, offsets: Tensor) -> Tensor:
        """(n, s, s) what each place adds to n sums of features.

            e_p = sum_r sum_d A_rdp dz/dA_rdp - offset / P

        A are the numbers of the places, and r goes over the image and its mirror, whose places are
        turned back. Where z is affine in A, all places together add z less its constant.

        Args:
            gradients: (n, R, D) of each sum by the features.
            offsets: (n,) what is taken off, an equal share at every place.

        Source: Draelos and Carin, Use HiResCAM instead of Grad-CAM for faithful explanations of
        convolutional neural networks, 2020 (arXiv 2011.08891), equation 6. Where the gradient is
        the same at every place, as below a mean, it is Grad-CAM (Selvaraju et al., ICCV 2017).
        """
        side = math.isqrt(self.n_places)
        found = self.features.new_zeros((len(gradients), side, side))
        for number, wanted in enumerate(gradients):
            (slope,) = torch.autograd.grad(
                self.features, self.leaf, grad_outputs=wanted, retain_graph=True
            )
            rows = self._by_place(slope.float() * self.leaf.detach().float())
            rows = rows.reshape(-1, side, side)
            found[number] = rows[0] + rows[1].flip(1) if len(rows) == 2 else rows[0]
        return found - offsets[:, None, None] / self.n_places

    def _by_place(self, values: Tensor) -> Tensor:
        """(R, P) sums over the channels."""
        if self.layout == "tokens":
            return values.sum(dim=2)[:, -self.n_places :]
        channels = 3 if self.layout == "maps, channels last" else 1
        return values.sum(dim=channels).flatten(1)


class PlacedNetwork:
    """A network without its head that tells what each place of an image adds.

    One image at a time; not for several threads at once.

    Attributes:
        look: of the images that it takes.
        layer: within the network; None for the last map.
    """

    def __init__(self, backbone: Backbone, *, look: Look, mirror: bool, compute: Compute) -> None:
        """Ask the network, with one drawn image, where its places are.

        Args:
            backbone: with its weights, whose gradients are given up.
            look: of the images that it takes.
            mirror: whether the mirror of an image is looked at as well.
            compute: where and how it runs.

        Raises:
            ConfigError: it has no layer with places that its features depend on, or they form no
                square.
        """
        self.look, self.mirror, self.compute = look, mirror, compute
        self.backbone = backbone.to(compute.device).eval().requires_grad_(False)
        compute.speed.place(self.backbone)
        self._pooling: Given = backbone.pooling
        self.layer: PlacedLayer | None = None
        generator = torch.Generator().manual_seed(0)
        size, _ = look
        drawn = torch.randint(0, 256, (1, 3, size, size), generator=generator, dtype=torch.uint8)
        self._locate(compute.take((drawn,))[0])

    def see(self, pixels: npt.NDArray[np.uint8]) -> SeenImage:
        """Features of an image (S, S, 3).

        In memory stay the numbers of its places and what comes after them: a last map, or one block
        of a transformer.
        """
        image = torch.tensor(pixels).permute(2, 0, 1)[None]
        both = torch.cat([image, image.flip(3)]) if self.mirror else image
        (images,) = self.compute.take((both,))
        with self.compute.speed.autocast(self.compute.device):
            return self._seen(images)

    def _seen(self, images: Tensor) -> SeenImage:
        if self.layer is not None:
            features, leaf = _traced(self.backbone, images, self.layer)
            assert leaf is not None, "a network takes the same way with every image"
            return SeenImage(
                features=features.float(), leaf=leaf, layout=self.layer.layout,
                n_places=self._n_places, means=None,
            )  # fmt: skip
        found = self._last_map(images)
        leaf = found.places.float().requires_grad_()
        with torch.enable_grad():
            features = pooled(
                LastMap(places=leaf, token=found.token), self._pooling,
                mean=self.backbone.generalised,
            )  # fmt: skip
        first = {"mean": 0, "cls+mean": leaf.shape[1]}.get(self._pooling)
        return SeenImage(
            features=features.float(), leaf=leaf, layout="places", n_places=leaf.shape[2],
            means=None if first is None else slice(first, first + leaf.shape[1]),
        )  # fmt: skip

    def _last_map(self, images: Tensor) -> LastMap:
        with torch.no_grad():
            return self.backbone.encoder.last_map(
                self.backbone.network, self.backbone.scaled(images)
            )

    def _locate(self, drawn: Tensor) -> None:
        text = brief(self.backbone.encoder.text)
        try:
            places = self._last_map(drawn).places
        except ConfigError as error:
            raise ConfigError(f"heat maps: {text} has no single last map ({error})") from None
        self._n_places = places.shape[2]
        if math.isqrt(self._n_places) ** 2 != self._n_places or self._n_places < 2:
            raise ConfigError(
                f"heat maps: {text} at {self.look[0]} pixels has {self._n_places} places, which"
                " form no square of more than one; take other image_sizes"
            )
        if self._pooling not in ("own", "cls"):
            return
        if self._pooling == "own":
            with torch.no_grad():
                own = self.backbone(drawn)
            if _alike(places.mean(dim=2), own):
                self._pooling = "mean"
                return
        for layer in _layers(self.backbone, drawn, places=places):
            if _matters(self.backbone, drawn, layer=layer, n_places=self._n_places):
                self.layer = layer
                return
        raise ConfigError(f"heat maps: {text} has no layer with places that its features depend on")


def _alike(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    return bool((one - other).abs().max() <= _ALIKE * other.abs().max())


def _layout_of(given: Any, places: Tensor) -> Layout | None:
    """How an output may hold numbers of so many places and channels as a last map does."""
    _, n_channels, n_places = places.shape
    if not isinstance(given, Tensor) or len(given) != len(places):
        return None
    shape = given.shape
    if given.ndim == 4 and shape[1] == n_channels and shape[2] * shape[3] == n_places:
        return "maps"
    if given.ndim == 4 and shape[3] == n_channels and shape[1] * shape[2] == n_places:
        return "maps, channels last"
    if given.ndim == 3 and shape[2] == n_channels and shape[1] >= n_places:
        return "tokens"
    return None


def _as_places(given: Tensor, layout: Layout, n_places: int) -> Tensor:
    """(R, D, P)."""
    if layout == "tokens":
        return given[:, -n_places:].transpose(1, 2)
    return (given.permute(0, 3, 1, 2) if layout == "maps, channels last" else given).flatten(2)


def _layers(backbone: Backbone, drawn: Tensor, *, places: Tensor) -> Iterator[PlacedLayer]:
    """Layers that may tell of places, the last one first."""
    block = _last_block(backbone)
    inside = set(block.modules()) if block is not None else set()
    calls: dict[nn.Module, int] = {}
    whole: list[PlacedLayer] = []
    norms: list[PlacedLayer] = []
    inputs: list[PlacedLayer] = []

    def note(module: nn.Module, given: Any, gave: Any) -> None:
        calls[module] = calls.get(module, 0) + 1
        layout = _layout_of(gave, places)
        if layout is not None:
            layer = PlacedLayer(module=module, call=calls[module], layout=layout)
            if _alike(_as_places(gave, layout, places.shape[2]), places):
                whole.append(layer)
            if module in inside and "norm" in type(module).__name__.lower():
                norms.append(layer)
        if module is block and given and (layout := _layout_of(given[0], places)) is not None:
            inputs.append(PlacedLayer(module=module, call=1, layout=layout, before=True))

    handles = [module.register_forward_hook(note) for module in backbone.network.modules()]
    _run(backbone, drawn, handles)
    yield from (*whole[-1:], *norms[:1], *inputs[:1])


def _run(backbone: Backbone, images: Tensor, handles: list[RemovableHandle]) -> Tensor:
    try:
        features: Tensor = backbone(images)
    finally:
        for handle in handles:
            handle.remove()
    return features


def _last_block(backbone: Backbone) -> nn.Module | None:
    """The last block of layers as the encoder describes its network; None where it does not."""
    network = backbone.network
    try:
        groups = backbone.encoder.layer_groups(network, coarse=False)
    except ConfigError:
        return None
    own = dict(network.named_parameters())
    names = next((names for names in reversed(groups[:-1]) if names), [])
    # Normalisation behind the block may be counted to it; weights are its own.
    wide = [name.split(".")[:-1] for name in names if own[name].ndim > 1]
    shared = takewhile(lambda parts: len(set(parts)) == 1, zip(*wide, strict=False))
    return network.get_submodule(".".join(parts[0] for parts in shared)) if wide else None


def _matters(backbone: Backbone, drawn: Tensor, *, layer: PlacedLayer, n_places: int) -> bool:
    """Whether the features depend on the places of a layer."""
    features, leaf = _traced(backbone, drawn, layer)
    if leaf is None or not features.requires_grad:
        return False
    generator = torch.Generator().manual_seed(1)
    wanted = torch.randn(features.shape, generator=generator).to(features)
    (slope,) = torch.autograd.grad(features, leaf, grad_outputs=wanted, allow_unused=True)
    return slope is not None and bool(_as_places(slope, layer.layout, n_places).any())


def _traced(backbone: Backbone, images: Tensor, layer: PlacedLayer) -> tuple[Tensor, Tensor | None]:
    """Features, and what the layer gave, which they can be traced back to."""
    held, handle = _hold(layer)
    with torch.enable_grad():
        features = _run(backbone, images, [handle])
    return features, held[0] if held else None


def _hold(layer: PlacedLayer) -> tuple[list[Tensor], RemovableHandle]:
    """Have what a layer gives be where gradients end; nothing before it is kept for them."""
    held: list[Tensor] = []
    n_calls = 0

    def hold(given: Tensor) -> Tensor:
        nonlocal n_calls
        n_calls += 1
        if n_calls != layer.call:
            return given
        held.append(given.detach().clone().requires_grad_())
        return held[0].clone()  # the layers behind it may write over it

    if layer.before:
        handle = layer.module.register_forward_pre_hook(
            lambda module, given: (hold(given[0]), *given[1:])
        )
    else:
        handle = layer.module.register_forward_hook(lambda module, given, gave: hold(gave))
    return held, handle
