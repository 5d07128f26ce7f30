"""Fusion heads whose gradient goes into the network below them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from backbones.detectors.features import encoder_meta
from backbones.detectors.inputs import TRAINING_INPUTS, TrainingInputs
from backbones.detectors.run import CHECKPOINT
from backbones.networks.build import Backbone, Detector
from backbones.networks.weights import newest_fine_tuned, settled
from backbones.settings.config import BackboneConfig
from backbones.settings.presets import PRESETS
from core.config import fingerprint, preset_of
from core.errors import ConfigError
from core.predictions import Probs, row_numbers
from core.progress import say
from core.runs.fused import NO_METADATA
from core.storage.folders import UNFINISHED
from fusion.config import FuseConfig
from fusion.inputs.gather import SPLITS, FusionInputs
from fusion.inputs.tensors import NetworkInputs, Training
from fusion.networks.train import HEADS, Head, forgetting
from fusion.result import Earlier, FusedResult, asked_both_ways
from training.batches import Augment, Examples
from training.checkpoint import Checkpoint, numbered
from training.devices.compute import Compute, Inputs
from training.log import watched
from training.loop import fit
from training.members import plan_members
from training.predict import Rows, predict


class FusedDetector(Detector):
    """Backbone and fusion head: images, category and metadata to logits."""

    def forward(self, images: Tensor, category: Tensor, metadata: Tensor) -> Tensor:  # type: ignore[override]
        """Logits (B, L) of uint8 images (B, 3, H, W), (B, 7) and (B, M)."""
        logits: Tensor = self.head(self.backbone(images), category, metadata)
        return logits


SUFFIX = "-e2e"
"""What follows a head's name where it is trained end to end."""

_CHECKPOINT_S = 600.0


class _Inputs:
    """Images with category and metadata, by row of the network inputs."""

    def __init__(self, training_inputs: TrainingInputs, fusion_inputs: FusionInputs) -> None:
        self.training_inputs, self.fusion_inputs = training_inputs, fusion_inputs
        ids = fusion_inputs.embeddings.image_ids
        self._row_of = row_numbers("images to train on", training_inputs.image_ids, wanted=ids)

    def __call__(self, rows: Rows, network_inputs: NetworkInputs) -> Inputs:
        images = self.training_inputs.batches(self._row_of[rows])
        return *images, *network_inputs.batch(rows)[1:]


def end_to_end(
    fusion_inputs: FusionInputs, config: FuseConfig, *, earlier: Earlier, name: str
) -> FusedResult:
    """One network, fine-tuned together with the head on it.

    It starts from the newest fine-tuned global detector of the preset's network where there is one,
    else from the preset's weights. Killed at any moment, the same call goes on, until what it gave
    is written and its `unfinished` folder removed. Two at once would not know of each other: `fuse`
    holds a lock.

    Raises:
        ConfigError: the preset is not known or does not fine-tune, or its weights cannot be had.
    """
    settings = _settings(fusion_inputs, config)
    compute = Compute(device=fusion_inputs.device)
    training_inputs = TRAINING_INPUTS[settings.regime](
        fusion_inputs.corpus, fusion_inputs.workspace, config=settings, compute=compute
    )
    inputs = _Inputs(training_inputs, fusion_inputs)
    key = fingerprint(
        fusion_inputs.corpus.fingerprint,
        settings,
        config,
        fusion_inputs.names,
        fusion_inputs.columns,
        name,
    )
    home = fusion_inputs.workspace.fusion / UNFINISHED / f"{name}{SUFFIX}-from-{key}"
    home.mkdir(parents=True, exist_ok=True)
    model = _fit(HEADS[name], inputs, settings, config, home, what=f"{name}, end to end")

    def answer(network_inputs: NetworkInputs) -> dict[str, Probs]:
        return {
            split: predict(
                model,
                lambda rows: inputs(rows, network_inputs),
                rows=fusion_inputs.rows(fusion_inputs.corpus.images(split)),
                compute=training_inputs.compute,
                batch_size=training_inputs.n_at_once,
                mirror=settings.mirror,
            )
            for split in SPLITS
        }

    source = f"{name}{SUFFIX}"
    return replace(
        asked_both_ways(source, fusion_inputs, answer=answer, takes_category=name != NO_METADATA),
        weights=numbered([model.state_dict()]),
        chosen={"started from": settings.weights, "external": encoder_meta(settings)},
        unfinished=(home,),
    )


