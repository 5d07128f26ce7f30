"""Finished detectors of a workspace, as later stages find them on disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.categories import CATEGORIES
from core.predictions import Predictions
from core.runs.out_of_fold import load_folds
from core.runs.workspace import Workspace
from core.storage.folders import asked

GLOBAL = "global"
"""The name of the detector of all images, beside the seven categories."""


@dataclass(frozen=True, kw_only=True)
class DetectorRun:
    """A finished detector run.

    Attributes:
        folder: its run folder.
        category: `GLOBAL`, or the category of a specialist.
        preset: the name it was trained under.
        asked: when it was made or last asked for; later ones sort behind.
        embeddings: names of the pooled features it learnt from, in the workspace's embeddings.
    """

    folder: Path
    category: str
    preset: str
    asked: tuple[int, str]
    embeddings: tuple[str, ...]

    @property
    def name(self) -> str:
        """Category and run, as `DRCT/quick-0a1b2c3d`: the same wherever the workspace lies."""
        return f"{self.category}/{self.folder.name}"

    def predictions(self, split: str) -> Predictions:
        """What it predicts for `valid` or `test`, or out of fold for `labelled` or `train`."""
        return load_folds(self.folder / "predictions", split)


def find_runs(
    workspace: Workspace, corpus_fingerprint: str, *, fine_tuned: bool = False
) -> list[DetectorRun]:
    """All finished runs on this corpus, the newest last.

    Detectors that images of valid stopped are passed over: a second stage must not be fitted on
    their predictions and features. With `fine_tuned`, so are those on features of a frozen network.
    """
    runs = []
    keys = ("category", "preset", "embeddings")
    for folder, meta in workspace.runs_on(workspace.backbones, corpus_fingerprint, *keys):
        if meta.get("stop_on", "train") != "train":
            continue
        if fine_tuned and meta.get("regime", "frozen") == "frozen":
            continue
        run = DetectorRun(
            folder=folder,
            category=meta["category"],
            preset=meta["preset"],
            asked=asked(meta),
            embeddings=tuple(meta["embeddings"]),
        )
        runs.append(run)
    return sorted(runs, key=lambda run: run.asked)


def newest_of_each_category(runs: Sequence[DetectorRun]) -> list[DetectorRun]:
    """The newest of the runs that `find_runs` gave in each category, the global one first."""
    newest = {run.category: run for run in runs}
    return [newest[name] for name in (GLOBAL, *CATEGORIES) if name in newest]


def newest_of_each_preset(runs: Sequence[DetectorRun]) -> dict[str, DetectorRun]:
    """The newest of the runs that `find_runs` gave in each category with each preset, by name.

    A detector is called by its category, `DRCT`, and where runs of several presets are in a
    category, by its preset as well: `DRCT/finetune`. The global ones come first; within a category
    they are ordered by the names of the presets, which no later run changes.
    """
    newest = {(run.category, run.preset): run for run in runs}
    named = {}
    for category in (GLOBAL, *CATEGORIES):
        presets = sorted(preset for other, preset in newest if other == category)
        for preset in presets:
            name = category if len(presets) == 1 else f"{category}/{preset}"
            named[name] = newest[category, preset]
    return named


def find_detectors(workspace: Workspace, corpus_fingerprint: str) -> list[DetectorRun]:
    """The newest of `find_runs` in each category, the global one first."""
    return newest_of_each_category(find_runs(workspace, corpus_fingerprint))


def untrained(
    detectors: Sequence[DetectorRun], present: Sequence[str], *, workspace: Workspace
) -> str | None:
    """One line that names the detectors that could still be trained, and the command; or None.

    Args:
        detectors: those at hand.
        present: categories that have training images.
        workspace: where they would be trained.
    """
    have = {run.category for run in detectors}
    missing = [name for name in (GLOBAL, *present) if name not in have]
    if not missing:
        return None
    names = f"{missing[0]} alone" if len(missing) == 1 else ", ".join(missing)
    option = f" --category {missing[0]}" if len(missing) == 1 else ""
    command = workspace.command(f"train-backbone{option}")
    return f"not trained yet: {names}; to train: {command}"
