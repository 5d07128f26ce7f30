"""Fusion networks on cached features: trained on different folds and seeds, averaged."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from torch import nn

from core.errors import ConfigError
from core.predictions import Probs
from core.progress import progress
from core.runs.fused import NO_METADATA
from fusion.config import FuseConfig
from fusion.inputs.gather import SPLITS, FusionInputs
from fusion.inputs.metadata import with_missing
from fusion.inputs.tensors import NetworkInputs, Training
from fusion.networks.heads import (
    Embedded,
    Experts,
    Film,
    Masked,
    MetaBlock,
    MetaNet,
    NoMetadata,
    OneHot,
    OneHotLate,
    PriorOffset,
)
from fusion.result import Earlier, FusedResult, asked_both_ways
from training.batches import Augment, Examples
from training.checkpoint import numbered
from training.config import FitConfig
from training.devices.compute import Compute, Inputs
from training.members import plan_members, predict_members
from training.predict import Rows, predict
from training.stack import fit_stack

Head = Callable[[Training, FitConfig], nn.Module]

HEADS: dict[str, Head] = {
    NO_METADATA: NoMetadata,
    "one-hot": OneHot,
    "one-hot-late": OneHotLate,
    "embedding": Embedded,
    "film": Film,
    "metanet": MetaNet,
    "metablock": MetaBlock,
    "experts": Experts,
    "prior-offset": PriorOffset,
    "masked": Masked,
}
"""Networks on pooled features and metadata, by strategy."""

_AT_ONCE = 1024
_PARTS = 5


def network(
    fusion_inputs: FusionInputs, config: FuseConfig, *, earlier: Earlier, name: str
) -> FusedResult:
    """A shallow network on pooled features and metadata, averaged over members."""
    models = _fit(HEADS[name], fusion_inputs, config, what=f"fusing, {name}")

    return answered(name, models, fusion_inputs=fusion_inputs, takes_category=name != NO_METADATA)


def answered(
    name: str, models: list[nn.Module], *, fusion_inputs: FusionInputs, takes_category: bool = True
) -> FusedResult:
    """What networks on pooled features and metadata say, the mean over them, with their weights.

    Args:
        name: of the strategy.
        models: the networks.
        fusion_inputs: what they are asked of.
        takes_category: whether they look at the category.
    """

    def answer(network_inputs: NetworkInputs) -> Mapping[str, Probs]:
        return {split: _mean(models, network_inputs, fusion_inputs, split) for split in SPLITS}

    found = asked_both_ways(name, fusion_inputs, answer=answer, takes_category=takes_category)
    return replace(found, weights=numbered(model.state_dict() for model in models))


def out_of_fold(
    fusion_inputs: FusionInputs, config: FuseConfig
) -> tuple[Probs, Mapping[str, Probs]]:
    """What heads without metadata say of training images that they did not learn from.

    Asked again for the same, as by the next classifier on these answers, it remembers them.

    Returns:
        (n, L) of the training images, and by split what all of these heads say on average.

    Raises:
        ConfigError: train has a single fold.
    """
    return _out_of_fold(fusion_inputs, replace(config, strategies=(NO_METADATA,), seeds=1))


@lru_cache(maxsize=1)
def _out_of_fold(
    fusion_inputs: FusionInputs, config: FuseConfig
) -> tuple[Probs, Mapping[str, Probs]]:
    train = fusion_inputs.training_images()
    n_parts = min(_PARTS, len(np.unique(train.folds)))
    if n_parts < 2:
        raise ConfigError("late fusion needs two folds of train; see train_folds of `prepare`")
    models = _fit(
        HEADS[NO_METADATA], fusion_inputs, config, what="fusing, held out", n_folds=n_parts
    )
    probs = np.empty((len(train), len(fusion_inputs.corpus.labels)), dtype=np.float32)
    rows, compute = fusion_inputs.rows(train), Compute(device=fusion_inputs.device)
    members = plan_members(train.folds, config, n_folds=n_parts, stops=fusion_inputs.stops)
    for member, model in zip(members, models, strict=True):
        held_out = member.held_out
        probs[held_out] = predict(
            model, fusion_inputs.network_inputs.batch, rows=rows[held_out], compute=compute
        )
    return probs, {
        split: _mean(models, fusion_inputs.network_inputs, fusion_inputs, split) for split in SPLITS
    }


def _fit(
    head: Head, fusion_inputs: FusionInputs, config: FuseConfig, *, what: str, n_folds: int = 0
) -> list[nn.Module]:
    train, network_inputs = fusion_inputs.training_images(), fusion_inputs.network_inputs
    targets, rows = train.targets(fusion_inputs.corpus.labels).matrix, fusion_inputs.rows(train)
    number_of = np.full(len(network_inputs.features), -1)
    number_of[rows] = np.arange(len(rows))

    def new_model(learnt: Rows) -> nn.Module:
        truth = torch.from_numpy(targets[number_of[learnt]].toarray()).float()
        training = Training(
            inputs=network_inputs.batch(learnt),
            targets=truth,
            known=fusion_inputs.known_category(learnt),
            widths=network_inputs.widths,
        )
        return head(training, config)

    examples = Examples(
        batches=network_inputs.batch,
        targets=targets,
        rows=rows,
        augment=forgetting(fusion_inputs, config),
        n_at_once=_AT_ONCE,
    )
    n_networks = (n_folds or config.n_members) * config.seeds
    with progress(what, total=n_networks * config.epochs, unit="epochs") as advance:
        fitted = fit_stack(
            new_model,
            examples,
            folds=train.folds,
            config=config,
            compute=Compute(device=fusion_inputs.device),
            log=lambda entry: advance(1),
            n_folds=n_folds,
            stops=fusion_inputs.stops,
        )
    return [model for model, _ in fitted]


def _mean(
    models: list[nn.Module], network_inputs: NetworkInputs, fusion_inputs: FusionInputs, split: str
) -> Probs:
    """(N, L) mean probability of the images of a split."""
    return predict_members(
        models,
        network_inputs.batch,
        rows=fusion_inputs.rows(fusion_inputs.corpus.images(split)),
        n_concepts=len(fusion_inputs.corpus.labels),
        compute=Compute(device=fusion_inputs.device),
    )


def forgetting(fusion_inputs: FusionInputs, config: FuseConfig) -> Augment | None:
    """In every epoch some images have the guess for their category, or lack a column.

    One network then serves images with and without them. The guess for a training image comes from
    a model that did not learn from it, so that it errs as often as that for any other image.
    """
    without_category, columns = fusion_inputs.without_category, fusion_inputs.encoder.columns
    share = 0.0 if without_category is None else config.guess_share
    missing = config.metadata_dropout if columns else 0.0
    if not share and not missing:
        return None

    def apply(inputs: Inputs, rows: Rows, epoch: int) -> Inputs:
        features, category, metadata = inputs
        rng = np.random.default_rng((config.seed, epoch, *map(int, rows[:2])))
        forgot = torch.from_numpy(rng.random((len(rows), 1)) < share).to(category.device)
        if without_category is not None:
            guess = without_category.category[torch.from_numpy(rows)].to(category.device)
            category = torch.where(forgot, guess, category)
        if missing:
            lacks = torch.from_numpy(rng.random((len(rows), len(columns))) < missing)
            metadata = with_missing(
                metadata, fusion_inputs.encoder.blocks, dropped=lacks.to(metadata.device)
            )
        return features, category, metadata

    return apply
