"""The networks that `reproduce` trained, as they lie on disk."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.predictions import Predictions
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import asked, is_complete, now, read_meta, write_json

OTHER_HALF = {"val1": "val2", "val2": "val1"}
"""What the network that one half stopped is tested on."""

_NAME = re.compile(r"paper-(\d+)-(val1|val2|valid)-([0-9a-f]+)")

_CRASH = "crash.json"


def trial_name(number: int, stop_on: str, key: str) -> str:
    """Name of a network's folder; the networks of a pair share the key, which their settings give.

    Example:
        >>> trial_name(3, "val1", "0a1b2c3d")
        'paper-03-val1-0a1b2c3d'
    """
    return f"paper-{number:02d}-{stop_on}-{key}"


def note_crash(folder: Path, reason: str, *, corpus: str) -> None:
    """Write down why a training ended, and on which corpus."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / _CRASH, {"corpus": corpus, "reason": reason, "made": now()})


def forget_crash(folder: Path) -> None:
    """Remove the note: it is tried again."""
    (folder / _CRASH).unlink(missing_ok=True)


def crash_of(folder: Path) -> dict[str, str]:
    """What was noted of a crash; empty where none was."""
    try:
        noted: dict[str, str] = json.loads((folder / _CRASH).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return noted


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One network of an experiment, finished or crashed.

    Attributes:
        folder: its run folder.
        number: of the experiment.
        stop_on: `val1`, `val2` or `valid`.
        meta: what the finished run says of itself; empty where it is not finished.
        crash: why it ended early; empty where it did not.
    """

    folder: Path
    number: int
    stop_on: str
    meta: Mapping[str, Any]
    crash: str = ""

    @property
    def settings(self) -> dict[str, Any]:
        """How it was trained."""
        settings: dict[str, Any] = json.loads(
            (self.folder / "config.json").read_text(encoding="utf-8")
        )
        return settings

    def epochs(self) -> list[dict[str, Any]]:
        """The log's entry of each epoch: loss, stop_loss, f1, seconds."""
        lines = (self.folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
        return [entry for entry in map(json.loads, lines) if "loss" in entry]

    def predictions(self, split: str) -> Predictions:
        """Its probabilities of `valid` or `test`."""
        return Predictions.load(self.folder / "predictions" / split)


Trials = Mapping[tuple[int, str], Trial]
"""By experiment and by what stopped them."""


def find_trials(corpus: Corpus, workspace: Workspace, scale: str) -> dict[tuple[int, str], Trial]:
    """The networks of each experiment at a scale, on this corpus.

    Of an experiment that was trained with several settings (another seed, other weights), those
    that were made, asked for or crashed last: never one half with this and one with that.
    """
    home = workspace.reproduced / scale
    by_settings: dict[int, dict[str, list[tuple[str, Trial]]]] = {}
    for folder in sorted(home.iterdir()) if home.is_dir() else ():
        name = _NAME.fullmatch(folder.name)
        if name is None:
            continue
        meta = read_meta(folder, "corpus", "made") if is_complete(folder) else {}
        crash = {} if meta else crash_of(folder)
        if (meta or crash).get("corpus") != corpus.fingerprint:
            continue
        trial = Trial(
            folder=folder,
            number=int(name[1]),
            stop_on=name[2],
            meta=meta,
            crash=crash.get("reason", ""),
        )
        when = asked(meta) if meta else crash["made"]
        same = by_settings.setdefault(trial.number, {}).setdefault(name[3], [])
        same.append((when, trial))
    found: dict[tuple[int, str], Trial] = {}
    for settings in by_settings.values():
        newest = max(settings.values(), key=lambda same: max(when for when, _ in same))
        found |= {(trial.number, trial.stop_on): trial for _, trial in newest}
    return dict(sorted(found.items()))
