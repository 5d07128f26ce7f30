"""`train-backbone`: one detector for all images, one for each category, or all eight."""

import dataclasses
import errno
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from backbones.build import Detector
from backbones.config import BackboneConfig
from backbones.features import extract, frozen_names
from backbones.loop import Fitted
from backbones.material import MATERIALS, Material
from backbones.members import fit_members, predict_members
from backbones.weights import weights_identity
from core.categories import CATEGORIES
from core.config import fingerprint
from core.detectors import GLOBAL
from core.errors import ConfigError, MissingStageError
from core.images import ImageTable
from core.labels import LabelSpace
from core.predictions import Predictions, row_numbers
from core.progress import progress, say
from core.runs import ask_again, is_complete, new_folder, write_json
from core.workspace import Corpus, Workspace

EACH = "each"


def train_backbones(
    corpus: Corpus,
    workspace: Workspace,
    *,
    names: Sequence[str],
    config: BackboneConfig,
    preset: str,
    device: str,
) -> list[Path]:
    """Train the asked detectors; those trained before with equal settings are kept.

    Args:
        corpus: a prepared corpus.
        workspace: where the runs go.
        names: which detectors, see `detector_names`. Of several, those of categories without
            training images are skipped, and that is said.
        config: settings, the same for all.
        preset: the name that the run folders start with.
        device: `cpu` or `cuda`.

    Returns:
        The run folders.

    Raises:
        MissingStageError: none of them has training images.
    """
    present = [name for name in names if len(_training_images(corpus, name))]
    if missing := [name for name in names if name not in present]:
        reason = f"no training image of {corpus.name} has the category {', '.join(missing)}"
        if not present:
            raise MissingStageError(f"{reason}: nothing to train a specialist on")
        say(f"skipped: {reason}")
    material = MATERIALS[config.regime](corpus, workspace, config, device=device)
    return [
        _train_one(corpus, workspace, c, material, config, preset=preset, device=device)
        for c in present
    ]


def detector_names(category: str | None) -> tuple[str, ...]:
    """The detectors that `--category` asks for.

    Args:
        category: one of the seven for its specialist, `global` for the detector of all images,
            `each` for all seven specialists, None for the global one and all seven.

    Raises:
        ConfigError: no such category.
    """
    if category is None:
        return (GLOBAL, *CATEGORIES)
    if category == EACH:
        return CATEGORIES
    if category == GLOBAL or category in CATEGORIES:
        return (category,)
    raise ConfigError(
        f"--category {category}: expected {GLOBAL}, {EACH} or one of {', '.join(CATEGORIES)}"
    )


def _training_images(corpus: Corpus, category: str) -> ImageTable:
    """Labelled, readable training images of a category, or of all."""
    return corpus.labelled_images("train", category=None if category == GLOBAL else category)


def _train_one(
    corpus: Corpus,
    workspace: Workspace,
    category: str,
    material: Material,
    config: BackboneConfig,
    *,
    preset: str,
    device: str,
) -> Path:
    key = fingerprint(corpus.fingerprint, config, weights_identity(config.weights))
    name = f"{preset}-{key}"
    home = workspace.backbones / category / name
    if is_complete(home):
        say(f"{category}: already trained, {home}")
        ask_again(home)
        return home
    started = time.perf_counter()
    table = _training_images(corpus, category)
    labels = corpus.labels if category == GLOBAL else LabelSpace.of(c or () for c in table.concepts)
    meta: dict[str, Any] = {
        "category": category,
        "preset": preset,
        "corpus": corpus.fingerprint,
        "weights": config.weights,
        "embeddings": list(frozen_names(corpus, config)) if config.regime == "frozen" else [],
        "n_train": len(table),
        "n_concepts": len(labels),
        "device": device,
    }
    with new_folder(home, meta) as draft:
        write_json(draft / "config.json", dataclasses.asdict(config))
        labels.save(draft / "labels.txt")
        members = _fit(table, labels, material, config, name=category, draft=draft, device=device)
        models = [model for model, _ in members]
        _save_weights(draft / "model.safetensors", models)
        for split in ("valid", "test"):
            images = corpus.images(split, category=None if category == GLOBAL else category)
            rows = row_numbers("prediction inputs", material.image_ids, images.image_ids)
            Predictions(
                source=category,
                image_ids=images.image_ids,
                labels=labels,
                probs=predict_members(
                    models, material.evaluate, rows, n_concepts=len(labels), device=device
                ),
                fitted_on=frozenset(table.image_ids),
            ).save(draft / "predictions" / split)
        if category == GLOBAL and isinstance(models[0], Detector):
            folder = workspace.embeddings / f"{category}-{name}"
            _keep_features(folder, models[0], corpus, workspace, config, device=device)
            meta["embeddings"] = [folder.name]
        meta["stopping_f1"] = [fitted.f1 for _, fitted in members]
        meta["best_epoch"] = [fitted.epoch for _, fitted in members]
        meta["seconds"] = round(time.perf_counter() - started, 1)
    say(_summary(category, meta))
    return home


def _fit(
    table: ImageTable,
    labels: LabelSpace,
    material: Material,
    config: BackboneConfig,
    *,
    name: str,
    draft: Path,
    device: str,
) -> list[tuple[nn.Module, Fitted]]:
    """The members, trained in sight: a progress bar, and `log.jsonl` in the draft."""
    steps = config.epochs * config.n_members
    with (
        (draft / "log.jsonl").open("w", encoding="utf-8") as log_file,
        progress(f"training {name}", total=steps, unit="epochs") as advance,
    ):

        def log(entry: dict[str, Any]) -> None:
            print(json.dumps(entry), file=log_file, flush=True)
            advance(1)

        return fit_members(
            lambda train_rows: material.new_model(train_rows, len(labels)),
            material.train(),
            table.targets(labels).matrix,
            rows=row_numbers("training inputs", material.image_ids, table.image_ids),
            folds=table.folds,
            config=config,
            log=log,
            device=device,
            evaluate=material.evaluate,
        )


def _keep_features(
    folder: Path,
    detector: Detector,
    corpus: Corpus,
    workspace: Workspace,
    config: BackboneConfig,
    *,
    device: str,
) -> None:
    """Pooled features of a fine-tuned network, for fusion."""
    shutil.rmtree(folder, ignore_errors=True)  # of this network as an earlier run left it
    size = config.image_sizes[0]
    extract(folder, detector.backbone, corpus, workspace, config, size=size, device=device)


def _save_weights(path: Path, models: Sequence[nn.Module]) -> None:
    tensors = {
        f"{number}.{name}": value.cpu().contiguous()
        for number, model in enumerate(models)
        for name, value in model.state_dict().items()
    }
    try:
        save_file(tensors, path)
    except SafetensorError as error:
        raise OSError(errno.EIO, str(error), str(path)) from None


def _summary(category: str, meta: dict[str, Any]) -> str:
    reached = [f1 for f1 in meta["stopping_f1"] if f1 is not None]
    f1 = f"stopping F1 {np.mean(reached):.3f}" if reached else "no image to stop on"
    return (
        f"{category}: {meta['n_train']:,} images, {meta['n_concepts']:,} concepts, {f1},"
        f" best epochs {meta['best_epoch']}, {meta['seconds']:.0f} s"
    )
