"""Training jobs on a Ray cluster: a network a task, run again elsewhere when its node is lost."""

import logging
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from backbones.detectors.inputs import TrainingInputs
from backbones.detectors.jobs import Train, describe_job, network_name, run_job
from backbones.detectors.plan import DetectorPlan
from backbones.detectors.run import RunOptions, assemble
from core.config import Range, check_ranges
from core.errors import ConceptError, ConfigError, MissingStageError
from core.progress import Bar, progress, say
from core.runs.workspace import Workspace
from core.storage.folders import is_complete, read_meta
from training.members import MemberPlan

_PACKAGES = ("core", "corpus", "training", "backbones")
"""What a job imports of ours, in a checkout; the nodes get it from here."""

_OBJECT_STORE = 100 * 2**20  # bytes; jobs meet on disk and send nothing
_KNOCK_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where jobs go and what each may take; never part of a fingerprint.

    Attributes:
        address: of a running cluster, as `ray.init` takes it; None for the cores and GPUs here.
        device: `auto` for cuda where the cluster has GPUs, cpu or cuda.
        cpus_per_job: cores, and as many threads. One a job is fastest while there are more jobs
            than cores.
        gpus_per_job: a part of one lets several jobs share it; None for one where the device is
            cuda, else none.
    """

    address: str | None = None
    device: str = "auto"
    cpus_per_job: Annotated[int, Range(least=1, most=10_000)] = 1
    gpus_per_job: Annotated[float, Range(least=0, most=1_000)] | None = None

    def __post_init__(self) -> None:
        options = {"cpus_per_job": "--cpus-per-job", "gpus_per_job": "--gpus-per-job"}
        check_ranges(self, called=options)


@contextmanager
def connected(cluster: Cluster, *, packages: Sequence[str] = _PACKAGES) -> Iterator[Any]:
    """Ray, connected to the cluster for the length of a block.

    Args:
        cluster: where.
        packages: of ours that jobs import.

    Raises:
        ConfigError: Ray is not installed, or no cluster answers at the address.
    """
    ray = _import_ray()
    _knock(cluster.address)
    here: dict[str, Any] = {"include_dashboard": False, "object_store_memory": _OBJECT_STORE}
    try:
        with _own_sigterm():
            ray.init(
                address=cluster.address or "local",
                runtime_env={"py_modules": _code(packages), "excludes": ["__pycache__"]},
                log_to_driver=False,
                logging_level=logging.ERROR,
                **({} if cluster.address else here),
            )
    except (ConnectionError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"--address {cluster.address}: no Ray cluster there ({reason})") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _code(packages: Sequence[str]) -> list[str]:
    """Folders that the nodes put on their path, each as the package that it is here."""
    root = Path(__file__).parents[2]
    if __name__.startswith("radfuse."):  # installed, all of it is one package
        return [str(root)]
    return [str(root / name) for name in packages]


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep this process' answer to SIGTERM; Ray puts its own in place when it starts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    try:
        import ray
    except ImportError:
        raise ConfigError("--engine ray: run `pip install 'radfuse[cluster]'` first") from None
    return ray


def _knock(address: str | None) -> None:
    """Refuse a HOST:PORT where nobody answers; Ray would try for minutes."""
    host, colon, port = (address or "").rpartition(":")
    if not colon or not port.isdigit() or "://" in host:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()
    except OSError as error:
        raise ConfigError(f"--address {address}: no Ray cluster there ({error})") from None


def place_of(ray: Any, cluster: Cluster) -> tuple[str, float]:
    """Where jobs compute, and how much of a GPU each takes."""
    device = cluster.device.partition(":")[0]  # Ray shows a job its own GPUs only
    if device == "auto":
        device = "cuda" if ray.cluster_resources().get("GPU", 0) else "cpu"
    n_gpus = cluster.gpus_per_job
    return device, float(device == "cuda") if n_gpus is None else n_gpus


def check_room(ray: Any, cluster: Cluster, *, n_gpus: float) -> None:
    """Refuse jobs that no node could ever take; a cluster may grow, and that is said."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    wanted = {"CPU": cluster.cpus_per_job, "GPU": n_gpus}
    if any(all(node.get(key, 0) >= n for key, n in wanted.items()) for node in nodes):
        return
    text = f"no node has {cluster.cpus_per_job} cores and {n_gpus:g} GPUs free for a job"
    if cluster.address is None:
        raise ConfigError(f"--cpus-per-job, --gpus-per-job: {text}")
    say(f"{text} now; waiting for one")


