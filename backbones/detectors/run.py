"""One network from nothing to its predictions, resumable; and a detector from its networks."""

import dataclasses
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from backbones.detectors.captions import caption_teacher
from backbones.detectors.features import encoder_meta, extract, frozen_names
from backbones.detectors.inputs import TrainingInputs
from backbones.detectors.plan import DetectorPlan
from backbones.detectors.sampled import SAMPLE, join_samples, learnt_by, n_sampled
from backbones.networks.build import backbone_state, build_backbone
from backbones.networks.weights import each_encoder
from core.config import Range, check_ranges
from core.editions import empty_truth_rule
from core.images import ImageTable
from core.metrics import cross_fitted_f1, mean_in_order
from core.predictions import Predictions, row_numbers
from core.progress import say
from core.runs.detectors import GLOBAL
from core.runs.out_of_fold import fold_name, load_folds
from core.runs.workspace import Workspace
from core.storage.arrays import load_array, save_array
from core.storage.documents import parse_json
from core.storage.folders import (
    LOCK,
    META,
    TURN,
    finish,
    is_complete,
    is_whole,
    locked,
    next_turn,
    read_meta,
    write_json,
)
from core.storage.sums import file_sha256
from training.batches import Examples, with_mirrors
from training.checkpoint import WEIGHTS, Checkpoint, join_networks, load_network, save_tensors
from training.log import watched
from training.loop import Fitted, fit
from training.members import MemberPlan, mean_probs
from training.predict import predict

CHECKPOINT = "checkpoint"


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What a training writes while it runs; never part of a fingerprint.

    Attributes:
        checkpoint_s: seconds between two checkpoints within an epoch.
        tensorboard: whether TensorBoard's events are written, to the detector's `tensorboard/`.
    """

    checkpoint_s: Annotated[float, Range(least=0, most=10**9)] = 600.0
    tensorboard: bool = False

    def __post_init__(self) -> None:
        check_ranges(self)


DEFAULT_OPTIONS = RunOptions()


def train_network(
    plan: DetectorPlan, member: MemberPlan, *, inputs: TrainingInputs, options: RunOptions
) -> None:
    """Train a network and have it predict; a finished one is kept, an unfinished one resumes.

    Its folder then holds `model.safetensors`, `log.jsonl`, `valid.npy`, `test.npy` and, where it
    held images out, `train.npy`; on a cross-fitted corpus `labelled.npy` and `test.npy`. Where
    another process works on the same network, this one waits and does only what is left.

    Args:
        plan: the detector.
        member: which of its networks.
        inputs: inputs, and where to compute.
        options: what a training writes while it runs.
    """
    home, world = plan.member_home(member), inputs.compute.world
    what = f"{plan.category}, network {member.number + 1} of {len(plan.members)}"
    with locked(home, what=what) if world.first else nullcontext():
        if world.everyone(is_complete(home) or is_complete(plan.home))[0]:
            return
        model, fitted, seconds = _fit(plan, member, inputs, options, what=what)
        if world.first:
            save_tensors(home / WEIGHTS, model.state_dict())
        for name, table in predicted_images(plan, member):
            rows = row_numbers("prediction inputs", inputs.image_ids, wanted=table.image_ids)
            probs = predict(
                model,
                inputs.batches,
                rows=rows,
                compute=inputs.compute,
                batch_size=inputs.n_at_once,
                mirror=plan.config.mirror and plan.config.regime != "frozen",
            )
            if world.first:
                save_array(home / f"{name}.npy", probs)
        if world.first:
            reached = {"epoch": fitted.epoch, "f1": fitted.f1, "seconds": round(seconds, 1)}
            write_json(home / META, {**reached, "speed": str(inputs.compute.speed)})
            shutil.rmtree(home / CHECKPOINT, ignore_errors=True)
        world.wait()


def predicted_images(plan: DetectorPlan, member: MemberPlan) -> Iterator[tuple[str, ImageTable]]:
    """What a network predicts: the detector's images of valid and test, and those it held out."""
    for split in plan.splits:
        yield split, plan.images(split)
    if plan.n_parts:
        yield plan.held_out, plan.held_out_images(member)


