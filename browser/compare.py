"""Two ensembles or submissions side by side: what changed, what was gained, what was lost."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from browser.judgements import Judgement, interval_of
from browser.library import Bools, Library, Rows
from core.metrics import Interval, Scores

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a second judgement changes against a first one, over images that both decided.

    Attributes:
        first, second: of one library with N images.
    """

    first: Judgement
    second: Judgement

    @property
    def library(self) -> Library:
        """The images."""
        return self.first.library

    @cached_property
    def both(self) -> Bools:
        """(N,) whether both decided the image."""
        return self.first.known & self.second.known

    @cached_property
    def added(self) -> Counts:
        """(N,) concepts that the second decided and the first did not."""
        return self._differences(self.second, self.first)

    @cached_property
    def dropped(self) -> Counts:
        """(N,) concepts that the first decided and the second did not."""
        return self._differences(self.first, self.second)

    def _differences(self, one: Judgement, other: Judgement) -> Counts:
        only = (one.is_decided > other.is_decided).tocsr()
        return np.where(self.both, np.diff(only.indptr), 0).astype(np.int64)

    @cached_property
    def changed(self) -> Bools:
        """(N,) whether the sets differ."""
        return (self.added + self.dropped) > 0

    @cached_property
    def gain(self) -> Scores:
        """(N,) F1 of the second less that of the first; NaN where either has none."""
        return np.where(self.both, self.second.f1 - self.first.f1, np.nan)

    @cached_property
    def interval(self) -> Interval | None:
        """The mean gain with its 95 % interval over groups, paired; None if nothing is judged."""
        return interval_of(self.gain, self.library)

    def mean_of(self, judgement: Judgement) -> float:
        """The mean F1 of one of them over the images that both are judged on."""
        return float(np.mean(judgement.f1[~np.isnan(self.gain)]))

    def images(self, kind: str) -> Rows:
        """Rows of images that became better or worse, most first, or that changed, most first."""
        if kind == "changed":
            rows = np.flatnonzero(self.changed)
            return rows[np.argsort(-(self.added + self.dropped)[rows], kind="stable")]
        sign = 1.0 if kind == "better" else -1.0
        rows = np.flatnonzero(np.nan_to_num(self.gain) * sign > 1e-12)
        return rows[np.argsort(-self.gain[rows] * sign, kind="stable")]

    @cached_property
    def by_concept(self) -> dict[str, Counts]:
        """(L,) hits gained and lost, inventions added and taken back, over judged images."""
        images = self.first.judged & self.second.judged
        return {
            "hits gained": self._counted(self.second.right, self.first.right, images),
            "hits lost": self._counted(self.first.right, self.second.right, images),
            "inventions added": self._counted(self.second.invented, self.first.invented, images),
            "inventions taken back": self._counted(
                self.first.invented, self.second.invented, images
            ),
        }

    @staticmethod
    def _counted(one: object, other: object, images: Bools) -> Counts:
        only = (one > other).tocsr()  # type: ignore[operator]
        kept = only.indices[np.repeat(images, np.diff(only.indptr))]
        return np.bincount(kept, minlength=only.shape[1])
