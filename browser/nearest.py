"""The training images that are nearest to an image, by the pooled features of a network."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Event

import numpy as np
import numpy.typing as npt

from browser.library import Library, Rows
from core.config import fingerprint
from core.embeddings import Embeddings
from core.errors import ConceptError
from core.images import SPLITS
from core.metrics import group_numbers
from core.progress import say
from core.runs.detectors import GLOBAL, find_runs
from core.storage.arrays import load_array, save_array
from core.storage.folders import is_complete, is_whole, new_folder

Floats = npt.NDArray[np.float32]

_BLOCK, _AT_ONCE = 256, 8192  # images compared at once, with so many
_VALUES = "values.npy"
_MOST = 3e11  # products beyond which distances are computed on demand alone: some ten seconds


@dataclass(frozen=True, kw_only=True)
class NearestTraining:
    """Pooled features of N images, and which of them are training images.

    Attributes:
        library: with the images.
        source: what made the features.
        values: (n, D), mapped from disk.
        rows: (n,) rows of the library.
        norms: (n,) lengths of the features.
    """

    library: Library
    source: str
    values: Floats
    rows: Rows
    norms: Floats

    @classmethod
    def open(cls, library: Library) -> "NearestTraining | None":
        """The features that the newest global detector learnt from; None where there are none.

        Features of a network that was fine-tuned on labelled images are passed over: of a
        cross-fitted one no two folds compare.
        """
        runs = [
            run
            for run in find_runs(library.workspace, library.corpus.fingerprint)
            if run.category == GLOBAL and run.embeddings
        ]
        for run in reversed(runs):
            for name in run.embeddings:
                folder = library.workspace.embeddings / name
                if not is_complete(folder) or "of" in name.rpartition("-")[2]:
                    continue
                try:
                    found = Embeddings.load(folder)
                    rows = library.corpus.table.row_numbers(found.image_ids)
                except ConceptError as error:
                    say(f"nearest images: passed over: {error}")
                    continue
                norms = np.sqrt(np.einsum("nd,nd->n", found.values, found.values))
                return cls(
                    library=library,
                    source=found.source,
                    values=found.values,
                    rows=rows,
                    norms=np.maximum(norms, np.float32(1e-12)),
                )
        return None

    def of_image(self, row: int, *, most: int = 8) -> list[tuple[int, float]]:
        """Rows and cosines of the nearest labelled images of other groups, the nearest first."""
        at = np.flatnonzero(self.rows == row)
        if not len(at):
            return []
        cosines = self.values @ self.values[at[0]] / (self.norms * self.norms[at[0]])
        allowed = self._learnt_from & (self._groups != self._groups[at[0]])
        cosines = np.where(allowed, cosines, -2.0)
        first = np.argsort(-cosines, kind="stable")[:most]
        return [(int(self.rows[k]), float(cosines[k])) for k in first.tolist() if cosines[k] > -2]

    @cached_property
    def _learnt_from(self) -> npt.NDArray[np.bool_]:
        """(n,) whether detectors learn from the image."""
        splits = self.library.split_codes
        train, test = SPLITS.index("train"), SPLITS.index("test")
        learnt = splits != test if self.library.corpus.crossfit else splits == train
        return np.asarray((learnt & self.library.labelled)[self.rows])

    @cached_property
    def _groups(self) -> npt.NDArray[np.intp]:
        """(n,) number of each image's group; one without a name is a group by itself."""
        groups = self.library.corpus.table.groups
        return group_numbers([groups[row] for row in self.rows.tolist()])

    @property
    def costs(self) -> float:
        """Products that `similarities` computes."""
        return float(len(self.rows) * int(self._learnt_from.sum()) * int(self.values.shape[1]))

    @property
    def is_quick(self) -> bool:
        """Whether the similarities of all images take seconds, or are on disk already."""
        return self.costs < _MOST or is_complete(self._home)

    @property
    def _home(self) -> Path:
        key = fingerprint(self.library.corpus.fingerprint, self.source, len(self.rows))
        return self.library.workspace.root / "browse" / f"nearest-{key}"

    def similarities(self, *, stop: Event, told: Callable[[float], None]) -> Floats | None:
        """(N,) cosine of each image to the nearest labelled one of another group, NaN without.

        Kept in the workspace, so that they are computed once.

        Args:
            stop: ends the computation, whose result is then None.
            told: is given the share that is done.
        """
        if not is_whole(self._home, keep=False):
            best = self._nearest(stop=stop, told=told)
            if best is None:
                return None
            with new_folder(self._home, {"corpus": self.library.corpus.fingerprint}) as draft:
                save_array(draft / _VALUES, best)
        found = np.full(len(self.library), np.nan, dtype=np.float32)
        found[self.rows] = load_array(self._home / _VALUES)
        return found

    def _nearest(self, *, stop: Event, told: Callable[[float], None]) -> Floats | None:
        """(n,) the highest cosine of each image with features; None where it was stopped."""
        learnt = np.flatnonzero(self._learnt_from)
        numbers = self._groups
        n = len(self.rows)
        best = np.full(n, np.nan, dtype=np.float32)
        for first in range(0, n, _BLOCK):
            block = slice(first, first + _BLOCK)
            own = self.values[block] / self.norms[block, None]
            highest = np.full(len(own), -2.0, dtype=np.float32)
            for start in range(0, len(learnt), _AT_ONCE):
                if stop.is_set():
                    return None
                others = learnt[start : start + _AT_ONCE]
                cosines = own @ (self.values[others] / self.norms[others, None]).T
                cosines[numbers[block][:, None] == numbers[others][None]] = -2.0
                np.maximum(highest, cosines.max(axis=1), out=highest)
            best[block] = np.where(highest > -2.0, highest, np.nan)
            told(min(first + _BLOCK, n) / n)
        return best
