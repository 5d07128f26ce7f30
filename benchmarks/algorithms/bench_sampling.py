"""Choices among many images: farthest first and facility location, their time, memory and growth.

The aim: half of 80,000 vectors of 1,280 numbers in minutes on two cores, with memory that does not
grow with the square of their number. 20, 40 and 80 thousand are gone through.

    python -m benchmarks.algorithms.bench_sampling [--sizes N ...] [--keep SHARE] [--dim D]
        [--plain-sizes N ...] [--plain-steps N]
        [--rivals PYTHON] [--rival-sizes N ...] [--rival-seconds S]

Beside k-centre stands a plain farthest-first traversal, which reads all vectors once for each image
that it keeps; `--plain-steps` times only so many, and of the rest assumes as long for each. Beside
facility location stand apricot-select and submodlib-py, where a Python with them is named. They are
given what they choose by, as ours finds it: the same nearest neighbours as a sparse matrix, or all
similarities of few images.

Vectors are those of `bench_retrieval`, about their mean and of length 1. Each run is a process of
its own; memory is its highest use above that with the vectors in place. Time of the processor, of
all threads, is what counts on a machine that is shared; GFLOP/s are those of the bare product of
matrices just before, by which ours are bound.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array, save_npz

from benchmarks.algorithms.bench_retrieval import draw
from benchmarks.machine import environment, measured
from corpus.sampling.candidates import Floats, Rows
from corpus.sampling.facility_location import DENSE, K, most_similar_to_all
from corpus.sampling.k_centre import farthest_first
from corpus.sampling.neighbours import nearest_rows

_READ = """
import json, sys, time
import numpy as np
from scipy.sparse import csr_matrix, load_npz
graph, n = csr_matrix(load_npz(sys.argv[1])), int(sys.argv[2])
graph.indices, graph.indptr = (a.astype(np.int32) for a in (graph.indices, graph.indptr))
k, dense = int(sys.argv[3]), graph.nnz == graph.shape[0] ** 2
given = graph.toarray() if dense else graph
def mib(field):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))
"""

_TELL = """
open("/proc/self/clear_refs", "w").write("5")  # VmHWM becomes VmRSS
before, start = mib("VmRSS"), time.process_time()
chosen = choose(given, n)
seconds = time.process_time() - start
print("\\n" + json.dumps([seconds, mib("VmHWM") - before, [int(row) for row in chosen]]))
"""

RIVALS = {
    "apricot-select": """
from apricot import FacilityLocationSelection
def choose(graph, n):
    lazy = FacilityLocationSelection(n, metric="precomputed", optimizer="lazy")
    return lazy.fit(graph).ranking
choose(given[:50, :50], 2)  # compiles
""",
    "submodlib-py": """
from submodlib import FacilityLocationFunction
def choose(graph, n):
    rest = {"separate_rep": False} if dense else {"num_neighbors": k}
    mode = "dense" if dense else "sparse"
    f = FacilityLocationFunction(n=graph.shape[0], mode=mode, sijs=graph, **rest)
    greedy = {"stopIfZeroGain": False, "stopIfNegativeGain": False, "verbose": False}
    return [row for row, _ in f.maximize(budget=n, optimizer="LazyGreedy", **greedy)]
""",
}
"""How each is asked for a lazy greedy choice."""


def units(n: int, dim: int) -> Floats:
    vectors = draw(n, dim, seed=1)
    vectors -= vectors.mean(axis=0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def plain_traversal(vectors: Floats, n: int, *, start: Rows) -> Rows:
    """Farthest-first traversal as textbooks have it: the nearest of all that is kept, kept up.

    Args:
        vectors: (N, D) of length 1.
        n: how many rows are taken.
        start: rows that are kept already.
    """
    nearest = (vectors @ vectors[start].T).max(axis=1)
    nearest[start] = np.inf
    taken = np.empty(n, dtype=np.intp)
    for number in range(n):
        taken[number] = last = int(nearest.argmin())
        np.maximum(nearest, vectors @ vectors[last], out=nearest)
        nearest[last] = np.inf
    return taken


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A choice that was made by a process of its own.

    Attributes:
        wall_s, processor_s: seconds of the clock, and of the processor.
        mib: highest memory above that with the vectors in place.
        rate: GFLOP/s of a product of matrices just before.
        rows: that were taken, in their order.
    """

    wall_s: float
    processor_s: float
    mib: float
    rate: float
    rows: list[int]


