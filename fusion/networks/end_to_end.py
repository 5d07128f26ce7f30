"""Fusion heads whose gradient goes into the network below them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from backbones.detectors.inputs import MATERIALS, Material
from backbones.detectors.run import CHECKPOINT
from backbones.networks.build import Backbone, Detector
from backbones.networks.weights import newest_fine_tuned
from backbones.settings.config import BackboneConfig
from backbones.settings.presets import PRESETS
from core.config import fingerprint, preset_of
from core.errors import ConfigError
from core.predictions import Probs, row_numbers
from core.progress import say
from core.runs.fused import BLIND
from fusion.config import FuseConfig
from fusion.inputs.gather import SPLITS, Given
from fusion.inputs.tensors import Evidence, Training
from fusion.networks.train import HEADS, Head, forgetting
from fusion.result import UNFINISHED, Fused, Made, as_predictions
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
    """Images, with category and metadata, by row of the evidence."""

    def __init__(self, material: Material, given: Given) -> None:
        self.material, self.given = material, given
        ids = given.embeddings.image_ids
        self._row_of = row_numbers("images to train on", material.image_ids, ids)

    def __call__(self, rows: Rows, evidence: Evidence) -> Inputs:
        images = self.material.batches(self._row_of[rows])
        return *images, *evidence.batch(rows)[1:]


def end_to_end(given: Given, config: FuseConfig, made: Made, *, name: str) -> Fused:
    """One network, fine-tuned together with the head on it.

    It starts from the newest fine-tuned global detector of the preset's network where there is one,
    else from the preset's weights. Killed at any moment, the same call goes on, until what it gave
    is written and its `unfinished` folder removed. Two at once would not know of each other: `fuse`
    holds a lock.

    Raises:
        ConfigError: the preset is not known or does not fine-tune, or its weights cannot be had.
    """
    settings = _settings(given, config)
    compute = Compute(device=given.device)
    material = MATERIALS[settings.regime](given.corpus, given.workspace, settings, compute)
    inputs = _Inputs(material, given)
    key = fingerprint(given.corpus.fingerprint, settings, config, given.names, given.columns, name)
    home = given.workspace.fusion / UNFINISHED / f"{name}{SUFFIX}-from-{key}"
    home.mkdir(parents=True, exist_ok=True)
    model = _fit(HEADS[name], inputs, settings, config, home, what=f"{name}, end to end")

    def answer(evidence: Evidence) -> dict[str, Probs]:
        return {
            split: predict(
                model,
                lambda rows: inputs(rows, evidence),
                given.rows(given.corpus.images(split)),
                compute=material.compute,
                batch_size=material.n_at_once,
                mirror=settings.mirror,
            )
            for split in SPLITS
        }

    source = f"{name}{SUFFIX}"
    withheld = None if name == BLIND else given.withheld
    return Fused(
        predictions=as_predictions(source, given, answer(given.evidence)),
        withheld={} if withheld is None else as_predictions(source, given, answer(withheld)),
        weights=numbered([model.state_dict()]),
        chosen={"started from": settings.weights},
        unfinished=home,
    )


def _settings(given: Given, config: FuseConfig) -> BackboneConfig:
    """The preset, with its start."""
    settings = preset_of(PRESETS, config.end_to_end, option="end_to_end")
    if settings.regime == "frozen":
        raise ConfigError(
            f"end_to_end: {config.end_to_end} trains heads alone; name a preset that fine-tunes,"
            " as finetune does"
        )
    settings = replace(settings, seed=config.seed)
    if config.end_to_end_epochs:
        settings = replace(settings, epochs=config.end_to_end_epochs)
    start = newest_fine_tuned(settings.backbone, given.corpus, given.workspace)
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
    given, material = inputs.given, inputs.material
    train = given.training_images()
    targets, rows = train.targets(given.corpus.labels).matrix, given.rows(train)
    member = plan_members(train.folds, settings)[0]
    torch.manual_seed(member.seed)
    backbone = _backbone(material, given)
    learnt = rows[member.learnt]
    truth = torch.from_numpy(targets[np.flatnonzero(member.learnt)].toarray()).float()
    features = _features(backbone, inputs, learnt)
    training = Training(inputs=(features, *given.evidence.batch(learnt)[1:]), targets=truth)
    model = FusedDetector(backbone, head(training, settings))
    n_images = int(member.learnt.sum()) * settings.epochs
    with watched(home, what, n_images=n_images, writes=True, tensorboard=None) as journal:
        fit(
            model,
            Examples(
                batches=lambda rows: inputs(rows, given.evidence),
                targets=targets,
                rows=rows,
                augment=_both(material.augment(member.seed), forgetting(given, config)),
                kinds=train.categories,
                n_at_once=material.n_at_once,
            ),
            stop=member.stop,
            config=settings,
            seed=member.seed,
            compute=material.compute,
            watch=journal.watch,
            checkpoint=Checkpoint(home / CHECKPOINT, every_s=_CHECKPOINT_S),
        )
    return model


def _backbone(material: Material, given: Given) -> Backbone:
    detector = material.new_model(given.rows(given.training_images()), given.corpus.labels)
    assert isinstance(detector, Detector)
    return detector.backbone


def _features(backbone: Backbone, inputs: _Inputs, rows: Rows) -> Tensor:
    """(n, D) what the network gives at the start: heads are standardised by it."""
    compute, n_at_once = inputs.material.compute, inputs.material.n_at_once
    backbone.to(compute.device).eval()
    parts = []
    with torch.inference_mode(), compute.speed.autocast(compute.device):
        for start in range(0, len(rows), n_at_once):
            images = inputs(rows[start : start + n_at_once], inputs.given.evidence)[:1]
            parts.append(backbone(*compute.take(images)).float().cpu())
    return torch.cat(parts).clone()


def _both(first: Augment | None, second: Augment | None) -> Augment | None:
    """One after the other."""
    if first is None or second is None:
        return first or second
    return lambda inputs, rows, epoch: second(first(inputs, rows, epoch), rows, epoch)
