"""How time and memory grow with images and with concepts, from a table of labels to the report.

Small drawn pictures, and members that see the truth under noise and are stored as their probable
pairs; with many concepts one member is stored whole as well. Every stage is a process of its own,
its seconds are those of the clock and of the processors, its memory what Linux says at its end
(ru_maxrss), libraries and mapped files included.

    python -m benchmarks.algorithms.bench_scale images [FOLDER]    25, 50 and 100 thousand x 3,047
    python -m benchmarks.algorithms.bench_scale concepts [FOLDER]  1,000 images x 3 to 111 thousand
    python -m benchmarks.algorithms.bench_scale N L [FOLDER]       N images x L concepts

Every concept stands on at least one labelled image, the others fall as 1 / rank, about 11 an image.
FOLDER is kept: what is in it is not made again.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.sparse import csr_array

from benchmarks.machine import cpu_name
from core.categories import CATEGORIES
from core.predictions import Predictions, SparsePredictions, read_predictions
from core.runs.out_of_fold import fold_name
from core.runs.workspace import Corpus, Workspace
from core.storage.tables import write_rows
from corpus.images.cache import cache_of
from ensembles.distance.features import N_DIRECTIONS
from ensembles.distance.known import category_numbers
from ensembles.distance.left_out import LabelledPoints, sources_of
from ensembles.distance.model import DistanceModel, NearPoints

IMAGES = tuple((n, 3_047) for n in (25_000, 50_000, 100_000))
CONCEPTS = tuple((1_000, n) for n in (3_047, 20_000, 55_000, 111_000))
N_MEMBERS = 3
CARDINALITY = 11.24
EDITION = 2020
SIDE, CACHED = 32, 64  # pixels of a picture, and of its second cache
N_FALSE = 60  # concepts of an image that a member holds possible and that are not there
WHOLE = 10_000  # concepts from which on one member is stored whole, most numbers of it small
LEAST = 1e-3
N_CLUSTERS = 20  # of points in each category


def draw_labels(folder: Path, *, n_images: int, n_concepts: int) -> None:
    """A manifest of drawn pictures: 60 % train, 20 % valid, 20 % test, whose truth it holds too."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    splits = np.array(["train", "train", "train", "valid", "test"])[np.arange(n_images) % 5]
    kinds = rng.integers(0, len(CATEGORIES), n_images)
    drawn = _concepts(rng, rng.poisson(CARDINALITY, n_images).clip(1), n_concepts)
    each = np.array_split(rng.permutation(n_concepts), int((splits != "test").sum()))
    certain = iter(each)
    rows: list[tuple[object, ...]] = [("path", "split", "category", "group", "concepts")]
    for number in range(n_images):
        path = f"images/{number:07d}.png"
        pixels = rng.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / path, compress_level=0)
        concepts = set(drawn[number].tolist())
        if splits[number] != "test":
            concepts |= set(next(certain).tolist())
        cell = ";".join(f"C{c:07d}" for c in sorted(concepts))
        rows.append((path, splits[number], CATEGORIES[kinds[number]], f"p{number // 2}", cell))
    write_rows(folder / "manifest.csv", rows)


def _concepts(
    rng: np.random.Generator, sizes: npt.NDArray[np.integer], n_concepts: int
) -> list[npt.NDArray[np.integer]]:
    """So many concepts for each image, frequencies falling as 1 / rank; some twice."""
    shares = np.cumsum(1.0 / np.arange(1, n_concepts + 1))
    drawn = np.searchsorted(shares, rng.random(int(sizes.sum())) * shares[-1])
    return np.split(drawn, np.cumsum(sizes)[:-1])


