"""How long pages of `browse` take over many images, how long it takes to start, and the memory.

A corpus of generated images (concepts as frequent as a Zipf law has them, ten an image) and two
ensembles that decided them with errors lie in a workspace; `browse` runs in a process of its own,
and each page is asked for over HTTP, once as soon as it answers (what the page needs is then read)
and nine times more, in turn with the others. With N_FEATURES there are pooled features of all
images as well, drawn ones, and the nearest images are asked for as soon as they are there.

    python -m benchmarks.inference.bench_browse [N_IMAGES [N_CONCEPTS [N_FEATURES]]]

without these 130,000, 3,047 and 0.
"""

import http.client
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from PIL import Image
from scipy.sparse import csr_array

from benchmarks.machine import environment, memory_of
from core.categories import CATEGORIES
from core.images import ImageTable
from core.labels import LabelSpace
from core.runs.decided import DECIDED, Decided
from core.runs.ensemble import EnsembleRecord
from core.runs.workspace import Workspace
from core.storage.folders import new_folder, write_json
from core.storage.tables import write_lines, write_rows

N_RUNS, _BLOCK = 9, 5_000
PACKAGES = ("numpy", "scipy", "jinja2", "starlette", "uvicorn")

_PAGES = {
    "first page": "/",
    "concept in CT": "/?concept={cui}&category=DRCT",
    "concept missed, worst first": "/?concept={cui}&role=missed&order=worst",
    "part of an id": "/?text=12345",
    "something invented, most disagreed": "/?error=invented&order=disagreement",
    "page 1,000": "/?page=1000",
    "an image": "/image?id=img_0001000",
    "an image among those found": "/image?id=img_0001000&order=worst",
    "all concepts": "/concepts",
    "most missed in CT": "/concepts?category=DRCT&order=missed",
    "a concept": "/concept?cui={cui}",
    "categories": "/categories",
    "compare": "/compare",
    "completion": "/complete?q=concept+12",
    "a small picture": "/picture/small/77.jpg",
}


def make_workspace(root: Path, *, n_images: int, n_concepts: int, n_features: int = 0) -> Workspace:
    """A prepared corpus and two ensembles of generated images, with pooled features if any."""
    rng = np.random.default_rng(0)
    labels = LabelSpace(tuple(f"C{k:07d}" for k in range(n_concepts)))
    weights = 1 / np.arange(1, n_concepts + 1)
    starts = np.arange(0, 10 * n_images + 1, 10)
    columns = rng.choice(n_concepts, size=10 * n_images, p=weights / weights.sum())
    truth = [sorted(set(columns[a:b].tolist())) for a, b in pairwise(starts)]
    ids = tuple(f"img_{k:07d}" for k in range(n_images))
    n_test = n_images // 10
    splits = ("train",) * (n_images - 2 * n_test) + ("valid",) * n_test + ("test",) * n_test
    picture = root / "one.jpg"
    root.mkdir(parents=True, exist_ok=True)
    pixels = rng.integers(0, 255, (600, 690), dtype=np.uint8)
    Image.fromarray(pixels).resize((690, 600)).save(picture)
    cuis = labels.cuis
    table = ImageTable(
        image_ids=ids,
        paths=(str(picture),) * n_images,
        categories=tuple(str(CATEGORIES[k]) for k in rng.integers(0, 7, n_images).tolist()),
        splits=splits,
        folds=np.array([-1 if s == "test" else k % 5 for k, s in enumerate(splits)], np.int16),
        groups=tuple(f"p{k // 2}" for k in range(n_images)),
        concepts=tuple(
            None if split == "test" else tuple(cuis[c] for c in own)
            for split, own in zip(splits, truth, strict=True)
        ),
    )
    workspace = Workspace(root)
    about = {"name": "generated", "edition": 2026, "fingerprint": "gen00000", "notes": []}
    with new_folder(workspace.corpus, {**about, "protocol": "crossfit"}) as draft:
        table.save(draft / "images.csv")
        labels.save(draft / "labels.txt")
        write_rows(draft / "names.csv", [(c, f"concept {c[-5:]}") for c in cuis])
    for seed in (1, 2):
        _decide(workspace, labels, ids[: n_images - n_test], truth, seed=seed)
    if n_features:
        _pool(workspace, ids, n_features=n_features)
    return workspace


def _pool(workspace: Workspace, ids: tuple[str, ...], *, n_features: int) -> None:
    """Drawn features of all images, and a global detector that learnt from them."""
    rng = np.random.default_rng(3)
    name = "drawn-224px-00000000"
    with new_folder(workspace.embeddings / name, {"source": "drawn 224 px"}) as draft:
        write_lines(draft / "image_ids.txt", ids)
        shape = (len(ids), n_features)
        values = np.lib.format.open_memmap(
            draft / "values.npy", mode="w+", dtype=np.float32, shape=shape
        )
        for first in range(0, len(ids), _BLOCK):
            block = values[first : first + _BLOCK]
            rng.standard_normal(out=block, dtype=np.float32)
        values.flush()
        del values
    meta = {
        "corpus": "gen00000", "category": "global", "preset": "quick", "embeddings": [name],
        "regime": "frozen",
    }  # fmt: skip
    with new_folder(workspace.backbones / "global" / "quick-00000000", meta) as draft:
        write_json(draft / "config.json", {})


