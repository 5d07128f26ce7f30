"""How probabilities become concept sets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from core.categories import CATEGORIES, UNKNOWN
from core.editions import EmptyTruth
from core.errors import AlignmentError, ConfigError, first_few
from core.labels import Concepts, LabelSpace
from core.storage.documents import parse_json, plain_file
from core.storage.folders import write_json
from ensembles.calibration.choose import from_json
from ensembles.calibration.temperature import Calibration, Calibrator
from ensembles.decisions.concept_counts import CountHead
from ensembles.decisions.expected_f1 import maximise
from ensembles.decisions.general_f1 import maximise_general
from ensembles.decisions.prior_adjustment import PriorAdjustment
from ensembles.decisions.set_sizes import ratio_sizes, top_sizes
from ensembles.decisions.thresholds import Thresholds
from ensembles.pairs import Bools, CalibratedPairs, Ints, Probs, as_csr, select, to_csr, values_at

BY_THRESHOLDS = "thresholds"
"""The kind of rule that needs no calibrated probabilities."""


@dataclass(frozen=True, kw_only=True)
class DecisionRule:
    """How probabilities become concept sets.

    Attributes:
        kind: `BY_THRESHOLDS`, or a rule of `CALIBRATED_RULES` on calibrated probabilities: `top-k`
            takes the expected number of concepts, `ratio` those above half of the best plug-in F1,
            `expected-f1` the set with the highest expected F1 of independent concepts, `general-f1`
            that of concepts whose number follows `head`.
        thresholds: for the kind of that name.
        calibration: applied by all other kinds.
        factor: of `top-k`, on the expected number.
        head: of `general-f1`.
        missed: mean number of true concepts of an image beside those above the floor.
        floor: concepts with a lower calibrated probability count as absent.
        empty_truth: what an image without true concepts does to the expected mean.
        max_concepts: the most concepts of an image; the most probable stay, the lower column
            first where probabilities are equal.
        nomissing: an image left without a concept gets its most probable one, unless all of its
            probabilities are 0.
        always: concepts (CUIs) that every image of a category gets, before all others.
        adjustment: of what is decided by, by the concepts' prior; None for none. Thresholds are of
            adjusted values, other kinds decide by adjusted calibrated probabilities; what is told
            (`ranked`, `probs_of`) is never adjusted.

    Raises:
        ConfigError: an unknown kind or category, no thresholds for the kind of that name, a floor
            outside (0, 1), a factor not above 0, a negative number missed, or fewer than one
            concept allowed.
    """

    kind: str
    thresholds: Thresholds | None = None
    calibration: Calibrator = field(default_factory=Calibration)
    factor: float = 1.0
    head: CountHead = field(default_factory=CountHead)
    missed: float = 0.0
    floor: float = 0.005
    empty_truth: EmptyTruth = "left out"
    max_concepts: int = 100
    nomissing: bool = False
    always: Mapping[str, Concepts] = field(default_factory=dict)
    adjustment: PriorAdjustment | None = None

    def __post_init__(self) -> None:
        if self.kind not in (BY_THRESHOLDS, *CALIBRATED_RULES):
            raise ConfigError(
                f"unknown decision rule {self.kind!r};"
                f" expected one of {', '.join((BY_THRESHOLDS, *CALIBRATED_RULES))}"
            )
        if self.kind == BY_THRESHOLDS and self.thresholds is None:
            raise ConfigError("a decision by thresholds needs thresholds")
        if strange := sorted(set(self.always) - {*CATEGORIES, UNKNOWN}):
            raise ConfigError(
                f"always: unknown category {first_few(strange)}; expected one of"
                f" {', '.join(CATEGORIES)}"
            )
        if not 0 < self.floor < 1:
            raise ConfigError(f"floor: expected a number between 0 and 1; found {self.floor}")
        if not (self.factor > 0 and self.missed >= 0):
            raise ConfigError(
                f"expected a factor above 0 and no fewer than 0 missed; found {self.factor} and"
                f" {self.missed}"
            )
        if self.max_concepts < 1:
            raise ConfigError(f"max_concepts: expected 1 or more; found {self.max_concepts}")

    @property
    def is_one_threshold(self) -> bool:
        """Whether nothing but one threshold for all concepts and images was tuned."""
        thresholds = self.thresholds if self.kind == BY_THRESHOLDS else None
        return thresholds is not None and thresholds.level == "global"

    def decide(self, probs: Probs, *, categories: Sequence[str], labels: LabelSpace) -> csr_array:
        """(N, L) boolean: the decided concepts.

        Args:
            probs: (N, L).
            categories: N categories, `UNKNOWN` where there is none.

        Raises:
            AlignmentError: rows or columns do not fit.
            LabelSpaceError: the rule names a concept that is not in the label space.
        """
        self._check(probs, categories, labels)
        given, probs = as_csr(probs), self.adjusted(probs, labels=labels)
        if self.thresholds is None or self.kind != BY_THRESHOLDS:
            ranked = self.ranked(given, categories=categories, labels=labels)
            return self.complete(self.of_ranked(ranked, categories, labels=labels), probs)
        forced, kinds = self._forced(categories, labels)
        rows, columns = select(
            probs,
            row_thresholds=self.thresholds.of_images(categories),
            column_thresholds=self.thresholds.of_concepts(labels),
            forced=forced,
            kinds=kinds,
            limit=self.max_concepts,
        )
        return self.complete(to_csr(rows, columns, shape=probs.shape), probs)

    def ranked(
        self, probs: Probs, *, categories: Sequence[str], labels: LabelSpace
    ) -> CalibratedPairs:
        """Concepts above the floor with calibrated probabilities, those of `always` as certain.

        Of an image, 200 concepts are considered.

        Raises:
            AlignmentError, LabelSpaceError: see `decide`.
        """
        self._check(probs, categories, labels)
        probs = as_csr(probs)
        forced, kinds = self._forced(categories, labels)
        rows, columns = select(
            probs,
            row_thresholds=np.zeros(len(kinds), dtype=np.float32),
            column_thresholds=self.calibration.inverse(self.floor, labels=labels),
            forced=forced,
            kinds=kinds,
            limit=max(_CONSIDERED, self.max_concepts),
        )
        calibrated = self.calibration.of_pairs(
            values_at(probs, rows, columns=columns), columns, labels=labels
        )
        calibrated[forced[kinds[rows], columns]] = 1.0
        return CalibratedPairs(rows=rows, columns=columns, probs=calibrated, shape=probs.shape)

    def adjusted(self, probs: Probs, *, labels: LabelSpace) -> csr_array:
        """(N, L) the probabilities before calibration as they are held against thresholds."""
        if self.adjustment is None:
            return as_csr(probs)
        return self.adjustment.of_matrix(probs, labels=labels)

    def of_ranked(
        self, ranked: CalibratedPairs, categories: Sequence[str], *, labels: LabelSpace
    ) -> csr_array:
        """(N, L) boolean: what a kind other than thresholds decides of such concepts.

        Images may be left without any: see `complete`.
        """
        if self.adjustment is not None:
            ranked = self.adjustment.of_ranked(ranked, labels=labels)
        return CALIBRATED_RULES[self.kind](self, ranked, categories)

    def with_always(
        self, probs: Probs, *, categories: Sequence[str], labels: LabelSpace
    ) -> csr_array:
        """The probabilities with 1 for the concepts of `always`.

        Thresholds tuned on them are those for the decisions left beside the constant concepts.

        Raises:
            AlignmentError, LabelSpaceError: see `decide`.
        """
        self._check(probs, categories, labels)
        forced, kinds = self._forced(categories, labels)
        certain = csr_array(forced.astype(np.float32))[kinds]
        return csr_array(as_csr(probs).maximum(certain)) if certain.nnz else as_csr(probs)

    def probs_of(
        self,
        decided: csr_array,
        probs: Probs,
        *,
        categories: Sequence[str],
        labels: LabelSpace,
        calibrated_by: "DecisionRule | None" = None,
    ) -> csr_array:
        """(N, L) CSR: the calibrated probability of each decided pair, 1 for those of `always`.

        Args:
            decided: (N, L) boolean.
            probs: (N, L), before calibration.
            categories: N categories.
            labels: L concepts.
            calibrated_by: whose calibration is applied; None for this rule's own.

        Raises:
            AlignmentError, LabelSpaceError: see `decide`.
        """
        known = self.with_always(probs, categories=categories, labels=labels)
        rows, columns = decided.nonzero()
        values = (calibrated_by or self).calibration.of_pairs(
            values_at(known, rows, columns=columns), columns, labels=labels
        )
        starts = np.searchsorted(rows, np.arange(len(categories) + 1))
        return csr_array((values, columns, starts), shape=decided.shape)

    def _check(self, probs: Probs, categories: Sequence[str], labels: LabelSpace) -> None:
        if probs.shape != (len(categories), len(labels)):
            raise AlignmentError(
                f"probabilities are {probs.shape[0]} x {probs.shape[1]}; expected"
                f" {len(categories)} images x {len(labels)} concepts"
            )

    def _forced(self, categories: Sequence[str], labels: LabelSpace) -> tuple[Bools, Ints]:
        """(C, L) concepts that each kind of image always gets, and (N,) the kind of each image."""
        names = sorted(set(categories))
        forced = np.zeros((max(len(names), 1), len(labels)), dtype=np.bool_)
        for kind, name in enumerate(names):
            forced[kind, labels.columns(self.always.get(name, ()))] = True
        kind_of = {name: kind for kind, name in enumerate(names)}
        return forced, np.array([kind_of[name] for name in categories], dtype=np.int32)

    def complete(self, decided: csr_array, probs: Probs) -> csr_array:
        """The decisions; with `nomissing` the best concept for images that are left without one.

        Args:
            decided: (N, L) boolean.
            probs: (N, L) that were decided by: `adjusted`.
        """
        missing = np.flatnonzero(np.diff(decided.indptr) == 0)
        if not self.nomissing or not len(missing):
            return decided
        asked = as_csr(probs)[missing]
        best = np.asarray(asked.argmax(axis=1)).ravel()
        possible = asked.max(axis=1).toarray().ravel() > 0
        rows = np.repeat(np.arange(probs.shape[0]), np.diff(decided.indptr))
        rows = np.concatenate([rows, missing[possible]])
        columns = np.concatenate([decided.indices, best[possible]])
        order = np.lexsort((columns, rows))
        return to_csr(
            rows[order].astype(np.int32), columns[order].astype(np.int32), shape=probs.shape
        )

    def save(self, path: Path) -> None:
        """Write `decision.json`; `load` gives the same rule back, to the last bit."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values["thresholds"] = self.thresholds.to_json() if self.thresholds else None
        values["calibration"] = self.calibration.to_json()
        values["head"] = self.head.to_json()
        values["always"] = {category: list(cuis) for category, cuis in self.always.items()}
        del values["adjustment"]  # a rule without one is written as it was before there were any
        if self.adjustment is not None:
            values["adjustment"] = self.adjustment.to_json()
        write_json(path, values)

    @classmethod
    def load(cls, path: Path) -> "DecisionRule":
        """Read `decision.json`, also one of a version without an entry that has a default.

        Raises:
            ConfigError: the file is missing or is not a decision rule.
        """
        try:
            text = plain_file(path, error=ConfigError).read_text(encoding="utf-8")
            values: dict[str, Any] = parse_json(text)
            if values["thresholds"] is not None:
                values["thresholds"] = Thresholds.from_json(values["thresholds"])
            values["calibration"] = from_json(values["calibration"])
            values["head"] = CountHead(**values.get("head", {}))
            values["always"] = {c: tuple(cuis) for c, cuis in values["always"].items()}
            if values.get("adjustment") is not None:
                values["adjustment"] = PriorAdjustment.from_json(values["adjustment"])
            return cls(**values)
        except FileNotFoundError:
            raise ConfigError(f"{path}: no such file") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"{path}: not a decision rule ({type(error).__name__}: {error})"
            ) from None