def draw_members(runs: Path, folder: Path) -> None:
    """Members: a folder a fold, and test. The truth of test is read from the manifest."""
    corpus = Workspace(runs).open_corpus()
    truth = dict(_truth_of_test(runs.parent / "manifest.csv"))
    known = zip(corpus.table.image_ids, corpus.table.concepts, strict=True)
    truth |= {image_id: concepts for image_id, concepts in known if concepts is not None}
    for member in range(N_MEMBERS):
        views = corpus.views
        for part, view in enumerate(views):
            ids, learnt = (view.table.of(split=s).image_ids for s in ("valid", "train"))
            name = fold_name("labelled", part, n_parts=len(views))
            seed = member, part
            said = _predict(f"member-{member}", ids, truth, corpus, seed=seed, learnt=learnt)
            _save(said, folder / f"member-{member}" / name, whole=member == 0)
        ids, learnt = (corpus.table.of(split=s).image_ids for s in ("test", corpus.learnt_from))
        said = _predict(f"member-{member}", ids, truth, corpus, seed=(member, 99), learnt=learnt)
        _save(said, folder / f"member-{member}" / "test", whole=member == 0)


def _truth_of_test(path: Path) -> list[tuple[str, tuple[str, ...]]]:
    lines = (line.rstrip("\n").split(",") for line in path.open(encoding="utf-8"))
    return [(Path(row[0]).stem, tuple(row[4].split(";"))) for row in lines if row[1] == "test"]


def _predict(
    source: str,
    ids: tuple[str, ...],
    truth: Mapping[str, tuple[str, ...]],
    corpus: Corpus,
    *,
    seed: tuple[int, int],
    learnt: tuple[str, ...],
) -> SparsePredictions:
    """True concepts at log odds of about 0.5, others of about -1.5."""
    rng, n_concepts = np.random.default_rng(seed), len(corpus.labels)
    true = corpus.labels.encode([truth[i] for i in ids]).matrix.tocoo()
    n_false = np.full(len(ids), N_FALSE)
    rows = np.concatenate([true.row, np.repeat(np.arange(len(ids)), n_false)])
    columns = np.concatenate([true.col, *_concepts(rng, n_false, n_concepts)])
    means = np.repeat([0.5, -1.5], [true.nnz, n_false.sum()])
    places, first = np.unique(rows * n_concepts + columns, return_index=True)  # true ones first
    logits = means[first] + 1.5 * rng.standard_normal(len(first))
    probs = np.maximum(1 / (1 + np.exp(-logits)), LEAST).astype(np.float32)
    where = places // n_concepts, places % n_concepts
    return SparsePredictions.of_pairs(
        source,
        ids,
        labels=corpus.labels,
        probs=csr_array((probs, where), shape=(len(ids), n_concepts)),
        fitted_on=frozenset(learnt),
    )


def _save(said: SparsePredictions, folder: Path, *, whole: bool) -> None:
    if not (whole and len(said.labels) >= WHOLE):
        said.save(folder)
        return
    probs = np.maximum(said.probs.toarray(), np.float32(LEAST / 100))
    Predictions(
        source=said.source,
        image_ids=said.image_ids,
        labels=said.labels,
        probs=probs,
        fitted_on=said.fitted_on,
    ).save(folder)


def read_members(folder: Path) -> None:
    """Read all predictions as `ensemble` does."""
    for path in sorted(folder.glob("*/*")):
        read_predictions(path)


