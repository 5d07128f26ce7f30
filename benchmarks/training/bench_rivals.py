"""A whole fine-tuning from JPEG files, beside timm's own parts and plain torchvision.

Every side trains the same network of timm from random weights, on the same files, for as many
epochs, steps and outputs, with AdamW, cross-entropy of each concept, whole images scaled to the
same square by PIL's bilinear filter and mirrored at random. Each runs in a fresh process, and its
time is that of the process, imports included (the same on all sides). Nobody scores an epoch or
writes weights.

- radfuse: the files are decoded once into the cache, a probe chooses memory format and precision,
  `training.loop.fit` trains. The cache and the probe's choice are made anew in every run; both
  would be kept for the next run on the corpus, and the table also says what is left without them.
- timm: `create_dataset` and `create_loader` with their prefetcher, `create_optimizer_v2`; 32-bit
  floats and memory as its training script has them by default. Its random crop is set to the whole
  image and its colour jitter is off. The concepts stand in for its reader's class numbers.
- torchvision: `ImageFolder`, `transforms`, a `DataLoader` and a loop as its tutorials write them,
  with torch's AdamW.

Rivals decode in this process or in a worker of its own: both are tried in a short run, and the
faster goes on. They decode every file at full size; radfuse lets the JPEG decoder scale down first,
decays no biases (nor does timm), keeps freed memory and uses torch's fused AdamW. All have the same
number of threads.

    python -m benchmarks.training.bench_rivals [--quick | NETWORK...]
"""

import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median as middle

from benchmarks.machine import N_THREADS, environment
from benchmarks.training.rivals import SIDES, Work
from benchmarks.training.training_work import HEIGHT, N_CONCEPTS, PACKAGES, WIDTH, draw_images

WORKERS = (0, 1)

Said = dict[str, float]
"""What a run says of itself, with the whole time of its process as `wall_s`."""

WORKS = (
    Work(network="resnet50", size=224, epochs=4),
    Work(network="tf_efficientnet_lite0", size=192, epochs=3),
)
QUICK = (Work(network="test_resnet", size=64, n_images=32, epochs=2, batch_size=8, n_pilot=16),)


def in_fresh_process(side: str, folder: Path, work: Work) -> Said:
    """A run of a side."""
    order = json.dumps({"side": side, **asdict(work)})
    start = time.perf_counter()
    child = subprocess.run(
        [sys.executable, "-m", "benchmarks.training.rivals", str(folder), order],
        stdout=subprocess.PIPE,
        check=True,
    )
    wall_s = time.perf_counter() - start
    said: Said = json.loads(child.stdout.splitlines()[-1])
    n_steps = math.ceil(work.n_images / work.batch_size) * work.epochs
    assert (said["n_seen"], said["n_steps"]) == (work.n_seen, n_steps), f"{side}: {said}"
    return {**said, "wall_s": wall_s}


def best_workers(side: str, folder: Path, work: Work) -> int:
    """The number of workers whose short run trains fastest."""
    pilots = {n: replace(work.pilot, workers=n) for n in WORKERS}
    seconds = {n: in_fresh_process(side, folder, pilot)["train_s"] for n, pilot in pilots.items()}
    tried = ", ".join(f"{n}: {work.n_pilot / s:.1f}" for n, s in seconds.items())
    print(f"{side}, {work.n_pilot} images, images/s by workers: {tried}", flush=True)
    return min(WORKERS, key=seconds.__getitem__)


def compare(folder: Path, work: Work) -> str:
    """The table of a piece of work: all sides in turn, as often as it asks."""
    workers = {side: best_workers(side, folder, work) for side in SIDES if side != "radfuse"}
    runs: dict[str, list[Said]] = {side: [] for side in SIDES}
    for _ in range(work.rounds):
        for side, kept in runs.items():
            kept.append(in_fresh_process(side, folder, replace(work, workers=workers.get(side, 0))))
    rows: dict[str, tuple[list[Said], tuple[str, ...]]] = {
        f"{side}, workers: {n}": (runs[side], ()) for side, n in workers.items()
    }
    ours = runs["radfuse"]
    rows["radfuse: cache, probe, training"] = ours, ()
    rows["radfuse: cache, training"] = ours, ("probe_s",)
    rows["radfuse: training"] = ours, ("probe_s", "cache_s")
    parts = {name: middle([run[f"{name}_s"] for run in ours]) for name in ("cache", "probe")}
    return (
        f"\n{work.network}, {work.size} px, {work.n_images} images, {work.epochs} epochs, batches"
        f" of {work.batch_size}; median of {work.rounds}; radfuse's cache took"
        f" {parts['cache']:.1f} s, its probe {parts['probe']:.1f} s\n\n{table(work, rows)}"
    )


def table(work: Work, rows: Mapping[str, tuple[list[Said], tuple[str, ...]]]) -> str:
    """A line for each side: its runs, and the parts that are taken off their time.

    The first two are what the others are compared with.
    """
    lines = [
        "| what | whole process | range | images/s | x timm | x torchvision | training, images/s"
        " | last loss |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    seconds = {
        name: [run["wall_s"] - sum(run[part] for part in without) for run in runs]
        for name, (runs, without) in rows.items()
    }
    rivals = [middle(values) for values in list(seconds.values())[:2]]
    for name, values in seconds.items():
        runs = rows[name][0]
        times = " | ".join(f"{rival / middle(values):.2f}" for rival in rivals)
        training = work.n_seen / middle([run["train_s"] for run in runs])
        lines.append(
            f"| {name} | {middle(values):.1f} s | {min(values):.1f} - {max(values):.1f} s"
            f" | {work.n_seen / middle(values):.1f} | {times} | {training:.1f}"
            f" | {runs[-1]['loss']:.4f} |"
        )
    return "\n".join(lines)


def main() -> None:
    asked = sys.argv[1:]
    chosen = tuple(work for work in WORKS if not asked or work.network in asked)
    works = QUICK if "--quick" in asked else chosen
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw_images(folder, n=max(work.n_images for work in works))
        print(f"JPEG images of {WIDTH} x {HEIGHT}, {N_CONCEPTS} concepts, AdamW\n")
        for work in works:
            print(f"{compare(folder, work)}\n", flush=True)
    print(environment(*PACKAGES, n_threads=N_THREADS))


if __name__ == "__main__":
    main()
