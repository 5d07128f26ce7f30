"""`reproduce`: the paper's experiments, each as a pair of networks that stop on halves of valid."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.context import SpawnProcess
from pathlib import Path

import torch

from backbones.detectors.inputs import image_inputs
from backbones.detectors.plan import DetectorPlan
from backbones.detectors.run import RunOptions, assemble, train_network
from backbones.networks.weights import check_weights, origin_of
from backbones.settings.config import BackboneConfig, StopOn
from backbones.settings.paper import EXPERIMENTS, SCALES, architecture
from core.config import fingerprint
from core.errors import ConceptError, ConfigError
from core.progress import say
from core.runs.detectors import GLOBAL
from core.runs.paper import crash_of, forget_crash, note_crash, trial_name
from core.runs.workspace import Workspace
from core.storage.folders import is_complete, mark_used
from training.devices.compute import Compute

HALVES: tuple[StopOn, ...] = ("val1", "val2")
"""What the networks of a pair stop on; each is tested on the other half."""

_CTRL_C, _SIGTERM = 130, 143  # exit codes


@dataclass(frozen=True, kw_only=True)
class TrialPlan:
    """One network of an experiment, in plain values.

    Attributes:
        number: of the experiment.
        stop_on: images that choose its epoch.
        scale: a name of `SCALES`.
        weights: what its network starts from where that is not the scale's; None for that.
        seed: of everything random.
    """

    number: int
    stop_on: StopOn
    scale: str
    weights: str | None = None
    seed: int = 0

    @property
    def title(self) -> str:
        """What it is called in lines of log."""
        return f"experiment {self.number}, stopped on {self.stop_on}"

    @property
    def config(self) -> BackboneConfig:
        """Its settings."""
        scaled = SCALES[self.scale].of(EXPERIMENTS[self.number])
        config = replace(scaled, stop_on=self.stop_on, seed=self.seed)
        return config if self.weights is None else replace(config, weights=self.weights)

    def plan(self, workspace: Workspace) -> DetectorPlan:
        """The detector to train.

        Raises:
            ConfigError: its weights cannot be found.
            MissingStageError: train and valid share a group.
        """
        config = self.config
        corpus, origin = workspace.open_corpus().as_holdout(), origin_of(config)
        shared = replace(config, weights=origin.identity, stop_on="train")
        key = fingerprint(corpus.fingerprint, shared)
        return DetectorPlan(
            corpus=corpus,
            category=GLOBAL,
            config=config,
            origin=origin,
            preset=f"paper-{self.number}",
            home=workspace.reproduced / self.scale / trial_name(self.number, self.stop_on, key=key),
            extracts=False,
        )


def plan_trials(
    numbers: Sequence[int],
    *,
    scale: str,
    third: bool = False,
    weights: Mapping[str, str] | None = None,
    seed: int = 0,
) -> list[TrialPlan]:
    """The networks of the asked experiments.

    Args:
        numbers: of experiments; empty for all ten.
        scale: a name of `SCALES`.
        third: whether the configuration that the authors lacked time for is trained as well, which
            stops on all of valid.
        weights: by network (`resnet50`), a file or another setting of `weights`.
        seed: of everything random.

    Raises:
        ConfigError: an experiment, scale, network or weights that there are not.
    """
    if strange := sorted(set(numbers) - set(EXPERIMENTS)):
        raise ConfigError(f"no experiment {strange[0]}: the paper has {len(EXPERIMENTS)}")
    if scale not in SCALES:
        raise ConfigError(f"--scale {scale}: expected {' or '.join(SCALES)}")
    networks = {n: architecture(config.backbone) for n, config in EXPERIMENTS.items()}
    given = dict(weights or {})
    if unknown := sorted(set(given) - set(networks.values())):
        known = ", ".join(sorted(set(networks.values())))
        raise ConfigError(f"--weights {unknown[0]}=...: the experiments have {known}")
    stops: tuple[StopOn, ...] = (*HALVES, "valid") if third else HALVES
    trials = [
        TrialPlan(
            number=number,
            stop_on=stop_on,
            scale=scale,
            weights=given.get(networks[number]),
            seed=seed,
        )
        for number in sorted(set(numbers)) or EXPERIMENTS
        for stop_on in stops
    ]
    for trial in trials:  # what is missing is named before any work
        check_weights(trial.config)
        origin_of(trial.config)
    return trials


def reproduce(
    trials: Sequence[TrialPlan], workspace: Workspace, *, device: str, options: RunOptions
) -> list[TrialPlan]:
    """Train what is not trained yet, and give those that crashed.

    Trainings run in a process of their own, one after the other. What ends it, an error or the
    system for want of memory, ends that experiment alone: its folder says why, the others go on,
    and the next call tries it again.

    Args:
        trials: what to train.
        workspace: with a prepared corpus; runs go to its `reproduce/`.
        device: where to compute.
        options: what is written as a training goes.

    Raises:
        SystemExit: SIGTERM or Ctrl-C came; the same call goes on.
    """
    plans = {trial: trial.plan(workspace) for trial in trials}
    todo = [trial for trial, plan in plans.items() if not is_complete(plan.home)]
    crashed: list[TrialPlan] = []
    for trial, plan in plans.items():
        if trial not in todo:
            mark_used(plan.home, among=plan.home.parent)
    if len(todo) < len(trials):
        say(f"{len(trials) - len(todo)} of {len(trials)} networks are trained already")
    context = multiprocessing.get_context("spawn")
    while todo:
        order = (todo, workspace.root, device, options, torch.get_num_threads())
        worker = context.Process(target=_work, args=order)
        worker.start()
        _wait_for(worker)
        todo = [trial for trial in todo if not is_complete(plans[trial].home)]
        if todo:
            crashed.append(todo.pop(0))
            _tell_crash(crashed[-1], plans[crashed[-1]], worker.exitcode)
    return crashed


def _wait_for(worker: SpawnProcess) -> None:
    """Wait for the worker's end; have it save and end where this process is asked to.

    Raises:
        SystemExit: either was asked to end.
    """
    try:
        worker.join()
    except (KeyboardInterrupt, SystemExit) as end:
        worker.terminate()
        try:
            worker.join()
        except (KeyboardInterrupt, SystemExit):  # a second time: at once
            worker.kill()
            worker.join()
        raise SystemExit(_CTRL_C if isinstance(end, KeyboardInterrupt) else end.code) from None
    if worker.exitcode in (_CTRL_C, _SIGTERM, -signal.SIGTERM):
        raise SystemExit(_CTRL_C if worker.exitcode == _CTRL_C else _SIGTERM)


def _tell_crash(trial: TrialPlan, plan: DetectorPlan, exit_code: int | None) -> None:
    """Say what ended a training; write it down where nobody was left to."""
    reason = crash_of(plan.home).get("reason", "")
    if not reason:
        why = " (the system ran out of memory?)" if exit_code == -9 else ""
        reason = f"the process ended with exit code {exit_code}{why}"
        note_crash(plan.home, reason, corpus=plan.corpus.fingerprint)
    say(f"{trial.title}: crashed: {reason}; the others go on")


def _work(
    trials: Sequence[TrialPlan], root: Path, device: str, options: RunOptions, n_threads: int
) -> None:
    """Train in order; what goes wrong is written down and ends this process."""
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C is for the process that started this one, which passes it on once
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(_SIGTERM))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(n_threads)
    workspace = Workspace(root)
    for trial in trials:
        plan = trial.plan(workspace)
        if is_complete(plan.home):  # by another process, since this one began
            continue
        say(trial.title)
        forget_crash(plan.home)
        try:
            _train(plan, workspace, device=device, options=options)
        except Exception as error:
            reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            note_crash(plan.home, reason, corpus=plan.corpus.fingerprint)
            if isinstance(error, ConceptError):  # its line says all
                sys.exit(2)
            raise


def _end_with_parent() -> None:
    """Save and end when the process that started this one is gone, however that went."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _train(plan: DetectorPlan, workspace: Workspace, *, device: str, options: RunOptions) -> None:
    compute = Compute(device=device)
    inputs = image_inputs(plan.corpus, workspace, config=plan.config, compute=compute)
    for member in plan.members:
        train_network(plan, member, inputs=inputs, options=options)
    assemble(plan, inputs, workspace=workspace)
