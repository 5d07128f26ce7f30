"""How fast images are decoded into the cache and read from it, and what it takes of the disk.

Decoding is held against a plain loop with Pillow: it opens, converts, scales and copies one image
after the other, into an array in memory; the cache writes to disk, notes what is done and can be
interrupted. Reading is held against a map (N, S, S, 3) of the same images, three channels of grey
ones as well, as the cache was until November 2026: random batches, each image once, copied by
`np.take` and, where they are mirrored, turned. All rows run in turn in one process, after a round
that does not count and in which the files are read and the kernels compiled.

    python -m benchmarks.training.bench_cache [FOLDER...]            # all of it
    python -m benchmarks.training.bench_cache --read [FOLDER...]     # reading and the disk alone

Drawn images are measured, and the JPEG files below each folder that is named.
"""

import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from benchmarks.machine import environment, peak_mib
from benchmarks.training.training_work import table_of
from core.storage.arrays import load_array
from corpus.images.batches import CachedImages
from corpus.images.cache import ImageCache, build_cache
from corpus.images.planes import GREY, Pixels, Planes, Rows
from corpus.phantom.patients import scenes
from corpus.phantom.write import draw

N_RUNS = 5
N_IMAGES = 320
N_READ = 4_000  # images to read from: 0.6 GB, many times what a processor's caches hold
SIZE = 224
BATCH = 64
BATCHES = (32, 64)
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
    ids = tuple(map(str, range(N_READ)))
    planes = Planes(
        first=np.load(folder / "grey" / "first.npy", mmap_mode="r"),
        further=np.empty((0, 2, SIZE, SIZE), np.uint8),
        places=np.full(N_READ, GREY),
    )
    cache = ImageCache(image_ids=ids, planes=planes, errors={})
    images = CachedImages.of(cache, ids, augment=augment)
    for rows in batches(N_READ, BATCH):
        images.augmented(images(rows)[0], rows, epoch=1)
    return N_READ


def batches(n: int, size: int) -> Iterator[Rows]:
    """All rows once, in a random order."""
    order = np.random.default_rng(0).permutation(n)
    return (order[start : start + size] for start in range(0, n, size))


@dataclass(frozen=True, kw_only=True)
class Stored:
    """Images on disk in both ways.

    Attributes:
        before: (N, S, S, 3), a map.
        now: the same, of maps.
        disk: bytes of either, in blocks of the disk.
    """

    before: Pixels
    now: Planes
    disk: tuple[int, int]

    @classmethod
    def of(cls, planes: Planes, folder: Path) -> "Stored":
        """Copies of some planes in a new folder."""
        folder.mkdir()
        shape = (len(planes), SIZE, SIZE, 3)
        before = np.lib.format.open_memmap(folder / "before.npy", "w+", np.uint8, shape)
        for start in range(0, len(planes), BATCH):
            rows = np.arange(start, min(start + BATCH, len(planes)))
            before[rows] = planes.pixels(rows)
        before.flush()
        names = ("first", "further", "places")
        for name in names:
            np.save(folder / f"{name}.npy", getattr(planes, name))
        first, further, places = (load_array(folder / f"{name}.npy") for name in names)
        return cls(
            before=load_array(folder / "before.npy"),
            now=Planes(first=first, further=further, places=np.array(places)),
            disk=(_on_disk(folder, "before"), _on_disk(folder, *names)),
        )


def _on_disk(folder: Path, *names: str) -> int:
    os.sync()  # blocks that are not written yet do not count
    return sum((folder / f"{name}.npy").stat().st_blocks * 512 for name in names)


def read_before(stored: Stored, *, size: int, mirrored: bool) -> int:
    """As `CachedImages` read until November 2026."""
    for rows in batches(len(stored.now), size):
        pixels = np.take(stored.before, rows, axis=0)
        if mirrored:
            these = np.flatnonzero(rows % 2)
            pixels[these] = pixels[these, :, ::-1]
    return len(stored.now)


def read_now(stored: Stored, *, size: int, mirrored: bool) -> int:
    for rows in batches(len(stored.now), size):
        stored.now.pixels(rows, mirrored=rows % 2 != 0 if mirrored else None)
    return len(stored.now)


def drawn_planes(*, grey: bool) -> Planes:
    """Noise of many images; all the same, which neither way of reading can know."""
    plane = np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE), dtype=np.uint8)
    n_further = 0 if grey else N_READ
    return Planes(
        first=np.broadcast_to(plane, (N_READ, SIZE, SIZE)),
        further=np.broadcast_to(plane[:, None], (n_further, 2, SIZE, SIZE)),
        places=np.full(N_READ, GREY) if grey else np.arange(N_READ),
    )