def _settings(fusion_inputs: FusionInputs, config: FuseConfig) -> BackboneConfig:
    """The preset, with its start."""
    settings = preset_of(PRESETS, config.end_to_end, option="end_to_end")
    if settings.regime == "frozen":
        raise ConfigError(
            f"end_to_end: {config.end_to_end} trains heads alone; name a preset that fine-tunes,"
            " as finetune does"
        )
    # The fusion's own head takes the place of the preset's, and learns from pooled features.
    settings = replace(settled(settings), seed=config.seed, head="layers")
    if config.end_to_end_epochs:
        settings = replace(settings, epochs=config.end_to_end_epochs)
    start = newest_fine_tuned(
        settings.backbone, fusion_inputs.corpus, workspace=fusion_inputs.workspace
    )
    if start is None:
        return settings
    say(f"starting from {start.name}")
    return replace(settings, weights=str(start.folder))


def _fit(
    head: Head,
    inputs: _Inputs,
    settings: BackboneConfig,
    config: FuseConfig,
    home: Path,
    *,
    what: str,
) -> FusedDetector:
    """The fine-tuned network."""
    fusion_inputs, training_inputs = inputs.fusion_inputs, inputs.training_inputs
    train = fusion_inputs.training_images()
    targets, rows = train.targets(fusion_inputs.corpus.labels).matrix, fusion_inputs.rows(train)
    member = plan_members(train.folds, settings, stops=fusion_inputs.stops)[0]
    torch.manual_seed(member.seed)
    backbone = _backbone(training_inputs, fusion_inputs)
    learnt = rows[member.learnt]
    truth = torch.from_numpy(targets[np.flatnonzero(member.learnt)].toarray()).float()
    features = _features(backbone, inputs, learnt)
    training = Training(
        inputs=(features, *fusion_inputs.network_inputs.batch(learnt)[1:]),
        targets=truth,
        known=fusion_inputs.known_category(learnt),
    )
    model = FusedDetector(backbone, head(training, settings))
    n_images = int(member.learnt.sum()) * settings.epochs
    with watched(home, what, n_images=n_images, writes=True, tensorboard=None) as training_log:
        fit(
            model,
            Examples(
                batches=lambda rows: inputs(rows, fusion_inputs.network_inputs),
                targets=targets,
                rows=rows,
                augment=_both(
                    training_inputs.augment(member.seed), forgetting(fusion_inputs, config)
                ),
                kinds=train.categories,
                n_at_once=training_inputs.n_at_once,
            ),
            stop=member.stop,
            config=settings,
            seed=member.seed,
            compute=training_inputs.compute,
            watch=training_log.watch,
            checkpoint=Checkpoint(home / CHECKPOINT, every_s=_CHECKPOINT_S),
        )
    return model


def _backbone(training_inputs: TrainingInputs, fusion_inputs: FusionInputs) -> Backbone:
    detector = training_inputs.new_model(
        fusion_inputs.rows(fusion_inputs.training_images()), fusion_inputs.corpus.labels
    )
    assert isinstance(detector, Detector)
    return detector.backbone


def _features(backbone: Backbone, inputs: _Inputs, rows: Rows) -> Tensor:
    """(n, D) what the network gives at the start: heads are standardised by it."""
    compute, n_at_once = inputs.training_inputs.compute, inputs.training_inputs.n_at_once
    backbone.to(compute.device).eval()
    parts = []
    with torch.inference_mode(), compute.speed.autocast(compute.device):
        for start in range(0, len(rows), n_at_once):
            images = inputs(rows[start : start + n_at_once], inputs.fusion_inputs.network_inputs)[
                :1
            ]
            parts.append(backbone(*compute.take(images)).float().cpu())
    return torch.cat(parts).clone()


def _both(first: Augment | None, second: Augment | None) -> Augment | None:
    """One after the other."""
    if first is None or second is None:
        return first or second
    return lambda inputs, rows, epoch: second(first(inputs, rows, epoch), rows, epoch)
