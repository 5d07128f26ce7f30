"""What a detector learns from: pooled features of a frozen network, or the images themselves."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from backbones.build import Detector, Standardise, build_backbone, build_head
from backbones.config import BackboneConfig
from backbones.features import frozen_features
from backbones.loop import Batches, Rows
from core.workspace import Corpus, Workspace
from corpus.cache import build_cache
from corpus.loading import CachedImages


@dataclass(frozen=True, kw_only=True)
class Material:
    """Inputs of a detector for the readable images of a corpus.

    Attributes:
        image_ids: the images; rows below count in them.
        train: gives inputs for training, augmented where the config says so; from the same start
            each time, so that a detector does not depend on those trained before it.
        evaluate: the same inputs as they are.
        new_model: a fresh network for these training rows and that many concepts.
    """

    image_ids: tuple[str, ...]
    train: Callable[[], Batches]
    evaluate: Batches
    new_model: Callable[[Rows, int], nn.Module]


def frozen_material(
    corpus: Corpus, workspace: Workspace, config: BackboneConfig, *, device: str
) -> Material:
    """Pooled features, extracted where they are not there yet."""
    embeddings = frozen_features(corpus, workspace, config, device=device)
    features = torch.tensor(embeddings.values)

    def batch(rows: Rows) -> tuple[Tensor]:
        return (features[torch.from_numpy(rows)],)

    def new_model(train_rows: Rows, n_concepts: int) -> nn.Module:
        standardise = Standardise.fitted(batch(train_rows)[0])
        return nn.Sequential(standardise, build_head(features.shape[1], n_concepts, config))

    return Material(
        image_ids=embeddings.image_ids, train=lambda: batch, evaluate=batch, new_model=new_model
    )


def full_material(
    corpus: Corpus,
    workspace: Workspace,
    config: BackboneConfig,
    *,
    device: str,  # the loop moves the batches; only features are made in advance
) -> Material:
    """The images, decoded where they are not yet."""
    size = config.image_sizes[0]
    cache = build_cache(corpus.table, workspace.cache, size=size, resample=config.resample)
    ids = corpus.readable_ids

    def augmented() -> Batches:
        return CachedImages.of(cache, ids, augment=config.augment, seed=config.seed)

    def new_model(train_rows: Rows, n_concepts: int) -> nn.Module:
        backbone = build_backbone(config)
        return Detector(backbone, build_head(backbone.n_features, n_concepts, config))

    return Material(
        image_ids=ids,
        train=augmented,
        evaluate=CachedImages.of(cache, ids),
        new_model=new_model,
    )


MATERIALS = {"frozen": frozen_material, "full": full_material}
"""By regime."""
