"""Two ensembles or submissions side by side: what changed, what was gained, what was lost."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from browser.judgements import Judgement, interval_of
from browser.library import Bools, Library, Rows, rows_with
from core.categories import CATEGORIES
from core.metrics import Interval, Scores
from core.storage.documents import read_object

Counts = npt.NDArray[np.int64]

_EQUAL = 1e-12  # F1 that differs by less is the same


@dataclass(frozen=True)
class ConceptChange:
    """A concept that one of two decided on an image and the other did not.

    Attributes:
        cui: its id.
        is_added: whether it was the second that decided it.
        is_good: whether the second is right about it; None where the labels are not known.
    """

    cui: str
    is_added: bool
    is_good: bool | None


@dataclass(frozen=True, kw_only=True)
class CategoryChange:
    """What changed in a category.

    Attributes:
        name: of `CATEGORIES`, or `none`.
        means: mean F1 of the first and of the second, on the images that both are judged on; NaN
            without any.
        interval: the mean gain over these with its 95 % interval, paired; None without any.
        n_better, n_worse: of these, those whose F1 rose or fell.
        n_changed: images whose sets differ.
        n_both: images that both decided.
    """

    name: str
    means: tuple[float, ...]
    interval: Interval | None
    n_better: int
    n_worse: int
    n_changed: int
    n_both: int


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
    def added_sets(self) -> csr_array:
        """(N, L) boolean: concepts that the second decided and the first did not."""
        return _only(self.second.is_decided, self.first.is_decided)

    @cached_property
    def dropped_sets(self) -> csr_array:
        """(N, L) boolean: concepts that the first decided and the second did not."""
        return _only(self.first.is_decided, self.second.is_decided)

    @cached_property
    def added(self) -> Counts:
        """(N,) number of concepts that the second decided and the first did not."""
        return self._numbers(self.added_sets)

    @cached_property
    def dropped(self) -> Counts:
        """(N,) number of concepts that the first decided and the second did not."""
        return self._numbers(self.dropped_sets)

    def _numbers(self, sets: csr_array) -> Counts:
        return np.where(self.both, np.diff(sets.indptr), 0).astype(np.int64)

    @cached_property
    def settings(self) -> list[tuple[str, str, str]]:
        """What two ensembles differ in: name, of the first, of the second; of submissions nothing.

        Raises:
            PredictionsError: a config is damaged.
        """
        one, other = (_settings(each) for each in (self.first, self.second))
        names = dict.fromkeys([*one, *other]) if one and other else {}
        return [
            (name, one.get(name, "–"), other.get(name, "–"))
            for name in names
            if one.get(name) != other.get(name)
        ]

    def changes(self, row: int) -> list[ConceptChange]:
        """What changed on an image: added concepts, then dropped ones."""
        library = self.library
        true = set(_columns(library.truth, row)) if library.labelled[row] else None
        found = []
        for is_added, sets in ((True, self.added_sets), (False, self.dropped_sets)):
            for column in _columns(sets, row):
                good = None if true is None else (column in true) == is_added
                found.append(ConceptChange(library.labels.cuis[column], is_added, good))
        return found

    def with_change_of(self, column: int) -> Bools:
        """(N,) images on which a concept was added or dropped."""
        found = np.zeros(len(self.library), dtype=np.bool_)
        for sets in (self.added_sets, self.dropped_sets):
            found[rows_with(sets, column)] = True
        return found & self.both

    @cached_property
    def by_category(self) -> list[CategoryChange]:
        """What changed in each category of which an image was decided by both."""
        found = []
        for name in (*map(str, CATEGORIES), "none"):
            images = self.library.is_category(name)
            if not (images & self.both).any():
                continue
            own = images & ~np.isnan(self.gain)
            gain = np.nan_to_num(np.where(own, self.gain, 0.0))
            found.append(
                CategoryChange(
                    name=name,
                    means=tuple(
                        float(np.mean(each.f1[own])) if own.any() else float("nan")
                        for each in (self.first, self.second)
                    ),
                    interval=interval_of(np.where(own, self.gain, np.nan), self.library),
                    n_better=int((gain > _EQUAL).sum()),
                    n_worse=int((gain < -_EQUAL).sum()),
                    n_changed=int((images & self.changed).sum()),
                    n_both=int((images & self.both).sum()),
                )
            )
        return found

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
        rows = np.flatnonzero(np.nan_to_num(self.gain) * sign > _EQUAL)
        return rows[np.argsort(-self.gain[rows] * sign, kind="stable")]

    @cached_property
    def by_concept(self) -> dict[str, Counts]:
        """(L,) hits gained and lost, inventions added and taken back, over judged images."""
        return self.by_concept_of(np.ones(len(self.library), dtype=np.bool_))

    def by_concept_of(self, images: Bools) -> dict[str, Counts]:
        """The same over those of some images that are judged.

        Args:
            images: (N,).
        """
        judged = images & self.first.judged & self.second.judged
        return {
            name: np.bincount(
                sets.indices[np.repeat(judged, np.diff(sets.indptr))], minlength=sets.shape[1]
            )
            for name, sets in self._moved_sets.items()
        }

    @cached_property
    def _moved_sets(self) -> dict[str, csr_array]:
        """(N, L) boolean: what `by_concept` counts."""
        first, second = self.first, self.second
        return {
            "hits gained": _only(second.right, first.right),
            "hits lost": _only(first.right, second.right),
            "inventions added": _only(second.invented, first.invented),
            "inventions taken back": _only(first.invented, second.invented),
        }


def _settings(judgement: Judgement) -> dict[str, str]:
    """How an ensemble was made, by name, in words; of a submission nothing is known."""
    if judgement.run is None:
        return {}
    meta = judgement.run.meta
    found = {"made by": str(meta.get("stacker", "")), "decided by": str(meta.get("decision", ""))}
    found |= {
        name: ", ".join(value) if isinstance(value, list) else str(value).lower()
        for name, value in read_object(judgement.run.folder / "config.json").items()
    }
    members = meta.get("members") or {}
    # Runs are known by their folder; the time says only when one of the name was made.
    return found | {
        f"member {name}": str(run).partition(" ")[0] or "yes" for name, run in members.items()
    }


def _only(one: csr_array, other: csr_array) -> csr_array:
    """Boolean: what is set in one matrix and not in the other."""
    return (one > other).tocsr()


def _columns(matrix: csr_array, row: int) -> list[int]:
    return [int(c) for c in matrix.indices[matrix.indptr[row] : matrix.indptr[row + 1]]]
