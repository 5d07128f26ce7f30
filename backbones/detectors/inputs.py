"""What a detector learns from: pooled features of a frozen network, or the images themselves."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from backbones.detectors.features import frozen_features
from backbones.encoders.encoder import label_of
from backbones.networks.build import Detector, build_backbone, unlock_last
from backbones.networks.queries import Words, build_head_on
from backbones.networks.weights import start_head
from backbones.settings.config import BackboneConfig
from core.embeddings import Embeddings
from core.labels import LabelSpace
from core.metrics import column_sums
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import locked
from corpus.images.batches import CachedImages
from corpus.images.cache import cache_of
from training.batches import Augment
from training.devices.compute import Compute, Inputs
from training.devices.device import keep_memory
from training.devices.speed import Speed, choose_speed, unprobed
from training.heads import Standardise, build_head
from training.predict import Batches, Rows
from training.texts.spaces import HASHED, N_NUMBERS, hashed_space, named, sentences_once


class NewNetwork(Protocol):
    """A fresh network."""

    def __call__(self, rows: Rows, labels: LabelSpace, /, *, start: int = 0) -> nn.Module:
        """For these training rows and these concepts.

        Where its weights are those of a detector, `start` is which of its networks is taken.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class TrainingInputs:
    """Inputs of a detector for the readable images of a corpus.

    Attributes:
        image_ids: the images; rows below count in them.
        batches: inputs as they are.
        augment: for a seed, what training inputs undergo; None for nothing.
        new_model: a fresh network.
        compute: where and how to train and predict.
        n_at_once: images at once where nothing is learnt.
        pooled: features by which training images are chosen, of a network that has met none of
            them; made when they are asked for, by all processes together.
    """

    image_ids: tuple[str, ...]
    batches: Batches
    augment: Callable[[int], Augment | None]
    new_model: NewNetwork
    compute: Compute
    n_at_once: int
    pooled: Callable[[], Embeddings]


def frozen_inputs(
    corpus: Corpus, workspace: Workspace, *, config: BackboneConfig, compute: Compute
) -> TrainingInputs:
    """Pooled features, extracted where they are not there yet."""
    embeddings = frozen_features(corpus, workspace, config=config, compute=compute)
    features = torch.tensor(embeddings.values)

    def batch(rows: Rows) -> tuple[Tensor]:
        return (features[torch.from_numpy(rows)],)

    def new_model(train_rows: Rows, labels: LabelSpace, *, start: int = 0) -> nn.Module:
        standardise = Standardise.fitted(batch(train_rows)[0], widths=embeddings.widths)
        head = build_head(features.shape[1], len(labels), config=config)
        return nn.Sequential(standardise, head)

    return TrainingInputs(
        image_ids=embeddings.image_ids,
        batches=batch,
        augment=lambda seed: None,
        new_model=new_model,
        compute=compute,
        n_at_once=1024,
        pooled=lambda: embeddings,
    )


def image_inputs(
    corpus: Corpus, workspace: Workspace, *, config: BackboneConfig, compute: Compute
) -> TrainingInputs:
    """The images, decoded where they are not yet, and the fastest way to train on them."""
    size, ids = config.image_sizes[0], corpus.readable_ids
    cache = compute.world.in_turn(
        lambda: cache_of(corpus, workspace.cache, size=size, resample=config.scaling)
    )
    images = CachedImages.of(cache, ids)

    def augment(seed: int) -> Augment | None:
        if config.augment in ("none", "both"):  # mirrors are rows of their own
            return None
        seeded = CachedImages.of(cache, ids, augment=config.augment, seed=seed)

        def apply(inputs: Inputs, rows: Rows, epoch: int) -> Inputs:
            return (seeded.augmented(inputs[0], rows, epoch=epoch), *inputs[1:])

        return apply

    def new_model(train_rows: Rows, labels: LabelSpace, *, start: int = 0) -> Detector:
        backbone = build_backbone(config, start=start)
        words = None
        if config.head == "words":
            words = _words(corpus, labels, {ids[row] for row in train_rows}, config)
        head = build_head_on(backbone.n_features, len(labels), config=config, words=words)
        detector = Detector(backbone, head)
        start_head(detector.head, labels, config=config, number=start)
        if config.regime == "last":
            unlock_last(detector, config.n_stages)
        return detector

    keep_memory()

    def choose() -> Speed:
        if not config.probe:
            return unprobed(config.precision, compute.device)
        with locked(workspace.speed, what=f"speed of {config.backbone}"):  # both would be slow
            return choose_speed(
                workspace.speed,
                lambda: new_model(images.rows, corpus.labels),
                name=label_of(config.backbone),
                size=size,
                batch_size=-(-config.batch_size // compute.world.size),
                n_concepts=len(corpus.labels),
                precision=config.precision,
                device=compute.device,
                train=True,
                n_images=config.epochs * len(corpus.labelled_images(corpus.learnt_from)),
            )

    speed = compute.world.in_turn(choose)
    return TrainingInputs(
        image_ids=ids,
        batches=images,
        augment=augment,
        new_model=new_model,
        compute=replace(compute, speed=speed),
        n_at_once=config.batch_size,
        pooled=lambda: frozen_features(
            corpus, workspace, config=BackboneConfig(probe=config.probe), compute=compute
        ),
    )


TRAINING_INPUTS = {"frozen": frozen_inputs, "last": image_inputs, "full": image_inputs}
"""By regime."""


def _words(
    corpus: Corpus, labels: LabelSpace, image_ids: set[str], config: BackboneConfig
) -> Words:
    """The names of a network's concepts as points, from the images that it learns from."""
    learnable = corpus.labelled_images(corpus.learnt_from)
    learnt = learnable.take(np.isin(learnable.image_ids, [*image_ids]))
    targets = learnt.targets(labels).matrix
    names = named(corpus, labels)
    if config.query_text == HASHED:
        found = hashed_space(names, targets, n_numbers=N_NUMBERS, seed=config.seed)
        # As many numbers whatever the concepts, so that specialists start from a global detector.
        points = np.pad(found, ((0, 0), (0, N_NUMBERS - found.shape[1])))
    else:
        points = sentences_once(tuple(names), model=config.query_text, setting="query_text")
    return Words(
        points=torch.from_numpy(points).float(),
        learnt=torch.from_numpy(column_sums(targets) > 0),
    )
