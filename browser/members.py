"""What each member of an ensemble says of an image, and what the ensemble made of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from browser.library import Library, Rows
from core.errors import ConceptError
from core.predictions import AnyPredictions, SparsePredictions
from core.progress import say
from core.runs.detectors import find_runs, newest_of_each_preset
from core.runs.ensemble import DECISION, FALLBACK, FORECAST_RULE, EnsembleRun
from core.runs.fused import newest_fused_members
from core.runs.out_of_fold import read_folds

if TYPE_CHECKING:
    from ensembles.decisions.rule import DecisionRule

Probs = npt.NDArray[np.float32]

STACKED = "ensemble"
"""The name of what the second stage made of the members, before calibration."""


@dataclass
class MemberAnswers:
    """One member's predictions, read when an image is first asked for.

    Attributes:
        name: as the ensemble calls it.
        read: gives the predictions of labelled images, or of test.
        run: the name of its folder.
    """

    name: str
    read: Callable[[str], AnyPredictions]
    run: str = ""
    _found: dict[str, AnyPredictions | None] = field(default_factory=dict)
    _rows: dict[str, dict[str, int]] = field(default_factory=dict)
    _columns: dict[str, npt.NDArray[np.intp]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def of_image(self, image_id: str, library: Library, *, split: str) -> Probs | None:
        """(L,) probabilities of an image, NaN where the member does not cover a concept.

        None where it does not predict the image; a member that cannot be read is said once and
        passed over.
        """
        predictions = self._predictions(split, library)
        row = self._rows.get(split, {}).get(image_id)
        if predictions is None or row is None:
            return None
        probs = np.full(len(library.labels), np.nan, dtype=np.float32)
        if isinstance(predictions, SparsePredictions):
            here = slice(predictions.probs.indptr[row], predictions.probs.indptr[row + 1])
            probs[self._columns[split]] = 0.0
            columns = self._columns[split][predictions.probs.indices[here]]
            probs[columns] = predictions.probs.data[here]
        else:
            probs[self._columns[split]] = predictions.probs[row]
        return probs

    def matrix(self, split: str, library: Library) -> tuple[Rows, csr_array] | None:
        """Rows of the library, and the sparse probabilities of these images; None of dense ones."""
        predictions = self._predictions(split, library)
        if not isinstance(predictions, SparsePredictions):
            return None
        return library.corpus.table.row_numbers(predictions.image_ids), predictions.probs

    def _predictions(self, split: str, library: Library) -> AnyPredictions | None:
        with self._lock:
            if split not in self._found:
                try:
                    predictions = self.read(split)
                    columns = library.labels.columns(predictions.labels.cuis)
                except ConceptError as error:
                    say(f"{self.name}: passed over: {error}")
                    self._found[split] = None
                    return None
                self._columns[split] = columns
                self._rows[split] = {name: row for row, name in enumerate(predictions.image_ids)}
                self._found[split] = predictions
            return self._found[split]


def members_of(library: Library) -> list[MemberAnswers]:
    """The newest detectors and fused sources of the corpus, as ensembles call them."""
    workspace, print_ = library.workspace, library.corpus.fingerprint
    fused = newest_fused_members(workspace, print_)
    detectors = newest_of_each_preset(find_runs(workspace, print_))
    folders = {name: run.folder for name, run in fused.items()}
    folders |= {name: run.folder for name, run in detectors.items()}
    return [MemberAnswers(name, _reader(folder), folder.name) for name, folder in folders.items()]


def stacked(folder: Path) -> MemberAnswers:
    """The probabilities that an ensemble decided by: out of fold, and of test."""
    return MemberAnswers(STACKED, _reader(folder))


def _reader(folder: Path) -> Callable[[str], AnyPredictions]:
    return lambda split: read_folds(folder / "predictions", split)


@dataclass(frozen=True)
class Limit:
    """From which probability on a concept is decided on an image.

    Attributes:
        value: before calibration; above 1 where it never is.
        whose: what it was tuned for: `concept`, `category` or `all`; `given` where the concept is
            decided on every image of the category, whatever its probability.
    """

    value: float
    whose: str


@dataclass(frozen=True, kw_only=True)
class Deciding:
    """How an ensemble decides.

    Attributes:
        rule: of labelled images, as it was fitted on all of them.
        of_test: of test images: the same, or the fallback.
        calibrated_by: whose calibration the probabilities of decided concepts have; None where
            they could not be calibrated.
    """

    rule: "DecisionRule"
    of_test: "DecisionRule"
    calibrated_by: "DecisionRule | None"

    @classmethod
    def of(cls, run: EnsembleRun) -> "Deciding":
        """As a finished ensemble kept it.

        Raises:
            ConfigError: a rule is not there, or damaged.
        """
        from ensembles.decisions.rule import DecisionRule  # with numba, which takes half a second

        rule = DecisionRule.load(run.folder / DECISION)
        falls = bool(run.meta.get("fell_back")) and (run.folder / FALLBACK).is_file()
        model = run.folder / FORECAST_RULE
        return cls(
            rule=rule,
            of_test=DecisionRule.load(run.folder / FALLBACK) if falls else rule,
            calibrated_by=DecisionRule.load(model) if model.is_file() else None,
        )

    def of_split(self, split: str) -> "DecisionRule":
        """The rule that images of a split are decided by."""
        return self.of_test if split == "test" else self.rule

    def has_limits(self, split: str) -> bool:
        """Whether they are decided by thresholds, which are of probabilities before calibration."""
        from ensembles.decisions.rule import BY_THRESHOLDS

        return self.of_split(split).kind == BY_THRESHOLDS

    def limit(self, cui: str, *, category: str, split: str) -> Limit | None:
        """Of a concept on an image; None where it is not decided by thresholds."""
        rule = self.of_split(split)
        if cui in rule.always.get(category, ()):
            return Limit(0.0, "given")
        found = rule.thresholds
        if found is None or not self.has_limits(split):
            return None
        limit = Limit(found.global_, "all")
        if cui in found.by_concept:
            limit = Limit(found.by_concept[cui], "concept")
        elif category in found.by_category:
            limit = Limit(found.by_category[category], "category")
        if rule.adjustment is None:
            return limit
        return replace(limit, value=rule.adjustment.limit(cui, limit.value))

    def tuned(self, cui: str, threshold: float) -> float:
        """From which probability before calibration a tuned threshold decides a concept."""
        if self.rule.adjustment is None:
            return threshold
        # Thresholds are tuned without the shift, which is for other kinds of rules.
        return replace(self.rule.adjustment, shift=0.0).limit(cui, threshold)

    def calibrated(self, probs: Probs, library: Library) -> Probs | None:
        """(L,) calibrated probabilities of an image; None where they cannot be calibrated."""
        if self.calibrated_by is None:
            return None
        columns = np.arange(len(probs), dtype=np.int32)
        found = self.calibrated_by.calibration.of_pairs(probs, columns, labels=library.labels)
        return np.array(found, dtype=np.float32)


def worth_showing(
    probs: Probs, *, true: Sequence[int], decided: Sequence[int], most: int = 5
) -> list[int]:
    """Columns of an image's concepts: true ones, decided ones, and the next most probable.

    Args:
        probs: (L,) of the ensemble, or of a member; NaN where it says nothing.
        true, decided: columns.
        most: how many are added to those.
    """
    own = sorted({*true, *decided}, key=lambda c: (-np.nan_to_num(probs[c]), c))
    further = np.argsort(-np.nan_to_num(probs, nan=-1.0), kind="stable")[: most + len(own)]
    added = [c for c in further.tolist() if c not in own and np.nan_to_num(probs[c]) > 0]
    return [*own, *added[:most]]