def choose_here(what: str, n: int, dim: int, *, n_kept: int) -> Choice:
    """A choice in this process."""
    vectors = units(n, dim)
    small, none, first = units(200, 16), np.zeros(0, dtype=np.intp), np.array([0])
    farthest_first(small, 20, start=first)  # compiles
    most_similar_to_all(small, 20, start=none, dense=0)
    began = time.perf_counter()
    vectors[:2000] @ vectors[:4000].T
    rate = 2 * min(2000, n) * min(4000, n) * dim / (time.perf_counter() - began) / 1e9
    found: list[Rows] = []

    def work() -> None:
        if what == "k-centre":
            found.append(farthest_first(vectors, n_kept - 1, start=first))
        elif what == "plain traversal":
            found.append(plain_traversal(vectors, n_kept - 1, start=first))
        else:
            found.append(most_similar_to_all(vectors, n_kept, start=none))

    spent = time.process_time()
    seconds, mib = measured(work)
    return Choice(
        wall_s=seconds,
        processor_s=time.process_time() - spent,
        mib=mib,
        rate=rate,
        rows=found[0].tolist(),
    )


def choose_apart(what: str, n: int, dim: int, *, n_kept: int) -> Choice:
    """A choice in a new process."""
    code = f"print(json.dumps(vars(b.choose_here({what!r}, {n}, {dim}, n_kept={n_kept}))))"
    code = f"import json; from benchmarks.algorithms import bench_sampling as b; {code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return Choice(**json.loads(done.stdout.splitlines()[-1]))


def graph_of(vectors: Floats, *, everything: bool) -> csr_array:
    """(N, N) what each image (a column) has of each that may be kept (a row).

    All similarities, plus 1; or those to the nearest neighbours, from which what each is content
    with is taken off, as `facility_location` does.
    """
    if everything:
        return csr_array(1 + vectors @ vectors.T.astype(np.float64))
    rows, similarity = nearest_rows(vectors, k=K)
    above = np.maximum(similarity - similarity[:, -1:], 0)
    of = np.arange(len(vectors))
    entries = np.concatenate([above.ravel(), 1 - similarity[:, -1]])
    places = np.concatenate([rows.ravel(), of]), np.concatenate([np.repeat(of, K), of])
    made = csr_array((entries.astype(np.float64), places), shape=(len(of), len(of)))
    return made.tocsr()


def choose_by_rival(
    python: str, name: str, graph: Path, *, n_kept: int, most_s: float
) -> Choice | None:
    """What a rival chooses on a graph that lies on disk, which it reads in time that is not told.

    None where it takes more than `most_s` seconds of the clock.
    """
    code = _READ + RIVALS[name] + _TELL
    command = [python, "-c", code, str(graph), str(n_kept), str(K)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=most_s)
    except subprocess.TimeoutExpired:
        return None
    seconds, mib, rows = json.loads(done.stdout.splitlines()[-1])
    return Choice(wall_s=seconds, processor_s=seconds, mib=mib, rate=0.0, rows=rows)


def value(graph: csr_array, rows: Sequence[int]) -> float:
    """Of a choice: what its images are worth to all."""
    return float(graph[np.array(rows)].max(axis=0).sum())


