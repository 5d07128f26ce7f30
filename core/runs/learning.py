"""Learning curves on disk: of a second stage on fewer images, of heads on chosen ones.

A trial of the latter is one network on one choice of the training images. Of it are kept, for each
image that it was judged on and each threshold of `core.metrics.THRESHOLDS`, the F1 and the true
pairs that are decided, by how frequent their concepts are: small enough to be kept, and enough to
choose the threshold on other folds.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from core.images import ImageTable
from core.labels import LabelSpace, frequency_bucket_of, frequency_buckets
from core.metrics import THRESHOLDS, Interval, best_threshold, column_sums, f1_by_threshold
from core.predictions import Probs
from core.runs.workspace import Corpus, Workspace
from core.storage.arrays import load_array, save_array
from core.storage.folders import new_folder, read_whole
from core.storage.tables import meant_as_written, read_lines, read_rows, write_lines, write_rows


@dataclass(frozen=True, kw_only=True)
class LearningPoint:
    """A second stage fitted on a share of the labelled images, judged on all of them.

    Attributes:
        share: of the groups that were drawn, in (0, 1].
        n_images: labelled images in them, the mean over draws.
        f1: sample F1, cross-fitted: each image is judged by what was fitted on drawn images of
            other folds.
        gain: paired difference to the point before; None for the first.
    """

    share: float
    n_images: float
    f1: Interval
    gain: Interval | None


_COLUMNS = ("share", "images", "f1", "f1_low", "f1_high", "gain", "gain_low", "gain_high", "n")


def write_points(path: Path, points: Sequence[LearningPoint]) -> None:
    """Write points, a line each; cells of a gain that is not there are empty."""
    rows: list[Sequence[object]] = [_COLUMNS]
    for point in points:
        gain = point.gain
        rows.append(
            [
                *map(repr, (point.share, point.n_images)),
                *map(repr, (point.f1.value, point.f1.low, point.f1.high)),
                *(map(repr, (gain.value, gain.low, gain.high)) if gain else ("", "", "")),
                point.f1.n,
            ]
        )
    write_rows(path, rows)


def read_points(path: Path) -> list[LearningPoint]:
    """The points that `write_points` wrote, to the last bit."""
    points = []
    with meant_as_written(path):
        for *cells, last in read_rows(path, n_columns=len(_COLUMNS))[1:]:
            share, n_images, f1, low, high = map(float, cells[:5])
            gain = [float(cell) for cell in cells[5:] if cell]
            points.append(
                LearningPoint(
                    share=share,
                    n_images=n_images,
                    f1=Interval(f1, low, high, int(last)),
                    gain=Interval(gain[0], gain[1], gain[2], int(last)) if gain else None,
                )
            )
    return points


BASELINE, ALL = "random", "all"
"""What strategies are held against: images drawn at random, with no regard to concepts; and all."""

BUCKETS = tuple(bucket.name for bucket in frequency_buckets())

Counts = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class SampleTrial:
    """A network that was trained on a choice of the images and judged on n others.

    Attributes:
        name: of the strategy, as people read it.
        share: of the training images.
        number: of the network: which part it left out, and its seed.
        n_kept: images that it learnt from.
        seconds: that the choice took.
        image_ids: the n images.
        f1: (T, n) float32, NaN where an image is left out of the mean.
        hits: (T, n, B) true concepts that are decided, by bucket.
    """

    name: str
    share: float
    number: int
    n_kept: int
    seconds: float
    image_ids: tuple[str, ...]
    f1: npt.NDArray[np.float32]
    hits: Counts

    def save(self, folder: Path) -> None:
        """Write a folder of its own."""
        meta = {name: getattr(self, name) for name in ("name", "share", "number", "n_kept")}
        with new_folder(folder, {**meta, "seconds": round(self.seconds, 2)}) as draft:
            write_lines(draft / "image_ids.txt", self.image_ids)
            save_array(draft / "f1.npy", self.f1)
            save_array(draft / "hits.npy", self.hits)

    @classmethod
    def load(cls, folder: Path) -> "SampleTrial":
        """Read a folder.

        Raises:
            PredictionsError: the folder is missing, unfinished or damaged.
        """
        meta = read_whole(folder, "name", "share", "number", "n_kept", "seconds")
        return cls(
            name=meta["name"],
            share=meta["share"],
            number=meta["number"],
            n_kept=meta["n_kept"],
            seconds=meta["seconds"],
            image_ids=read_lines(folder / "image_ids.txt"),
            f1=load_array(folder / "f1.npy"),
            hits=load_array(folder / "hits.npy"),
        )


def bucket_of_concepts(corpus: Corpus) -> npt.NDArray[np.intp]:
    """(L,) which of `BUCKETS` a concept is in, by the images that are learnt from; -1 for none."""
    counts = column_sums(corpus.training_images().targets(corpus.labels).matrix)
    return frequency_bucket_of(counts)


def judged(
    probs: Probs, table: ImageTable, *, labels: LabelSpace, buckets: npt.NDArray[np.integer]
) -> tuple[npt.NDArray[np.float32], Counts]:
    """`f1` and `hits` of a trial.

    Args:
        probs: (n, L) what the network says of the images.
        table: the n images.
        labels: the L concepts.
        buckets: (L,) of `bucket_of_concepts`.
    """
    targets = table.targets(labels)
    f1 = f1_by_threshold(probs, targets, empty_truth="left out").astype(np.float32)
    rows, columns = targets.matrix.nonzero()
    hits = np.zeros((len(THRESHOLDS), len(table), len(BUCKETS)), dtype=np.uint8)
    decided = np.searchsorted(THRESHOLDS, probs[rows, columns], side="right")
    for row, bucket, n_thresholds in zip(
        rows.tolist(), buckets[columns].tolist(), decided.tolist(), strict=True
    ):
        if bucket >= 0:
            hits[:n_thresholds, row, bucket] += 1
    return f1, hits


@dataclass(frozen=True, kw_only=True)
class SampledScores:
    """A strategy at a share, judged on N images.

    Attributes:
        name: of the strategy.
        share: of the images.
        n_kept: images that were learnt from, the mean over networks.
        n_networks: how many there were.
        seconds: that a choice took, the mean.
        f1: (N,) F1 of each image, the mean over the networks that judged it, each at the threshold
            that is best on the other folds.
        hits: (N, B) its true concepts that are decided, likewise.
    """

    name: str
    share: float
    n_kept: float
    n_networks: int
    seconds: float
    f1: npt.NDArray[np.float64]
    hits: npt.NDArray[np.float64]


def scores_of(trials: Iterable[SampleTrial], scored: ImageTable, *, n_parts: int) -> SampledScores:
    """The trials of one strategy at one share together.

    Networks 0 to P-1 judge the P parts of the images, P to 2P-1 judge them again, and so on; of an
    unfinished round nothing is taken.

    Args:
        trials: of one name and share.
        scored: the N images that are judged.
        n_parts: P.

    Raises:
        ValueError: not all images are judged.
    """
    by_number = {trial.number: trial for trial in trials}
    rounds = []
    first = 0
    while all(number in by_number for number in range(first, first + n_parts)):
        rounds.append([by_number[number] for number in range(first, first + n_parts)])
        first += n_parts
    if not rounds:
        raise ValueError("trials: no network for every part of the images")
    found = [_of_round(trials, scored) for trials in rounds]
    used = [trial for trials in rounds for trial in trials]
    return SampledScores(
        name=used[0].name,
        share=used[0].share,
        n_kept=float(np.mean([trial.n_kept for trial in used])),
        n_networks=len(used),
        seconds=float(np.mean([trial.seconds for trial in used])),
        f1=np.mean([f1 for f1, _ in found], axis=0),
        hits=np.mean([hits for _, hits in found], axis=0),
    )


def _of_round(
    trials: Sequence[SampleTrial], scored: ImageTable
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    f1 = np.full((len(THRESHOLDS), len(scored)), np.nan)
    hits = np.zeros((len(THRESHOLDS), len(scored), len(BUCKETS)))
    for trial in trials:
        rows = scored.row_numbers(trial.image_ids)
        f1[:, rows], hits[:, rows] = trial.f1, trial.hits
    chosen_f1 = np.empty(len(scored))
    chosen_hits = np.empty((len(scored), len(BUCKETS)))
    for fold in np.unique(scored.folds):
        own = scored.folds == fold
        best = best_threshold(f1[:, ~own])
        chosen_f1[own], chosen_hits[own] = f1[best][own], hits[best][own]
    return chosen_f1, chosen_hits


def curve_folder(workspace: Workspace, key: str) -> Path:
    """Where the trials of a learning curve lie."""
    return workspace.root / "sampling" / f"curve-{key}"


def read_trials(folder: Path) -> dict[tuple[str, float], list[SampleTrial]]:
    """The finished trials below a folder, by strategy and share."""
    found: dict[tuple[str, float], list[SampleTrial]] = {}
    for meta in sorted(folder.glob("*/*/meta.json")):
        trial = SampleTrial.load(meta.parent)
        found.setdefault((trial.name, trial.share), []).append(trial)
    return found
