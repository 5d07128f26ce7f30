"""The sides of `bench_rivals`, each a whole fine-tuning from JPEG files.

As a program, run by `bench_rivals` with a folder of images and the work as JSON: one run of a side;
its last line says what it did, as JSON.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import timm
import timm.data
import timm.optim
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from benchmarks.machine import N_THREADS
from benchmarks.training.training_work import (
    DECAY,
    HEIGHT,
    N_CONCEPTS,
    RATE,
    WIDTH,
    draw_targets,
    examples_of,
    fastest,
    new_detector,
    settings,
    table_of,
)
from corpus.images.cache import build_cache
from training.devices.compute import Compute
from training.devices.device import keep_memory
from training.loop import Watch, fit


@dataclass(frozen=True, kw_only=True)
class Work:
    """What every side does.

    Attributes:
        network: a name of timm.
        size: pixels.
        n_images: a multiple of the batch size: timm drops what is left over.
        epochs: times that each image is learnt from.
        batch_size: images a step.
        n_pilot: images of the short runs that choose the number of workers, learnt from once.
        rounds: whole runs of each side, in turn.
        workers: processes that decode for a rival.
    """

    network: str
    size: int
    n_images: int = 256
    epochs: int = 3
    batch_size: int = 32
    n_pilot: int = 64
    rounds: int = 1
    workers: int = 0

    @property
    def n_seen(self) -> int:
        """Images learnt from in all."""
        return self.n_images * self.epochs

    @property
    def pilot(self) -> "Work":
        """The short run."""
        return replace(self, n_images=self.n_pilot, epochs=1)


def image_paths(folder: Path, work: Work) -> list[Path]:
    return sorted((folder / "train" / "all").iterdir())[: work.n_images]


def run_radfuse(folder: Path, work: Work) -> dict[str, float]:
    """A run of ours."""
    keep_memory()
    start = time.perf_counter()
    config = settings(work.network, size=work.size, batch_size=work.batch_size, epochs=work.epochs)
    with tempfile.TemporaryDirectory() as made:
        table = table_of(image_paths(folder, work))
        cache = build_cache(table, Path(made) / "cache", size=work.size)
        cached = time.perf_counter()
        speed = fastest(config, folder=Path(made) / "speed")
        probed = time.perf_counter()
        sizes: list[int] = []
        losses: list[float] = []
        fit(
            new_detector(config),
            examples_of(cache, config),
            stop=np.zeros(len(table), dtype=np.bool_),
            config=config,
            seed=0,
            compute=Compute(speed=speed),
            watch=Watch(advance=sizes.append, log=lambda entry: losses.append(entry["loss"])),
        )
    return {
        "n_seen": sum(sizes),
        "n_steps": len(sizes),
        "loss": losses[-1],
        "cache_s": cached - start,
        "probe_s": probed - cached,
        "train_s": time.perf_counter() - probed,
    }


def run_timm(folder: Path, work: Work) -> dict[str, float]:
    """A run of timm's own parts."""
    truth = dense_targets(work)
    dataset = timm.data.create_dataset(
        "", root=str(folder), split="train", is_training=True, target_transform=truth.__getitem__
    )
    dataset.reader.samples = numbered(folder, work)
    model: nn.Module = timm.create_model(work.network, num_classes=N_CONCEPTS)
    data = timm.data.resolve_model_data_config(model)
    loader = timm.data.create_loader(
        dataset,
        input_size=work.size,
        batch_size=work.batch_size,
        is_training=True,
        scale=(1.0, 1.0),
        ratio=(WIDTH / HEIGHT, WIDTH / HEIGHT),
        color_jitter=0.0,
        interpolation="bilinear",
        mean=data["mean"],
        std=data["std"],
        num_workers=work.workers,
        device=torch.device("cpu"),
    )
    optimizer = timm.optim.create_optimizer_v2(model, opt="adamw", lr=RATE, weight_decay=DECAY)
    return plain_loop(model, loader, optimizer, epochs=work.epochs)


def run_torchvision(folder: Path, work: Work) -> dict[str, float]:
    """A run as a user of torchvision would write it."""
    truth = dense_targets(work)
    model: nn.Module = timm.create_model(work.network, num_classes=N_CONCEPTS)
    data = timm.data.resolve_model_data_config(model)
    transform = transforms.Compose(
        [
            transforms.Resize((work.size, work.size)),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(data["mean"], data["std"]),
        ]
    )
    dataset = ImageFolder(str(folder / "train"), transform, target_transform=truth.__getitem__)
    dataset.samples = numbered(folder, work)
    loader: DataLoader[Any] = DataLoader(
        dataset, batch_size=work.batch_size, shuffle=True, num_workers=work.workers
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
    return plain_loop(model, loader, optimizer, epochs=work.epochs)


def numbered(folder: Path, work: Work) -> list[tuple[str, int]]:
    """The files with their row numbers, where the readers of folders have class numbers."""
    return [(str(path), row) for row, path in enumerate(image_paths(folder, work))]


def dense_targets(work: Work) -> Tensor:
    """(N, L) float."""
    return torch.from_numpy(draw_targets(work.n_images).toarray()).float()


def plain_loop(
    model: nn.Module,
    loader: Iterable[tuple[Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
    *,
    epochs: int,
) -> dict[str, float]:
    """The loop that everybody writes."""
    start = time.perf_counter()
    n_seen = n_steps = 0
    model.train()
    for _ in range(epochs):
        losses = []
        for images, truth in loader:
            assert truth.shape == (len(images), N_CONCEPTS)
            loss = binary_cross_entropy_with_logits(model(images), truth)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.item())
            n_seen, n_steps = n_seen + len(images), n_steps + 1
    return {
        "n_seen": n_seen,
        "n_steps": n_steps,
        "loss": statistics.mean(losses),
        "train_s": time.perf_counter() - start,
    }


SIDES: dict[str, Callable[[Path, Work], dict[str, float]]] = {
    "timm": run_timm,
    "torchvision": run_torchvision,
    "radfuse": run_radfuse,
}


def main() -> None:
    folder, order = Path(sys.argv[1]), json.loads(sys.argv[2])
    run = SIDES[order.pop("side")]
    torch.set_num_threads(N_THREADS)
    torch.manual_seed(0)
    print(json.dumps(run(folder, Work(**order))))


if __name__ == "__main__":
    main()
