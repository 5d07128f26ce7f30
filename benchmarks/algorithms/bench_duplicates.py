"""How long the search for near-duplicates takes, and what of the planted ones it finds.

The aim: 130,000 images in five minutes on two cores, decoding aside, with less than 2 GB. Images
are made: each of two thumbnails of the drawn corpus, or of a folder of real images, one of which
shows through the other from place to place, cut at random and covered with noise. They are dealt
into train, valid and test as 80, 10 and 10 in 100, and copies of 500 images of train are planted in
test: coded anew (noise of 2 grey levels), mirrored, cut by 5 % of each side, and both.

    python -m benchmarks.algorithms.bench_duplicates [--images N] [--runs R] [--real FOLDER]

Seconds of the wall and of the processor are given; memory is the highest use above that before the
call. What decoding costs is measured on JPEGs of 320 x 320 and of 1024 x 1024 pixels, one thread.
"""

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import zoom

from benchmarks.machine import environment, measured
from corpus.duplicates.features import SIDE, Pixels
from corpus.duplicates.search import Copies, find_copies
from corpus.images.decode import decode
from corpus.phantom.write import draw_corpus

N_DRAWN = 1_000
N_PLANTED = 500
N_FIELDS = 500
KINDS = ("coded anew", "mirrored", "cut by 5 %", "mirrored and cut")


def bases(real: Path | None) -> Pixels:
    """(B, 64, 64) thumbnails that the images are made from."""
    if real is not None:
        return thumbnails(sorted(real.rglob("*.jpg")))
    with tempfile.TemporaryDirectory() as folder:
        draw_corpus(Path(folder) / "drawn", n_images=N_DRAWN, seed=0)
        return thumbnails(sorted(Path(folder).rglob("*.jpg")))


def thumbnails(paths: list[Path]) -> Pixels:
    """(N, 64, 64) brightness."""
    return np.stack([decode(path, size=SIDE, resample="bilinear").pixels[..., 0] for path in paths])


def cut(image: npt.NDArray[np.float64], rng: np.random.Generator, *, most: float) -> Pixels:
    """What is left after cutting up to a share off each side at random, brought to 64 x 64."""
    low = rng.random(2) * most * SIDE
    side = SIDE * (1 - most)
    places = [start + (np.arange(SIDE) + 0.5) * side / SIDE - 0.5 for start in low]
    made = image
    for axis, at in enumerate(places):
        at = np.clip(at, 0, SIDE - 1)
        first = np.minimum(at.astype(int), SIDE - 2)
        shape = (-1, 1) if axis == 0 else (1, -1)
        share = (at - first).reshape(shape)
        made = np.take(made, first, axis) * (1 - share) + np.take(made, first + 1, axis) * share
    return np.clip(made, 0, 255).astype(np.uint8)


def make(base: Pixels, n: int) -> Pixels:
    """(n, 64, 64) images, no two the same."""
    rng = np.random.default_rng(0)
    made = np.empty((n, SIDE, SIDE), np.uint8)
    coarse = rng.normal(0, 1, (N_FIELDS, 4, 4))
    fields = [zoom(few, SIDE / 4, order=1, grid_mode=True, mode="nearest") for few in coarse]
    noise = rng.normal(0, 4, (N_FIELDS, SIDE, SIDE))
    for row in range(n):
        one, other = base[rng.integers(len(base), size=2)].astype(float)
        field, grain = fields[rng.integers(N_FIELDS)], noise[rng.integers(N_FIELDS)]
        share = 1 / (1 + np.exp(-4 * field))  # which of the two shows, from place to place
        image = cut(one * share + other * (1 - share), rng, most=0.1).astype(float)
        made[row] = np.clip(image + grain, 0, 255)
    return made


def plant(made: Pixels, sources: npt.NDArray[np.intp]) -> Iterator[Pixels]:
    """Copies (500, 64, 64) of each kind."""
    rng = np.random.default_rng(1)
    for kind in KINDS:
        copies = made[sources].astype(float) + rng.normal(0, 2, (len(sources), SIDE, SIDE))
        if "mirrored" in kind:
            copies = copies[:, :, ::-1]
        most = 0.05 if "cut" in kind else 0.0
        yield np.stack([cut(copy, rng, most=most) for copy in copies])


def decoding(side: int) -> float:
    """Milliseconds to decode and scale a grey JPEG, the median of 100."""
    rng = np.random.default_rng(0)
    pixels = zoom(rng.random((side // 8, side // 8)) * 255, 8, order=1).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.jpg"
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, "JPEG", quality=90)
        path.write_bytes(content.getvalue())
        spent = []
        for _ in range(100):
            began = time.process_time()
            decode(path, size=SIDE, resample="bilinear")
            spent.append(time.process_time() - began)
    return 1000 * statistics.median(spent)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=130_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--real", type=Path, default=None)
    given = parser.parse_args()
    base = bases(given.real)
    n_planted = N_PLANTED * len(KINDS)
    made = make(base, given.images - n_planted)
    parts = np.random.default_rng(2).choice(3, size=len(made), p=(0.8, 0.1, 0.1))
    sources = np.flatnonzero(parts == 0)[:: max(1, int((parts == 0).sum()) // N_PLANTED)][
        :N_PLANTED
    ]
    images = np.concatenate([made, *plant(made, sources)])
    parts = np.concatenate([parts, np.full(n_planted, 2)])
    del made
    print(f"{len(images):,} images of {len(base):,} thumbnails, {N_PLANTED} copies of each kind\n")
    find_copies(images[:2000], parts[:2000])  # compiles
    walls, processors, memories = [], [], []
    found: list[Copies] = []
    for _ in range(given.runs):
        spent = time.process_time()
        seconds, mib = measured(lambda: found.append(find_copies(images, parts)))
        processors.append(time.process_time() - spent)
        walls.append(seconds)
        memories.append(mib)
    copies = found[-1]
    print("| | median | range |\n| --- | --: | --: |")
    for name, values in (("seconds", walls), ("processor seconds", processors)):
        print(
            f"| {name} | {statistics.median(values):.0f} | {min(values):.0f} - {max(values):.0f} |"
        )
    print(f"| memory above the thumbnails | {max(memories):,.0f} MiB | |\n")
    n = len(images) - n_planted
    pairs = set(zip(copies.first.tolist(), copies.second.tolist(), strict=True))
    n_found = [
        sum((source, n + N_PLANTED * kind + row) in pairs for row, source in enumerate(sources))
        for kind in range(len(KINDS))
    ]
    shown = ", ".join(f"{k} {f / len(sources):.3f}" for k, f in zip(KINDS, n_found, strict=True))
    print(f"found: {shown}; other pairs: {len(copies) - sum(n_found):,}")
    small, large = decoding(320), decoding(1024)
    print(f"decoding and scaling to 64 x 64: {small:.2f} ms at 320, {large:.2f} ms at 1024\n")
    print(environment("numpy", "pillow", "numba"))


if __name__ == "__main__":
    main()
