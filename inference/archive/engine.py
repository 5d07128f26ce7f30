"""Who does the units of an archive: an engine, and the one that is this process."""

from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol

import torch

from core.errors import MissingStageError
from core.progress import Bar, say
from inference.archive.join import TableTarget
from inference.archive.units import UnitFolder
from inference.archive.work import UnitWork
from inference.images import ImageList, may_have_header
from inference.loaded.ensemble import LoadedEnsemble
from inference.place import EnsemblePlace
from inference.threads import use_threads
from training.devices.device import find_device, keep_memory


class UnitEngine(Protocol):
    """Does units until all are finished, by whomever."""

    @property
    def identity(self) -> str:
        """Of the ensemble that decides, as `EnsemblePlace.identity` tells it."""
        ...

    @property
    def device(self) -> str:
        """Where it computes: cpu, cuda or cuda:N."""
        ...

    @property
    def threads(self) -> int:
        """Threads of the processor that a unit is computed with."""
        ...

    def finish(
        self, units: UnitFolder, images: ImageList, *, work: UnitWork, target: TableTarget, bar: Bar
    ) -> None:
        """Until no unit is left.

        Args:
            units: the folder of units.
            images: all of them.
            work: how a unit is done.
            target: is told of every unit that is finished.
            bar: is told of images that are done.
        """


@dataclass
class Here:
    """An engine that does units in this process, each once nobody else is at it.

    Attributes:
        place: of the ensemble, which is read when the first unit is begun.
        device: where its networks run; `auto` is settled at once.
        identity: of the ensemble that is there now.
    """

    place: EnsemblePlace
    device: str
    identity: str = field(init=False)

    def __post_init__(self) -> None:
        self.device = find_device(self.device)
        self.identity = self.place.identity()

    @property
    def threads(self) -> int:
        """As torch found it best."""
        return torch.get_num_threads()

    def read(self, images: ImageList) -> LoadedEnsemble:
        """The ensemble; refused where a guess will be needed that cannot be made.

        Raises:
            MissingStageError: another one was made in the meantime, or it cannot guess.
        """
        keep_memory()  # networks take 1.5 s of a core for 32 images where they took 2.9
        ensemble = self.place.read(self.device)
        if self.place.identity() != self.identity:  # units of both would be joined
            raise MissingStageError(
                "the ensemble was made again since this command began; run it again"
            )
        if ensemble.guess and any(not may_have_header(path) for path in images.unknown()):
            ensemble.guess.require()  # before anything is done
        return ensemble

    def finish(
        self, units: UnitFolder, images: ImageList, *, work: UnitWork, target: TableTarget, bar: Bar
    ) -> None:
        """See `UnitEngine`."""
        ensemble: LoadedEnsemble | None = None
        waits = False
        while units.left:
            numbers = units.claimable()
            for first in numbers:
                if ensemble is None:
                    if units.threads != self.threads:
                        say(f"with {units.threads} threads, as it was begun")
                        use_threads(units.threads)
                    ensemble = self.read(images)
                pairs = ((n, images[units.sizes.images_of(n)]) for n in chain([first], numbers))
                for number, rows, report in work.done(ensemble, pairs, advance=bar):
                    units.finish(number, rows, report=report)
                    target.put_part(units, number)
            bar(units.look())
            if units.left:
                if not waits:
                    say("all that is left is being done by other processes; waiting", each=True)
                waits = True
                units.wait()
