"""What stacking costs in time and memory: candidates, and stackers cross-fitted and refitted.

Members see the truth under noise that they share and noise of their own; every second one is stored
whole and mapped from disk, the others as their probable pairs. `clear` members leave about as many
candidate pairs as real ones; of `noisy` ones any of twenty lifts a pair above the floor by chance,
and several times as many are left: the adverse side.

    python -m benchmarks.algorithms.bench_stack [SHARE] [clear|noisy] [FOLDER]

SHARE of 15,970 images and 3,047 concepts, 1 without it. FOLDER keeps the drawn members.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import cpu_name, peak_mib
from core.labels import LabelSpace, Targets
from core.metrics import ScoredImages
from core.predictions import Predictions, SparsePredictions, read_predictions
from ensembles.stacking.candidates import make_candidates
from ensembles.stacking.crossfit import cross_fit, image_f1_of
from ensembles.stacking.label_statistics import LabelStatistics
from ensembles.stacking.registry import STACKERS
from ensembles.stacking.sources import Source

N_IMAGES, N_CONCEPTS, N_MEMBERS = 15_970, 3_047, 20
CARDINALITY = 11.24
KINDS = {"clear": (1.0, 0.5, -1.5, 2.0), "noisy": (1.5, 1.0, -0.7, 3.0)}
"""Deviations of the noise that members share and of their own; log odds of absent and of true."""


def draw_truth(n_images: int, n_concepts: int, seed: int) -> Targets:
    """Concepts of frequencies that fall as 1 / rank, 11.24 an image."""
    rng = np.random.default_rng(seed)
    share = 1.0 / np.arange(1, n_concepts + 1)
    share *= CARDINALITY / share.sum()
    labels = LabelSpace(tuple(f"C{c:07d}" for c in range(n_concepts)))
    drawn = (np.flatnonzero(rng.random(n_concepts) < share) for _ in range(n_images))
    return labels.encode([[labels.cuis[c] for c in row] for row in drawn])


def draw_member(truth: Targets, kind: str, number: int, folder: Path) -> None:
    """What a member says: log odds of the share and of the truth, under noise."""
    rng, shared = np.random.default_rng([1, number]), np.random.default_rng(2)
    n_images, n_concepts = truth.matrix.shape
    rate = np.clip(CARDINALITY / np.arange(1, n_concepts + 1) / 8.6, 1e-4, 0.9)
    prior = np.log(rate / (1 - rate)).astype(np.float32)
    by_all, by_own, absent, present = (np.float32(value) for value in KINDS[kind])
    probs = np.empty((n_images, n_concepts), dtype=np.float32)
    for first in range(0, n_images, 1000):
        true = truth.matrix[first : first + 1000].toarray()
        logits = by_own * rng.standard_normal(true.shape, dtype=np.float32)
        logits += by_all * shared.standard_normal(true.shape, dtype=np.float32)
        logits += prior + np.where(true, present, absent)
        probs[first : first + 1000] = 1 / (1 + np.exp(-logits))
    whole = Predictions(
        source=f"member-{number:02d}",
        image_ids=tuple(f"image_{i:05d}" for i in range(n_images)),
        labels=LabelSpace(tuple(f"C{c:07d}" for c in range(n_concepts))),
        probs=probs,
        fitted_on=frozenset(),
    )
    if number % 2:
        SparsePredictions.of(whole, at_least=1e-3).save(folder)
    else:
        whole.save(folder)


def main() -> None:
    share = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    kind = sys.argv[2] if len(sys.argv) > 2 else "clear"
    if len(sys.argv) > 3:
        run(share, kind, Path(sys.argv[3]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            run(share, kind, Path(folder))


def draw(share: float, kind: str, folder: Path) -> Targets:
    """The truth; the members are drawn into folders by other processes, which take the memory."""
    truth = draw_truth(round(share * N_IMAGES), round(share * N_CONCEPTS), seed=0)
    for number in range(N_MEMBERS):
        if not (folder / f"{number:02d}").exists():
            code = (
                "from pathlib import Path; from benchmarks.algorithms import bench_stack as b;"
                f"t = b.draw_truth({len(truth)}, {truth.matrix.shape[1]}, seed=0);"
                f"b.draw_member(t, {kind!r}, {number}, Path({str(folder / f'{number:02d}')!r}))"
            )
            subprocess.run([sys.executable, "-c", code], check=True)
    return truth


def run(share: float, kind: str, folder: Path) -> None:
    truth = draw(share, kind, folder)
    n_images = len(truth)
    folds = np.arange(n_images) % 5
    label_statistics = LabelStatistics.of(truth, ["DRCT"] * n_images)
    rows: list[tuple[str, float, float, str]] = []

    def timed(name: str, work: Callable[[], tuple[Any, str]]) -> Any:
        start = time.perf_counter()
        made, note = work()
        rows.append((name, time.perf_counter() - start, peak_mib(), note))
        return made

    def read() -> tuple[list[Source], str]:
        members = [read_predictions(folder / f"{m:02d}") for m in range(N_MEMBERS)]
        first = members[0]
        return [Source.of(m, image_ids=first.image_ids, labels=first.labels) for m in members], ""

    def candidates() -> tuple[Any, str]:
        weights = label_statistics.category_weights(["DRCT"] * n_images)
        pairs = make_candidates(
            sources, label_statistics=label_statistics, category_weights=weights
        )
        found = pairs.are_true(truth).sum() / truth.n_true.sum()
        each = len(pairs) / n_images
        return pairs, f"{len(pairs):,} pairs, {each:.0f} an image, {found:.1%} of the true ones"

    before = peak_mib()
    sources = timed("members read", read)
    pairs = timed("candidates", candidates)
    true = pairs.are_true(truth)
    images = ScoredImages(
        targets=truth,
        labels=LabelSpace(tuple(f"C{c:07d}" for c in range(truth.matrix.shape[1]))),
        categories=["DRCT"] * n_images,
        groups=[""] * n_images,
        folds=folds,
        empty_truth="left out",
    )
    for name in ("mean", "logistic", "greedy", "lightgbm"):

        def judge(name: str = name) -> tuple[Any, str]:
            probs = cross_fit(STACKERS[name], pairs, targets=true, folds=folds)
            f1 = image_f1_of(pairs, probs, true=true, images=images)
            return None, f"sample F1 {np.nanmean(f1):.5f}"

        def refit(name: str = name) -> tuple[Any, str]:
            return STACKERS[name]().fit(pairs, true), ""

        timed(f"{name}, cross-fitted", judge)
        timed(f"{name}, refitted", refit)
    rows.append(("all", sum(row[1] for row in rows), peak_mib(), ""))
    print(f"{n_images:,} images, {truth.matrix.shape[1]:,} concepts, {N_MEMBERS} {kind} members\n")
    print("| step | seconds | peak MB | |\n| --- | --- | --- | --- |")
    for name, seconds, memory, note in rows:
        print(f"| {name} | {seconds:.1f} | {memory:,.0f} | {note} |")
    print(f"\n{before:,.0f} MB before the first step; {cpu_name()}")


if __name__ == "__main__":
    main()