def _fit(
    plan: DetectorPlan,
    member: MemberPlan,
    inputs: TrainingInputs,
    options: RunOptions,
    *,
    what: str,
) -> tuple[nn.Module, Fitted, float]:
    """The trained network, what it reached and the seconds that took, over all starts."""
    rows = row_numbers("training inputs", inputs.image_ids, wanted=plan.table.image_ids)
    learnt = learnt_by(plan, member, inputs=inputs)
    kept = learnt | member.stop
    torch.manual_seed(member.seed)
    start = plan.started_from(member)
    model = inputs.new_model(rows[learnt], plan.labels, start=start)
    if rank := inputs.compute.world.rank:  # dropout of its own for each process
        torch.manual_seed(member.seed + 1_000_003 * rank)
    images = plan.table.take(kept)
    examples = Examples(
        batches=inputs.batches,
        targets=images.targets(plan.labels).matrix,
        rows=rows[kept],
        augment=inputs.augment(member.seed),
        kinds=images.categories,
        n_at_once=inputs.n_at_once,
        teacher=caption_teacher(images, plan.config, seed=member.seed),
    )
    stop = member.stop[kept]
    if plan.config.augment == "both":
        examples, stop = with_mirrors(examples, stop, n_inputs=len(inputs.image_ids))
    n_images = int((~stop).sum()) * plan.config.epochs
    home, events = plan.member_home(member), plan.home / "tensorboard" / str(member.number)
    with watched(
        home,
        what,
        n_images=n_images,
        writes=inputs.compute.world.first,
        tensorboard=events if options.tensorboard else None,
    ) as training_log:
        fitted = fit(
            model,
            examples,
            stop=stop,
            config=plan.config,
            seed=member.seed,
            compute=inputs.compute,
            watch=training_log.watch,
            checkpoint=Checkpoint(home / CHECKPOINT, every_s=options.checkpoint_s),
        )
    return model, fitted, training_log.seconds


def assemble(plan: DetectorPlan, inputs: TrainingInputs, *, workspace: Workspace) -> None:
    """Put a detector's finished networks together; `meta.json` comes last.

    The predictions of valid and test are the mean over the networks. Each part of train that
    networks held out has predictions of its own, `predictions/train-<k>of<K>`, by those networks
    alone: out of sample, as their `fitted_on` says. So has each fold of a cross-fitted corpus,
    `predictions/labelled-<k>of<K>`, instead of valid.
    """
    world = inputs.compute.world
    with locked(plan.home, what=plan.category) if world.first else nullcontext():
        if world.everyone(is_complete(plan.home))[0]:
            return
        if world.first:
            _join(plan)
        world.wait()
        folders = pooled_features(plan, inputs, workspace=workspace)
        if world.first:
            meta = _meta(plan, inputs, folders)
            turn = {TURN: next_turn(plan.home.parent.parent)}
            finish(plan.home, meta | turn, but=("members", "tensorboard"))
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
                print(json.dumps({"member": member.number, **parse_json(line)}), file=file)
    if not plan.config.sampled.keeps_all:
        join_samples(home / SAMPLE, folders)
    for split in plan.splits:
        _save(plan, plan.members, plan.images(split), split, home / "predictions" / split)
    for part in range(plan.n_parts):
        members = plan.members[part :: plan.n_parts]
        table = plan.held_out_images(members[0])
        folder = home / "predictions" / fold_name(plan.held_out, part, n_parts=plan.n_parts)
        _save(plan, members, table, plan.held_out, folder)


def _save(
    plan: DetectorPlan, members: Sequence[MemberPlan], table: ImageTable, name: str, folder: Path
) -> None:
    """The mean of what these networks say of the images.

    They were fitted on what they learnt from, on what was looked at to choose that, and on what the
    networks had met that they started from.
    """
    total: npt.NDArray[np.float32] = np.zeros((len(table), len(plan.labels)), dtype=np.float32)
    fitted_on: set[str] = set()
    if plan.start is not None:  # held-out networks of the start lie under the same names
        fitted_on |= plan.start.met(folder.name if plan.corpus.crossfit else "test")
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


def pooled_features(
    plan: DetectorPlan, inputs: TrainingInputs, *, workspace: Workspace
) -> list[str]:
    """Names of the pooled features that go with a detector, made as far as they are not there.

    Those of a fine-tuned network for all images are extracted from the first of its networks. On a
    cross-fitted corpus each network has met other images: there are features a fold, by the first
    network that left the fold out, and what predicts the fold learns from those.
    """
    if plan.config.regime == "frozen":
        return list(frozen_names(plan.corpus, plan.config))
    if plan.category != GLOBAL or not plan.extracts:
        return []
    names = [f"{GLOBAL}-{plan.home.name}"]
    if plan.corpus.crossfit:
        n_parts = plan.n_parts
        names = [fold_name(names[0], part, n_parts=n_parts) for part in range(n_parts)]
    identity = file_sha256(plan.home / WEIGHTS)
    for number, name in enumerate(names):
        _extract_by(plan, inputs, workspace.embeddings / name, workspace, number, identity)
    return names