def cluster_of(
    engine: str,
    *,
    address: str | None,
    device: str,
    cpus_per_job: int | None,
    gpus_per_job: float | None,
) -> Cluster | None:
    """The cluster that `--engine` and its options ask for; None for one network after the other.

    Raises:
        ConfigError: there is no such engine, or an option belongs to the other one.
    """
    if engine not in ("serial", "ray"):
        raise ConfigError(f"--engine {engine}: expected serial or ray")
    options = {
        "--address": address,
        "--cpus-per-job": cpus_per_job,
        "--gpus-per-job": gpus_per_job,
    }
    given = [name for name, value in options.items() if value is not None]
    if engine == "ray":
        return Cluster(
            address=address,
            device=device,
            cpus_per_job=1 if cpus_per_job is None else cpus_per_job,
            gpus_per_job=gpus_per_job,
        )
    if given:
        raise ConfigError(f"{', '.join(given)}: goes with --engine ray only")
    return None


MAX_FAILURES = 2
"""Times that a network is tried again after an error: a full disk, a driver's hiccup."""

MAX_LOSSES = 10
"""Times that a network is tried again after its process was lost: cheap nodes come and go, and
each loss costs the work since the last checkpoint only."""

_GRACE_S = 30.0  # for a step and a checkpoint
_VISIBLE_S = 90.0  # network file systems keep what they saw of a folder for up to a minute


@contextmanager
def on_ray(cluster: Cluster) -> Iterator[Train]:
    """An engine on a cluster, connected for the length of a block.

    Raises:
        ConfigError: Ray is not installed, or no cluster answers at the address.
    """
    with connected(cluster) as ray:
        yield partial(train_there, ray=ray, cluster=cluster)


def train_there(
    plans: Sequence[DetectorPlan],
    inputs: TrainingInputs,
    *,
    workspace: Workspace,
    options: RunOptions,
    ray: Any,
    cluster: Cluster,
) -> None:
    """All networks as tasks; each detector is put together here once its last network is there."""
    fleet = _Fleet(ray, cluster, plans, workspace, options)
    try:
        for plan in fleet.start():
            assemble(plan, inputs, workspace=workspace)
        while fleet.running:
            shown = progress("training", total=fleet.n, unit="networks", done=fleet.n_done)
            with shown as bar:  # putting together has a bar of its own
                plan = fleet.next_complete(bar)
            assemble(plan, inputs, workspace=workspace)
    except SystemExit:  # SIGTERM's; Ray loses its code on the way through `wait`
        raise SystemExit(128 + signal.SIGTERM) from None
    finally:
        fleet.cancel()