def _decide(
    workspace: Workspace,
    labels: LabelSpace,
    ids: tuple[str, ...],
    truth: list[list[int]],
    *,
    seed: int,
) -> None:
    """An ensemble that misses a third of the concepts and invents two an image."""
    rng = np.random.default_rng(seed)
    sets = [
        sorted({c for c in own if rng.random() < 0.67} | set(rng.integers(0, 300, 2).tolist()))
        for own in truth[: len(ids)]
    ]
    starts = np.cumsum([0, *map(len, sets)])
    columns = np.concatenate([np.array(own, dtype=np.int32) for own in sets])
    probs = rng.uniform(0.4, 1, len(columns)).astype(np.float32)
    scores = {"submission": rng.uniform(0, 1, len(ids))}
    meta = {
        "corpus": "gen00000", "ladder": [], "stacker": "mean", "decision": "one threshold, 0.40",
        "rule": "plain", "turn": seed,
    }  # fmt: skip
    with new_folder(workspace.ensembles / f"stack-0000000{seed}", meta) as draft:
        write_json(draft / "config.json", {})
        EnsembleRecord(image_ids=ids, scores=scores).save(draft)
        Decided(
            image_ids=ids,
            concepts=csr_array((probs, columns, starts), shape=(len(ids), len(labels))),
            expected_f1=rng.uniform(0, 1, len(ids)),
            disagreement=rng.uniform(0, 0.3, len(ids)),
        ).save(draft / DECIDED, labels=labels)


def _ask(connection: http.client.HTTPConnection, address: str, cookie: str) -> tuple[float, int]:
    """Seconds that a page takes, and its bytes."""
    began = time.perf_counter()
    connection.request("GET", address, headers={"cookie": cookie})
    answer = connection.getresponse()
    body = answer.read()
    took = time.perf_counter() - began
    if answer.status != 200:
        raise SystemExit(f"{address}: {answer.status} {body[:300]!r}")
    return took, len(body)


def _wait_for_features(connection: http.client.HTTPConnection, cookie: str) -> float:
    """Seconds until an image has its nearest ones beside it."""
    began = time.perf_counter()
    while True:
        connection.request("GET", _PAGES["an image"], headers={"cookie": cookie})
        if b"Nearest labelled images" in connection.getresponse().read():
            return time.perf_counter() - began
        time.sleep(0.02)


def main(n_images: int, n_concepts: int, n_features: int) -> None:
    """Make, start, ask, print."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = make_workspace(
            Path(folder) / "ws", n_images=n_images, n_concepts=n_concepts, n_features=n_features
        )
        variables = {**os.environ, "PYTHONUNBUFFERED": "1", "RADFUSE_TOKEN": "k" * 20}
        starts = []
        for _ in range(3):
            began = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, "cli.py", "browse", "-w", str(workspace.root), "--port", "0"],
                env=variables, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            )  # fmt: skip
            assert process.stdout is not None
            address = urlsplit(process.stdout.readline().strip())
            starts.append(time.perf_counter() - began)
            if len(starts) < 3:
                process.terminate()
                process.wait()
        before = memory_of(process.pid)["VmRSS"]
        connection = http.client.HTTPConnection(address.hostname or "", address.port or 0)
        cookie = f"radfuse-{address.port}={'k' * 20}"
        waited = _wait_for_features(connection, cookie) if n_features else 0.0
        pages = {name: at.format(cui="C0000020") for name, at in _PAGES.items()}
        first = {name: _ask(connection, at, cookie) for name, at in pages.items()}
        times: dict[str, list[float]] = {name: [] for name in pages}
        for _ in range(N_RUNS):
            for name, at in pages.items():
                times[name].append(_ask(connection, at, cookie)[0])
        sizes = memory_of(process.pid)
        after, own, peak = (sizes[name] for name in ("VmRSS", "RssAnon", "VmHWM"))
        process.terminate()
        process.wait()
    print(f"{n_images:,} images, {n_concepts:,} concepts\n{environment(*PACKAGES)}\n")
    low, middle, high = min(starts), statistics.median(starts), max(starts)
    print(
        f"start: {middle:.2f} s ({low:.2f} to {high:.2f}, 3 runs); memory {before:,.0f} MB at the"
    )
    print(f"start, {after:,.0f} MB after all pages, at most {peak:,.0f} MB\n")
    if n_features:
        print(
            f"{n_features:,} features an image: the nearest images are there {waited:.2f} s after"
        )
        print(f"the start; without pages of files on disk, {own:,.0f} MB after all pages\n")
    print("| page | first, ms | median of 9, ms | range | kB |\n| :-- | --: | --: | --: | --: |")
    for name, taken in times.items():
        ms = sorted(1000 * t for t in taken)
        print(
            f"| {name} | {1000 * first[name][0]:.0f} | {statistics.median(ms):.0f} |"
            f" {ms[0]:.0f} to {ms[-1]:.0f} | {first[name][1] / 1000:.0f} |"
        )


if __name__ == "__main__":
    main(*(int(text) for text in (*sys.argv[1:4], *("130000", "3047", "0")[len(sys.argv) - 1 :])))