def _extract_by(
    plan: DetectorPlan,
    inputs: TrainingInputs,
    folder: Path,
    workspace: Workspace,
    number: int,
    identity: str,
) -> None:
    """Features of all images by network `number`, of the weights of this identity."""
    inputs.compute.world.in_turn(lambda: _clear_others(folder, identity))
    if not inputs.compute.world.in_turn(partial(is_whole, folder, keep=False)):
        size = plan.config.image_sizes[0]
        backbone = build_backbone(plan.config)
        backbone.load_state_dict(backbone_state(load_network(plan.home / WEIGHTS, number)))
        extract(
            folder,
            backbone.as_pooled(size),
            corpus=plan.corpus,
            workspace=workspace,
            config=plan.config,
            size=size,
            compute=inputs.compute,
        )


def _clear_others(folder: Path, identity: str) -> None:
    """Remove features of this name that other weights made; those of these weights go on."""
    note = folder / "weights.txt"
    if note.is_file() and note.read_text(encoding="utf-8") == identity:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    note.write_text(identity, encoding="utf-8")


def _meta(plan: DetectorPlan, inputs: TrainingInputs, embeddings: list[str]) -> dict[str, Any]:
    first, *joined = each_encoder(plan.config)
    noted = encoder_meta(first, origin=plan.origin)
    metas = [read_meta(plan.member_home(member)) for member in plan.members]
    return {
        "category": plan.category,
        "preset": plan.preset,
        "corpus": plan.corpus.fingerprint,
        "regime": plan.config.regime,
        "stop_on": plan.config.stop_on,
        "weights": plan.config.weights,
        "weights_from": noted["weights_from"],
        "weights_licence": noted["weights_licence"],
        "normalisation": noted["normalisation"],
        "blueprint": noted["blueprint"],
        "joined": [encoder_meta(own) for own in joined],
        "embeddings": embeddings,
        "n_train": plan.n_train,
        "sampled": n_sampled(plan),
        **({"n_captions": _n_captions(plan)} if plan.config.caption_weight else {}),
        "n_concepts": len(plan.labels),
        "device": inputs.compute.device,
        "speed": metas[0]["speed"],
        "stopping_f1": [meta["f1"] for meta in metas],
        "out_of_fold_f1": _out_of_fold_f1(plan) if plan.corpus.crossfit else None,
        "best_epoch": [meta["epoch"] for meta in metas],
        "seconds": round(sum(meta["seconds"] for meta in metas), 1),
    }


def _summary(plan: DetectorPlan, meta: dict[str, Any]) -> str:
    reached = [f1 for f1 in meta["stopping_f1"] if f1 is not None]
    f1 = f"stopping F1 {np.mean(reached):.3f}" if reached else "no image to stop on"
    if plan.corpus.crossfit:
        f1 = f"out-of-fold F1 {meta['out_of_fold_f1']:.3f}"
    if plan.config.stop_on != "train":
        f1 += f" on {plan.config.stop_on}, so no part of any fusion or ensemble"
    sampled = meta["sampled"]
    kept = f" ({min(sampled):,} or more kept by {plan.config.sample})" if sampled else ""
    if plan.config.caption_weight:
        n_captions = meta["n_captions"]
        kept += f", {n_captions:,} caption{'' if n_captions == 1 else 's'}"
    return (
        f"{plan.category}: {meta['n_train']:,} images{kept}, {meta['n_concepts']:,} concepts, {f1},"
        f" {_kept_epochs(meta['best_epoch'], n_epochs=plan.config.epochs)}, {meta['seconds']:.0f} s"
    )


def _n_captions(plan: DetectorPlan) -> int:
    """Training images with a caption that teaches."""
    return sum(map(bool, plan.table.of(split=plan.corpus.learnt_from).captions))


def _kept_epochs(epochs: Sequence[int], *, n_epochs: int) -> str:
    """Which weights the networks were left with, in words.

    Example:
        >>> _kept_epochs([23, 18, 30], n_epochs=30)
        'weights kept from epochs 18 to 30 of 30 (3 networks)'
        >>> _kept_epochs([30], n_epochs=30)
        'weights kept from epoch 30 of 30'
    """
    first, last = min(epochs), max(epochs)
    which = f"epoch {first}" if first == last else f"epochs {first} to {last}"
    networks = f" ({len(epochs)} networks)" if len(epochs) > 1 else ""
    return f"weights kept from {which} of {n_epochs}{networks}"


def _out_of_fold_f1(plan: DetectorPlan) -> float:
    """Sample F1 of the images of a cross-fitted corpus at the threshold of the other folds."""
    predictions = load_folds(plan.home / "predictions", plan.held_out)
    probs = predictions.widen(plan.corpus.labels, fill=0.0).rows(plan.table.image_ids).probs
    scores = cross_fitted_f1(
        probs,
        plan.table.targets(plan.corpus.labels),
        folds=plan.table.folds,
        empty_truth=empty_truth_rule(plan.corpus.edition),
    )
    return mean_in_order(scores) if np.isfinite(scores).any() else float("nan")
