"""What training heads at once gains: seconds of five members of the default head, at once or not.

Five members with the default head (2,560 features, 512 hidden units, 252 concepts) learn from 3,274
images in ten folds for a few epochs, each epoch scored: `fit_stack` against `fit_members`. Both
sides run in turn in one process that keeps its memory, on one thread, on two, and on a CUDA device
where there is one. Members of ten folds differ by an image or two: their steps are as many.

    python -m benchmarks.training.bench_together [--quick]
"""

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import nn

from benchmarks.machine import N_THREADS, environment
from benchmarks.training.training_work import PACKAGES
from training.batches import Examples
from training.config import FitConfig
from training.devices.compute import Compute, Inputs
from training.devices.device import keep_memory
from training.heads import Standardise, build_head
from training.members import fit_members
from training.predict import Rows
from training.stack import fit_stack

N_ROUNDS = 3
N_FEATURES = 2560
N_CONCEPTS = 252
N_IMAGES = 3274
N_FOLDS = 10
CONFIG = FitConfig(epochs=4, patience=4)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where both sides run."""

    device: str
    n_threads: int

    def __str__(self) -> str:
        if self.device != "cpu":
            return torch.cuda.get_device_name(self.device)
        return f"processor, {self.n_threads} thread{'s' * (self.n_threads > 1)}"


def places() -> list[Place]:
    found = [Place(device="cpu", n_threads=n) for n in (1, 2)]
    return found + [Place(device="cuda", n_threads=1)] * torch.cuda.is_available()


def draw(n_images: int) -> tuple[torch.Tensor, Examples]:
    """Features and concepts that depend on them."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((n_images, N_FEATURES), dtype=np.float32)
    scores = values @ rng.standard_normal((N_FEATURES, N_CONCEPTS), dtype=np.float32)
    features = torch.from_numpy(values)

    def batches(rows: Rows) -> Inputs:
        return (features[torch.from_numpy(rows)],)

    targets = csr_array(scores > np.quantile(scores, 0.98))
    return features, Examples(batches=batches, targets=targets, rows=np.arange(n_images))


def sides(n_images: int, config: FitConfig, compute: Compute) -> dict[str, Callable[[], object]]:
    """A whole training of all members, each way."""
    features, examples = draw(n_images)
    folds = (np.arange(n_images) % N_FOLDS).astype(np.int16)

    def new_model(rows: Rows) -> nn.Module:
        standardise = Standardise.fitted(features[torch.from_numpy(rows)])
        return nn.Sequential(standardise, build_head(N_FEATURES, N_CONCEPTS, config=config))

    def side(fit_all: Callable[..., object]) -> Callable[[], object]:
        return lambda: fit_all(
            new_model,
            examples,
            folds=folds,
            config=config,
            compute=compute,
            log=lambda entry: None,
        )

    return {"in order": side(fit_members), "at once": side(fit_stack)}


def measure(calls: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Seconds of each round, by side; the sides take turns, after a round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(N_ROUNDS + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def spread(values: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} - {max(values):.2f})"


def main() -> None:
    quick = "--quick" in sys.argv[1:]
    n_images = 600 if quick else N_IMAGES
    keep_memory()
    print(
        f"{CONFIG.n_members} members, {CONFIG.epochs} epochs, {n_images} images; seconds, median"
        f" and range of {N_ROUNDS} rounds\n"
    )
    print("| where | in order | at once | times faster | paired |")
    print("| --- | --- | --- | --- | --- |")
    for place in places():
        torch.set_num_threads(place.n_threads)
        seconds = measure(sides(n_images, CONFIG, Compute(device=place.device)))
        order, once = seconds["in order"], seconds["at once"]
        paired = [a / b for a, b in zip(order, once, strict=True)]
        print(
            f"| {place} | {spread(order)} | {spread(once)}"
            f" | {statistics.median(order) / statistics.median(once):.2f}"
            f" | {min(paired):.2f} - {max(paired):.2f} |",
            flush=True,
        )
    print(f"\n{environment(*PACKAGES, n_threads=N_THREADS)}")


if __name__ == "__main__":
    main()
