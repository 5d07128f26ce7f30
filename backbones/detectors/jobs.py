"""Training jobs: one network of one detector each, here in order or described for another machine.

Detectors, their folds and their seeds do not need each other until they are put together, so each
network is a job. A job is told in plain values; who runs it opens the corpus from the workspace.
"""

import dataclasses
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import torch

from backbones.detectors.inputs import TRAINING_INPUTS, TrainingInputs
from backbones.detectors.plan import DetectorPlan
from backbones.detectors.run import RunOptions, assemble, train_network
from backbones.networks.weights import NAMED_WEIGHTS, origin_of
from backbones.settings.config import BackboneConfig
from core.config import overlay
from core.errors import MissingStageError
from core.runs.workspace import Corpus, Workspace
from core.storage.packed import exists
from training.devices.compute import Compute
from training.devices.device import find_device
from training.members import MemberPlan

_INTERRUPTED = 130
"""How a training ends that Ctrl-C, or what stands for it, asked to save and stop."""


class Train(Protocol):
    """Trains detectors and puts them together: what `train-backbone` asks of an engine."""

    def __call__(
        self,
        plans: Sequence[DetectorPlan],
        inputs: TrainingInputs,
        /,
        *,
        workspace: Workspace,
        options: RunOptions,
    ) -> None:
        """Until all of the planned detectors are there."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One network, in plain values that mean the same on every machine.

    Attributes:
        workspace: absolute path; it must lie at the same place everywhere.
        corpus: fingerprint of the prepared corpus in it.
        home: the detector's run folder.
        category: `global` or the specialist's.
        preset: the name that the run folder starts with.
        config: settings by name, files by absolute path.
        member: number of the network.
        device: where to compute, as `--device` takes it.
        threads: of the processor that it may use.
        checkpoint_s: seconds between two checkpoints within an epoch.
        tensorboard: whether TensorBoard's events are written.
    """

    workspace: str
    corpus: str
    home: str
    category: str
    preset: str
    config: dict[str, Any]
    member: int
    device: str = "cpu"
    threads: int = 1
    checkpoint_s: float = RunOptions.checkpoint_s
    tensorboard: bool = False


def network_name(plan: DetectorPlan, member: MemberPlan) -> str:
    """What a network is called in a line of log."""
    return f"{plan.category}, network {member.number + 1} of {len(plan.members)}"


def describe_job(
    plan: DetectorPlan,
    member: MemberPlan,
    *,
    workspace: Workspace,
    options: RunOptions,
    device: str,
    threads: int,
) -> Job:
    """The job that trains a network elsewhere, into the same folder as here."""
    config = dataclasses.asdict(plan.config)
    if plan.config.weights not in NAMED_WEIGHTS:
        config["weights"] = str(Path(plan.config.weights).resolve())
    return Job(
        workspace=str(workspace.root.resolve()),
        corpus=plan.corpus.fingerprint,
        home=str(plan.home.resolve()),
        category=plan.category,
        preset=plan.preset,
        config=config,
        member=member.number,
        device=device,
        threads=threads,
        checkpoint_s=options.checkpoint_s,
        tensorboard=options.tensorboard,
    )


def run_job(job: Job) -> str:
    """Train a job's network; the name of the machine that did.

    A finished network is kept; one begun elsewhere resumes from its checkpoint.

    Raises:
        ConceptError: the workspace cannot be seen from this machine, or what training raises.
        KeyboardInterrupt: the job was cancelled; a training that had begun saved a checkpoint.
    """
    torch.set_num_threads(job.threads)
    config = overlay(BackboneConfig(), job.config)
    try:
        corpus, inputs = _opened(job.workspace, job.corpus, config, job.device)
        plan = DetectorPlan(
            corpus=corpus,
            category=job.category,
            config=config,
            origin=origin_of(config),
            preset=job.preset,
            home=Path(job.home),
        )
        options = RunOptions(checkpoint_s=job.checkpoint_s, tensorboard=job.tensorboard)
        train_network(plan, plan.members[job.member], inputs=inputs, options=options)
    except SystemExit as end:
        if end.code != _INTERRUPTED:
            raise
        raise KeyboardInterrupt from None  # what a cancelled job is expected to end with
    except Exception as error:
        error.add_note(f"on {platform.node()}")  # notes travel with the error, tracebacks do not
        raise
    return platform.node()


@lru_cache(maxsize=1)  # the next job of the same process mostly learns from the same
def _opened(
    root: str, fingerprint: str, config: BackboneConfig, device: str
) -> tuple[Corpus, TrainingInputs]:
    """A workspace's corpus and what its detectors learn from."""
    workspace = Workspace(Path(root))
    if not workspace.has_corpus():
        raise MissingStageError(
            f"{root}: no prepared corpus is seen there from {platform.node()}; the workspace must"
            " lie on a disk that all machines share, under the same path"
        )
    corpus = workspace.open_corpus()
    if corpus.fingerprint != fingerprint:
        raise MissingStageError(
            f"{root}: another corpus was prepared there since the training began; begin it again"
        )
    if config.regime != "frozen" and not exists(Path(corpus.table.paths[0])):
        # The cache is recognised by its files: without them it would be made anew, of nothing.
        raise MissingStageError(
            f"{corpus.table.paths[0]}: not seen from {platform.node()}; the images must lie on a"
            " disk that all machines share, under the same path"
        )
    compute = Compute(device=find_device(device))
    return corpus, TRAINING_INPUTS[config.regime](corpus, workspace, config=config, compute=compute)


def train_in_order(
    plans: Sequence[DetectorPlan],
    inputs: TrainingInputs,
    *,
    workspace: Workspace,
    options: RunOptions,
) -> None:
    """Train one network after the other; a detector is put together once its last is there."""
    for plan in plans:
        for member in plan.members:
            train_network(plan, member, inputs=inputs, options=options)
        assemble(plan, inputs, workspace=workspace)
