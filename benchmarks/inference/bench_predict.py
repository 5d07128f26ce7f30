"""`predict` beside the bare networks: images a second, seconds to start, memory over many images.

    python -m benchmarks.inference.bench_predict speed WORKSPACE IMAGES [--threads 1 2]
        [--n-images 256]
    python -m benchmarks.inference.bench_predict start WORKSPACE IMAGES
    python -m benchmarks.inference.bench_predict memory WORKSPACE IMAGES [--n-images 50000]

IMAGES is a folder; images are taken from each of its folders in turn.

`speed`: files to a csv file, against the forward pass of the ensemble's feature networks (all image
sizes, the mirror too) on batches of 32 images that are decoded already. The two take turns, each in
a process of its own. On a machine that others use as well, seconds of the processor compare better
than those of the clock: both are given.

`start`: the command line with one image, and a process in its parts.

`memory`: the command line on links to the images, looked at every second.
"""

import argparse
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, cycle, islice, zip_longest
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.machine import N_THREADS, environment, memory_of, peak_mib
from benchmarks.training.training_work import PACKAGES
from inference.images import NewImage, find_images
from inference.loaded.ensemble import LoadedEnsemble
from inference.loaded.networks import FeatureNetwork, Look
from inference.place import EnsemblePlace
from inference.stream import decide_images, decoded
from inference.tables import head_of, text_of
from training.devices.device import keep_memory

N_ROUNDS = 5
BATCH = 32
MARKS = (1_000, 5_000, 10_000, 25_000, 50_000)
ROOT = Path(__file__).parents[2]

IN_PARTS = """
import sys, time
spent = [time.process_time()]
def lap():
    spent.append(time.process_time())
from inference.threads import wait_asleep
wait_asleep()
import inference.place, inference.predict
from pathlib import Path
lap()
ensemble = inference.place.EnsemblePlace(workspace=Path(sys.argv[1])).read()
lap()
images = inference.images.find_images(sys.argv[2:]).images
next(inference.stream.decide_images(ensemble, images))
lap()
print(*(b - a for a, b in zip(spent, spent[1:])))
"""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What work took: seconds by the clock and of all cores; highest memory so far, in MiB."""

    wall: float
    cpu: float
    peak: float


def first_images(folder: Path) -> list[Path]:
    """Its images, from each folder in turn."""
    by_folder: dict[Path, list[Path]] = {}
    for path in sorted(folder.rglob("*.*")):
        if path.is_file() and path.suffix.lower() in (".jpg", ".jpeg", ".png"):
            by_folder.setdefault(path.parent, []).append(path)
    in_turn = chain.from_iterable(zip_longest(*by_folder.values()))
    return [path for path in in_turn if path is not None]


def predicting(ensemble: LoadedEnsemble, paths: list[str]) -> Callable[[], None]:
    """Files to rows of a csv file."""

    def work() -> None:
        with tempfile.TemporaryFile("w", encoding="utf-8", newline="") as file:
            file.write(head_of("csv"))
            for block in decide_images(ensemble, find_images(paths).images):
                file.write(text_of(block, form="csv", top=0))

    return work


def running(
    networks: Sequence[FeatureNetwork], pixels: dict[Look, npt.NDArray[np.uint8]]
) -> Callable[[], None]:
    """Decoded images through the networks that give features."""

    def work() -> None:
        with torch.inference_mode():
            for network in networks:
                images = torch.from_numpy(pixels[network.look]).permute(0, 3, 1, 2)
                for batch in torch.split(images, BATCH):
                    (taken,) = network.compute.take((batch,))
                    with network.compute.speed.autocast("cpu"):
                        network.network(taken)
                        if network.mirror:
                            network.network(taken.flip(3))

    return work


def pixels_of(
    ensemble: LoadedEnsemble, images: Sequence[NewImage]
) -> dict[Look, npt.NDArray[np.uint8]]:
    """All images at each size that is looked at."""
    each = [decoded(ensemble, image) for image in images]
    return {look: np.stack([own[look] for own in each]) for look in ensemble.looks}


def serve(pipe: Connection, side: str, workspace: Path, paths: list[str], threads: int) -> None:
    """Do one side's work each time that anything comes."""
    torch.set_num_threads(threads)
    keep_memory()
    ensemble = EnsemblePlace(workspace=workspace).read()
    if side == "predict":
        work = predicting(ensemble, paths)
    else:
        pixels = pixels_of(ensemble, find_images(paths).images)
        work = running(list(ensemble.networks.values()), pixels)
    del ensemble
    work()  # once to warm up
    pipe.send(True)
    while pipe.recv():
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        pipe.send(Cost(wall=wall, cpu=cpu, peak=peak_mib()))


