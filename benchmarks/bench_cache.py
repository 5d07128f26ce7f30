"""How fast images are decoded into the cache and read from it: a plain loop with Pillow against it.

The loop opens, converts, scales and copies one image after the other, into an array in memory; the
cache writes to disk, notes what is done and can be interrupted. All rows run in turn in one
process, after a round that does not count and in which the files are read and the kernel compiled.

    python -m benchmarks.bench_cache [FOLDER...]

Drawn images are measured, and the JPEG files below each folder that is named.
"""

import multiprocessing
import os
import platform
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib import metadata
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from benchmarks.bench_score import cpu_name
from benchmarks.training_work import table_of
from corpus.images.batches import CachedImages
from corpus.images.cache import ImageCache, build_cache
from corpus.phantom.patients import scenes
from corpus.phantom.write import draw

N_RUNS = 5
N_IMAGES = 320
N_READ = 4_000  # images to read from: 0.6 GB, many times what a processor's caches hold
SIZE = 224
BATCH = 64
AUGMENTS = ("none", "hflip", "light")
PACKAGES = ("numpy", "numba", "pillow", "torch")
KINDS = {  # width, height, mode
    "grey 690 x 600": (690, 600, "L"),  # as in ROCO
    "colour 690 x 600": (690, 600, "RGB"),
    "grey 320 x 278": (320, 278, "L"),
}

Work = Callable[[], int]
"""Returns how many images it went through."""


def draw_images(folder: Path, width: int, height: int, mode: str) -> list[Path]:
    """JPEG files of drawn images."""
    folder.mkdir()
    paths = [folder / f"{number:05d}.jpg" for number in range(N_IMAGES)]
    for path, (_, scene) in zip(paths, islice(scenes(0), N_IMAGES), strict=True):
        large = replace(scene, look=replace(scene.look, shape=(height, width)))
        Image.fromarray(draw(large).pixels).convert(mode).save(path, quality=90)
    return paths


def in_a_loop(paths: Sequence[Path]) -> npt.NDArray[np.uint8]:
    """Decoded images (N, S, S, 3)."""
    pixels = np.empty((len(paths), SIZE, SIZE, 3), np.uint8)
    for place, path in zip(pixels, paths, strict=True):
        with Image.open(path) as image:
            rgb = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        place[:] = np.asarray(rgb)
    return pixels


def loop(paths: Sequence[Path]) -> int:
    return len(in_a_loop(paths))


def build(paths: list[Path], folder: Path, *, workers: int) -> int:
    home = folder / "built"
    shutil.rmtree(home, ignore_errors=True)
    return len(build_cache(table_of(paths), home, size=SIZE, workers=workers).image_ids)


def read(folder: Path, *, augment: str) -> int:
    """Random batches, each image once."""
    pixels = np.load(folder / "many.npy", mmap_mode="r")
    ids = tuple(map(str, range(len(pixels))))
    cache = ImageCache(image_ids=ids, pixels=pixels, errors={})
    images = CachedImages.of(cache, ids, augment=augment)
    order = np.random.default_rng(0).permutation(len(ids))
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        images.augmented(images(rows)[0], rows, epoch=1)
    return len(order)


def peak_of(work: Work) -> float:
    """Highest memory, in MiB, of a new process that does the work once, libraries included."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_after, (work,))


def _peak_after(work: Work) -> float:
    torch.set_num_threads(1)
    work()
    status = Path("/proc/self/status")
    if status.exists():  # Linux hands the parent's highest ru_maxrss down to its children
        lines = status.read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def measure(rows: Mapping[str, Work]) -> dict[str, list[float]]:
    """Images a second of each run, by name."""
    rates: dict[str, list[float]] = {name: [] for name in rows}
    for number in range(N_RUNS + 1):
        for name, work in rows.items():
            start = time.perf_counter()
            n = work()
            if number:
                rates[name].append(n / (time.perf_counter() - start))
    return rates


def table(rows: Mapping[str, Work]) -> str:
    """A row for each kind of work, with its ratio to the loop above it."""
    lines = [
        "| what | images a second, median | range of five | times the loop | highest memory |",
        "| --- | --: | --: | --: | --: |",
    ]
    base = [0.0]
    for name, rates in measure(rows).items():
        base = rates if "loop" in name else base
        ratio = statistics.median(a / b for a, b in zip(rates, base, strict=True))
        lines.append(
            f"| {name} | {statistics.median(rates):,.0f} | {min(rates):,.0f} - {max(rates):,.0f} |"
            f" {ratio:,.2f} | {peak_of(rows[name]):,.0f} MiB |"
        )
    return "\n".join(lines)


def rows_of(kind: str, paths: list[Path], folder: Path) -> dict[str, Work]:
    """The loop and the cache on some files, and how far their pixels are apart."""
    cache = build_cache(table_of(paths), folder / "compared", size=SIZE)
    apart = np.abs(cache.pixels.astype(np.int16) - in_a_loop(paths))
    print(f"{kind}: {len(paths):,} files, mean {np.mean([p.stat().st_size for p in paths]):,.0f}")
    print(f"bytes; pixels differ by {apart.mean():.2f} levels on average, {apart.max()} at most\n")
    works: dict[str, Work] = {f"{kind}: loop": partial(loop, paths)}
    for n in sorted({1, 2, os.cpu_count() or 1}):
        threads = f"{n} thread{'s' * (n > 1)}"
        works[f"{kind}: cache, {threads}"] = partial(build, paths, folder, workers=n)
    return works


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows: dict[str, Work] = {}
        for number, (kind, (width, height, mode)) in enumerate(KINDS.items()):
            rows |= rows_of(kind, draw_images(folder / str(number), width, height, mode), folder)
        for given in sys.argv[1:]:
            paths = sorted(Path(given).rglob("*.jpg"))
            rows |= rows_of(Path(given).name, paths[:: -(-len(paths) // (2 * N_IMAGES))], folder)
        shape = (N_READ, SIZE, SIZE, 3)
        many = np.lib.format.open_memmap(folder / "many.npy", "w+", np.uint8, shape)
        many[:] = np.random.default_rng(0).integers(0, 256, shape[1:], dtype=np.uint8)
        many.flush()
        for augment in AUGMENTS:
            rows[f"reading {SIZE} px, {augment}: cache, 1 thread"] = partial(
                read, folder, augment=augment
            )
        print(table(rows))
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    print(f"\nPython {platform.python_version()}, {versions}")
    print(f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {cpu_name()}")


if __name__ == "__main__":
    main()
