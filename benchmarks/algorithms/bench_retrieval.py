"""How fast neighbours are found: the exact search against its bare matrix product; an index.

The aims: 3,534 queries against 80,723 vectors of 1,280 numbers in less than 60 s on two cores, with
less than 1 GB beside the two arrays, at no less than half the speed of the matrix product alone.
The product goes through the same blocks, of vectors normalised beforehand, and keeps nothing. Both
run in turn in one process. Memory is the highest use while a call runs (VmHWM, reset before it)
above that before it.

The approximate index is asked for what the exact search found, at several numbers of lists.

    python -m benchmarks.algorithms.bench_retrieval [--queries Q] [--memory N] [--dim D] [--runs R]
        [--index-memory N] [--index-dim D]

Vectors are drawn as pooled features lie: in clusters of very different sizes (Zipf) around centres,
whose spread and that of the vectors around them fall off from direction to direction, so that a few
dozen directions hold most of both.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.machine import N_THREADS, environment, measured
from fusion.retrieval.approximate import build_index, recall_at_k
from fusion.retrieval.nearest import find_nearest, unit_vectors

N_CLUSTERS = 2_000
KS = (25, 200)
N_ROWS, N_QUERIES = (
    4096,
    2048,
)  # rows of memory and queries in a block, as `find_nearest` takes them
N_PROBES = (1, 4, 16, 64, 256)
_DRAWN = 16_384  # vectors drawn at once

Floats = npt.NDArray[np.float32]


def draw(n: int, dim: int, *, seed: int) -> Floats:
    """Vectors (n, dim) of the clusters that every seed shares."""
    fixed, rng = np.random.default_rng(0), np.random.default_rng(seed)
    spread = (1 + np.arange(dim)) ** -0.5
    centres = (fixed.normal(size=(N_CLUSTERS, dim)) * spread).astype(np.float32)
    share = 1 / (1 + np.arange(N_CLUSTERS))
    vectors = np.empty((n, dim), dtype=np.float32)
    for start in range(0, n, _DRAWN):
        here = vectors[start : start + _DRAWN]
        rng.standard_normal(out=here, dtype=np.float32)
        here *= spread.astype(np.float32)
        here += centres[rng.choice(N_CLUSTERS, size=len(here), p=share / share.sum())]
    return vectors


def multiply(queries: torch.Tensor, memory: torch.Tensor) -> None:
    """The matrix product alone, block by block, into the same place."""
    out = torch.empty(N_QUERIES, N_ROWS)
    for first in range(0, len(queries), N_QUERIES):
        asked = queries[first : first + N_QUERIES]
        for start in range(0, len(memory), N_ROWS):
            rows = memory[start : start + N_ROWS]
            torch.mm(asked, rows.T, out=out[: len(asked), : len(rows)])


def table(calls: Mapping[str, Callable[[], object]], *, n_runs: int) -> str:
    """A row a call; the first is what others are measured by."""
    runs = {name: [] for name in calls}  # type: dict[str, list[tuple[float, float]]]
    for _ in range(n_runs):
        for name, call in calls.items():
            runs[name].append(measured(call))
    base = statistics.median(seconds for seconds, _ in next(iter(runs.values())))
    lines = [
        f"| what | seconds, median | range of {n_runs} | speed of the product | memory above |",
        "| --- | --: | --: | --: | --: |",
    ]
    for name, those in runs.items():
        seconds = [s for s, _ in those]
        median, highest = statistics.median(seconds), max(mib for _, mib in those)
        lines.append(
            f"| {name} | {median:,.2f} | {min(seconds):,.2f} - {max(seconds):,.2f} |"
            f" {base / median:.2f} | {highest:,.0f} MiB |"
        )
    return "\n".join(lines)


def exact_table(n_queries: int, n_memory: int, dim: int, *, n_runs: int) -> str:
    queries, memory = draw(n_queries, dim, seed=1), draw(n_memory, dim, seed=2)
    units = unit_vectors(queries), unit_vectors(memory)
    calls: dict[str, Callable[[], object]] = {"matrix product": partial(multiply, *units)}
    for k in KS:
        calls[f"exact, k = {k}"] = partial(find_nearest, queries, memory, k=k)
    return table(calls, n_runs=n_runs)


def index_table(n_queries: int, n_memory: int, dim: int, *, n_runs: int) -> str:
    """Time to build an index, then recall at 25 and speed for each number of lists searched."""
    queries, memory = draw(n_queries, dim, seed=1), draw(n_memory, dim, seed=2)
    start = time.perf_counter()
    exact = find_nearest(queries, memory, k=KS[0])
    exact_s = time.perf_counter() - start
    start = time.perf_counter()
    index = build_index(memory)
    built_s = time.perf_counter() - start
    lines = [
        f"{n_memory:,} vectors of {dim}: {index.n_lists:,} lists built in {built_s:,.1f} s; exact"
        f" search {exact_s:,.1f} s\n",
        f"| lists searched | recall at {KS[0]} | seconds, median | range of {n_runs} |"
        " times faster |",
        "| --: | --: | --: | --: | --: |",
    ]
    for n_probe in (n for n in N_PROBES if n <= index.n_lists):
        ask = partial(index.find_nearest, queries, k=KS[0], n_probe=n_probe)
        recall = recall_at_k(ask(), exact)
        seconds = [measured(ask)[0] for _ in range(n_runs)]
        median = statistics.median(seconds)
        lines.append(
            f"| {n_probe} | {recall:.3f} | {median:,.2f} | {min(seconds):,.2f} -"
            f" {max(seconds):,.2f} | {exact_s / median:,.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, default in (
        ("queries", 3534), ("memory", 80_723), ("dim", 1280), ("runs", 5),
        ("index-memory", 2_000_000), ("index-dim", 256),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    torch.set_num_threads(N_THREADS)
    print(f"{given.queries:,} queries, {given.memory:,} vectors of {given.dim:,}\n")
    print(exact_table(given.queries, given.memory, given.dim, n_runs=given.runs), flush=True)
    if given.index_memory:
        print()
        print(index_table(given.queries, given.index_memory, given.index_dim, n_runs=given.runs))
    print(f"\n{environment('faiss-cpu', 'torch', 'numpy', n_threads=N_THREADS)}")


if __name__ == "__main__":
    main()
