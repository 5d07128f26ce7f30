"""One network of a detector, from nothing to its predictions: resumable, in a folder of its own."""

import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import nn

from backbones.detectors.inputs import Material
from backbones.detectors.plan import DetectorPlan
from core.images import ImageTable
from core.predictions import row_numbers
from core.storage.arrays import save_array
from core.storage.folders import META, alone, is_complete, write_json
from training.batches import Examples, with_mirrors
from training.checkpoint import WEIGHTS, Checkpoint, save_tensors
from training.log import watched
from training.loop import Fitted, fit
from training.members import MemberPlan
from training.predict import predict

SPLITS = ("valid", "test")
CHECKPOINT = "checkpoint"
HELD_OUT = "train"
"""Name of the predictions of the training images that a network held out."""


@dataclass(frozen=True, kw_only=True)
class Upkeep:
    """What a training writes as it goes; never part of a fingerprint.

    Attributes:
        checkpoint_s: seconds between two checkpoints within an epoch.
        tensorboard: whether TensorBoard's events are written, to the detector's `tensorboard/`.
    """

    checkpoint_s: float = 600.0
    tensorboard: bool = False


DEFAULT_UPKEEP = Upkeep()


def train_network(
    plan: DetectorPlan, member: MemberPlan, material: Material, upkeep: Upkeep
) -> None:
    """Train a network and have it predict; one that is there is kept, one begun is gone on with.

    Its folder then holds `model.safetensors`, `log.jsonl`, `valid.npy`, `test.npy` and, where it
    held images out, `train.npy`. Where another process is at the same network, this one waits and
    takes over only what that one left undone.

    Args:
        plan: the detector.
        member: which of its networks.
        material: inputs, and where to compute.
        upkeep: what is written as it goes.
    """
    home, world = plan.member_home(member), material.compute.world
    what = f"{plan.category}, network {member.number + 1} of {len(plan.members)}"
    with alone(home, what=what) if world.first else nullcontext():
        if world.everyone(is_complete(home) or is_complete(plan.home))[0]:
            return
        model, fitted, seconds = _fit(plan, member, material, upkeep, what=what)
        if world.first:
            save_tensors(home / WEIGHTS, model.state_dict())
        for name, table in predicted_images(plan, member):
            rows = row_numbers("prediction inputs", material.image_ids, table.image_ids)
            probs = predict(
                model,
                material.batches,
                rows,
                compute=material.compute,
                batch_size=material.n_at_once,
                mirror=plan.config.mirror and plan.config.regime != "frozen",
            )
            if world.first:
                save_array(home / f"{name}.npy", probs)
        if world.first:
            reached = {"epoch": fitted.epoch, "f1": fitted.f1, "seconds": round(seconds, 1)}
            write_json(home / META, {**reached, "speed": str(material.compute.speed)})
            shutil.rmtree(home / CHECKPOINT, ignore_errors=True)
        world.wait()


def predicted_images(plan: DetectorPlan, member: MemberPlan) -> Iterator[tuple[str, ImageTable]]:
    """What a network predicts: the detector's images of valid and test, and those it held out."""
    for split in SPLITS:
        yield split, plan.images(split)
    if member.held_out.any():
        yield HELD_OUT, plan.table.take(member.held_out)


def _fit(
    plan: DetectorPlan, member: MemberPlan, material: Material, upkeep: Upkeep, *, what: str
) -> tuple[nn.Module, Fitted, float]:
    """The trained network, what it reached and the seconds that took, over all starts."""
    rows = row_numbers("training inputs", material.image_ids, plan.table.image_ids)
    kept = ~member.held_out
    torch.manual_seed(member.seed)
    model = material.new_model(rows[member.learnt], plan.labels)
    if rank := material.compute.world.rank:  # dropout of its own for each process
        torch.manual_seed(member.seed + 1_000_003 * rank)
    examples = Examples(
        batches=material.batches,
        targets=plan.table.targets(plan.labels).matrix[kept],
        rows=rows[kept],
        augment=material.augment(member.seed),
        kinds=tuple(k for k, taken in zip(plan.table.categories, kept, strict=True) if taken),
        n_at_once=material.n_at_once,
    )
    stop = member.stop[kept]
    if plan.config.augment == "both":
        examples, stop = with_mirrors(examples, stop, n_inputs=len(material.image_ids))
    n_images = int((~stop).sum()) * plan.config.epochs
    home, events = plan.member_home(member), plan.home / "tensorboard" / str(member.number)
    with watched(
        home,
        what,
        n_images=n_images,
        writes=material.compute.world.first,
        tensorboard=events if upkeep.tensorboard else None,
    ) as journal:
        fitted = fit(
            model,
            examples,
            stop=stop,
            config=plan.config,
            seed=member.seed,
            compute=material.compute,
            watch=journal.watch,
            checkpoint=Checkpoint(home / CHECKPOINT, every_s=upkeep.checkpoint_s),
        )
    return model, fitted, journal.seconds