_CONSIDERED = 200


def _top_k(rule: DecisionRule, ranked: CalibratedPairs, categories: Sequence[str]) -> csr_array:
    sizes = top_sizes(ranked, factor=rule.factor, limit=rule.max_concepts, missed=rule.missed)
    return ranked.first(sizes)


def _ratio(rule: DecisionRule, ranked: CalibratedPairs, categories: Sequence[str]) -> csr_array:
    sizes = ratio_sizes(
        ranked, limit=rule.max_concepts, empty_truth=rule.empty_truth, missed=rule.missed
    )
    return ranked.first(sizes)


def _expected_f1(
    rule: DecisionRule, ranked: CalibratedPairs, categories: Sequence[str]
) -> csr_array:
    return maximise(
        ranked, limit=rule.max_concepts, empty_truth=rule.empty_truth, missed=rule.missed
    ).decided


def _general_f1(
    rule: DecisionRule, ranked: CalibratedPairs, categories: Sequence[str]
) -> csr_array:
    return maximise_general(
        ranked,
        head=rule.head,
        categories=categories,
        limit=rule.max_concepts,
        empty_truth=rule.empty_truth,
        missed=rule.missed,
    ).decided


CALIBRATED_RULES: Mapping[
    str, Callable[[DecisionRule, CalibratedPairs, Sequence[str]], csr_array]
] = {
    "top-k": _top_k,
    "ratio": _ratio,
    "expected-f1": _expected_f1,
    "general-f1": _general_f1,
}
"""How rules on calibrated probabilities decide, the simplest first; images have N categories.

Their words for people stand in `core.runs.ensemble.DECISION_RULES`, in the same order.
"""
