"""The networks that `reproduce` trained, as they lie on disk."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.predictions import Predictions
from core.runs import asked, is_complete, read_meta
from core.workspace import Corpus, Workspace

OTHER_HALF = {"val1": "val2", "val2": "val1"}
"""What the network that one half stopped is tested on."""

_NAME = re.compile(r"paper-(\d+)-(val1|val2|valid)-[0-9a-f]+")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One network of an experiment: finished, crashed, or under way.

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
    """The newest network of each experiment and half at a scale, on this corpus.

    Finished ones come before those that are not.
    """
    home = workspace.reproduced / scale
    found: dict[tuple[int, str], tuple[tuple[bool, str], Trial]] = {}
    for folder in sorted(home.iterdir()) if home.is_dir() else ():
        name = _NAME.fullmatch(folder.name)
        if name is None:
            continue
        meta = read_meta(folder, "corpus", "made") if is_complete(folder) else {}
        if meta and meta["corpus"] != corpus.fingerprint:
            continue
        crash = folder / "crash.txt"
        trial = Trial(
            folder=folder,
            number=int(name[1]),
            stop_on=name[2],
            meta=meta,
            crash=crash.read_text(encoding="utf-8").strip() if crash.is_file() else "",
        )
        rank = (bool(meta), asked(meta) if meta else "")
        key = (trial.number, trial.stop_on)
        if key not in found or rank >= found[key][0]:
            found[key] = (rank, trial)
    return {key: trial for key, (_, trial) in sorted(found.items())}
