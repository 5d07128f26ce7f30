"""Whether the memory of feature extraction grows with the number of images.

Features of small drawn images are extracted at 224 px in a process of its own for each size of
corpus; its highest use of memory is what Linux says (VmHWM), mapped files and libraries included.

    python -m benchmarks.training.bench_memory
"""

import multiprocessing
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from backbones.detectors.features import frozen_features
from backbones.settings.config import BackboneConfig
from benchmarks.machine import N_THREADS, environment, peak_mib
from benchmarks.training.training_work import PACKAGES, table_of
from core.labels import LabelSpace
from core.runs.workspace import Corpus, Workspace
from corpus.images.cache import build_cache
from training.devices.compute import Compute

N_IMAGES = (1_000, 8_000)
N_ROUNDS = 3
SIZE = 224
CONFIG = BackboneConfig(
    backbone="test_efficientnet", weights="none", image_sizes=(SIZE,), probe=False
)


def draw_corpus(folder: Path, *, n: int) -> Corpus:
    """A corpus of so many small images."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    paths = [folder / f"{number:05d}.jpg" for number in range(n)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8)).save(path)
    return Corpus(
        name="drawn", table=table_of(paths), labels=LabelSpace(()), names={}, edition=2020,
        fingerprint=f"drawn{n}", notes=(),
    )  # fmt: skip


def peak_of(corpus: Corpus, home: Path) -> float:
    """Highest memory, in MiB, of a new process that extracts the features."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_extract, (corpus, home))


def _extract(corpus: Corpus, home: Path) -> float:
    torch.set_num_threads(N_THREADS)
    frozen_features(corpus, Workspace(home), config=CONFIG, compute=Compute())
    return peak_mib()


def row(n: int, mib: Sequence[float]) -> str:
    """A line of the table."""
    cache, values = n * SIZE * SIZE / 2**20, n * 256 * 4 / 2**20  # grey: one plane of each
    span = f"{min(mib):,.0f} to {max(mib):,.0f}"
    return f"| {n:,} | {cache:,.0f} | {values:,.1f} | {statistics.median(mib):,.0f} | {span} |"


def main() -> None:
    """Print the table."""
    peaks: dict[int, list[float]] = {n: [] for n in N_IMAGES}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpora = {n: draw_corpus(folder / str(n), n=n) for n in N_IMAGES}
        for corpus in corpora.values():
            build_cache(corpus.table, folder / "cache", size=SIZE)
        for number in range(N_ROUNDS):
            for n, corpus in corpora.items():
                home = folder / f"run-{number}-{n}"
                home.mkdir()
                (home / "cache").symlink_to(folder / "cache")
                peaks[n].append(peak_of(corpus, home))
    print("| images | cache, MiB | features, MiB | highest memory, MiB | range |")
    print("| --: | --: | --: | --: | --: |")
    for n in N_IMAGES:
        print(row(n, peaks[n]))
    print(f"\n{N_ROUNDS} rounds. {environment(*PACKAGES, n_threads=N_THREADS)}")


if __name__ == "__main__":
    main()
