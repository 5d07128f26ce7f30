"""Training jobs on real Ray clusters on this machine: lost nodes, errors, Ctrl-C."""

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, chdir
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backbones.detectors import ray as ray_engine
from backbones.detectors.inputs import image_inputs
from backbones.detectors.jobs import Train, train_in_order
from backbones.detectors.plan import DetectorPlan, plan_detectors
from backbones.detectors.ray import Cluster, on_ray
from backbones.detectors.run import RunOptions
from backbones.train import train_backbones
from core.config import overlay
from core.errors import ConceptError, ConfigError, PredictionsError
from core.predictions import Predictions
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import is_complete
from tests.backbones.detectors.test_jobs import CONFIG, Prepared, planned
from tests.conftest import once, save_prepared
from training.devices.compute import Compute

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'radfuse[cluster]'")
cluster_utils = pytest.importorskip("ray.cluster_utils")

SMALL = 80 * 2**20  # bytes; Ray's least is 75 MiB
OFTEN = RunOptions(checkpoint_s=0.0)  # after every step, so that there is always one to go on from
LONG = overlay(CONFIG, {"epochs": 400, "patience": 400})

by_process = pytest.mark.skipif(
    not Path("/proc/locks").exists(), reason="finds the process of a network by /proc/locks"
)


@pytest.fixture
def two_nodes() -> Iterator[Any]:
    """A cluster of a head that takes no jobs and two nodes with a core each."""
    head = {"num_cpus": 0, "object_store_memory": SMALL, "include_dashboard": False}
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1, object_store_memory=SMALL)
        yield cluster
    finally:
        cluster.shutdown()


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Train]:
    """An engine on the cores of this machine, of a user who is not in the checkout."""
    with ExitStack() as stack:
        with chdir(tmp_path_factory.mktemp("elsewhere")):
            engine = stack.enter_context(on_ray(Cluster(device="cpu")))
        yield engine


def checkpoint(plan: DetectorPlan, number: int) -> Path:
    return plan.member_home(plan.members[number]) / "checkpoint" / "state.pt"


def holder(file: Path) -> int:
    """Number of the process that holds a file's lock."""
    inode = file.stat().st_ino
    for line in Path("/proc/locks").read_text().splitlines():
        words = line.split()  # 1: FLOCK ADVISORY WRITE <process> <device>:<inode> 0 EOF
        if words[1] == "FLOCK" and words[5].endswith(f":{inode}"):
            return int(words[4])
    raise AssertionError(f"{file} is not locked")


def node_of(process: int, cluster: Any) -> Any:
    """The node that started a process."""
    parent = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    for node in cluster.worker_nodes:
        if parent == node.all_processes["raylet"][0].process.pid:
            return node
    raise AssertionError(f"process {process} belongs to no node")


def assert_same_detectors(one: Workspace, other: Workspace) -> None:
    """Bit for bit, weights and predictions."""
    files = sorted(path.relative_to(one.root) for path in one.backbones.rglob("model.safetensors"))
    assert files
    for file in files:
        assert (one.root / file).read_bytes() == (other.root / file).read_bytes()
        for split in ("valid", "test"):
            here, there = (
                Predictions.load(workspace.root / file.parent / "predictions" / split)
                for workspace in (one, other)
            )
            assert here.probs.tobytes() == there.probs.tobytes()


