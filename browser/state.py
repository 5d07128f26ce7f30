"""What is open while the browser runs: read when first asked for, and kept."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from browser.compare import Comparison
from browser.judgements import Judgement, ensembles_of, judgement_of, judgement_of_submission
from browser.library import Library
from browser.members import Deciding, MemberAnswers, members_of, stacked
from browser.nearest import NearestTraining
from browser.pictures import Pictures
from browser.review import Review
from browser.search import Known, Query, QueryError
from core.errors import ConceptError
from core.progress import say
from core.runs.detectors import DetectorRun, find_detectors
from core.storage.folders import read_meta

if TYPE_CHECKING:
    from inference.heatmaps import HeatMapper

_KEPT, _HEAT_SIDE = 3, 448  # judgements, each of the size of all labels; pixels of a map


@dataclass
class State:
    """A workspace that is looked at.

    Attributes:
        library: its images.
        submissions: files to compare with, by name.
        shows_images: whether pictures may be seen.
        device: that networks of heat maps run on.
    """

    library: Library
    submissions: Mapping[str, Path] = field(default_factory=dict)
    shows_images: bool = True
    device: str = "cpu"
    _judgements: "OrderedDict[str, Judgement]" = field(default_factory=OrderedDict)
    _compared: Comparison | None = None
    _stacked: dict[str, MemberAnswers] = field(default_factory=dict)
    _deciding: dict[str, Deciding | None] = field(default_factory=dict)
    _similarity: npt.NDArray[np.float32] | None = None
    _share: float | None = None
    _stop: Event = field(default_factory=Event)
    _lock: Lock = field(default_factory=Lock)
    _heat_lock: Lock = field(default_factory=Lock)
    _heat_error: str = ""

    @cached_property
    def runs(self) -> dict[str, Path]:
        """Ensembles by name, the newest first."""
        return ensembles_of(self.library)

    @cached_property
    def titles(self) -> dict[str, str]:
        """Of everything that decided what people see: its name, and how an ensemble decides."""
        titles = {name: name for name in self.submissions}
        for name, folder in self.runs.items():
            meta = read_meta(folder)
            made = str(meta.get("made", ""))[:16].replace("T", " ")
            said = f"{meta.get('stacker', '?')}, {meta.get('decision', '?')}"
            titles[name] = f"{made} {said} ({name})"
        return titles

    @property
    def run_names(self) -> list[str]:
        """Names of everything that decided: ensembles, then submissions."""
        return [*self.runs, *self.submissions]

    def judgement(self, name: str = "") -> Judgement | None:
        """What an ensemble or a submission decided; without a name the newest ensemble.

        None where there is no ensemble at all.

        Raises:
            QueryError: there is none of the name, or it cannot be read.
        """
        if not name:
            if not self.run_names:
                return None
            name = self.run_names[0]
        with self._lock:
            if name not in self._judgements:
                try:
                    self._judgements[name] = self._read(name)
                except ConceptError as error:
                    raise QueryError(str(error)) from None
            self._judgements.move_to_end(name)
            while len(self._judgements) > _KEPT:
                self._judgements.popitem(last=False)
            return self._judgements[name]

    def comparison(self, first: str, second: str) -> Comparison:
        """Two of them side by side; the last one is kept.

        Raises:
            QueryError: as `judgement`.
        """
        one, other = self.judgement(first), self.judgement(second)
        kept = self._compared
        if kept is None or kept.first is not one or kept.second is not other:
            assert one is not None
            assert other is not None
            kept = self._compared = Comparison(first=one, second=other)
        return kept

    def warm_up(self) -> Thread:
        """Start to read what the first pages need."""
        thread = Thread(target=self._warm_up, name="warm up", daemon=True)
        thread.start()
        return thread

    def _warm_up(self) -> None:
        try:
            if (judgement := self.judgement()) is not None:
                _ = judgement.f1
        except QueryError as error:
            say(str(error))
        _ = self.library.lower_ids

    def _read(self, name: str) -> Judgement:
        if name in self.runs:
            return judgement_of(self.runs[name], self.library)
        if name in self.submissions:
            return judgement_of_submission(self.submissions[name], self.library, name=name)
        raise QueryError(f"run={name}: no such ensemble or submission here")

    def known(self, query: Query) -> Known:
        """What a query may go by."""
        return Known(
            judgement=self.judgement(query.run),
            similarity=self._similarity,
            marked=self.marked,
        )

    @property
    def marked(self) -> frozenset[int]:
        """Rows that are marked for review."""
        row_of = self.library.row_of
        return frozenset(row_of[i] for i in self.review.marks if i in row_of)

    @cached_property
    def review(self) -> Review:
        """Marks of the workspace."""
        return Review.open(self.library.workspace.root / "review.csv")

    @cached_property
    def pictures(self) -> Pictures:
        """Its images."""
        return Pictures(self.library)

    @cached_property
    def members(self) -> Sequence[MemberAnswers]:
        """Detectors and fused sources."""
        return members_of(self.library)

    def stacked(self, name: str) -> MemberAnswers | None:
        """The probabilities that an ensemble decided by; None of a submission."""
        if name not in self.runs:
            return None
        return self._stacked.setdefault(name, stacked(self.runs[name]))

    def deciding(self, judgement: Judgement) -> Deciding | None:
        """How an ensemble decides; None of a submission, and where it cannot be read."""
        if judgement.run is None:
            return None
        if judgement.name not in self._deciding:
            try:
                self._deciding[judgement.name] = Deciding.of(judgement.run)
            except ConceptError as error:
                say(f"{judgement.name}: limits are not shown: {error}")
                self._deciding[judgement.name] = None
        return self._deciding[judgement.name]

    @cached_property
    def neighbours(self) -> NearestTraining | None:
        """Features to find the nearest images by."""
        return NearestTraining.open(self.library)

    @property
    def similarity(self) -> npt.NDArray[np.float32] | None:
        """(N,) cosine to the nearest training image; None while that is not known."""
        return self._similarity

    @property
    def distance_share(self) -> float | None:
        """How much of the distances is computed, in [0, 1]; None where nothing computes them."""
        return self._share

    def compute_distances(self, *, always: bool = False) -> Thread:
        """Start to compute all distances, where that takes seconds or `always` is set."""
        thread = Thread(
            target=self._compute_distances, args=(always,), name="distances", daemon=True
        )
        thread.start()
        return thread

    def _compute_distances(self, always: bool) -> None:
        def tell(share: float) -> None:
            self._share = share

        try:
            if self.neighbours is None or not (always or self.neighbours.is_quick):
                return
            tell(0.0)
            self._similarity = self.neighbours.similarities(stop=self._stop, told=tell)
        except (ConceptError, OSError) as error:
            say(f"distances from train: {error}")
        self._share = None

    def close(self) -> None:
        """End what is being computed."""
        self._stop.set()

    @cached_property
    def heat_detector(self) -> DetectorRun | None:
        """The detector that heat maps are of; None where there is none."""
        found = find_detectors(self.library.workspace, self.library.corpus.fingerprint)
        return found[0] if found else None

    def heat_map(self, row: int, cui: str) -> tuple[bytes, float]:
        """A map as PNG of the image's shape, and the probability that the detector gives.

        Raises:
            QueryError: there is no detector, or it does not know the concept, or no place speaks
                for it, or the image or the detector cannot be read.
        """
        with self._heat_lock:  # one at a time: each may take a network's memory
            if self._heat_error:
                raise QueryError(self._heat_error)
            try:
                maps = self._mapper.maps_of(self.library.image_ids[row], concepts=[cui])
                width, height = self.pictures.shape(row, longest=_HEAT_SIDE)
            except ConceptError as error:
                raise QueryError(f"heat map: {error}") from None
            except ModuleNotFoundError as error:
                self._heat_error = f"heat map: the package {error.name} is not installed"
                raise QueryError(self._heat_error) from None
        told = float(maps.probabilities[0])
        if not maps.peaks[0]:
            name = self.library.name_of(cui)
            raise QueryError(
                f"heat map: no place of this image speaks for {name}; the detector says {told:.2f}"
            )
        from inference.heat.paint import colour_layer

        layer = colour_layer(maps.maps[0], width=width, height=height)
        return layer, told

    @cached_property
    def _mapper(self) -> "HeatMapper":
        from inference.heatmaps import HeatMapper

        if self.heat_detector is None:
            raise QueryError("heat map: no detector was trained; run `train-backbone` first")
        return HeatMapper.of(
            self.library.workspace,
            self.library.corpus,
            detector=self.heat_detector,
            device=self.device,
        )
