"""The newest ensemble run of a workspace, as its folder keeps it."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from core.images import ImageTable
from core.metrics import Scores
from core.runs.ensemble import (
    RULES,
    SOURCES,
    WORTH,
    LadderStep,
    climb,
    newest_ensemble,
    read_rungs,
    read_scores,
    read_steps,
)
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import read_meta
from reports.pages.figures import Numbers


@dataclass(frozen=True, kw_only=True)
class EnsembleRun:
    """An ensemble's run, read for the report. Earlier versions kept less: then a field is empty.

    Attributes:
        corpus: what was worked on.
        name: the run's name.
        meta: its `meta.json`.
        valid: the N validation images that were scored.
        scores: (N,) cross-fitted F1 by source, NaN where an image is left out.
        rules: the same by decision rule.
        steps: the ladder.
        worth: a step a member: the stack without it, and the gain by having it.
        thresholds: `level`, the one that pays, and `levels`, the thresholds of each.
        reliability: by calibration (`before`, `after`): (bins, 5) low, high, mean, share true, n.
        folds: (folds, 4) fold, n, forecast, truth.
        forecast: (N,) `forecast` and `truth` of the images.
    """

    corpus: Corpus
    name: str
    meta: Mapping[str, Any]
    valid: ImageTable
    scores: Mapping[str, Scores]
    rules: Mapping[str, Scores]
    steps: Sequence[LadderStep]
    worth: Sequence[LadderStep]
    thresholds: Mapping[str, Any] | None
    reliability: Mapping[str, Numbers]
    folds: Numbers | None
    forecast: Mapping[str, Scores]

    @property
    def names(self) -> npt.NDArray[np.str_]:
        """(N,) categories."""
        return np.array(self.valid.categories, dtype=np.str_)


def read_ensemble(corpus: Corpus, workspace: Workspace) -> EnsembleRun:
    """The newest ensemble of the corpus.

    Raises:
        MissingStageError: there is none; the command is named.
    """
    run = newest_ensemble(corpus, workspace)
    meta = read_meta(run)
    image_ids, scores = read_scores(run / SOURCES)
    valid = corpus.table.take(corpus.table.row_numbers(image_ids))
    members, folds = run / WORTH, run / "forecast.csv"
    return EnsembleRun(
        corpus=corpus,
        name=run.name,
        meta=meta,
        valid=valid,
        scores=scores,
        rules=_scores(run / RULES),
        steps=climb(read_rungs(run, meta["ladder"]), groups=valid.groups),
        worth=read_steps(members) if members.is_file() else [],
        thresholds=_json(run, "thresholds.json"),
        reliability=_reliability(run / "reliability.csv"),
        folds=_numbers(_rows(folds)[1:]) if folds.is_file() else None,
        forecast=_scores(run / "forecast_images.csv"),
    )


def _scores(path: Path) -> dict[str, Scores]:
    return read_scores(path)[1] if path.is_file() else {}


def _json(folder: Path, name: str) -> dict[str, Any] | None:
    path = folder / name
    if not path.is_file():
        return None
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values


def _rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def _numbers(rows: Sequence[Sequence[str]]) -> Numbers:
    return np.array([[float(value) for value in row] for row in rows])


def _reliability(path: Path) -> dict[str, Numbers]:
    rows = _rows(path)[1:] if path.is_file() else []
    names = dict.fromkeys(row[0] for row in rows)
    return {name: _numbers([row[1:] for row in rows if row[0] == name]) for name in names}
