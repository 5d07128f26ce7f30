"""Networks read again to be asked: those that give features, and whole detectors."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from backbones.detectors.features import for_features, frozen_network, pool
from backbones.networks.build import Backbone, Detector, backbone_state, build_backbone
from backbones.networks.queries import head_like
from backbones.networks.weights import run_normalisation
from backbones.settings.config import BackboneConfig
from core.categories import UNKNOWN
from core.config import overlay
from core.labels import LabelSpace
from core.predictions import Predictions
from core.runs.detectors import GLOBAL
from core.storage.documents import read_object
from core.storage.folders import is_complete, read_meta, read_whole
from corpus.images.decode import Resample
from training.checkpoint import WEIGHTS, load_network, load_networks
from training.devices.compute import Compute, FittingBatches
from training.devices.speed import PLAIN, Speed
from training.heads import Standardise, build_head, weights_to_come
from training.members import predict_members
from training.predict import Rows

if TYPE_CHECKING:
    from inference.loaded.block import ImageBlock

Floats = npt.NDArray[np.float32]

Look = tuple[int, Resample]
"""How images are decoded for a network: their size, and how they are scaled to it."""

_BATCH = 32  # as features were extracted


C = TypeVar("C")


def settings_in(folder: Path, usual: C) -> C:
    """The settings of a run, as its `config.json` has them.

    Args:
        folder: of the run.
        usual: settings of the same kind.

    Raises:
        ConfigError: another version wrote them.
    """
    path = folder / "config.json"
    if is_complete(folder):
        read_whole(folder, only=[path.name])
    settings = read_object(path)
    if settings.get("pooling") == "mean" and "partial_weights" not in settings:
        settings["pooling"] = "own"  # as it was called before other ways were there
    return overlay(usual, settings, origin=str(path))


def without_source(run: Path, config: BackboneConfig) -> BackboneConfig:
    """Settings that build a fine-tuned detector's network where the model's folder or hub is gone.

    Args:
        run: folder of the detector.
        config: its settings.
    """
    meta, expected = read_meta(run), run_normalisation(run)
    config = replace(config, backbone=meta.get("blueprint") or config.backbone, weights="none")
    return config if expected is None else replace(config, mean=expected.mean, std=expected.std)


@dataclass(frozen=True, kw_only=True)
class FoundSpeed:
    """A way to run a network, good for the kind of device that it was found on.

    Attributes:
        words: as `Speed` says it; "" where none was found.
        device: where it was found.
    """

    words: str
    device: str

    def on(self, device: str) -> Speed:
        """The way to run it on a device; the safe one where it is of another kind."""
        same = self.device.partition(":")[0] == device.partition(":")[0]
        return Speed.parse(self.words) if same and self.words else PLAIN


@dataclass(frozen=True, kw_only=True, eq=False)
class Unfolded:
    """What the network of some features is built from again, for another device.

    Attributes:
        config: its settings, of one image size.
        speed: how it was run.
        build: the network with its weights.
        run: folder of the fine-tuned detector that it is of; None for a frozen one.
        number: which of the detector's networks it is.
    """

    config: BackboneConfig
    speed: FoundSpeed
    build: Callable[[], Backbone]
    run: Path | None = None
    number: int = 0


@dataclass(frozen=True, kw_only=True)
class FeatureNetwork:
    """A network without its head.

    Attributes:
        network: folded and placed for its speed.
        look: of the images that it takes.
        mirror: whether its features are the mean over image and mirror.
        compute: where and how it runs.
        batches: of the size in which the features of a corpus are extracted.
        unfolded: the same, to be written; None where it was read from a bundle.
        most: None, or the images of a batch where few images are to make a small one: many times
            faster for one image, but for the rounding of sums the same.
    """

    network: nn.Module
    look: Look
    mirror: bool
    compute: Compute
    unfolded: Unfolded | None = None
    batches: FittingBatches = field(default_factory=lambda: FittingBatches(_BATCH))
    most: int | None = None

    def __call__(self, pixels: npt.NDArray[np.uint8]) -> Floats:
        """(n, D) pooled features of (n, S, S, 3) images."""
        images, batches = _as_images(pixels), self.batches
        if self.most is not None:
            n_batches = max(1, -(-len(pixels) // self.most))
            batches = FittingBatches(max(1, -(-len(pixels) // n_batches)))
        with torch.inference_mode():
            return pool(
                self.network,
                np.arange(len(pixels)),
                images=lambda rows: images[torch.from_numpy(rows)],
                batches=batches,
                compute=self.compute,
                mirror=self.mirror,
            )


def read_frozen(
    config: BackboneConfig, *, size: int, speed: FoundSpeed, device: str
) -> FeatureNetwork:
    """A frozen network at one of its image sizes.

    Args:
        config: of the encoder alone.
        size: of the images.
        speed: the way in which the features were extracted.
        device: where it is to run.
    """

    def build() -> Backbone:
        return frozen_network(config, size=size)

    own = replace(config, image_sizes=(size,))
    unfolded = Unfolded(config=own, speed=speed, build=build)
    return feature_network(build(), own, speed=speed, device=device, unfolded=unfolded)


def read_fine_tuned(
    folder: Path, config: BackboneConfig, *, number: int, speed: FoundSpeed, device: str
) -> FeatureNetwork:
    """A network of a fine-tuned detector, without its head.

    Args:
        folder: of the detector's run.
        config: of the detector.
        number: which of its networks.
        speed: the way in which its features were extracted.
        device: where it is to run.
    """

    def build() -> Backbone:
        backbone = build_backbone(config)
        backbone.load_state_dict(backbone_state(load_network(folder / WEIGHTS, number)))
        return backbone.as_pooled(config.image_sizes[0])

    read_whole(folder)
    config = without_source(folder, config)
    unfolded = Unfolded(config=config, speed=speed, build=build, run=folder, number=number)
    return feature_network(build(), config, speed=speed, device=device, unfolded=unfolded)


def feature_network(
    backbone: Backbone,
    config: BackboneConfig,
    *,
    speed: FoundSpeed,
    device: str,
    unfolded: Unfolded | None = None,
) -> FeatureNetwork:
    """A network made ready to give features.

    Args:
        backbone: with its weights; it gives pooled features.
        config: its settings, of one image size.
        speed: the way in which the features were extracted.
        device: where it is to run.
        unfolded: what it can be built from again.
    """
    (size,) = config.image_sizes
    compute = Compute(device=device, speed=speed.on(device))
    return FeatureNetwork(
        network=compute.speed.place(for_features(backbone, size=size, device=device)),
        look=(size, config.scaling),
        mirror=config.mirror,
        compute=compute,
        unfolded=unfolded,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedDetector:
    """A detector's networks, of which the mean is its answer.

    It is asked of the images of its category and of those of which none is given.

    Attributes:
        category: `GLOBAL`, or that of a specialist.
        labels: its own concepts.
        networks: at least one.
        features: names of the features that they take; () for images.
        look: of the images that they take where they take those.
        mirror: whether its answer is the mean over image and mirror.
        compute: where and how.
        n_at_once: images in a batch.
        config: settings that it was built by.
        found: the way in which its networks were run.
        run: its folder; None where it was read from a bundle.
    """

    category: str
    labels: LabelSpace
    networks: Sequence[nn.Module]
    features: tuple[str, ...]
    look: Look
    mirror: bool
    compute: Compute
    n_at_once: int
    config: BackboneConfig
    found: FoundSpeed
    run: Path | None = None

    def __call__(self, block: "ImageBlock") -> Predictions:
        """Probabilities (n, l) of those images that it is asked of."""
        rows = np.arange(len(block))
        if self.category != GLOBAL:
            rows = np.flatnonzero(np.isin(block.table.categories, [self.category, UNKNOWN]))
        probs = self._on_features(block, rows) if self.features else self._on_images(block, rows)
        ids = [block.table.image_ids[row] for row in rows]
        return block.predictions(self.category, probs, labels=self.labels, image_ids=ids)

    def _on_features(self, block: "ImageBlock", rows: Rows) -> Floats:
        values = torch.from_numpy(block.features(self.features))

        def batch(chosen: Rows) -> tuple[Tensor]:
            return (values[torch.from_numpy(chosen)],)

        return predict_members(
            self.networks, batch, rows=rows, n_concepts=len(self.labels), compute=self.compute
        )

    def _on_images(self, block: "ImageBlock", rows: Rows) -> Floats:
        images = _as_images(block.pixels[self.look])

        def batch(chosen: Rows) -> tuple[Tensor]:
            return (images[torch.from_numpy(chosen)],)

        return predict_members(
            self.networks,
            batch,
            rows=rows,
            n_concepts=len(self.labels),
            compute=self.compute,
            batch_size=self.n_at_once,
            mirror=self.mirror,
        )


@weights_to_come()
def read_detector(
    folder: Path,
    config: BackboneConfig,
    *,
    category: str,
    features: tuple[str, ...],
    speed: FoundSpeed,
    device: str,
) -> LoadedDetector:
    """A finished detector from its run folder.

    Args:
        folder: its run folder.
        config: its settings.
        category: `GLOBAL`, or that of a specialist.
        features: names of those that it learnt from, where its network was frozen.
        speed: the way in which its networks were run.
        device: where they are to run.
    """
    read_whole(folder)
    if config.regime != "frozen":
        config = without_source(folder, config)
    found = detector_of(
        load_networks(folder / WEIGHTS),
        config,
        labels=LabelSpace.load(folder / "labels.txt"),
        category=category,
        features=features,
        speed=speed,
        device=device,
        bare=lambda: build_backbone(config),
    )
    return replace(found, run=folder)


def detector_of(
    states: Sequence[Mapping[str, Tensor]],
    config: BackboneConfig,
    *,
    labels: LabelSpace,
    category: str,
    features: tuple[str, ...],
    speed: FoundSpeed,
    device: str,
    bare: Callable[[], Backbone],
) -> LoadedDetector:
    """A detector from the tensors of its networks.

    Args:
        states: of each network.
        config: its settings.
        labels: its own concepts.
        category: `GLOBAL`, or that of a specialist.
        features: names of those that it learnt from, where its network was frozen.
        speed: the way in which its networks were run.
        device: where they are to run.
        bare: a fine-tuned network without its weights.

    Raises:
        RuntimeError: the tensors are not those of such a network.
    """
    networks: list[nn.Module] = []
    head: nn.Module
    frozen = config.regime == "frozen"
    for state in states:
        if frozen:
            n_features = len(state["0.mean"])
            head = build_head(n_features, len(labels), config=config)
            network: nn.Module = nn.Sequential(Standardise(n_features), head)
        else:
            backbone = bare()
            head = head_like(
                state, n_features=backbone.n_features, n_concepts=len(labels), config=config
            )
            network = Detector(backbone, head)
        network.load_state_dict(state)
        networks.append(network.eval())
    return LoadedDetector(
        category=category,
        labels=labels,
        networks=networks,
        features=features if frozen else (),
        look=(config.image_sizes[0], config.scaling),
        mirror=config.mirror and not frozen,
        compute=Compute(device=device, speed=PLAIN if frozen else speed.on(device)),
        n_at_once=config.batch_size,
        config=config,
        found=speed,
    )


def _as_images(pixels: npt.NDArray[np.uint8]) -> Tensor:
    """(n, 3, S, S), channels last in memory, as `corpus.images.batches` gives them."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)
