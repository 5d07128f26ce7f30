"""A Ray cluster to train on: connected to for the length of a block, asked what it has."""

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import ConfigError
from core.progress import say

_PACKAGES = ("core", "corpus", "training", "backbones")
"""What a job imports of ours; the nodes get it from here."""

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
    cpus_per_job: int = 1
    gpus_per_job: float | None = None

    def __post_init__(self) -> None:
        if self.cpus_per_job < 1:
            raise ConfigError(f"--cpus-per-job {self.cpus_per_job}: expected at least 1")
        if self.gpus_per_job is not None and not self.gpus_per_job >= 0:
            raise ConfigError(f"--gpus-per-job {self.gpus_per_job}: expected 0 or more")


@contextmanager
def connected(cluster: Cluster) -> Iterator[Any]:
    """Ray, connected to the cluster for the length of a block.

    Raises:
        ConfigError: Ray is not installed, or no cluster answers at the address.
    """
    ray = _import_ray()
    _knock(cluster.address)
    here: dict[str, Any] = {"include_dashboard": False, "object_store_memory": _OBJECT_STORE}
    root = Path(__file__).parents[1]
    modules = [str(root / name) for name in _PACKAGES]
    try:
        with _own_sigterm():
            ray.init(
                address=cluster.address or "local",
                runtime_env={"py_modules": modules, "excludes": ["__pycache__"]},
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


def check_room(ray: Any, cluster: Cluster, n_gpus: float) -> None:
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
