"""An ensemble's run folder: what is written of how it was chosen, and read again for the report.

Beside that the folder holds `config.json`, `meta.json`, the fitted stacker in `stacker/`, the
decision rules and the predictions of test, which the second stage itself writes and reads.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import MissingStageError
from core.images import ImageTable
from core.metrics import Interval, Scores
from core.runs.ladder import LadderStep, Rung, climb, read_steps, rungs_of, write_steps
from core.runs.learning import LearningPoint, read_points, write_points
from core.runs.workspace import Corpus, Workspace
from core.storage.documents import read_object
from core.storage.folders import asked, read_whole, write_json
from core.storage.tables import meant_as_written, read_rows, write_rows

DECISION, FALLBACK, FORECAST_RULE = "decision.json", "fallback.json", "belief.json"
"""Rules of a run: the one that was chosen, the one for images that differ in kind, and
the calibration and count model that forecasts go by."""

_SOURCES, _RULES, _WORTH = "valid_f1.csv", "rules_f1.csv", "members.csv"
_THRESHOLDS, _RELIABILITY = "thresholds.json", "reliability.csv"
_FOLDS, _FORECAST, _LEARNING = "forecast.csv", "forecast_images.csv", "learning_curve.csv"
_PRIOR = "prior_adjustment.csv"

Numbers = npt.NDArray[np.float64]


ONE_THRESHOLD, SUBMITTED = "one threshold", "submission"
"""What a `PriorPoint` was decided by: one exact threshold, or all that is submitted by."""


@dataclass(frozen=True, kw_only=True)
class PriorPoint:
    """A measure of decisions by log odds adjusted by the concepts' prior, cross-fitted.

    Attributes:
        decided_by: `ONE_THRESHOLD` or `SUBMITTED`.
        strength: of the adjustment; 0 for none.
        measure: `F1`, the sample F1; `recall` or `precision` over pairs of image and concept.
        bucket: images learnt from of the concepts, as `FrequencyBucket` names it; "" for F1.
        value: NaN where there is nothing to be measured.
        gain: over the strength 0, paired, by groups; None of that itself, of precision, and where
            there is nothing.
        n: images, true pairs or decided pairs that it is the mean of.
    """

    decided_by: str
    strength: float
    measure: str
    bucket: str
    value: float
    gain: Interval | None
    n: int


@dataclass(frozen=True, kw_only=True)
class EnsembleRecord:
    """How a second stage did on the images it was chosen on, cross-fitted.

    Earlier versions kept less, and not everything can be measured: then a field is empty.

    Attributes:
        image_ids: the N images that were scored: `Corpus.scored`.
        scores: (N,) F1 by source (members, stackers, the submission), NaN where an image is left
            out.
        rules: the same by decision rule.
        worth: a step a member: the stack without it, and the gain by having it.
        thresholds: `level`, the one that pays, and `levels`, the thresholds of each.
        reliability: by calibration (`before`, `after`): (bins, 5) low, high, mean, share true, n.
        folds: (folds, 4) fold, n, forecast, truth.
        forecast: (N,) `forecast`, `truth`, `mass`, `highest` and `entropy` of the images; earlier
            versions kept no `entropy`.
        learning: the second stage fitted on rising shares of the images.
        prior: what adjusting by the prior makes of the decisions, by rising strength.
    """

    image_ids: tuple[str, ...]
    scores: Mapping[str, Scores]
    rules: Mapping[str, Scores] = field(default_factory=dict)
    worth: Sequence[LadderStep] = ()
    thresholds: Mapping[str, Any] | None = None
    reliability: Mapping[str, Numbers] = field(default_factory=dict)
    folds: Numbers | None = None
    forecast: Mapping[str, Scores] = field(default_factory=dict)
    learning: Sequence[LearningPoint] = ()
    prior: Sequence[PriorPoint] = ()

    def save(self, folder: Path) -> None:
        """Write a file a field, none for an empty one, into a run folder."""
        write_scores(folder / _SOURCES, image_ids=self.image_ids, scores=self.scores)
        if self.rules:
            write_scores(folder / _RULES, image_ids=self.image_ids, scores=self.rules)
        if self.worth:
            write_steps(folder / _WORTH, self.worth)
        if self.thresholds is not None:
            write_json(folder / _THRESHOLDS, self.thresholds)
        if self.reliability:
            header = ["calibration", "low", "high", "mean_predicted", "share_true", "n"]
            _write_rows(folder / _RELIABILITY, header, (
                [name, low, high, f"{mean:.6f}", f"{share:.6f}", int(n)]
                for name, bins in self.reliability.items()
                for low, high, mean, share, n in bins.tolist()
            ))  # fmt: skip
        if self.folds is not None:
            _write_rows(folder / _FOLDS, ["fold", "n", "forecast", "truth"], (
                [int(fold), int(n), f"{forecast:.6f}", f"{truth:.6f}"]
                for fold, n, forecast, truth in self.folds.tolist()
            ))  # fmt: skip
        if self.forecast:
            write_scores(folder / _FORECAST, image_ids=self.image_ids, scores=self.forecast)
        if self.learning:
            write_points(folder / _LEARNING, self.learning)
        if self.prior:
            _write_rows(folder / _PRIOR, _OF_PRIOR, map(_prior_cells, self.prior))

    @classmethod
    def load(cls, folder: Path) -> "EnsembleRecord":
        """Read what `save` wrote."""
        image_ids, scores = read_scores(folder / _SOURCES)
        worth, thresholds, folds = (folder / name for name in (_WORTH, _THRESHOLDS, _FOLDS))
        learning, prior = folder / _LEARNING, folder / _PRIOR
        return cls(
            image_ids=image_ids,
            scores=scores,
            rules=_scores_if_there(folder / _RULES),
            worth=read_steps(worth) if worth.is_file() else (),
            thresholds=read_object(thresholds) if thresholds.is_file() else None,
            reliability=_reliability(folder / _RELIABILITY),
            folds=_numbers(folds, _read_rows(folds)) if folds.is_file() else None,
            forecast=_scores_if_there(folder / _FORECAST),
            learning=read_points(learning) if learning.is_file() else (),
            prior=_read_prior(prior) if prior.is_file() else (),
        )


@dataclass(frozen=True, kw_only=True)
class EnsembleRun:
    """A finished ensemble.

    Attributes:
        corpus: what was worked on.
        folder: its run folder.
        meta: its `meta.json`.
        record: how it did, cross-fitted.
        scored: the N images of the record.
        rungs: of the ladder.
    """

    corpus: Corpus
    folder: Path
    meta: Mapping[str, Any]
    record: EnsembleRecord
    scored: ImageTable
    rungs: Sequence[Rung]

    @property
    def names(self) -> npt.NDArray[np.str_]:
        """(N,) categories."""
        return np.array(self.scored.categories, dtype=np.str_)

    @cached_property
    def steps(self) -> Sequence[LadderStep]:
        """The ladder on all scored images."""
        return climb(self.rungs, groups=self.scored.groups)

    @cached_property
    def steps_on_valid(self) -> Sequence[LadderStep] | None:
        """The ladder on valid alone; None where nothing else was scored, or nothing of valid."""
        valid = np.array(self.scored.splits, dtype=np.str_) == "valid"
        rungs = [replace(rung, image_f1=rung.image_f1[valid]) for rung in self.rungs]
        if self.corpus.scored == "valid" or all(np.isnan(r.image_f1).all() for r in rungs):
            return None
        return climb(rungs, groups=self.scored.take(valid).groups)

    @property
    def ladders(self) -> dict[str, Sequence[LadderStep]]:
        """Both by the name of their images, that on all scored ones first."""
        ladders = {self.corpus.scored: self.steps}
        return ladders | ({"valid": self.steps_on_valid} if self.steps_on_valid else {})


def read_run(folder: Path, corpus: Corpus) -> EnsembleRun:
    """A finished ensemble of the corpus."""
    meta, record = read_whole(folder), EnsembleRecord.load(folder)
    return EnsembleRun(
        corpus=corpus,
        folder=folder,
        meta=meta,
        record=record,
        scored=corpus.table.take(corpus.table.row_numbers(record.image_ids)),
        rungs=rungs_of(meta["ladder"], sources=record.scores, rules=record.rules),
    )


def newest_ensemble(corpus: Corpus, workspace: Workspace) -> EnsembleRun:
    """The ensemble of the corpus that was last made or asked for.

    Raises:
        MissingStageError: there is none; the command is named.
    """
    runs = workspace.runs_on(workspace.ensembles, corpus.fingerprint)
    if not runs:
        raise MissingStageError(
            f"no ensemble of this corpus in {workspace.ensembles}; run"
            f" `{workspace.command('ensemble --submit')}` first"
        )
    return read_run(max((asked(meta), folder) for folder, meta in runs)[1], corpus)


def write_scores(path: Path, *, image_ids: Sequence[str], scores: Mapping[str, Scores]) -> None:
    """Write the F1 of each image under each source: a column a source, empty where left out."""
    rows: list[list[str]] = [["image_id", *scores]]
    for row, image_id in enumerate(image_ids):
        values = [float(f1[row]) for f1 in scores.values()]
        rows.append([image_id, *("" if np.isnan(v) else repr(v) for v in values)])
    write_rows(path, rows)


def read_scores(path: Path) -> tuple[tuple[str, ...], dict[str, Scores]]:
    """Image ids, and the (N,) F1 under each source, to the last bit as they were written."""
    with meant_as_written(path):
        header, *rows = read_rows(path)
        columns = list(zip(*rows, strict=True))
        scores = {
            name: np.array([float(value or "nan") for value in column])
            for name, column in zip(header[1:], columns[1:], strict=True)
        }
        return columns[0], scores


def _scores_if_there(path: Path) -> dict[str, Scores]:
    return read_scores(path)[1] if path.is_file() else {}


def _write_rows(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    write_rows(path, [header, *rows])


def _read_rows(path: Path) -> list[list[str]]:
    """Rows of a file without its header."""
    return read_rows(path)[1:]


def _numbers(path: Path, rows: Sequence[Sequence[str]]) -> Numbers:
    with meant_as_written(path):
        return np.array([[float(value) for value in row] for row in rows])


_OF_PRIOR = (
    *("decided_by", "strength", "measure", "bucket"),
    *("value", "gain", "gain_low", "gain_high", "n"),
)


def _prior_cells(point: PriorPoint) -> Sequence[Any]:
    gain = (point.gain.value, point.gain.low, point.gain.high) if point.gain else ("", "", "")
    numbers = [point.value, *gain]
    return [
        *(point.decided_by, repr(point.strength), point.measure, point.bucket),
        *(value if isinstance(value, str) else repr(value) for value in numbers),
        point.n,
    ]


def _read_prior(path: Path) -> list[PriorPoint]:
    points = []
    with meant_as_written(path):
        for decided_by, strength, measure, bucket, value, *gain, n in _read_rows(path):
            gained = [float(cell) for cell in gain if cell]
            points.append(
                PriorPoint(
                    decided_by=decided_by,
                    strength=float(strength),
                    measure=measure,
                    bucket=bucket,
                    value=float(value),
                    gain=Interval(gained[0], gained[1], gained[2], int(n)) if gained else None,
                    n=int(n),
                )
            )
    return points


def _reliability(path: Path) -> dict[str, Numbers]:
    rows = _read_rows(path) if path.is_file() else []
    with meant_as_written(path):
        names = dict.fromkeys(row[0] for row in rows)
    return {name: _numbers(path, [row[1:] for row in rows if row[0] == name]) for name in names}


@dataclass(frozen=True, kw_only=True)
class RuleWords:
    """A decision rule in words.

    Attributes:
        title: on the ladder.
        meaning: in the report.
        calibrated: whether it decides by calibrated probabilities; if not, by thresholds.
    """

    title: str
    meaning: str
    calibrated: bool = False


DECISION_RULES: Mapping[str, RuleWords] = {
    "plain": RuleWords(title="one threshold", meaning="one threshold of 49, too coarse to overfit"),
    "global": RuleWords(title="one exact threshold", meaning="one exact threshold"),
    "category": RuleWords(title="thresholds by category", meaning="exact thresholds by category"),
    "concept": RuleWords(title="thresholds by concept", meaning="exact thresholds by concept"),
    "top-k": RuleWords(
        title="expected number of concepts",
        meaning="the most probable concepts, as many as are expected",
        calibrated=True,
    ),
    "ratio": RuleWords(
        title="expected F1, approximated",
        meaning="those above half of the F1 in reach, taken as expected hits over expected sizes",
        calibrated=True,
    ),
    "expected-f1": RuleWords(
        title="expected F1", meaning="the set with the highest expected F1", calibrated=True
    ),
    "general-f1": RuleWords(
        title="expected F1 with a corrected number of concepts",
        meaning="the same, the number of concepts an image has corrected by what was seen of them",
        calibrated=True,
    ),
}
"""All decision rules by name, the simplest first, with their words for people."""
