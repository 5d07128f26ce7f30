"""What the training loop costs beside the network: images a second of `fit` over the bare network.

Loop: `training.loop.fit`, a whole call of one epoch: optimiser and schedule built, drawn JPEG
images read from the cache, moved, mirrored at random and normalised, targets made dense from sparse
rows, the loss followed, the epoch logged, its weights copied and put back. No image is held out, so
none is scored; without a checkpoint.

Bare: timm's own network with as many outputs, in the same memory format and precision, the same
optimiser, on one batch of random floating-point tensors and targets over and over: forward, loss,
backward, step. Its optimiser is built before the clock starts.

Both sides run in turn in one process that keeps its memory, as `train-backbone` does. The aim is
0.95 of the bare network.

    python -m benchmarks.training.bench_train [--quick]
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from backbones.settings.config import BackboneConfig
from benchmarks.machine import N_THREADS, environment
from benchmarks.training.training_work import (
    HEIGHT,
    N_CONCEPTS,
    PACKAGES,
    WIDTH,
    draw_images,
    draw_targets,
    examples_of,
    fastest,
    new_detector,
    settings,
)
from core.images import ImageTable
from corpus.images.cache import ImageCache, build_cache
from training.devices.compute import Compute
from training.devices.device import keep_memory
from training.devices.speed import Speed
from training.loop import fit
from training.optim import build_optimizer

N_ROUNDS = 5

Run = Callable[[int], None]
"""So many steps of a side."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is trained, and how long a round is."""

    network: str
    size: int
    batch_size: int = 32
    n_steps: int = 6


CASES = (
    Case(network="resnet50", size=224, n_steps=4),
    Case(network="tf_efficientnet_lite0", size=192),
    Case(network="tf_efficientnet_lite0", size=224),
)
QUICK = (Case(network="test_resnet", size=64, batch_size=8, n_steps=4),)


def loop_side(case: Case, *, config: BackboneConfig, cache: ImageCache, speed: Speed) -> Run:
    model, examples = new_detector(config), examples_of(cache, config)

    def run(n_steps: int) -> None:
        n = n_steps * case.batch_size
        some = replace(examples, targets=examples.targets[:n], rows=examples.rows[:n])
        fit(
            model,
            some,
            stop=np.zeros(n, dtype=np.bool_),
            config=config,
            seed=0,
            compute=Compute(speed=speed),
        )

    return run


def bare_side(case: Case, *, config: BackboneConfig, speed: Speed) -> Run:
    model: nn.Module = timm.create_model(case.network, num_classes=N_CONCEPTS)
    speed.place(model).train()
    optimizer = build_optimizer(model, config)
    images = speed.arrange(torch.randn(case.batch_size, 3, case.size, case.size))
    truth: Tensor = torch.from_numpy(draw_targets(case.batch_size).toarray()).float()

    def run(n_steps: int) -> None:
        for _ in range(n_steps):
            optimizer.zero_grad(set_to_none=True)
            with speed.autocast("cpu"):
                logits = model(images).float()
            loss = binary_cross_entropy_with_logits(logits, truth)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return run


def measure(case: Case, sides: tuple[Run, Run]) -> list[list[float]]:
    """Images a second of each round, a list a side; the sides take turns."""
    for side in sides:
        side(1)
    rates: list[list[float]] = [[], []]
    for _ in range(N_ROUNDS):
        for side, kept in zip(sides, rates, strict=True):
            start = time.perf_counter()
            side(case.n_steps)
            kept.append(case.n_steps * case.batch_size / (time.perf_counter() - start))
    return rates


def row(case: Case, table: ImageTable, *, folder: Path) -> str:
    """A line of the table."""
    config = settings(case.network, size=case.size, batch_size=case.batch_size, epochs=1)
    cache = build_cache(table, folder / "cache", size=case.size)
    speed = fastest(config, folder=folder / "speed")
    looped = loop_side(case, config=config, cache=cache, speed=speed)
    loop, bare = measure(case, (looped, bare_side(case, config=config, speed=speed)))
    ratio = statistics.median(loop) / statistics.median(bare)
    paired = [a / b for a, b in zip(loop, bare, strict=True)]
    return (
        f"| {case.network} | {case.size} | {case.batch_size} | {case.n_steps} | {speed}"
        f" | {spread(loop)} | {spread(bare)}"
        f" | {ratio:.3f} | {min(paired):.3f} - {max(paired):.3f} |"
    )


def spread(values: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):.1f} ({min(values):.1f} - {max(values):.1f})"


def main() -> None:
    cases = QUICK if "--quick" in sys.argv[1:] else CASES
    torch.set_num_threads(N_THREADS)
    keep_memory()
    print(
        f"JPEG images of {WIDTH} x {HEIGHT}, {N_CONCEPTS} concepts, AdamW; images/s, median and"
        f" range of {N_ROUNDS} rounds\n"
    )
    print("| network | px | batch | steps a round | speed | loop | bare | ratio | paired ratios |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = draw_images(folder, n=max(case.n_steps * case.batch_size for case in cases))
        for case in cases:
            print(row(case, table, folder=folder), flush=True)
    print(f"\n{environment(*PACKAGES, n_threads=N_THREADS)}")


if __name__ == "__main__":
    main()
