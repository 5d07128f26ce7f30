"""Training jobs: their order, what they are told, and what a machine that runs one refuses."""

import dataclasses
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from backbones.detectors.inputs import TrainingInputs, frozen_inputs
from backbones.detectors.jobs import Job, describe_job, network_name, run_job, train_in_order
from backbones.detectors.plan import DetectorPlan, plan_detectors
from backbones.detectors.ray import Cluster, cluster_of
from backbones.detectors.run import RunOptions
from backbones.settings.config import BackboneConfig
from backbones.train import train_backbones
from core.config import overlay
from core.errors import ConfigError, MissingStageError
from core.predictions import Predictions
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import is_complete
from tests.core.storage.unlisted import forget_files
from training.devices.compute import Compute, World

Prepared = Callable[[str], Workspace]

CONFIG = BackboneConfig(
    backbone="test_efficientnet", weights="none", image_sizes=(64,), hidden=(16,),
    epochs=3, patience=3, batch_size=16, n_members=2, probe=False,
)  # fmt: skip


def planned(
    workspace: Workspace, *names: str, config: BackboneConfig = CONFIG
) -> tuple[list[DetectorPlan], TrainingInputs]:
    corpus = workspace.open_corpus()
    plans = plan_detectors(corpus, workspace, names=names, config=config, preset="tiny")
    return plans, frozen_inputs(corpus, workspace, config=config, compute=Compute())


def job(plan: DetectorPlan, workspace: Workspace, number: int = 0) -> Job:
    options = RunOptions(checkpoint_s=0.0)
    return describe_job(
        plan, plan.members[number], workspace=workspace, options=options, device="cpu", threads=1
    )


def test_networks_come_in_order_and_a_detector_is_whole_once_its_last_is_there(
    prepared: Prepared,
) -> None:
    workspace = prepared("runs")
    (first, second), inputs = planned(workspace, "DRCT", "DRXR")
    broken = second.member_home(second.members[1]) / "checkpoint" / "state.pt"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"cut short")
    with pytest.raises(ConfigError, match="cannot be read as a checkpoint"):
        train_in_order([first, second], inputs, workspace=workspace, options=RunOptions())
    assert is_complete(first.home)
    assert not is_complete(second.home)
    assert is_complete(second.member_home(second.members[0]))
    shutil.rmtree(broken.parent)
    train_in_order([first, second], inputs, workspace=workspace, options=RunOptions())
    assert is_complete(second.home)


def test_a_job_that_was_sent_as_text_trains_the_network_that_is_trained_here(
    prepared: Prepared,
) -> None:
    here, there = prepared("here"), prepared("there")
    plans, inputs = planned(here, "DRCT")
    train_in_order(plans, inputs, workspace=here, options=RunOptions())
    (plan,), inputs = planned(there, "DRCT")
    for number in (1, 0):  # in any order
        sent = json.dumps(dataclasses.asdict(job(plan, there, number)))
        assert run_job(Job(**json.loads(sent))) == os.uname().nodename
        assert is_complete(plan.member_home(plan.members[number]))
    assert not is_complete(plan.home)  # putting together is not a job
    train_in_order([plan], inputs, workspace=there, options=RunOptions())
    (weights,) = here.root.rglob("model.safetensors")
    assert weights.read_bytes() == (plan.home / "model.safetensors").read_bytes()
    ours, theirs = (
        Predictions.load(home / "predictions" / "test") for home in (weights.parent, plan.home)
    )
    assert ours.probs.tobytes() == theirs.probs.tobytes()


