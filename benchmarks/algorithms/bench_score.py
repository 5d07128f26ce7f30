"""How fast a submission is scored: one scikit-learn call an image against sets.

The evaluators of all editions call `sklearn.metrics.f1_score` once an image; the loop here does
what they do, without their progress reports. Both sides run in turn in one process and must give
the same number to the last bit.

    python -m benchmarks.algorithms.bench_score
"""

import csv
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.metrics import f1_score

from benchmarks.machine import environment
from core.labels import LabelSpace
from core.metrics import sample_f1
from ensembles.submission.score import score_submission, summed_f1, upper_cased

N_IMAGES = 3534  # the test set of 2020
N_CONCEPTS = 3047  # its label space
CARDINALITY = 11.24  # mean number of concepts an image
N_RUNS = 5

ConceptCells = dict[str, str]


def draw(seed: int) -> tuple[ConceptCells, ConceptCells]:
    """A truth and a submission: concepts by image, `;` between them, half of them right."""
    rng = np.random.default_rng(seed)
    cuis = [f"C{i:07d}" for i in range(N_CONCEPTS)]
    truth, submission = {}, {}
    for i in range(N_IMAGES):
        n = max(1, int(rng.poisson(CARDINALITY)))
        drawn = [cuis[j] for j in rng.choice(N_CONCEPTS, size=2 * n, replace=False)]
        truth[f"ROCO2_CLEF_{i:05d}"] = ";".join(drawn[:n])
        submission[f"ROCO2_CLEF_{i:05d}"] = ";".join(drawn[n // 2 : n // 2 + n])
    return truth, submission


def read_pairs(path: Path) -> ConceptCells:
    """Concepts by image."""
    with path.open(encoding="utf-8") as file:
        return dict(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def score_by_images(truth: ConceptCells, submission: ConceptCells) -> float:
    """The evaluators' loop."""
    total = 0.0
    for image_id, cell in submission.items():
        decided, true = cell.upper().split(";"), truth[image_id].upper().split(";")
        concepts = sorted({*true, *decided})
        total += f1_score(
            [int(c in true) for c in concepts],
            [int(c in decided) for c in concepts],
            average="binary",
        )
    return total / len(truth)


def score_by_sets(truth: Sequence[frozenset[str]], decided: Sequence[frozenset[str]]) -> float:
    total, n_without = summed_f1(zip(truth, decided, strict=True))
    return total / (len(truth) - n_without)


def score_files_by_images(truth: Path, submission: Path) -> float:
    return score_by_images(read_pairs(truth), read_pairs(submission))


def score_files(truth: Path, submission: Path) -> float:
    return score_submission(submission, truth=truth, edition=2020).f1


def measure(calls: Mapping[str, Callable[[], float]]) -> dict[str, tuple[list[float], float]]:
    """Seconds of each run and the score, by name; all run in turn, so that load meets all alike."""
    measured: dict[str, tuple[list[float], float]] = {name: ([], 0.0) for name in calls}
    for _ in range(N_RUNS):
        for name, call in calls.items():
            start = time.perf_counter()
            score = call()
            seconds = [*measured[name][0], time.perf_counter() - start]
            measured[name] = seconds, score
    return measured


def table(calls: Mapping[str, Callable[[], float]]) -> str:
    """A row for each way to score, with its ratio to the loop over the same input above it."""
    lines = [
        "| what | median | range of five | times faster | score |",
        "| --- | --- | --- | --- | --- |",
    ]
    slow = 0.0
    measured = measure(calls)
    assert len({score for _, score in measured.values()}) == 1, "the sides differ"
    for name, (seconds, score) in measured.items():
        median = statistics.median(seconds)
        slow = median if "loop" in name else slow
        spread = f"{min(seconds) * 1e3:,.2f} - {max(seconds) * 1e3:,.2f} ms"
        ratio = f"{slow / median:,.0f}"
        lines.append(f"| {name} | {median * 1e3:,.2f} ms | {spread} | {ratio} | {score!r} |")
    return "\n".join(lines)


def main() -> None:
    truth, submission = draw(seed=0)
    with tempfile.TemporaryDirectory() as folder:
        truth_file, run_file = Path(folder) / "truth.txt", Path(folder) / "run.txt"
        for path, pairs in ((truth_file, truth), (run_file, submission)):
            path.write_text("".join(f"{i}\t{c}\n" for i, c in pairs.items()), encoding="utf-8")
        true = [upper_cased(cell.split(";")) for cell in truth.values()]
        decided = [upper_cased(cell.split(";")) for cell in submission.values()]
        space = LabelSpace.of(true)
        targets, matrix = space.encode(true), space.encode(decided).matrix
        rows: dict[str, Callable[[], float]] = {
            "parsed: loop, f1_score an image": partial(score_by_images, truth, submission),
            "parsed: summed_f1 on sets": partial(score_by_sets, true, decided),
            "parsed: core sample_f1 on sparse rows": partial(
                sample_f1, targets, matrix, empty_truth="left out"
            ),
            "files: loop, csv and f1_score an image": partial(
                score_files_by_images, truth_file, run_file
            ),
            "files: score_submission, every check done": partial(score_files, truth_file, run_file),
        }
        print(f"{N_IMAGES:,} images, mean {np.mean([len(t) for t in true]):.2f} concepts\n")
        print(table(rows))
    print(f"\n{environment('numpy', 'scikit-learn')}")


if __name__ == "__main__":
    main()