def fit_distances(runs: Path) -> None:
    """How far images lie, learnt from all labelled ones: made points, 20 clusters a category."""
    corpus = Workspace(runs).open_corpus()
    table = corpus.labelled_images(corpus.learnt_from)
    rng, kinds = np.random.default_rng(0), category_numbers(table.categories)
    centres = rng.standard_normal((len(CATEGORIES), N_CLUSTERS, N_DIRECTIONS), dtype=np.float32)
    points = centres[kinds, rng.integers(0, N_CLUSTERS, len(table))]
    points += 1.5 * rng.standard_normal(points.shape, dtype=np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    kind, group = table.categories, table.groups
    sources, names = sources_of(points, categories=kind, groups=group, metadata={})
    learnt = LabelledPoints(
        points=points, categories=kind, groups=group, folds=table.folds,
        targets=table.targets(corpus.labels), sources=sources, source_names=names,
    )  # fmt: skip
    near = NearPoints(points=points, categories=kind, groups=group, folds=table.folds)
    model = DistanceModel.fit(learnt, near, features=("made",), empty_truth="left out")
    if model is None:
        raise RuntimeError("no source could be left out")
    model.distances(points, kind)


def build_second_cache(runs: Path) -> None:
    """Decode and scale every picture."""
    cache_of(Workspace(runs).open_corpus(), Workspace(runs).cache, size=CACHED, resample="bilinear")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a process took.

    Attributes:
        wall_s, cpu_s: seconds of the clock, and of all its threads.
        peak_mb: highest memory.
    """

    wall_s: float
    cpu_s: float
    peak_mb: float


def cost_of(command: list[str], log: Path) -> Cost:
    """Run a process of its own.

    Raises:
        RuntimeError: it fails; where its output lies is said.
    """
    start = time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: see {log}")
    return Cost(
        wall_s=time.perf_counter() - start,
        cpu_s=used.ru_utime + used.ru_stime,
        peak_mb=used.ru_maxrss / 1024,
    )


def stages(home: Path) -> dict[str, list[str]]:
    """Commands by what they do, in their order."""
    runs, members = home / "runs", home / "members"
    given = [f"--member={members / f'member-{m}'}" for m in range(N_MEMBERS)]
    submission = runs / "ensembles" / "submission.txt"

    edition = "--edition", EDITION

    def cli(*words: object) -> list[str]:
        return [sys.executable, "cli.py", *map(str, words), f"--workspace={runs}"]

    def call(function: Callable[..., None], *paths: Path) -> list[str]:
        given = ", ".join(f"Path({str(path)!r})" for path in paths)
        code = "from pathlib import Path; from benchmarks.algorithms import bench_scale"
        return [sys.executable, "-c", f"{code}; bench_scale.{function.__name__}({given})"]

    return {
        "labels, folds, cache of 32 px": cli(
            "prepare", home / "manifest.csv", "--set", f"image_size={SIDE}"
        ),
        "cache of 64 px": call(build_second_cache, runs),
        "statistics": cli("stats"),
        "distances": call(fit_distances, runs),
        "predictions drawn and written": call(draw_members, runs, members),
        "predictions read": call(read_members, members),
        "stacking, decisions": cli("ensemble", *given, *edition),
        "submission": cli("ensemble", "--submit", *given, *edition),
        "score": cli("score", submission, "--truth", home / "manifest.csv", *edition),
        "report": cli("report"),
    }


def measure(n_images: int, n_concepts: int, home: Path) -> dict[str, Cost]:
    """What each stage takes."""
    if not (home / "manifest.csv").exists():
        draw_labels(home, n_images=n_images, n_concepts=n_concepts)
    for made in (home / "runs", home / "members"):
        shutil.rmtree(made, ignore_errors=True)
    costs: dict[str, Cost] = {}
    for name, command in stages(home).items():
        costs[name] = cost_of(command, home / f"{len(costs)}.log")
        print(f"  {n_images:,} x {n_concepts:,} {name}: {costs[name]}", file=sys.stderr, flush=True)
        if name == "submission":
            (written,) = (home / "runs" / "ensembles").glob("stack-*/submission-2020.txt")
            shutil.copy(written, home / "runs" / "ensembles" / "submission.txt")
    return costs


def main() -> None:
    """Print a table a number of images and concepts."""
    words = sys.argv[1:]
    sizes = {"images": IMAGES, "concepts": CONCEPTS}.get(words[0] if words else "images")
    rest = words[1:]
    if sizes is None:
        sizes, rest = ((int(words[0]), int(words[1])),), words[2:]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(rest[0] if rest else temporary)
        found = {size: measure(*size, folder / f"{size[0]}x{size[1]}") for size in sizes}
    heads = [f"{n:,} x {m:,}" for n, m in found]
    print("| stage | " + " | ".join(heads) + " |\n| :-- |" + " --: |" * len(heads))
    for name in next(iter(found.values())):
        costs = [own[name] for own in found.values()]
        cells = [f"{c.wall_s:,.0f} s, {c.cpu_s:,.0f} s, {c.peak_mb:,.0f} MB" for c in costs]
        print(f"| {name} | {' | '.join(cells)} |")
    print(f"\nseconds of the clock, of the processors, highest memory; {cpu_name()}")


if __name__ == "__main__":
    main()