def reading_table(stored: Mapping[str, Stored]) -> str:
    """A row for each kind of images and batch."""
    works: dict[str, Work] = {}
    for kind, images in stored.items():
        for size in BATCHES:
            for mirrored in (False, True):
                name = f"{kind}, {size} at once{', every second mirrored' * mirrored}"
                for way, work in (("before", read_before), ("now", read_now)):
                    works[f"{name}, {way}"] = partial(work, images, size=size, mirrored=mirrored)
    rates = measure(works, clock=time.process_time)  # files are in memory: nothing is waited for
    lines = [
        "| images | a processor second before, median (range) | now | times, paired (range) |",
        "| --- | --: | --: | --: |",
    ]
    for name in [name.removesuffix(", now") for name in works if name.endswith(", now")]:
        before, now = rates[f"{name}, before"], rates[f"{name}, now"]
        times = [a / b for a, b in zip(now, before, strict=True)]
        cells = [
            f"{statistics.median(r):,.0f} ({min(r):,.0f} - {max(r):,.0f})" for r in (before, now)
        ]
        cells.append(f"{statistics.median(times):.2f} ({min(times):.2f} - {max(times):.2f})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "| images | not grey | MiB before | MiB now | share |"]
    lines.append("| --- | --: | --: | --: | --: |")
    for kind, images in stored.items():
        was, takes = images.disk
        n_colour = int((images.now.places != GREY).sum())
        lines.append(
            f"| {kind}: {len(images.now):,} | {n_colour:,} | {was / 2**20:,.0f} |"
            f" {takes / 2**20:,.0f} | {takes / was:.3f} |"
        )
    return "\n".join(lines)


def peak_of(work: Work) -> float:
    """Highest memory, in MiB, of a new process that does the work once, libraries included."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_after, (work,))


def _peak_after(work: Work) -> float:
    torch.set_num_threads(1)
    work()
    return peak_mib()


def measure(
    rows: Mapping[str, Work], *, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Images a second of each run, by name."""
    rates: dict[str, list[float]] = {name: [] for name in rows}
    for number in range(N_RUNS + 1):
        for name, work in rows.items():
            start = clock()
            n = work()
            if number:
                rates[name].append(n / (clock() - start))
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
    pixels = cache.planes.pixels(np.arange(len(paths)))
    apart = np.abs(pixels.astype(np.int16) - in_a_loop(paths))
    print(f"{kind}: {len(paths):,} files, mean {np.mean([p.stat().st_size for p in paths]):,.0f}")
    print(f"bytes; pixels differ by {apart.mean():.2f} levels on average, {apart.max()} at most\n")
    works: dict[str, Work] = {f"{kind}: loop": partial(loop, paths)}
    for n in sorted({1, 2, os.cpu_count() or 1}):
        threads = f"{n} thread{'s' * (n > 1)}"
        works[f"{kind}: cache, {threads}"] = partial(build, paths, folder, workers=n)
    return works


def main() -> None:
    torch.set_num_threads(1)
    given = [Path(name) for name in sys.argv[1:] if name != "--read"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {place.name: sorted(place.rglob("*.jpg")) for place in given}
        stored = {
            "grey": Stored.of(drawn_planes(grey=True), folder / "grey"),
            "not grey": Stored.of(drawn_planes(grey=False), folder / "not-grey"),
        }
        for number, (kind, paths) in enumerate(files.items()):
            cache = build_cache(table_of(paths), folder / "whole", size=SIZE)
            stored[kind] = Stored.of(cache.planes, folder / f"given-{number}")
        if "--read" not in sys.argv:
            print(building(files, folder))
        print(reading_table(stored))
    print(f"\n{environment(*PACKAGES)}")


def building(files: Mapping[str, list[Path]], folder: Path) -> str:
    """The table of what is decoded, and of what is read with augmentation."""
    rows: dict[str, Work] = {}
    for number, (kind, (width, height, mode)) in enumerate(KINDS.items()):
        rows |= rows_of(kind, draw_images(folder / str(number), width, height, mode), folder)
    for kind, paths in files.items():
        rows |= rows_of(kind, paths[:: -(-len(paths) // (2 * N_IMAGES))], folder)
    for augment in AUGMENTS:
        rows[f"reading {SIZE} px, {augment}: cache, 1 thread"] = partial(
            read, folder, augment=augment
        )
    return f"{table(rows)}\n"


if __name__ == "__main__":
    main()