@pytest.mark.slow
@by_process
def test_networks_of_a_node_that_dies_are_finished_elsewhere_to_the_same_last_bit(
    prepared: Prepared, two_nodes: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    serial, spread = prepared("serial"), prepared("spread")
    plans, inputs = planned(serial, "DRCT", config=LONG)
    train_in_order(plans, inputs, workspace=serial, options=RunOptions())
    (plan,), _ = planned(spread, "DRCT", config=LONG)
    lock = plan.member_home(plan.members[0]) / ".lock"
    killer = once(
        checkpoint(plan, 0).is_file,
        lambda: two_nodes.remove_node(node_of(holder(lock), two_nodes), allow_graceful=False),
        patience_s=60,
    )
    (folder,) = train_backbones(
        spread.open_corpus(), spread, names=["DRCT"], config=LONG, preset="tiny",
        compute=Compute(), options=OFTEN, cluster=Cluster(address=two_nodes.address),
    )  # fmt: skip
    killer.join()
    assert is_complete(folder)
    said = capsys.readouterr().err
    assert said.count("DRCT, network 1 of 2: lost with its process or node") == 1
    assert said.count(" of 2: F1 ") == 2
    assert_same_detectors(serial, spread)


@pytest.mark.slow
def test_networks_of_a_cross_fitted_corpus_start_there_from_what_they_start_from_here(
    crossfitted: Corpus, train: Train, tmp_path: Path
) -> None:
    here, there = (save_prepared(crossfitted, tmp_path / name) for name in ("here", "there"))
    config = overlay(CONFIG, {"regime": "full", "hidden": "", "epochs": 1})
    (general,) = train_backbones(
        crossfitted, here, names=["global"], config=config, preset="tiny", compute=Compute()
    )
    config = replace(config, weights=str(general))
    homes = []
    for workspace, engine in ((here, train_in_order), (there, train)):
        plans = plan_detectors(crossfitted, workspace, names=["DRCT"], config=config, preset="tiny")
        inputs = image_inputs(crossfitted, workspace, config=config, compute=Compute())
        engine(plans, inputs, workspace=workspace, options=RunOptions())
        homes.append(plans[0].home)
    for name in (
        "model.safetensors",
        *(f"predictions/labelled-{k}of3/probs.npy" for k in (1, 2, 3)),
    ):
        one, other = ((home / name).read_bytes() for home in homes)
        assert one == other


@pytest.mark.slow
def test_a_detector_is_whole_as_soon_as_its_last_network_is_there(
    prepared: Prepared, train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = prepared("runs")
    plans, inputs = planned(workspace, "DRCT", "DRXR")
    train(plans, inputs, workspace=workspace, options=OFTEN)
    lines = capsys.readouterr().err.splitlines()
    for name in ("DRCT", "DRXR"):  # networks of both end in any order
        last = max(i for i, line in enumerate(lines) if line.startswith(f"{name}, network"))
        assert lines[last + 1].startswith(f"{name}: 20 images")


def test_no_cluster_at_the_address_is_one_line() -> None:
    with (
        pytest.raises(ConfigError, match=r"--address 127.0.0.1:9: no Ray cluster there"),
        on_ray(Cluster(address="127.0.0.1:9")),
    ):
        pass
    with (
        pytest.raises(ConfigError, match="--address nonsense: no Ray cluster there"),
        on_ray(Cluster(address="nonsense")),
    ):
        pass


@pytest.mark.slow
def test_nodes_get_the_code_of_a_job_and_nothing_else(train: Train) -> None:
    def where() -> tuple[str, list[str]]:
        import core

        folder = Path(core.__file__).parent
        return str(folder), sorted(path.name for path in folder.parent.iterdir())

    folder, beside = ray.get(ray.remote(where).remote())
    assert "runtime_resources" in folder  # Ray's copy, not this checkout
    assert beside == ["core"]


@pytest.mark.slow
def test_a_mistake_that_can_be_mended_is_raised_at_once_as_it_is(
    prepared: Prepared, train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = prepared("runs")
    (plan,), inputs = planned(workspace, "DRCT")
    checkpoint(plan, 1).parent.mkdir(parents=True)
    checkpoint(plan, 1).write_bytes(b"cut short")
    with pytest.raises(ConfigError, match="cannot be read as a checkpoint") as caught:
        train([plan], inputs, workspace=workspace, options=OFTEN)
    assert type(caught.value) is ConfigError  # not Ray's wrapping of it
    assert len(str(caught.value).splitlines()) == 1
    assert "trying again" not in capsys.readouterr().err
    shutil.rmtree(checkpoint(plan, 1).parent)
    train([plan], inputs, workspace=workspace, options=OFTEN)
    assert is_complete(plan.home)


@pytest.mark.slow
def test_other_errors_are_tried_again_and_then_named(
    prepared: Prepared, train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = prepared("runs")
    (plan,), inputs = planned(workspace, "DRCT")
    (plan.member_home(plan.members[1]) / "log.jsonl").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        train([plan], inputs, workspace=workspace, options=OFTEN)
    said = capsys.readouterr().err
    where = f"DRCT, network 2 of 2 on {os.uname().nodename}: failed"
    assert said.count(f"{where} (IsADirectoryError: ") == ray_engine.MAX_FAILURES
    assert f"{where} 3 times" in said


@pytest.mark.slow
def test_a_damaged_file_of_a_network_is_refused_at_once(prepared: Prepared, train: Train) -> None:
    workspace = prepared("runs")
    (plan,), inputs = planned(workspace, "DRCT")
    home = plan.member_home(plan.members[0])
    (home / "checkpoint").mkdir(parents=True)
    (home / "checkpoint" / "micro_batch.json").write_text("many")
    with pytest.raises(PredictionsError, match=r"micro_batch\.json: not JSON .*; remove it"):
        train([plan], inputs, workspace=workspace, options=OFTEN)


def test_a_bug_is_raised_with_the_network_and_its_node(capsys: pytest.CaptureFixture[str]) -> None:
    bug, shown = ValueError("no such axis"), RuntimeError("as Ray shows it")
    bug.add_note("on n1")
    for n_times in range(1, ray_engine.MAX_FAILURES + 1):
        ray_engine.failed("DRCT, network 1 of 2", bug, error=shown, n_times=n_times)
    trying = "DRCT, network 1 of 2 on n1: failed (ValueError: no such axis); trying again"
    assert capsys.readouterr().err.count(trying) == ray_engine.MAX_FAILURES
    with pytest.raises(
        RuntimeError, match=r"^DRCT, network 1 of 2 on n1: failed \d times"
    ) as raised:
        ray_engine.failed("DRCT, network 1 of 2", bug, error=shown, n_times=n_times + 1)
    assert raised.value.__cause__ is shown


@pytest.mark.slow
@by_process
def test_a_network_that_loses_its_process_again_and_again_is_given_up(
    prepared: Prepared, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_engine, "MAX_LOSSES", 0)
    workspace = prepared("runs")
    (plan,), inputs = planned(workspace, "DRCT", config=overlay(LONG, {"n_members": 1}))
    killer = once(
        checkpoint(plan, 0).is_file,
        lambda: os.kill(holder(plan.member_home(plan.members[0]) / ".lock"), signal.SIGKILL),
        patience_s=60,
    )
    with pytest.raises(ConceptError, match=r"DRCT, network 1 of 1: its process was lost 1 times"):
        train([plan], inputs, workspace=workspace, options=OFTEN)
    killer.join()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_has_every_network_saved_and_the_same_call_goes_on(
    prepared: Prepared,
    train: Train,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
) -> None:
    serial, stopped = prepared("serial"), prepared("stopped")
    config = overlay(LONG, {"n_members": 1})
    plans, inputs = planned(serial, "DRCT", config=config)
    train_in_order(plans, inputs, workspace=serial, options=RunOptions())
    (plan,), inputs = planned(stopped, "DRCT", config=config)
    former = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # as cli's
    thread = once(checkpoint(plan, 0).is_file, lambda: os.kill(os.getpid(), number), patience_s=60)
    with pytest.raises((KeyboardInterrupt, SystemExit)) as caught:
        train([plan], inputs, workspace=stopped, options=OFTEN)
    thread.join()
    signal.signal(signal.SIGTERM, former)
    assert getattr(caught.value, "code", 130) == 128 + number
    assert "each saves a checkpoint" in capsys.readouterr().err
    assert checkpoint(plan, 0).is_file()
    assert not is_complete(plan.home)
    train([plan], inputs, workspace=stopped, options=OFTEN)
    assert_same_detectors(serial, stopped)


@pytest.mark.slow
def test_a_job_that_needs_more_than_there_is_here_is_refused(
    prepared: Prepared, train: Train
) -> None:
    workspace = prepared("runs")
    (plan,), inputs = planned(workspace, "DRCT")
    greedy = Cluster(device="cpu", cpus_per_job=10_000)
    with pytest.raises(ConfigError, match="no node has 10000 cores and 0 GPUs free for a job"):
        ray_engine.train_there(
            [plan], inputs, workspace=workspace, options=RunOptions(), ray=ray, cluster=greedy
        )