def start_side(*args: object) -> Connection:
    """A process that waits for its turn, by the pipe to it."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    context.Process(target=serve, args=(there, *args), daemon=True).start()
    there.close()
    here.recv()
    return here


def spread(values: Sequence[float], form: str) -> str:
    """Median and range."""
    low, middle, high = (format(f(values), form) for f in (min, statistics.median, max))
    return f"{middle} ({low} - {high})"


def speed(workspace: Path, folder: Path, *, n_images: int, threads: Sequence[int]) -> None:
    """Print the table of images a second."""
    paths = list(map(str, first_images(folder)[:n_images]))
    print(f"{len(paths)} images, {N_ROUNDS} rounds; median (range)\n")
    print("| threads | side | images/s | images/s of a core | highest memory, MiB |")
    print("| --: | --- | --: | --: | --: |")
    ratios = []
    for n in threads:
        sides = {s: start_side(s, workspace, paths, n) for s in ("forward", "predict")}
        taken: dict[str, list[Cost]] = {side: [] for side in sides}
        for _ in range(N_ROUNDS):
            for side, pipe in sides.items():
                pipe.send(True)
                taken[side].append(pipe.recv())
        for side, all_of in taken.items():
            wall, cpu = (
                spread([len(paths) / value for value in values], ".1f")
                for values in ([c.wall for c in all_of], [c.cpu for c in all_of])
            )
            print(f"| {n} | {side} | {wall} | {cpu} | {all_of[-1].peak:,.0f} |", flush=True)
        pairs = list(zip(taken["forward"], taken["predict"], strict=True))
        wall = spread([bare.wall / whole.wall for bare, whole in pairs], ".2f")
        cpu = spread([bare.cpu / whole.cpu for bare, whole in pairs], ".2f")
        ratios.append(f"{n} threads: predict / forward {wall} by the clock, {cpu} of a core")
        for pipe in sides.values():
            pipe.send(False)
    print("\n" + "\n".join(ratios))


def start(workspace: Path, folder: Path) -> None:
    """Print the table of seconds to start."""
    path = str(first_images(folder)[0])
    wholes, parts = [], []
    with tempfile.TemporaryDirectory() as home:
        out = ("--out", f"{home}/out.csv")
        for _ in range(N_ROUNDS):
            command = [sys.executable, "cli.py", "predict", path, "-w", str(workspace), *out]
            before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
            wall, after = time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
            wholes.append((wall, cpu))
            asked = [sys.executable, "-c", IN_PARTS, str(workspace), path]
            said = subprocess.run(asked, cwd=ROOT, check=True, capture_output=True, text=True)
            parts.append([float(word) for word in said.stdout.split()])
    print("| what | seconds by the clock | seconds of all cores |")
    print("| --- | --: | --: |")
    walls, cpus = zip(*wholes, strict=True)
    print(f"| the command with one image | {spread(walls, '.1f')} | {spread(cpus, '.1f')} |")
    names = ("imports", "reading the ensemble", "the first image, a batch of its own")
    for name, values in zip(names, zip(*parts, strict=True), strict=True):
        print(f"| {name} | | {spread(values, '.1f')} |")


def memory(workspace: Path, folder: Path, *, n_images: int) -> None:
    """Print the table of memory after so many images."""
    found = first_images(folder)
    with tempfile.TemporaryDirectory() as name:
        links, out = Path(name) / "links", Path(name) / "out.jsonl"
        for number, path in enumerate(islice(cycle(found), n_images)):
            link = links / path.parent.name / f"{number:06d}{path.suffix}"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
        words = ("predict", str(links), "-w", str(workspace), "--format", "jsonl")
        command = [sys.executable, "cli.py", *words, "--out", str(out)]
        with (Path(name) / "log").open("w", encoding="utf-8") as log:
            process = subprocess.Popen(command, cwd=ROOT, stderr=log)
            seen = watched(process, out)
        if process.returncode:
            sys.exit((Path(name) / "log").read_text(encoding="utf-8"))
    print(f"{len(found):,} images under {n_images:,} names, looked at {len(seen):,} times\n")
    print("| images decided | memory, MiB | its own, MiB | highest so far, MiB |")
    print("| --: | --: | --: | --: |")
    for mark in sorted({m for m in MARKS if m < n_images} | {seen[-1][0]}):
        n, sizes = next(pair for pair in seen if pair[0] >= mark)
        cells = " | ".join(f"{sizes[k]:,.0f}" for k in ("VmRSS", "RssAnon", "VmHWM"))
        print(f"| {n:,} | {cells} |")


def watched(process: subprocess.Popen[bytes], out: Path) -> list[tuple[int, dict[str, float]]]:
    """Lines written so far and bytes of memory, every second until the process ends."""
    seen, n_lines, read = [], 0, 0
    while process.poll() is None:
        time.sleep(1)
        sizes = memory_of(process.pid)
        for path in (out, *out.parent.glob(f".{out.name}*")):  # under its name once it is whole
            if path.is_file():
                with path.open("rb") as file:
                    file.seek(read)
                    added = file.read()
                read, n_lines = read + len(added), n_lines + added.count(b"\n")
                break
        if "VmRSS" in sizes:
            seen.append((n_lines, sizes))
    return seen


def main() -> None:
    """Print the table that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("speed", "start", "memory"))
    parser.add_argument("workspace", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--n-images", type=int)
    given = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as predict; heard by processes to come
    if given.what == "speed":
        n_images = given.n_images or 256
        speed(given.workspace, given.images, n_images=n_images, threads=given.threads)
    elif given.what == "start":
        start(given.workspace, given.images)
    else:
        memory(given.workspace, given.images, n_images=given.n_images or 50_000)
    print(f"\n{environment(*PACKAGES, n_threads=N_THREADS)}")


if __name__ == "__main__":
    main()
