"""Choices among many images: farthest first and facility location, their time, memory and growth.

The aim: half of 80,000 vectors of 1,280 numbers in minutes on two cores, with memory that does not
grow with the square of their number. 20, 40 and 80 thousand are gone through. Beside them, where a
Python with it is named, apricot-select does the same: its facility location on the same number of
nearest neighbours, which it is given as a sparse matrix.

    python -m benchmarks.bench_sampling [--sizes N ...] [--keep SHARE] [--dim D]
        [--apricot PYTHON] [--apricot-sizes N ...]

Vectors are those of `benchmarks.bench_retrieval`, about their mean and of length 1. Each run is a
process of its own; memory is its highest use above that with the vectors in place. Time of the
processor, of all threads, is what counts on a machine that is shared; GFLOP/s are those of the bare
product of matrices just before, by which both are bound.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.bench_retrieval import draw, measured
from benchmarks.training_work import environment
from corpus.sampling.candidates import Floats
from corpus.sampling.facility_location import K, most_similar_to_all
from corpus.sampling.k_centre import farthest_first
from corpus.sampling.neighbours import nearest_rows

_APRICOT = """
import json, resource, sys, time
import numpy as np
from scipy.sparse import csr_matrix, load_npz
from apricot import FacilityLocationSelection
graph, n = csr_matrix(load_npz(sys.argv[1])), int(sys.argv[2])
graph.indices, graph.indptr = (a.astype(np.int32) for a in (graph.indices, graph.indptr))
FacilityLocationSelection(2, metric="precomputed", optimizer="lazy").fit(graph[:50, :50])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.process_time()
chosen = FacilityLocationSelection(n, metric="precomputed", optimizer="lazy").fit(graph).ranking
seconds = time.process_time() - start
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([seconds, (after - before) / 1024, [int(row) for row in chosen]]))
"""


def units(n: int, dim: int) -> Floats:
    vectors = draw(n, dim, seed=1)
    vectors -= vectors.mean(axis=0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def one(what: str, n: int, dim: int, *, keep: float) -> None:
    """A run in this process: seconds, MiB, and what was kept, as a line of JSON."""
    vectors, n_kept = units(n, dim), round(keep * n)
    small = units(200, 16)
    none = np.zeros(0, dtype=np.intp)
    farthest_first(small, 20, start=np.array([0]))  # compiles
    most_similar_to_all(small, 20, start=none, dense=0)
    start = time.perf_counter()
    vectors[:2000] @ vectors[:4000].T
    rate = 2 * 2000 * min(4000, n) * dim / (time.perf_counter() - start) / 1e9
    begun = time.process_time()
    if what == "k-centre":
        seconds, mib = measured(lambda: farthest_first(vectors, n_kept - 1, start=np.array([0])))
    else:
        seconds, mib = measured(lambda: most_similar_to_all(vectors, n_kept, start=none))
    print(json.dumps([seconds, time.process_time() - begun, mib, rate]))


def apricot(python: str, n: int, dim: int, *, keep: float) -> tuple[float, float, float]:
    """Seconds of the processor and MiB of apricot's lazy greedy choice, its value beside ours.

    Both choose on the same neighbours; the search for these is not counted.
    """
    from scipy.sparse import csr_array, save_npz

    vectors, n_kept = units(n, dim), round(keep * n)
    rows, similarity = nearest_rows(vectors, k=K)
    # What each is content with is taken off, as `facility_location` does.
    above = np.maximum(similarity - similarity[:, -1:], 0)
    of = np.arange(n)
    entries = np.concatenate([above.ravel(), 1 - similarity[:, -1]])
    places = (np.concatenate([rows.ravel(), of]), np.concatenate([np.repeat(of, K), of]))
    graph = csr_array((entries.astype(np.float64), places), shape=(n, n))
    ours = most_similar_to_all(vectors, n_kept, start=np.zeros(0, dtype=np.intp), dense=0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "graph.npz")
        save_npz(path, graph.tocsr())
        done = subprocess.run(
            [python, "-c", _APRICOT, str(path), str(n_kept)],
            capture_output=True,
            text=True,
            check=True,
        )
    seconds, mib, chosen = json.loads(done.stdout.splitlines()[-1])

    def value(kept: npt.NDArray[np.integer]) -> float:
        return float(graph[kept].max(axis=0).sum())

    return seconds, mib, value(np.array(chosen)) / value(ours)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", type=int, nargs="*", default=[20_000, 40_000, 80_000])
    parser.add_argument("--keep", type=float, default=0.5)
    parser.add_argument("--dim", type=int, default=1280)
    parser.add_argument("--apricot", help="Python of an environment with apricot-select")
    parser.add_argument("--apricot-sizes", type=int, nargs="*", default=[5_000, 10_000])
    parser.add_argument("--what", nargs="*", default=["k-centre", "facility-location"])
    parser.add_argument("--one", help="k-centre or facility-location, the first size alone")
    given = parser.parse_args()
    if given.one:
        one(given.one, given.sizes[0], given.dim, keep=given.keep)
        return
    print(f"{given.keep:.0%} of N vectors of {given.dim:,} are kept\n")
    print("| strategy | N | seconds | of the processor | memory above the vectors | GFLOP/s |")
    print("| :-- | --: | --: | --: | --: | --: |")
    for what in given.what:
        for n in given.sizes:
            command = [sys.executable, "-m", "benchmarks.bench_sampling", "--one", what]
            rest = ["--sizes", str(n), "--dim", str(given.dim), "--keep", str(given.keep)]
            done = subprocess.run([*command, *rest], capture_output=True, text=True, check=True)
            seconds, own, mib, rate = json.loads(done.stdout.splitlines()[-1])
            times = f"{seconds:,.1f} | {own:,.1f}"
            print(f"| {what} | {n:,} | {times} | {mib:,.0f} MiB | {rate:,.0f} |", flush=True)
    if given.apricot:
        print(
            "\n| apricot, lazy, on the neighbours | of the processor | memory | value beside ours |"
        )
        print("| --: | --: | --: | --: |")
        for n in given.apricot_sizes:
            seconds, mib, worth = apricot(given.apricot, n, given.dim, keep=given.keep)
            print(f"| {n:,} | {seconds:,.1f} | {mib:,.0f} MiB | {worth:.6f} |", flush=True)
    print(f"\n{environment()}")


if __name__ == "__main__":
    main()
