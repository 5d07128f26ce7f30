"""What a detector learns from: pooled features of a frozen network, or the images themselves."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from backbones.build import Detector, Standardise, build_backbone, build_head
from backbones.config import BackboneConfig
from backbones.features import pooled_features, readable_ids
from backbones.loop import Batches, Rows
from core.workspace import Corpus, Workspace
from corpus.cache import build_cache
from corpus.loading import CachedImages


@dataclass(frozen=True, kw_only=True)
class Material:
    """Inputs of a detector for the readable images of a corpus.

    Attributes:
        image_ids: the images; row numbers below count in them.
        train: inputs for training, augmented where the config says so.
        evaluate: the same inputs as they are.
        new_model: a fresh model for these training rows and that many concepts.
    """

    image_ids: tuple[str, ...]
    train: Batches
    evaluate: Batches
    new_model: Callable[[Rows, int], nn.Module]


def frozen_material(
    corpus: Corpus, workspace: Workspace, config: BackboneConfig, *, device: str
) -> Material:
    """Pooled features, extracted where they are not there yet."""
    embeddings = pooled_features(corpus, workspace, config, device=device)
    features = torch.from_numpy(embeddings.values.copy())  # a tensor of mapped memory warns

    def batch(rows: Rows) -> tuple[Tensor]:
        return (features[torch.from_numpy(rows)],)

    def new_model(train_rows: Rows, n_concepts: int) -> nn.Module:
        standardise = Standardise.fitted(batch(train_rows)[0])
        return nn.Sequential(standardise, _head(config, features.shape[1], n_concepts))

    return Material(
        image_ids=embeddings.image_ids, train=batch, evaluate=batch, new_model=new_model
    )


def full_material(
    corpus: Corpus,
    workspace: Workspace,
    config: BackboneConfig,
    *,
    device: str,  # the loop moves the batches; only features are made in advance
) -> Material:
    """The images, decoded where they are not yet."""
    ids = readable_ids(corpus)
    size = config.image_sizes[0]
    cache = build_cache(corpus.table, workspace.cache, size=size, resample=config.resample)

    def new_model(train_rows: Rows, n_concepts: int) -> nn.Module:
        backbone = build_backbone(config)
        return Detector(backbone, _head(config, backbone.n_features, n_concepts))

    return Material(
        image_ids=ids,
        train=CachedImages.of(cache, ids, augment=config.augment, seed=config.seed),
        evaluate=CachedImages.of(cache, ids),
        new_model=new_model,
    )


MATERIALS = {"frozen": frozen_material, "full": full_material}
"""By regime."""


def _head(config: BackboneConfig, n_inputs: int, n_concepts: int) -> nn.Sequential:
    return build_head(
        n_inputs,
        n_concepts,
        hidden=config.hidden,
        dropout=config.dropout,
        input_dropout=config.input_dropout,
    )