def rival_rows(
    python: str, n: int, dim: int, *, n_kept: int, everything: bool, most_s: float
) -> Iterator[str]:
    """Lines of the table of rivals, ours first."""
    vectors = units(n, dim)
    graph = graph_of(vectors, everything=everything)
    ours = choose_apart("facility-location", n, dim, n_kept=n_kept)
    best, same = value(graph, ours.rows), set(ours.rows)
    by = "all similarities" if everything else f"{K} neighbours"

    def row(name: str, choice: Choice | None) -> str:
        if choice is None:
            return f"| {name} | {n:,} | {by} | not done in {most_s:,.0f} s | | | |"
        alike = len(same & {*choice.rows}) / n_kept
        return (
            f"| {name} | {n:,} | {by} | {choice.processor_s:,.1f} | {choice.mib:,.0f} MiB |"
            f" {value(graph, choice.rows) / best:.6f} | {alike:.2%} |"
        )

    yield row("ours, from vectors", ours)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "graph.npz")
        save_npz(path, graph, compressed=False)
        for name in RIVALS:
            yield row(name, choose_by_rival(python, name, path, n_kept=n_kept, most_s=most_s))


def plain_row(n: int, dim: int, *, n_kept: int, ours: Choice | None, steps: int | None) -> str:
    """A line of the table of the plain traversal."""
    n_steps = n_kept if steps is None else min(steps, n_kept)
    plain = choose_apart("plain traversal", n, dim, n_kept=n_steps)
    whole = plain.processor_s * n_kept / n_steps
    alike = "not run"
    if ours is not None:
        first = ours.rows[: n_steps - 1]
        alike = f"{len({*first} & {*plain.rows}) / max(1, len(first)):.2%}"
    times = f"{plain.processor_s:,.1f} | {whole:,.0f}"
    return f"| {n:,} | {n_steps:,} of {n_kept:,} | {times} | {plain.mib:,.0f} MiB | {alike} |"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", type=int, nargs="*", default=[20_000, 40_000, 80_000])
    parser.add_argument("--keep", type=float, default=0.5)
    parser.add_argument("--dim", type=int, default=1280)
    parser.add_argument("--what", nargs="*", default=["k-centre", "facility-location"])
    parser.add_argument("--plain-sizes", type=int, nargs="*", default=[20_000])
    parser.add_argument("--plain-steps", type=int, help="images that the plain traversal takes")
    parser.add_argument("--rivals", help="Python with apricot-select and submodlib-py")
    parser.add_argument("--rival-sizes", type=int, nargs="*", default=[5_000, 20_000])
    parser.add_argument("--rival-seconds", type=float, default=3600, help="at most, of the clock")
    given = parser.parse_args()
    print(f"{given.keep:.0%} of N vectors of {given.dim:,} are kept\n")
    print("| strategy | N | seconds | of the processor | memory above the vectors | GFLOP/s |")
    print("| :-- | --: | --: | --: | --: | --: |")
    found: dict[int, Choice] = {}
    for what in given.what:
        for n in given.sizes:
            choice = choose_apart(what, n, given.dim, n_kept=round(given.keep * n))
            if what == "k-centre":
                found[n] = choice
            times = f"{choice.wall_s:,.1f} | {choice.processor_s:,.1f}"
            print(
                f"| {what} | {n:,} | {times} | {choice.mib:,.0f} MiB | {choice.rate:,.0f} |",
                flush=True,
            )
    if given.plain_sizes:
        print("\nA plain traversal:\n")
        print("| N | images taken | of the processor | all of them | memory | same as ours |")
        print("| --: | --: | --: | --: | --: | --: |")
    for n in given.plain_sizes:
        n_kept = round(given.keep * n)
        ours = found.get(n)
        print(
            plain_row(n, given.dim, n_kept=n_kept, ours=ours, steps=given.plain_steps), flush=True
        )
    if given.rivals:
        print("\nFacility location, the search for neighbours counted for ours alone:\n")
        print(
            "| by | N | chosen by | of the processor | memory | value beside ours | same images |"
        )
        print("| :-- | --: | :-- | --: | --: | --: | --: |")
    for n in given.rival_sizes if given.rivals else ():
        for line in rival_rows(
            given.rivals,
            n,
            given.dim,
            n_kept=round(given.keep * n),
            everything=n <= DENSE,
            most_s=given.rival_seconds,
        ):
            print(line, flush=True)
    print(f"\n{environment('numpy', 'scipy', 'numba')}")


if __name__ == "__main__":
    main()
