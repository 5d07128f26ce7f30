"""`train-backbone`: one detector for all images, one for each category, or all eight."""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file

from backbones.config import BackboneConfig
from backbones.detector import Trained, predict_detector, train_detector
from backbones.features import readable_ids
from backbones.material import MATERIALS, Material
from core.categories import CATEGORIES, Category
from core.config import fingerprint
from core.errors import ConfigError, MissingStageError
from core.images import ImageTable
from core.labels import LabelSpace
from core.progress import progress, say
from core.runs import is_complete, new_folder, write_json
from core.workspace import Corpus, Workspace

GLOBAL = "global"
EACH = "each"


def train_backbones(
    corpus: Corpus,
    workspace: Workspace,
    *,
    category: str | None,
    config: BackboneConfig,
    preset: str,
    device: str,
) -> list[Path]:
    """Train the asked detectors; those trained before with equal settings are kept.

    Args:
        corpus: a prepared corpus.
        workspace: where the runs go.
        category: one of the seven for its specialist, `global` for the detector of all images,
            `each` for all seven specialists, None for the global one and all seven.
        config: settings, the same for all.
        preset: the name that the run folders start with.
        device: `cpu` or `cuda`.

    Returns:
        The run folders.

    Raises:
        ConfigError: no such category.
        MissingStageError: a category that was asked for by name has no training images.
    """
    wanted = _wanted(category)
    present = {c for c in wanted if c == GLOBAL or len(_training_images(corpus, c))}
    if missing := [c for c in wanted if c not in present]:
        reason = f"no training image of {corpus.name} is of the category {', '.join(missing)}"
        if category not in (None, EACH) or not present:
            raise MissingStageError(f"{reason}: nothing to train a specialist on")
        say(f"skipped: {reason}")
    material = MATERIALS[config.regime](corpus, workspace, config, device=device)
    return [
        _train_one(corpus, workspace, c, material, config, preset=preset, device=device)
        for c in wanted
        if c in present
    ]


def _wanted(category: str | None) -> list[str]:
    if category is None:
        return [GLOBAL, *CATEGORIES]
    if category == EACH:
        return list(CATEGORIES)
    if category == GLOBAL or category in CATEGORIES:
        return [category]
    raise ConfigError(
        f"--category {category}: expected {GLOBAL}, {EACH} or one of {', '.join(CATEGORIES)}"
    )


def _training_images(corpus: Corpus, category: str) -> ImageTable:
    """Labelled, readable training images of a category, or of all."""
    table = corpus.table.of(split="train", category=None if category == GLOBAL else category)
    readable = set(readable_ids(corpus))
    return table.take(table.labelled & np.array([i in readable for i in table.image_ids], bool))


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
    home = workspace.backbones / category / f"{preset}-{fingerprint(corpus.fingerprint, config)}"
    if is_complete(home):
        say(f"{category}: already trained, {home}")
        return home
    started = time.perf_counter()
    table = _training_images(corpus, category)
    labels = corpus.labels if category == GLOBAL else _concepts_of(table)
    meta: dict[str, Any] = {"category": category, "preset": preset, "corpus": corpus.fingerprint}
    with new_folder(home, meta) as draft, (draft / "log.jsonl").open("w") as log_file:
        steps = config.epochs * config.n_members
        with progress(f"training {category}", total=steps, unit="epochs") as advance:

            def log(entry: dict[str, Any]) -> None:
                log_file.write(json.dumps(entry) + "\n")
                log_file.flush()
                advance(1)

            detector = train_detector(table, labels, material, config, device=device, log=log)
        _save(draft, detector, labels, config)
        _predict_splits(draft, corpus, category, detector, material, labels, device=device)
        f1 = float(np.mean([fitted.f1 for fitted in detector.fitted]))
        seconds = time.perf_counter() - started
        meta |= {"n_train": len(table), "n_concepts": len(labels), "stopping_f1": f1}
        meta |= {"seconds": round(seconds, 1), "device": device, "weights": config.weights}
    say(
        f"{category}: {len(table):,} images, {len(labels):,} concepts, stopping F1 {f1:.3f},"
        f" best epoch {', '.join(str(fitted.epoch) for fitted in detector.fitted)}"
        f" of {config.epochs}, {seconds:.0f} s"
    )
    return home


def _concepts_of(table: ImageTable) -> LabelSpace:
    return LabelSpace.of(concepts for concepts in table.concepts if concepts is not None)


def _save(draft: Path, detector: Trained, labels: LabelSpace, config: BackboneConfig) -> None:
    write_json(draft / "config.json", dataclasses.asdict(config))
    labels.save(draft / "labels.txt")
    tensors = {
        f"{number}.{name}": value.cpu().contiguous()
        for number, model in enumerate(detector.members)
        for name, value in model.state_dict().items()
    }
    save_file(tensors, draft / "model.safetensors")


def _predict_splits(
    draft: Path,
    corpus: Corpus,
    category: str,
    detector: Trained,
    material: Material,
    labels: LabelSpace,
    *,
    device: str,
) -> None:
    readable = set(readable_ids(corpus))
    for split in ("valid", "test"):
        table = corpus.table.of(split=split, category=None if category == GLOBAL else category)
        predictions = predict_detector(
            detector,
            material,
            source=category,
            labels=labels,
            image_ids=[i for i in table.image_ids if i in readable],
            device=device,
        )
        predictions.save(draft / "predictions" / split)


def title(category: str) -> str:
    """A detector's category in words."""
    return "all images" if category == GLOBAL else Category(category).meaning
