"""Section 3: from drawn files to a submission by the command line, with fine-tuning on the device.

The network starts from random weights, so that no package with weights is needed; where the one
that comes with radfuse is installed, the command of a user who says nothing is tried as well.
"""

import json
import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.gpu_sections.command import run as command
from benchmarks.gpu_sections.command import settings
from benchmarks.gpu_sections.findings import Outcome, SkippedError, check

_COMMANDS = ("typer",)
_FIGURES = ("typer", "matplotlib")


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much is drawn and trained.

    Attributes:
        images: drawn.
        size: of the images, in pixels.
        train: settings of the detectors.
        fuse: settings of the fusion networks.
        least_f1: out-of-fold sample F1 that the global detector has to reach.
    """

    images: int
    size: int
    train: dict[str, Any]
    fuse: dict[str, Any]
    least_f1: float


# What the category alone says scores 0.51 on these images.
FULL = Scale(
    images=600,
    size=128,
    # The probe has checks of its own, and would take as long as this training.
    train={"epochs": 40, "patience": 40, "probe": "false"},
    fuse={},
    least_f1=0.6,
)
TINY = Scale(
    images=90,
    size=64,
    train={"backbone": "test_efficientnet", "epochs": 2, "patience": 2},
    fuse={"epochs": 2, "n_members": 1},
    least_f1=0.05,
)


def run(device: str, *, tiny: bool) -> None:
    """All commands in their order; each needs those before it."""
    scale = TINY if tiny else FULL
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "runs"
        check("prepare", partial(_prepare, runs, scale), needs=_COMMANDS)
        check(
            "train-backbone, global, from random weights",
            partial(_train, runs, scale, device),
            wanted=f"F1 {scale.least_f1:g} or more out of fold",
            needs=_COMMANDS,
        )
        check(
            "train-backbone --category DRCT, and nothing else said",
            partial(_default, runs, device, tiny=tiny),
            wanted="fine-tunes on a GPU, quick without",
            needs=_COMMANDS,
        )
        check("fuse", partial(_fuse, runs, scale, device), needs=_FIGURES)
        check("ensemble --submit", partial(_ensemble, runs, tiny=tiny), needs=_COMMANDS)
        check("train-backbone, once more", partial(_again, runs, scale, device), needs=_COMMANDS)


def _timed(*arguments: str | Path) -> tuple[str, str, float]:
    began = time.perf_counter()
    out, err = command(*arguments)
    return out, err, time.perf_counter() - began


def _prepare(runs: Path, scale: Scale) -> Outcome:
    given = settings(phantom_images=scale.images, image_size=scale.size, folds=3)
    _, _, seconds = _timed("prepare", "-w", runs, *given)
    return Outcome(ok=True, result=f"{scale.images} images drawn and decoded in {seconds:.0f} s")


def _training(runs: Path, scale: Scale, device: str) -> list[str | Path]:
    given = settings(image_sizes=scale.size, **scale.train)
    options = ["--preset", "finetune", "--weights", "none", "--device", device]
    return ["train-backbone", "--category", "global", "-w", runs, *options, *given]


def _train(runs: Path, scale: Scale, device: str) -> Outcome:
    """Fine-tuning, and how fast its epochs were."""
    out, _, seconds = _timed(*_training(runs, scale, device))
    home = Path(out.splitlines()[-1])
    lines = (home / "log.jsonl").read_text(encoding="utf-8").splitlines()
    epochs = [entry for entry in map(json.loads, lines) if "images_per_s" in entry]
    meta = json.loads((home / "meta.json").read_text(encoding="utf-8"))
    f1 = meta["out_of_fold_f1"]
    rate = statistics.median(entry["images_per_s"] for entry in epochs)
    return Outcome(
        ok=f1 >= scale.least_f1,
        result=(
            f"out-of-fold F1 {f1:.3f}; {seconds:.0f} s, {len(epochs)} epochs at {rate:,.0f}"
            f" images/s, {meta['speed']}"
        ),
        values={"f1": f1, "seconds": seconds, "images_per_s": rate, "speed": meta["speed"]},
    )


def _again(runs: Path, scale: Scale, device: str) -> Outcome:
    """A second run of the command finds what the first one made."""
    _, err, seconds = _timed(*_training(runs, scale, device))
    return Outcome(ok="already trained" in err, result=f"kept, {seconds:.0f} s of start-up")


def _fuse(runs: Path, scale: Scale, device: str) -> Outcome:
    given = settings(**scale.fuse)
    out, _, seconds = _timed("fuse", "-w", runs, "--device", device, *given)
    lines = [" ".join(line.split()[:3]) for line in out.splitlines() if " valid " in line]
    return Outcome(ok=bool(lines), result=f"{seconds:.0f} s; {'; '.join(lines)}")


def _ensemble(runs: Path, *, tiny: bool) -> Outcome:
    stackers = "mean" if tiny else "mean,logistic"
    given = [] if find_spec("lightgbm") and not tiny else settings(stackers=stackers)
    out, _, seconds = _timed("ensemble", "--submit", "-w", runs, *given)
    path = Path(out.splitlines()[-1])
    truth = runs / "phantom" / "Test-Concepts.txt"
    scored, _ = command("score", path, "--truth", truth, "--edition", "2020")
    without = "" if find_spec("lightgbm") else "; without forests, lightgbm is not installed"
    return Outcome(
        ok=path.is_file(), result=f"{seconds:.0f} s; test {scored.splitlines()[0]}{without}"
    )


def _default(prepared: Path, device: str, *, tiny: bool) -> Outcome:
    """What the preset `auto` makes of the device, on installed weights."""
    from backbones.auto import installed_network
    from backbones.networks.carriers import CARRIERS
    from core.errors import ConfigError

    network = installed_network()
    try:
        CARRIERS[network].find()
    except ConfigError as error:
        raise SkippedError(str(error)) from None
    runs = prepared.with_name("default")  # its detectors stay out of the fusion that follows
    for part in ("corpus", "cache"):
        shutil.copytree(prepared / part, runs / part)
    few = settings(epochs=1, image_sizes=64, n_members=1) if tiny else []
    _, err, seconds = _timed(
        "train-backbone", "--category", "DRCT", "-w", runs, "--device", device, *few
    )
    line = next(text for text in err.splitlines() if text.startswith("preset auto: "))
    wanted = "fine-tunes" if device.startswith("cuda") else "quick"
    made = sorted(path.parent.parent.name for path in (runs / "backbones").glob("*/*/meta.json"))
    return Outcome(
        ok=wanted in line and "DRCT" in made, result=f"{seconds:.0f} s, {', '.join(made)}; {line}"
    )