def test_a_job_names_files_by_absolute_paths_and_keeps_the_run_folder(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared("runs")
    save_file({"x": torch.zeros(1)}, tmp_path / "start.safetensors")
    monkeypatch.chdir(tmp_path)
    workspace = Workspace(Path("runs"))
    config = overlay(CONFIG, {"weights": "start.safetensors"})
    (plan,) = plan_detectors(
        workspace.open_corpus(), workspace, names=["DRCT"], config=config, preset="tiny"
    )
    described = job(plan, workspace)
    assert described.config["weights"] == str(tmp_path / "start.safetensors")
    assert described.workspace == str(tmp_path / "runs")
    assert described.home == str(tmp_path / plan.home)


def test_networks_are_counted_from_one_for_a_reader(prepared: Prepared) -> None:
    (plan,), _ = planned(prepared("runs"), "DRXR")
    assert network_name(plan, plan.members[1]) == "DRXR, network 2 of 2"


def test_a_cancelled_job_saves_a_checkpoint_and_the_next_goes_on(prepared: Prepared) -> None:
    config = overlay(CONFIG, {"epochs": 100, "patience": 100})
    weights = []
    for name in ("cancelled", "left alone"):
        workspace = prepared(name)
        (plan,), _ = planned(workspace, "DRCT", config=config)
        home = plan.member_home(plan.members[0])
        if name == "cancelled":
            thread = threading.Thread(target=interrupt_at, args=[home / "checkpoint" / "state.pt"])
            thread.start()
            with pytest.raises(KeyboardInterrupt):
                run_job(job(plan, workspace))
            thread.join()
            assert (home / "checkpoint" / "state.pt").is_file()
            assert not is_complete(home)
        run_job(job(plan, workspace))
        weights.append((home / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


def interrupt_at(file: Path) -> None:
    """Send this process a Ctrl-C once the file is there."""
    until = time.monotonic() + 30
    while not file.is_file() and time.monotonic() < until:
        time.sleep(0.005)
    os.kill(os.getpid(), signal.SIGINT)


def test_a_job_refuses_a_workspace_that_it_cannot_see(prepared: Prepared) -> None:
    workspace = prepared("runs")
    (plan,), _ = planned(workspace, "DRCT")
    lost = dataclasses.replace(job(plan, workspace), workspace="/nowhere/runs")
    with pytest.raises(MissingStageError, match="/nowhere/runs: no prepared corpus") as caught:
        run_job(lost)
    assert caught.value.__notes__ == [f"on {os.uname().nodename}"]


def test_a_job_refuses_a_corpus_that_was_prepared_anew(prepared: Prepared) -> None:
    workspace = prepared("runs")
    (plan,), _ = planned(workspace, "DRCT")
    with pytest.raises(MissingStageError, match="another corpus was prepared"):
        run_job(dataclasses.replace(job(plan, workspace), corpus="other000"))


def test_fine_tuning_elsewhere_needs_the_images_to_recognise_their_cache(
    prepared: Prepared, corpus: Corpus, tmp_path: Path
) -> None:
    workspace = prepared("runs")
    (plan,), _ = planned(workspace, "DRCT")
    forget_files(workspace.corpus)
    table = workspace.corpus / "images.csv"
    folder = str(Path(corpus.table.paths[0]).parent)
    table.write_text(table.read_text().replace(folder, str(tmp_path / "gone")))
    described, caches = job(plan, workspace), list(workspace.cache.iterdir())
    full = dataclasses.replace(described, config={**described.config, "regime": "full"})
    with pytest.raises(MissingStageError, match=r"gone/train_00.jpg: not seen from"):
        run_job(full)
    assert list(workspace.cache.iterdir()) == caches


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        ({"cpus_per_job": 0}, "--cpus-per-job: expected 1 to 10,000, found 0"),
        ({"gpus_per_job": -0.5}, "--gpus-per-job: expected 0 to 1,000, found -0.5"),
    ],
)
def test_a_job_takes_at_least_a_core_and_no_less_than_no_gpu(
    given: dict[str, float], refused: str
) -> None:
    with pytest.raises(ConfigError, match=refused):
        Cluster(**given)  # type: ignore[arg-type]


def test_without_ray_the_command_to_install_it_is_named_before_any_work(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # what an import of a missing package finds
    workspace = prepared("runs")
    with pytest.raises(ConfigError, match=r"run `pip install 'radfuse\[cluster\]'` first"):
        train_backbones(
            workspace.open_corpus(), workspace, names=["DRCT"], config=CONFIG, preset="tiny",
            compute=Compute(), cluster=Cluster(),
        )  # fmt: skip
    assert not workspace.embeddings.exists()


def test_a_cluster_is_not_asked_from_under_torchrun(prepared: Prepared) -> None:
    workspace = prepared("runs")
    with pytest.raises(ConfigError, match="run it without torchrun"):
        train_backbones(
            workspace.open_corpus(), workspace, names=["DRCT"], config=CONFIG, preset="tiny",
            compute=Compute(world=World(size=2)), cluster=Cluster(),
        )  # fmt: skip


def test_options_of_the_cluster_go_with_its_engine() -> None:
    def asked(engine: str, **options: float | None) -> Cluster | None:
        none = {"cpus_per_job": None, "gpus_per_job": None}
        return cluster_of(engine, address=None, device="cpu", **(none | options))  # type: ignore[arg-type]

    assert asked("serial") is None
    assert asked("ray", gpus_per_job=0.5) == Cluster(device="cpu", gpus_per_job=0.5)
    with pytest.raises(ConfigError, match=r"^--cpus-per-job, --gpus-per-job: goes with --engine"):
        asked("serial", cpus_per_job=1, gpus_per_job=0.0)
    with pytest.raises(ConfigError, match="--engine dask: expected serial or ray"):
        asked("dask")
