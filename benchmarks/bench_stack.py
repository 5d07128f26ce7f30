"""What stacking costs in time and memory: candidates; mean, logistic and greedy, cross-fitted.

Members see the truth under noise that they share and noise of their own; every second one is stored
whole and mapped from disk, the others as their probable pairs.

    python -m benchmarks.bench_stack [SHARE]     SHARE of 15,970 images and 3,047 concepts, 1 alone
"""

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.bench_score import cpu_name
from core.labels import LabelSpace, Targets
from core.predictions import Predictions
from core.single_threshold import cross_fitted_f1
from core.sparse_predictions import SparsePredictions, read_predictions
from ensembles.background import Background
from ensembles.candidates import make_candidates
from ensembles.crossfit import cross_fit
from ensembles.sources import Source
from ensembles.stackers import STACKERS

N_IMAGES, N_CONCEPTS, N_MEMBERS = 15_970, 3_047, 20
CARDINALITY = 11.24


def draw_truth(n_images: int, n_concepts: int, seed: int) -> Targets:
    """Concepts of frequencies that fall as 1 / rank, 11.24 an image."""
    rng = np.random.default_rng(seed)
    share = 1.0 / np.arange(1, n_concepts + 1)
    share *= CARDINALITY / share.sum()
    labels = LabelSpace(tuple(f"C{c:07d}" for c in range(n_concepts)))
    drawn = (np.flatnonzero(rng.random(n_concepts) < share) for _ in range(n_images))
    return labels.encode([[labels.cuis[c] for c in row] for row in drawn])


def draw_member(truth: Targets, number: int, folder: Path) -> None:
    """What a member says: log odds of the share and of the truth, under noise."""
    rng, shared = np.random.default_rng([1, number]), np.random.default_rng(2)
    n_images, n_concepts = truth.matrix.shape
    rate = np.clip(CARDINALITY / np.arange(1, n_concepts + 1) / 8.6, 1e-4, 0.9)
    probs = np.empty((n_images, n_concepts), dtype=np.float32)
    for first in range(0, n_images, 1000):
        true = truth.matrix[first : first + 1000].toarray()
        noise = rng.standard_normal(true.shape, dtype=np.float32)
        noise += 1.5 * shared.standard_normal(true.shape, dtype=np.float32)
        logits = np.log(rate / (1 - rate)) + np.where(true, 3.0, -0.7) + noise
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
    n_images, n_concepts = round(share * N_IMAGES), round(share * N_CONCEPTS)
    truth = draw_truth(n_images, n_concepts, seed=0)
    folds = np.arange(n_images) % 5
    background = Background.of(truth, ["DRCT"] * n_images)
    rows: list[tuple[str, float, str]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folders = [Path(temporary) / f"{m:02d}" for m in range(N_MEMBERS)]
        for number, folder in enumerate(folders):
            draw_member(truth, number, folder)
        before = peak_mb()
        start = time.perf_counter()
        members = [read_predictions(folder) for folder in folders]
        sources = [
            Source.of(m, image_ids=members[0].image_ids, labels=members[0].labels) for m in members
        ]
        rows.append(("members read", time.perf_counter() - start, ""))
        start = time.perf_counter()
        weights = background.category_weights(["DRCT"] * n_images)
        pairs = make_candidates(sources, background=background, category_weights=weights)
        true = pairs.true(truth)
        note = f"{len(pairs):,} pairs, {true.sum() / truth.n_true.sum():.1%} of the true ones"
        rows.append(("candidates", time.perf_counter() - start, note))
        for name in ("mean", "logistic", "greedy"):
            start = time.perf_counter()
            probs = cross_fit(STACKERS[name], pairs, true, folds=folds)
            f1 = cross_fitted_f1(pairs.to_dense(probs), truth, folds, empty_truth="left out")
            note = f"sample F1 {np.nanmean(f1):.4f}"
            rows.append((f"{name}, cross-fitted", time.perf_counter() - start, note))
    rows.append(("all", sum(row[1] for row in rows), ""))
    print(f"{n_images:,} images, {n_concepts:,} concepts, {N_MEMBERS} members\n")
    print("| step | seconds | |\n| --- | --- | --- |")
    print("\n".join(f"| {name} | {seconds:.1f} | {note} |" for name, seconds, note in rows))
    print(f"\npeak memory {peak_mb():,.0f} MB, {before:,.0f} MB of it while drawing; {cpu_name()}")


def peak_mb() -> float:
    """Largest resident memory so far, mapped files included; Linux counts in kilobytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
