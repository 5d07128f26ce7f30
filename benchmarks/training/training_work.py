"""What the benchmarks of training share: drawn JPEG images, targets, settings."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.sparse import csr_array

from backbones.networks.build import Detector, build_backbone
from backbones.settings.config import BackboneConfig
from core.images import ImageTable
from corpus.images.batches import CachedImages
from corpus.images.cache import ImageCache
from corpus.phantom.patients import scenes
from corpus.phantom.write import draw
from training.batches import Examples
from training.devices.compute import Inputs
from training.devices.speed import Speed, choose_speed
from training.heads import build_head

N_CONCEPTS = 250
N_PRESENT = 5  # concepts an image
RATE = 1e-4
DECAY = 1e-2
WIDTH, HEIGHT = 690, 600  # of the images, as in ROCO
_QUALITY = 90

PACKAGES = ("torch", "torchvision", "timm", "pillow", "numpy")
"""Whose versions are told."""


def draw_images(folder: Path, *, n: int) -> ImageTable:
    """A table of so many drawn JPEG images, written to `train/all/` in the folder."""
    paths = [folder / "train" / "all" / f"{number:05d}.jpg" for number in range(n)]
    paths[0].parent.mkdir(parents=True)
    for path, (_, scene) in zip(paths, islice(scenes(0), n), strict=True):
        large = replace(scene, look=replace(scene.look, shape=(HEIGHT, WIDTH)))
        Image.fromarray(draw(large).pixels).save(path, quality=_QUALITY)
    return table_of(paths)


def table_of(paths: list[Path]) -> ImageTable:
    """These files as an image table; of the rest of it nothing is used here."""
    n = len(paths)
    return ImageTable(
        image_ids=tuple(path.stem for path in paths),
        paths=tuple(map(str, paths)),
        categories=("DRXR",) * n,
        splits=("train",) * n,
        folds=np.zeros(n, dtype=np.int16),
        groups=tuple(path.stem for path in paths),
        concepts=((),) * n,
    )


def draw_targets(n: int) -> csr_array:
    """(n, L) boolean, some concepts an image."""
    rng = np.random.default_rng(0)
    dense = np.zeros((n, N_CONCEPTS), dtype=np.bool_)
    for row in dense:
        row[rng.choice(N_CONCEPTS, size=N_PRESENT, replace=False)] = True
    return csr_array(dense)


def settings(network: str, *, size: int, batch_size: int, epochs: int) -> BackboneConfig:
    """Fine-tuning of the whole network with the plainest head, loss and schedule."""
    return BackboneConfig(
        backbone=network,
        weights="none",
        image_sizes=(size,),
        regime="full",
        hidden=(),
        input_dropout=0.0,
        loss="bce",
        optimizer="adamw",
        schedule="constant",
        learning_rate=RATE,
        weight_decay=DECAY,
        batch_size=batch_size,
        epochs=epochs,
        patience=epochs,
        augment="hflip",
    )


def new_detector(config: BackboneConfig) -> Detector:
    """A network with random weights that takes images as they lie in the cache."""
    backbone = build_backbone(config)
    return Detector(backbone, build_head(backbone.n_features, N_CONCEPTS, config=config))


def examples_of(cache: ImageCache, config: BackboneConfig) -> Examples:
    """All images of a cache, mirrored at random while they are learnt from."""
    n = len(cache.image_ids)
    images = CachedImages.of(cache, cache.image_ids, augment=config.augment)

    def augment(inputs: Inputs, rows: npt.NDArray[np.intp], epoch: int) -> Inputs:
        return (images.augmented(inputs[0], rows, epoch=epoch), *inputs[1:])

    return Examples(batches=images, targets=draw_targets(n), rows=np.arange(n), augment=augment)


def fastest(config: BackboneConfig, *, folder: Path) -> Speed:
    """Memory format and precision, by the probe."""
    return choose_speed(
        folder,
        lambda: new_detector(config),
        name=config.backbone,
        size=config.image_sizes[0],
        batch_size=config.batch_size,
        n_concepts=N_CONCEPTS,
        precision=config.precision,
        device="cpu",
        train=True,
    )
