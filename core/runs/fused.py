"""What `fuse` made, as it lies on disk: names, folders, and the newest run of each strategy."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.predictions import Predictions
from core.runs.out_of_fold import fold_folders, load_folds
from core.runs.workspace import Workspace
from core.storage.folders import asked, is_complete, read_meta

PRIOR = "prior"
"""The strategy that sees no image: how often a concept stands on images of the category."""

NO_METADATA = "blind"
"""The strategy that sees no metadata: the line that the others are measured from."""


WITHHELD = "-withheld"
"""What ends the names of the predictions that were made without the category."""


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

    @classmethod
    def read(cls, folder: Path) -> "FusedSource":
        """The finished run in a folder.

        Raises:
            PredictionsError: it is none, or unfinished.
        """
        meta = read_meta(folder, "corpus", "strategy", "made", "contains", "embeddings")
        return cls(folder=folder, strategy=meta["strategy"], meta=meta)

    @property
    def asked(self) -> str:
        """When it was made or last asked for, ISO 8601."""
        return asked(self.meta)

    @property
    def contains(self) -> tuple[str, ...]:
        """Names of the detector runs that its predictions already include."""
        return tuple(self.meta["contains"])

    def predictions(self, split: str) -> Predictions:
        """What it predicts for `valid` or `test`, or out of fold for `labelled`."""
        return load_folds(self.folder / "predictions", split)

    def without_category(self, split: str) -> Predictions | None:
        """Predictions made without the category; None where that makes no difference."""
        home = self.folder / "predictions"
        if not all(map(is_complete, fold_folders(home, split, suffix=WITHHELD))):
            return None
        return load_folds(home, split, suffix=WITHHELD)


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
    keys = ("strategy", "contains", "embeddings")
    runs = [
        FusedSource(folder=folder, strategy=meta["strategy"], meta=meta)
        for folder, meta in workspace.runs_on(workspace.fusion, corpus_fingerprint, *keys)
    ]
    if comparable and runs:
        features = max(runs, key=_age).meta["embeddings"]
        runs = [run for run in runs if run.meta["embeddings"] == features]
    newest: dict[str, FusedSource] = {}
    for run in runs:
        newest[run.strategy] = max(run, newest.get(run.strategy, run), key=_age)
    return list(newest.values())


def _age(run: FusedSource) -> tuple[str, Path]:
    return run.asked, run.folder