class _Fleet:
    """Networks on their way."""

    def __init__(
        self,
        ray: Any,
        cluster: Cluster,
        plans: Sequence[DetectorPlan],
        workspace: Workspace,
        options: RunOptions,
    ) -> None:
        self.ray, self.plans, self.workspace, self.options = ray, plans, workspace, options
        self.device, n_gpus = place_of(ray, cluster)
        self.threads = cluster.cpus_per_job
        check_room(ray, cluster, n_gpus=n_gpus)
        # Tried again by `_end`, which says so; Ray would do it in silence.
        self.task = ray.remote(run_job).options(
            num_cpus=self.threads, num_gpus=n_gpus, max_retries=0
        )
        self.running: dict[Any, tuple[DetectorPlan, MemberPlan]] = {}
        self.left = Counter[Path]()
        self.failures, self.losses = Counter[Path](), Counter[Path]()
        self.n = sum(len(plan.members) for plan in plans)

    @property
    def n_done(self) -> int:
        return self.n - self.left.total()

    def start(self) -> list[DetectorPlan]:
        """Send out what is to be done; the detectors whose networks are all there."""
        for plan in self.plans:
            for member in plan.members:
                if not is_complete(plan.member_home(member)):
                    self.left[plan.home] += 1
                    self._send(plan, member)
        return [plan for plan in self.plans if not self.left[plan.home]]

    def _send(self, plan: DetectorPlan, member: MemberPlan) -> None:
        job = describe_job(
            plan,
            member,
            workspace=self.workspace,
            options=self.options,
            device=self.device,
            threads=self.threads,
        )
        self.running[self.task.remote(job)] = plan, member

    def next_complete(self, bar: Bar) -> DetectorPlan:
        """Wait until all networks of some detector are there.

        Raises:
            ConceptError: a network cannot be trained as things stand.
            OSError: a disk refused a network's files again and again.
            RuntimeError: training a network failed again and again.
        """
        while True:
            (done,), _ = self.ray.wait(list(self.running), num_returns=1)
            plan, member = self.running.pop(done)
            if not self._end(done, plan, member):
                self._send(plan, member)
                continue
            bar(1)
            self.left[plan.home] -= 1
            if not self.left[plan.home]:
                return plan

    def _end(self, done: Any, plan: DetectorPlan, member: MemberPlan) -> bool:
        """Say how a task ended; whether its network is there."""
        name, home = network_name(plan, member), plan.member_home(member)
        errors = self.ray.exceptions
        try:
            node = self.ray.get(done)
        except errors.RayTaskError as error:
            self.failures[home] += 1
            failed(name, error.cause, error=error, n_times=self.failures[home])
            return False
        except (errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError) as error:
            self.losses[home] += 1
            lost(name, type(error).__name__, n_times=self.losses[home])
            return False
        _await(home)
        meta = read_meta(home)
        f1 = "" if meta["f1"] is None else f"F1 {meta['f1']:.3f} at "
        say(f"{name}: {f1}epoch {meta['epoch']}, {meta['seconds']:.0f} s on {node}")
        return True

    def cancel(self) -> None:
        """Have what still runs save a checkpoint and stop."""
        if not self.running:
            return
        say("stopping the networks that are being trained; each saves a checkpoint")
        for task in self.running:
            self.ray.cancel(task)
        self.ray.wait(list(self.running), num_returns=len(self.running), timeout=_GRACE_S)


def failed(name: str, cause: Exception, *, error: Exception, n_times: int) -> None:
    """Raise what cannot be mended by trying again, or not any more; else say so.

    Args:
        name: of the job.
        cause: what was raised in it.
        error: what Ray raised for that.
        n_times: failures of the job so far.

    Raises:
        ConceptError: the cause, which is for the user to mend.
        OSError: the cause, again and again.
        RuntimeError: it failed again and again.
    """
    if isinstance(cause, ConceptError):
        raise cause
    where = " ".join((name, *getattr(cause, "__notes__", ())))
    if n_times > MAX_FAILURES:
        say(f"{where}: failed {n_times} times")
        if isinstance(cause, OSError):
            raise cause
        raise RuntimeError(f"{where}: failed {n_times} times; the last error stands above") from (
            error
        )
    say(f"{where}: failed ({type(cause).__name__}: {cause}); trying again")


def lost(name: str, reason: str, *, n_times: int) -> None:
    """Say that a job is done elsewhere, whose process or node is gone.

    Args:
        name: of the job.
        reason: name of Ray's error.
        n_times: losses of the job so far.

    Raises:
        ConceptError: it was lost again and again.
    """
    if n_times > MAX_LOSSES:
        raise ConceptError(
            f"{name}: its process was lost {n_times} times, last by {reason}; see that the nodes"
            " stay up and have memory for --cpus-per-job, then run the same command again"
        )
    say(f"{name}: lost with its process or node ({reason}); going on elsewhere")


def _await(home: Path) -> None:
    """Wait until what another machine wrote is seen here."""
    until = time.monotonic() + _VISIBLE_S
    while not is_complete(home):
        if time.monotonic() > until:
            raise MissingStageError(
                f"{home}: trained on another machine, but not seen here; the workspace must lie on"
                " a disk that all machines share, under the same path"
            )
        time.sleep(0.5)
