"""Heat maps: which places of an image speak for a concept, by one detector.

Nothing heavy is imported before a detector is opened.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from core.errors import AlignmentError, ConfigError, MissingStageError
from core.labels import LabelSpace
from core.predictions import Predictions
from core.runs.detectors import DetectorRun
from core.runs.out_of_fold import fold_folders
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import read_meta

if TYPE_CHECKING:
    from inference.heat.evidence import DetectorSight
    from inference.loaded.networks import Look

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, eq=False)
class HeatMaps:
    """What a detector says of n concepts of an image, and which places speak for it.

    A map shows the whole image, whatever its shape: networks see it scaled to a square.

    Attributes:
        concepts: n CUIs.
        maps: (n, h, w) in [0, 1]: evidence for the concept, as a share of that of its strongest
            place. What speaks against it is 0. Two concepts' maps are compared by `peaks`.
        peaks: (n,) what the strongest place adds, in logits; 0 where no place speaks for the
            concept, and its map is 0 all over.
        logits: (n,) mean over the networks that were asked.
        probabilities: (n,) mean over those networks, in [0, 1]; not calibrated.
        n_networks: how many were asked.
        met: whether one of them had met the image in training: it then knows it too well.
    """

    concepts: tuple[str, ...]
    maps: Floats
    peaks: Floats
    logits: Floats
    probabilities: Floats
    n_networks: int
    met: bool


class HeatMapper:
    """A finished detector that shows from where in an image it says what it says.

    Its networks stay in memory. Calls from several threads wait for each other.

    An image that some of its networks never met, as every labelled one of a cross-fitted corpus, is
    shown by those alone: those whose out-of-fold predictions it has. For that its id must be given.
    All others are shown by the mean of all networks: images of test and new ones, which none has
    met, and those of train under `holdout`, which `HeatMaps.met` tells.
    """

    def __init__(self, sight: "DetectorSight", *, run: DetectorRun, corpus: Corpus) -> None:
        """See `of`."""
        self.run, self._sight, self._corpus = run, sight, corpus
        self._lock = Lock()

    @classmethod
    def of(
        cls, workspace: Workspace, corpus: Corpus, *, detector: DetectorRun, device: str = "cpu"
    ) -> "HeatMapper":
        """A mapper of a workspace's finished detector; takes seconds.

        Args:
            workspace: that the detector lies in.
            corpus: that it was trained on.
            detector: of `core.runs.detectors.find_runs`.
            device: `cpu`, `cuda` or `cuda:N`.

        Raises:
            MissingStageError: it was trained on another corpus, or a frozen network cannot be had
                any more.
            DamageError: its files are not those that were written.
            ConfigError: one of its networks has no places (`inference.heat.places`).
        """
        if read_meta(detector.folder, "corpus")["corpus"] != corpus.fingerprint:
            raise MissingStageError(f"{detector.folder}: trained on another corpus")
        from inference.heat.evidence import read_sight

        sight = read_sight(detector, workspace=workspace, corpus=corpus, device=device)
        return cls(sight, run=detector, corpus=corpus)

    @property
    def labels(self) -> LabelSpace:
        """The concepts that it knows."""
        return self._sight.labels

    @property
    def looks(self) -> "tuple[Look, ...]":
        """The images that it takes: their sizes, and how they are scaled to those."""
        return self._sight.looks

    def maps(
        self,
        pixels: "Pixels | Mapping[Look, Pixels]",
        *,
        concepts: Sequence[str],
        image_id: str | None = None,
    ) -> HeatMaps:
        """Maps of an image in memory.

        Memory grows by the maps alone with the number of concepts: gradients are taken one by one.

        Args:
            pixels: the whole image, (H, W) or (H, W, 3); or, by look, (S, S, 3) as the prepared
                cache has it.
            concepts: of `labels`; none gives maps of shape (0, h, w).
            image_id: of an image of the corpus, so that networks which met it are left out; None
                for a new one.

        Raises:
            LabelSpaceError: a concept is not among `labels`.
            AlignmentError: the corpus has no image of this id.
            ConfigError: the pixels are no such image.
        """
        return self._maps(self._squares(pixels), concepts, image_id)

    def maps_of(self, image_id: str, *, concepts: Sequence[str]) -> HeatMaps:
        """Maps of an image of the corpus, decoded from its file as `prepare` had it decoded.

        Raises:
            LabelSpaceError, AlignmentError: as `maps`.
            ImageError: its file cannot be read any more.
        """
        from corpus.images.decode import decode

        (row,) = self._corpus.table.row_numbers([image_id]).tolist()
        path, decoding = Path(self._corpus.table.paths[row]), self._corpus.decoding
        squares = {
            (size, resample): decode(path, size=size, resample=resample, decoding=decoding).pixels
            for size, resample in self.looks
        }
        return self._maps(squares, concepts, image_id)

    def _maps(
        self, squares: "Mapping[Look, Pixels]", concepts: Sequence[str], image_id: str | None
    ) -> HeatMaps:
        heads, met = self._asked(image_id)
        with self._lock:
            found = self._sight.of(squares, concepts=concepts, heads=heads)
        positive: Floats = np.maximum(found.places, 0)
        peaks: Floats = positive.max(axis=(1, 2), initial=0)
        scale = np.where(peaks > 0, peaks, 1).astype(np.float32)
        return HeatMaps(
            concepts=tuple(concepts),
            maps=positive / scale[:, None, None],
            peaks=peaks,
            logits=found.logits,
            probabilities=found.probabilities,
            n_networks=len(heads),
            met=met,
        )

    def _asked(self, image_id: str | None) -> tuple[list[int], bool]:
        """Numbers of the networks that are asked of an image, and whether one has met it."""
        n_networks = len(self._sight.heads)
        everyone = list(range(n_networks))
        if image_id is None:
            return everyone, False
        if image_id not in self._known:
            raise AlignmentError(f"{self._corpus.name} has no image {image_id!r}")
        if image_id in self._part_of:
            part, n_parts = self._part_of[image_id]
            return everyone[part::n_parts], False
        return everyone, image_id in self._fitted_on

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self._corpus.table.image_ids)

    @cached_property
    def _part_of(self) -> dict[str, tuple[int, int]]:
        """By image, which part of the networks held it out, and how many parts there are."""
        folders = fold_folders(self.run.folder / "predictions", self._corpus.learnt_from)
        parts = [Predictions.load(folder) for folder in folders if folder.is_dir()]
        for part in parts:
            part.require_out_of_sample()
        return {
            image_id: (number, len(parts))
            for number, part in enumerate(parts)
            for image_id in part.image_ids
        }

    @cached_property
    def _fitted_on(self) -> frozenset[str]:
        """What any of the networks has met."""
        return Predictions.load(self.run.folder / "predictions" / "test").fitted_on

    def _squares(self, pixels: "Pixels | Mapping[Look, Pixels]") -> "Mapping[Look, Pixels]":
        """The image at each size that a network takes."""
        from corpus.images.decode import to_square

        if isinstance(pixels, Mapping):
            for look in self.looks:
                size, resample = look
                found = pixels.get(look)
                if found is None or found.shape != (size, size, 3) or found.dtype != np.uint8:
                    raise ConfigError(
                        f"pixels: expected {size} x {size} x 3 of uint8, scaled by {resample},"
                        f" under {look}"
                    )
            return pixels
        is_image = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
        if pixels.dtype != np.uint8 or not is_image or not pixels.size:
            shape = " x ".join(map(str, pixels.shape))
            raise ConfigError(
                f"pixels: expected H x W or H x W x 3 of uint8, found {shape} of {pixels.dtype}"
            )
        return {
            (size, resample): to_square(pixels, size=size, resample=resample)
            for size, resample in self.looks
        }
