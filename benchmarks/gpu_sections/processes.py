"""Section 5: several processes that train one network, and several networks at once on one device.

One card is given to two processes: NCCL refuses that, so their gradients travel by gloo.
"""

import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.gpu_sections.command import TORCHRUN, finish, settings, start
from benchmarks.gpu_sections.command import run as command
from benchmarks.gpu_sections.findings import Outcome, SkippedError, check
from core.predictions import Predictions

_TOLERANCE = 5e-3
_TRAIN = {
    "backbone": "test_efficientnet", "image_sizes": 64, "epochs": 2, "patience": 2,
    "learning_rate": 2e-4, "batch_size": 8, "augment": "none", "dropout": 0, "input_dropout": 0,
    "ema": 0, "probe": "false",
}  # fmt: skip


def run(device: str, *, tiny: bool) -> None:
    """All checks of the section."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        n_images = 60 if tiny else 300
        check("prepare", partial(_prepare, home, n_images), needs=("typer",))
        check(
            "torchrun with one process and with two on one device",
            partial(_together, home, device),
            wanted=f"probabilities within {_TOLERANCE:g} of one process",
            needs=("typer",),
        )
        check(
            "two networks at once on one device",
            partial(_at_once, home, device),
            wanted="each what it is alone",
            needs=("typer",),
        )
        check(
            "--seeds 2 --engine ray, half a device each",
            partial(_by_ray, home, device, tiny=tiny),
            wanted="what they are one after the other",
            needs=("typer", "ray"),
        )


def _prepare(home: Path, n_images: int) -> Outcome:
    given = settings(phantom_images=n_images, image_size=64, folds=3)
    command("prepare", "-w", home / "source", *given)
    return Outcome(ok=True, result=f"{n_images} images")


def _workspace(home: Path, name: str) -> Path:
    """A workspace of that name with the corpus, whose cache all share."""
    runs = home / name
    runs.mkdir(exist_ok=True)
    for part in ("corpus", "cache", "phantom"):
        if not (runs / part).exists():
            (runs / part).symlink_to(home / "source" / part)
    return runs


def _training(runs: Path, device: str, *, seed: int = 0) -> list[str | Path]:
    options = ["--preset", "finetune", "--weights", "none", "--device", device]
    given = settings(**_TRAIN, seed=seed)
    return ["train-backbone", "--category", "global", "-w", runs, *options, *given]


def _probs(printed: tuple[str, str]) -> npt.NDArray[np.float32]:
    """What the detector whose folder a command printed says of test."""
    folder = Path(printed[0].splitlines()[-1])
    return Predictions.load(folder / "predictions" / "test").probs


def _apart(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> float:
    return float(np.abs(found - expected).max())


def _together(home: Path, device: str) -> Outcome:
    """One training by a process, by torchrun with one process and by torchrun with two."""
    expected = _probs(command(*_training(_workspace(home, "plain"), device)))
    differences = {}
    for n in (1, 2):
        runs = _workspace(home, f"torchrun-{n}")
        printed = command(*_training(runs, device), before=(*TORCHRUN, str(n)))
        differences[n] = _apart(_probs(printed), expected)
    return Outcome(
        ok=max(differences.values()) <= _TOLERANCE,
        result="; ".join(f"{n}: {value:.1e} apart" for n, value in differences.items()),
        values={str(n): value for n, value in differences.items()},
    )


def _at_once(home: Path, device: str) -> Outcome:
    """Two commands with other seeds, in one workspace at the same time and one after the other."""
    began = time.perf_counter()
    alone = [
        _probs(command(*_training(_workspace(home, "in turn"), device, seed=seed)))
        for seed in (1, 2)
    ]
    in_turn_s = time.perf_counter() - began
    began = time.perf_counter()
    runs = _workspace(home, "at once")
    processes = [start(*_training(runs, device, seed=seed)) for seed in (1, 2)]
    found = [_probs(finish(process)) for process in processes]
    at_once_s = time.perf_counter() - began
    apart = max(_apart(a, b) for a, b in zip(found, alone, strict=True))
    return Outcome(
        ok=apart <= _TOLERANCE,
        result=f"{apart:.1e} apart; {at_once_s:.0f} s at once, {in_turn_s:.0f} s in turn",
        values={"difference": apart, "at_once_s": at_once_s, "in_turn_s": in_turn_s},
    )


def _by_ray(home: Path, device: str, *, tiny: bool) -> Outcome:
    if tiny:
        raise SkippedError("a Ray cluster takes longer to start than all of this")
    in_turn, by_ray = _workspace(home, "seeds"), _workspace(home, "ray")
    expected = _probs(command(*_training(in_turn, device), "--seeds", "2"))
    parts = ["--gpus-per-job", "0.5"] if device.startswith("cuda") else []
    began = time.perf_counter()
    engine = ["--seeds", "2", "--engine", "ray", *parts]
    apart = _apart(_probs(command(*_training(by_ray, device), *engine)), expected)
    seconds = time.perf_counter() - began
    return Outcome(ok=apart <= _TOLERANCE, result=f"{apart:.1e} apart, {seconds:.0f} s")
