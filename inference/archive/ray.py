"""Units on a Ray cluster: a unit a task, done again elsewhere when its node is lost."""

import platform
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from backbones.detectors.ray import Cluster, check_room, connected, failed, lost, place_of
from core.errors import MissingStageError
from core.progress import Bar, say
from core.storage.packed import exists
from inference.archive.join import TableTarget
from inference.archive.units import UnitFolder, UnitReport
from inference.archive.work import UnitWork
from inference.images import ImageList, NewImage
from inference.loaded.ensemble import LoadedEnsemble
from inference.place import EnsemblePlace
from inference.threads import use_threads
from training.devices.device import find_device, keep_memory

_PACKAGES = ("core", "corpus", "training", "backbones", "fusion", "ensembles", "inference")
"""What a task imports of ours; the nodes get it from here."""

_SPARE = 2  # tasks that wait, so that a free core has the next one at once


@dataclass(frozen=True, kw_only=True)
class UnitJob:
    """One unit, in plain values that mean the same on every machine.

    Attributes:
        place: of the ensemble; it must lie at the same place everywhere.
        identity: of the ensemble that is meant.
        device: where to compute, as `--device` takes it.
        threads: of the processor that it may use.
        work: how it is done.
        number: of the unit.
        images: those of the unit.
        seen: path of an image that is there; "" where the first is not.
    """

    place: EnsemblePlace
    identity: str
    device: str
    threads: int
    work: UnitWork
    number: int
    images: tuple[NewImage, ...]
    seen: str


def run_unit(job: UnitJob) -> tuple[bytes, UnitReport]:
    """Table and report of a unit.

    Raises:
        ConceptError: ensemble or images cannot be seen from this machine.
    """
    try:
        use_threads(job.threads)
        ensemble = _read(job.place, job.identity, job.device)
        if job.seen and not exists(Path(job.seen)):
            raise MissingStageError(
                f"{job.seen}: not seen from {platform.node()}; the images must lie on a disk that"
                " all machines share, under the same path"
            )
        units = [(job.number, job.images)]
        ((_, rows, report),) = job.work.done(ensemble, units, advance=lambda n: None)
    except Exception as error:
        error.add_note(f"on {platform.node()}")  # notes travel with the error, tracebacks do not
        raise
    return rows, report


@lru_cache(maxsize=1)  # the next unit of the same process is decided by the same
def _read(place: EnsemblePlace, identity: str, device: str) -> LoadedEnsemble:
    if place.identity() != identity:
        raise MissingStageError(
            f"{place}: another ensemble is seen from {platform.node()}; it must lie on a disk that"
            " all machines share, under the same path"
        )
    keep_memory()  # as in one process
    return place.read(find_device(device))


@contextmanager
def units_on_ray(cluster: Cluster, *, place: EnsemblePlace) -> Iterator["RayUnits"]:
    """An engine on a cluster, connected for the length of a block.

    Raises:
        ConfigError: Ray is not installed, no cluster answers at the address, or no node of this
            machine could take a unit.
    """
    with connected(cluster, packages=_PACKAGES) as ray:
        yield RayUnits(ray, cluster, place=place)


class RayUnits:
    """An engine whose units are done by the nodes of a cluster.

    Attributes:
        device: where they compute.
        threads: of each unit.
    """

    def __init__(self, ray: Any, cluster: Cluster, *, place: EnsemblePlace) -> None:
        """Look at a cluster that is connected."""
        self.ray, self.place, self.identity = ray, _everywhere(place), place.identity()
        self.device, self.n_gpus = place_of(ray, cluster)
        self.threads = cluster.cpus_per_job
        check_room(ray, cluster, n_gpus=self.n_gpus)
        # Tried again by `_end`, which says so; Ray would do it in silence.
        self.task = ray.remote(run_unit).options(
            num_cpus=self.threads, num_gpus=self.n_gpus, max_retries=0
        )
        self.failures, self.losses = Counter[int](), Counter[int]()

    def finish(
        self, units: UnitFolder, images: ImageList, *, work: UnitWork, target: TableTarget, bar: Bar
    ) -> None:
        """See `inference.archive.engine.UnitEngine`."""
        running: dict[Any, int] = {}
        numbers, waits = units.claimable(), False

        def send(number: int) -> None:
            running[self.task.remote(self._job(units, images, work=work, number=number))] = number

        try:
            while units.left:
                while len(running) < self._room():
                    number = next(numbers, None)
                    if number is None:
                        break
                    send(number)
                if not running:
                    bar(units.look())
                    if units.left:
                        if not waits:
                            say("all that is left is being done by other processes; waiting")
                        waits = True
                        units.wait()
                    numbers = units.claimable()
                    continue
                (done,), _ = self.ray.wait(list(running), num_returns=1)
                number = running.pop(done)
                found = self._end(done, units, number=number)
                if found is None:
                    send(number)
                    continue
                rows, report = found
                units.finish(number, rows, report=report)
                target.put_part(units, number)
                bar(report.n_images)
        except SystemExit:  # SIGTERM's; Ray loses its code on the way through `wait`
            raise SystemExit(128 + signal.SIGTERM) from None
        finally:
            for task in running:
                self.ray.cancel(task)

    def _room(self) -> int:
        """Units that are sent out at a time."""
        there = self.ray.cluster_resources()
        n = int(there.get("CPU", 0)) // self.threads
        if self.n_gpus:
            n = min(n, int(there.get("GPU", 0) / self.n_gpus))
        return n + _SPARE

    def _job(self, units: UnitFolder, images: ImageList, *, work: UnitWork, number: int) -> UnitJob:
        own = tuple(images[units.sizes.images_of(number)])
        return UnitJob(
            place=self.place,
            identity=self.identity,
            device=self.device,
            threads=units.threads,
            work=work,
            number=number,
            images=own,
            seen=str(own[0].path) if exists(own[0].path) else "",
        )

    def _end(self, done: Any, units: UnitFolder, *, number: int) -> tuple[bytes, UnitReport] | None:
        """What a task gave; None where it is to be sent again."""
        own = units.sizes.images_of(number)
        name = f"images {own.start + 1:,} to {own.start + units.n_of([number]):,}"
        errors = self.ray.exceptions
        try:
            rows, report = self.ray.get(done)
        except errors.RayTaskError as error:
            self.failures[number] += 1
            failed(name, error.cause, error=error, n_times=self.failures[number])
            return None
        except (errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError) as error:
            self.losses[number] += 1
            lost(name, type(error).__name__, n_times=self.losses[number])
            return None
        return rows, report


def _everywhere(place: EnsemblePlace) -> EnsemblePlace:
    """The place by absolute paths."""
    named = {field.name: getattr(place, field.name) for field in fields(place)}
    paths = {name: value.resolve() for name, value in named.items() if isinstance(value, Path)}
    return replace(place, **paths)
