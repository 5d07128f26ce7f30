"""What `fuse` made, as it lies on disk: names, folders, guesses, the newest run of a strategy."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.predictions import Predictions
from core.runs.workspace import Workspace
from core.storage.folders import asked, is_complete, read_meta

PRIOR = "prior"
"""The strategy that sees no image: how often a concept stands on images of the category."""

NO_METADATA = "blind"
"""The strategy that sees no metadata: the line that the others are measured from."""


def split_folder(run: Path, split: str, *, without_category: bool = False) -> Path:
    """Where a run's predictions of a split lie.

    Args:
        run: the run folder.
        split: `valid` or `test`.
        without_category: whether to take the predictions made without the category.
    """
    return run / "predictions" / (f"{split}-withheld" if without_category else split)


@dataclass(frozen=True, kw_only=True)
class FusedSource:
    """A finished fusion run.

    Attributes:
        folder: its run folder.
        strategy: what made it.
        meta: what the run says of itself.
    """

    folder: Path
    strategy: str
    meta: Mapping[str, Any]

    @property
    def asked(self) -> str:
        """When it was made or last asked for, ISO 8601."""
        return asked(self.meta)

    @property
    def contains(self) -> tuple[str, ...]:
        """Names of the detector runs that its predictions already include."""
        return tuple(self.meta["contains"])

    def predictions(self, split: str) -> Predictions:
        """What it predicts for `valid` or `test`."""
        return Predictions.load(split_folder(self.folder, split))

    def without_category(self, split: str) -> Predictions | None:
        """Predictions made without the category; None where that makes no difference."""
        folder = split_folder(self.folder, split, without_category=True)
        return Predictions.load(folder) if is_complete(folder) else None


def find_fused_sources(
    workspace: Workspace, corpus_fingerprint: str, *, comparable: bool = False
) -> list[FusedSource]:
    """The newest finished run of each strategy on this corpus.

    Args:
        workspace: where to look.
        corpus_fingerprint: of the corpus; runs on another one are passed over.
        comparable: only runs on the pooled features of the very newest.

    Returns:
        In the order of the strategies' first folders, which stays while runs are made anew.
    """
    runs = []
    for folder in workspace.finished_runs(workspace.fusion):
        meta = read_meta(folder, "corpus", "strategy", "made", "contains", "embeddings")
        if meta["corpus"] == corpus_fingerprint:
            runs.append(FusedSource(folder=folder, strategy=meta["strategy"], meta=meta))
    if comparable and runs:
        features = max(runs, key=_age).meta["embeddings"]
        runs = [run for run in runs if run.meta["embeddings"] == features]
    newest: dict[str, FusedSource] = {}
    for run in runs:
        newest[run.strategy] = max(run, newest.get(run.strategy, run), key=_age)
    return list(newest.values())


GUESSED = "guessed.csv"
"""Images without a category and what their features say of it, in the folder of the guess."""


def find_guesses(workspace: Workspace, corpus_fingerprint: str) -> dict[str, str]:
    """Image id to the likeliest category, of images that have none, by the newest guess.

    Empty where nothing was guessed, as before `fuse`.
    """
    folders = [f for f in workspace.fusion.glob("category-*") if is_complete(f)]
    metas = {folder: read_meta(folder) for folder in folders}
    own = [f for f in folders if metas[f].get("corpus") == corpus_fingerprint]
    if not own:
        return {}
    newest = max(own, key=lambda folder: (asked(metas[folder]), folder))
    with (newest / GUESSED).open(encoding="utf-8", newline="") as file:
        return {row["image_id"]: row["guess"] for row in csv.DictReader(file)}


def _age(run: FusedSource) -> tuple[str, Path]:
    return run.asked, run.folder
