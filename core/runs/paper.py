"""The paper's experiments: what it prints of them, and the networks that `reproduce` trained."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.predictions import Predictions
from core.runs.workspace import Corpus, Workspace
from core.storage.documents import parse_json, read_object
from core.storage.folders import (
    TURN,
    asked,
    is_complete,
    next_turn,
    now,
    read_meta,
    write_json,
)

OTHER_HALF = {"val1": "val2", "val2": "val1"}
"""What the network that one half stopped is tested on."""

_NAME = re.compile(r"paper-(\d+)-(val1|val2|valid)-([0-9a-f]+)")

_CRASH = "crash.json"


def trial_name(number: int, stop_on: str, *, key: str) -> str:
    """Name of a network's folder; the networks of a pair share the key, which their settings give.

    Example:
        >>> trial_name(3, "val1", key="0a1b2c3d")
        'paper-03-val1-0a1b2c3d'
    """
    return f"paper-{number:02d}-{stop_on}-{key}"


def note_crash(folder: Path, reason: str, *, corpus: str) -> None:
    """Write down why a training ended, and on which corpus."""
    folder.mkdir(parents=True, exist_ok=True)
    noted = {"corpus": corpus, "reason": reason, "made": now(), TURN: next_turn(folder.parent)}
    write_json(folder / _CRASH, noted)


def forget_crash(folder: Path) -> None:
    """Remove the note: it is tried again."""
    (folder / _CRASH).unlink(missing_ok=True)


def crash_of(folder: Path) -> dict[str, Any]:
    """What was noted of a crash; empty where none was."""
    try:
        noted: dict[str, Any] = parse_json((folder / _CRASH).read_bytes())
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
        settings: dict[str, Any] = read_object(self.folder / "config.json")
        return settings

    def epochs(self) -> list[dict[str, Any]]:
        """The log's entry of each epoch: loss, stop_loss, f1, seconds."""
        lines = (self.folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
        return [entry for entry in map(parse_json, lines) if "loss" in entry]

    def predictions(self, split: str) -> Predictions:
        """Its probabilities of `valid` or `test`."""
        return Predictions.load(self.folder / "predictions" / split)


Trials = Mapping[tuple[int, str], Trial]
"""By experiment and by what stopped them."""


def find_trials(
    corpus: Corpus, workspace: Workspace, *, scale: str
) -> dict[tuple[int, str], Trial]:
    """The networks of each experiment at a scale, on this corpus.

    Of an experiment that was trained with several settings (another seed, other weights), those
    that were made, asked for or crashed last: never one half with this and one with that.
    """
    home = workspace.reproduced / scale
    by_settings: dict[int, dict[str, list[tuple[tuple[int, str], Trial]]]] = {}
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
        when = asked(meta or crash)
        same = by_settings.setdefault(trial.number, {}).setdefault(name[3], [])
        same.append((when, trial))
    found: dict[tuple[int, str], Trial] = {}
    for settings in by_settings.values():
        newest = max(settings.values(), key=lambda same: max(when for when, _ in same))
        found |= {(trial.number, trial.stop_on): trial for _, trial in newest}
    return dict(sorted(found.items()))


THRESHOLD = 0.5
"""From which probability on the paper decides a concept."""


@dataclass(frozen=True, kw_only=True)
class PaperRow:
    """A row of Table 4: two networks, one stopped on val1 and tested on val2, one the other way.

    Attributes:
        title: network and what is special.
        epochs: best epoch of the network stopped on val1 and of that stopped on val2; None where
            the training crashed.
        f1: sample F1 of each on the half that did not stop it.
        online: F1 on the test images, where it was submitted.
    """

    title: str
    epochs: tuple[int | None, int | None]
    f1: tuple[float | None, float | None]
    online: float | None = None


TABLE_4 = {
    1: PaperRow(title="VGG16, 2x2k", epochs=(12, 22), f1=(0.333, 0.335)),
    2: PaperRow(title="VGG16, 2x4k", epochs=(25, 26), f1=(0.346, 0.336)),
    3: PaperRow(title="VGG16, 2x4k, hflip", epochs=(9, 9), f1=(0.3475, 0.3455), online=0.363),
    4: PaperRow(title="VGG16, 2x4k, hflip, 450 px", epochs=(None, 6), f1=(None, 0.3417)),
    5: PaperRow(title="ResNet50, 2x4k, hflip", epochs=(3, 3), f1=(0.3484, 0.3487), online=0.365),
    6: PaperRow(title="DenseNet169, 2x4k", epochs=(8, 10), f1=(0.3495, 0.3450)),
    7: PaperRow(title="DenseNet169, 2x4k, hflip", epochs=(5, 4), f1=(0.3500, 0.3463), online=0.360),
    8: PaperRow(title="VGG16, 3x4k, hflip", epochs=(13, 14), f1=(0.3465, 0.3433)),
    9: PaperRow(
        title="VGG16, 2x4k, hflip, F1*bce", epochs=(11, 7), f1=(0.3604, 0.3606), online=0.374
    ),
    10: PaperRow(title="VGG16, 2x4k, hflip, F1+bce", epochs=(14, 12), f1=(0.3636, 0.3632)),
}
"""By number."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A row of Table 5.

    Attributes:
        experiment: whose network, stopped on val1, made it.
        nomissing: whether an image left without a concept gets its most probable one. The paper
            names a run so and does not say what it means; this is our reading.
        f1: on the test images.
        rank: among 47 submissions.
    """

    experiment: int
    nomissing: bool
    f1: float
    rank: int


TABLE_5 = {
    "vgg16-f1-bce-nomissing": Run(experiment=9, nomissing=True, f1=0.374525478882926, rank=12),
    "vgg16-f1-bce": Run(experiment=9, nomissing=False, f1=0.374402134956526, rank=13),
    "resnet50": Run(experiment=5, nomissing=False, f1=0.365168555515581, rank=17),
    "vgg16": Run(experiment=3, nomissing=False, f1=0.363067945861981, rank=18),
    "densenet169": Run(experiment=7, nomissing=False, f1=0.360156086299303, rank=19),
}
"""By the run's name, without what all have in common."""


@dataclass(frozen=True, kw_only=True)
class PaperFinding:
    """Something that the paper found by comparing two experiments.

    Attributes:
        says: what.
        better: number of the experiment that it holds to be better, or not to be.
        worse: that which it is compared with.
        gains: whether the paper says that there is a gain; else it says that there is none.
    """

    says: str
    better: int
    worse: int
    gains: bool = True


FINDINGS = (
    PaperFinding(says="F1*bce beats bce", better=9, worse=3),
    PaperFinding(says="F1+bce beats bce", better=10, worse=3),
    PaperFinding(says="hflip beats none (VGG16)", better=3, worse=2),
    PaperFinding(says="hflip beats none (DenseNet169)", better=7, worse=6),
    PaperFinding(says="larger pictures bring nothing", better=4, worse=3, gains=False),
    PaperFinding(says="wider layers help (4k, not 2k)", better=2, worse=1),
    PaperFinding(says="a third layer brings nothing", better=8, worse=3, gains=False),
    PaperFinding(says="ResNet50 beats VGG16", better=5, worse=3),
    PaperFinding(says="DenseNet169 beats VGG16", better=7, worse=3),
)
