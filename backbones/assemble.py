"""A detector's run folder from its networks' folders."""

import dataclasses
import json
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from backbones.detectors.features import extract, frozen_names
from backbones.detectors.inputs import Material
from backbones.detectors.plan import DetectorPlan
from backbones.detectors.run import HELD_OUT, SPLITS
from backbones.networks.build import Detector
from backbones.networks.carriers import file_sha256
from core.images import ImageTable
from core.predictions import Predictions
from core.progress import say
from core.runs.detectors import GLOBAL
from core.runs.workspace import Workspace
from core.storage.arrays import load_array
from core.storage.folders import LOCK, META, alone, is_complete, provenance, read_meta, write_json
from training.checkpoint import WEIGHTS, join_networks, load_network
from training.members import MemberPlan, mean_probs


def assemble(plan: DetectorPlan, material: Material, workspace: Workspace) -> None:
    """Put a detector's finished networks together; `meta.json` comes last.

    The predictions of valid and test are the mean over the networks. Each part of train that
    networks held out has predictions of its own, `predictions/train-<k>of<K>`, by those networks
    alone: out of sample, as their `fitted_on` says.
    """
    world = material.compute.world
    with alone(plan.home, what=plan.category) if world.first else nullcontext():
        if world.everyone(is_complete(plan.home))[0]:
            return
        if world.first:
            _join(plan)
        world.wait()
        folders = _features(plan, material, workspace)
        if world.first:
            meta = _meta(plan, material, folders)
            write_json(plan.home / META, meta | provenance())
            shutil.rmtree(plan.home / "members")
            (plan.home / LOCK).unlink()
            say(_summary(plan, meta))
        world.wait()


def _join(plan: DetectorPlan) -> None:
    """Weights, log and predictions."""
    home, config = plan.home, plan.config
    folders = [plan.member_home(member) for member in plan.members]
    write_json(home / "config.json", dataclasses.asdict(config))
    plan.labels.save(home / "labels.txt")
    join_networks(home / WEIGHTS, [folder / WEIGHTS for folder in folders])
    with (home / "log.jsonl").open("w", encoding="utf-8") as file:
        for member, folder in zip(plan.members, folders, strict=True):
            for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines():
                print(json.dumps({"member": member.number, **json.loads(line)}), file=file)
    for split in SPLITS:
        _save(plan, plan.members, plan.images(split), split, home / "predictions" / split)
    for part in range(config.folds):
        members = plan.members[part :: config.folds]
        table = plan.table.take(members[0].held_out)
        _save(plan, members, table, HELD_OUT, home / "predictions" / part_name(part, config.folds))


def part_name(part: int, n_folds: int) -> str:
    """Name of the out-of-fold predictions of a part of train, counted from 1 for a reader."""
    return f"{HELD_OUT}-{part + 1}of{n_folds}"


def _save(
    plan: DetectorPlan, members: Sequence[MemberPlan], table: ImageTable, name: str, folder: Path
) -> None:
    """The mean of what these networks say of the images."""
    total: npt.NDArray[np.float32] = np.zeros((len(table), len(plan.labels)), dtype=np.float32)
    fitted_on: set[str] = set()
    for member in members:
        total += load_array(plan.member_home(member) / f"{name}.npy")
        fitted_on |= set(plan.table.take(~member.held_out).image_ids)
    Predictions(
        source=plan.category,
        image_ids=table.image_ids,
        labels=plan.labels,
        probs=mean_probs(total, len(members)),
        fitted_on=frozenset(fitted_on),
    ).save(folder)


def _features(plan: DetectorPlan, material: Material, workspace: Workspace) -> list[str]:
    """Names of the pooled features that go with the detector.

    Those of a fine-tuned network for all images are extracted from the first of its networks.
    """
    if plan.config.regime == "frozen":
        return list(frozen_names(plan.corpus, plan.config))
    if plan.category != GLOBAL or not plan.extracts:
        return []
    folder, weights = workspace.embeddings / f"{GLOBAL}-{plan.home.name}", plan.home / WEIGHTS
    material.compute.world.in_turn(lambda: _clear_others(folder, file_sha256(weights)))
    if not material.compute.world.everyone(is_complete(folder))[0]:
        detector = material.new_model(np.arange(len(plan.table)), plan.labels)
        assert isinstance(detector, Detector)
        detector.load_state_dict(load_network(weights, 0))
        extract(
            folder,
            detector.backbone.pooling(),
            plan.corpus,
            workspace,
            plan.config,
            size=plan.config.image_sizes[0],
            compute=material.compute,
        )
    return [folder.name]


def _clear_others(folder: Path, identity: str) -> None:
    """Remove features of this name that other weights made; those of these weights go on."""
    note = folder / "weights.txt"
    if note.is_file() and note.read_text(encoding="utf-8") == identity:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    note.write_text(identity, encoding="utf-8")


def _meta(plan: DetectorPlan, material: Material, embeddings: list[str]) -> dict[str, Any]:
    origin = plan.origin
    metas = [read_meta(plan.member_home(member)) for member in plan.members]
    return {
        "category": plan.category,
        "preset": plan.preset,
        "corpus": plan.corpus.fingerprint,
        "regime": plan.config.regime,
        "stop_on": plan.config.stop_on,
        "weights": plan.config.weights,
        "weights_from": str(origin),
        "normalisation": origin.normalisation and dataclasses.asdict(origin.normalisation),
        "embeddings": embeddings,
        "n_train": plan.n_train,
        "n_concepts": len(plan.labels),
        "device": material.compute.device,
        "speed": metas[0]["speed"],
        "stopping_f1": [meta["f1"] for meta in metas],
        "best_epoch": [meta["epoch"] for meta in metas],
        "seconds": round(sum(meta["seconds"] for meta in metas), 1),
    }


def _summary(plan: DetectorPlan, meta: dict[str, Any]) -> str:
    reached = [f1 for f1 in meta["stopping_f1"] if f1 is not None]
    f1 = f"stopping F1 {np.mean(reached):.3f}" if reached else "no image to stop on"
    if plan.config.stop_on != "train":
        f1 += f" on {plan.config.stop_on}, so no part of any fusion or ensemble"
    return (
        f"{plan.category}: {meta['n_train']:,} images, {meta['n_concepts']:,} concepts, {f1},"
        f" best epochs {meta['best_epoch']}, {meta['seconds']:.0f} s"
    )
