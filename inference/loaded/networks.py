"""Networks read again to be asked: those that give features, and whole detectors."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from backbones.detectors.features import for_features, frozen_network, pool
from backbones.networks.build import Backbone, Detector, build_backbone
from backbones.networks.weights import run_normalisation
from backbones.settings.config import BackboneConfig
from core.categories import UNKNOWN
from core.labels import LabelSpace
from core.predictions import Predictions
from core.runs.detectors import GLOBAL
from corpus.images.decode import Resample
from training.checkpoint import WEIGHTS, load_network, load_networks
from training.devices.compute import Compute, FittingBatches
from training.devices.speed import PLAIN, Speed
from training.heads import Standardise, build_head
from training.members import predict_members
from training.predict import Rows, predict

if TYPE_CHECKING:
    from inference.loaded.block import ImageBlock

Floats = npt.NDArray[np.float32]

Look = tuple[int, Resample]
"""How images are decoded for a network: their size, and how they are scaled to it."""

_BATCH = 32  # as features were extracted


@dataclass(frozen=True, kw_only=True)
class FeatureNetwork:
    """A network without its head.

    Attributes:
        network: folded and placed for its speed.
        look: of the images that it takes.
        mirror: whether its features are the mean over image and mirror.
        compute: where and how it runs.
        batches: of the size in which the features of a corpus are extracted.
        most: None, or the images of a batch where few images are to make a small one: many times
            faster for one image, but for the rounding of sums the same.
    """

    network: nn.Module
    look: Look
    mirror: bool
    compute: Compute
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


def read_frozen(config: BackboneConfig, *, size: int, speed: str, device: str) -> FeatureNetwork:
    """A frozen network at one of its image sizes.

    Args:
        config: of a detector that learnt from its features.
        size: of the images.
        speed: the way in which the features were extracted.
        device: where it is to run.
    """
    return _ready(frozen_network(config, size=size), config, size=size, speed=speed, device=device)


def read_fine_tuned(
    folder: Path, config: BackboneConfig, *, number: int, speed: str, device: str
) -> FeatureNetwork:
    """A network of a fine-tuned detector, without its head.

    Args:
        folder: of the detector's run.
        config: of the detector.
        number: which of its networks.
        speed: the way in which its features were extracted.
        device: where it is to run.
    """
    state = {
        name.removeprefix(_BACKBONE): tensor
        for name, tensor in load_network(folder / WEIGHTS, number).items()
        if name.startswith(_BACKBONE)
    }
    backbone = _bare(folder, config)
    backbone.load_state_dict(state)
    size = config.image_sizes[0]
    return _ready(backbone.pooling(), config, size=size, speed=speed, device=device)


_BACKBONE = "backbone."


def _ready(
    backbone: Backbone, config: BackboneConfig, *, size: int, speed: str, device: str
) -> FeatureNetwork:
    compute = Compute(device=device, speed=Speed.parse(speed) if speed else PLAIN)
    network = compute.speed.place(for_features(backbone, size=size, device=device))
    look = (size, config.resample)
    return FeatureNetwork(network=network, look=look, mirror=config.mirror, compute=compute)


def _bare(folder: Path, config: BackboneConfig) -> Backbone:
    """The network of a fine-tuned detector as it was built, without the weights it started from."""
    backbone = build_backbone(replace(config, weights="none"))
    if own := run_normalisation(folder):
        for buffer, values in ((backbone.mean, own.mean), (backbone.std, own.std)):
            buffer.copy_(255 * torch.tensor(values).view(1, 3, 1, 1))
    return backbone


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
    """

    category: str
    labels: LabelSpace
    networks: Sequence[nn.Module]
    features: tuple[str, ...]
    look: Look
    mirror: bool
    compute: Compute
    n_at_once: int

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

        total = np.zeros((len(rows), len(self.labels)), dtype=np.float32)
        for network in self.networks if len(rows) else ():
            total += predict(
                network,
                batch,
                rows=rows,
                compute=self.compute,
                batch_size=self.n_at_once,
                mirror=self.mirror,
            )
        mean: Floats = np.clip(total / len(self.networks), 0.0, 1.0)
        return mean


def read_detector(
    folder: Path,
    config: BackboneConfig,
    *,
    category: str,
    features: tuple[str, ...],
    speed: str,
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
    labels = LabelSpace.load(folder / "labels.txt")
    networks: list[nn.Module] = []
    frozen = config.regime == "frozen"
    for state in load_networks(folder / WEIGHTS):
        if frozen:
            n_features = len(state["0.mean"])
            head = build_head(n_features, len(labels), config=config)
            network: nn.Module = nn.Sequential(Standardise(n_features), head)
        else:
            backbone = _bare(folder, config)
            head = build_head(backbone.n_features, len(labels), config=config)
            network = Detector(backbone, head)
        network.load_state_dict(state)
        networks.append(network.eval())
    ran = Speed() if frozen or not speed else Speed.parse(speed)
    return LoadedDetector(
        category=category,
        labels=labels,
        networks=networks,
        features=features if frozen else (),
        look=(config.image_sizes[0], config.resample),
        mirror=config.mirror and not frozen,
        compute=Compute(device=device, speed=ran),
        n_at_once=config.batch_size,
    )


def _as_images(pixels: npt.NDArray[np.uint8]) -> Tensor:
    """(n, 3, S, S), channels last in memory, as `corpus.images.batches` gives them."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)
