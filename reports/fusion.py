"""What each fusion strategy reaches on valid, beside the same head without metadata."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from core.categories import CATEGORIES
from core.images import ImageTable
from core.metrics import Interval, bootstrap, empty_truth_rule, image_f1
from core.predictions import Predictions
from core.runs import asked, read_meta
from core.single_threshold import cross_fitted_decisions
from core.workspace import Corpus, Workspace
from reports.figures import save_figure, style
from reports.fusion_page import BASE, Compared, comparison_page
from reports.gains import draw_gains

PRIOR = "prior"
"""It sees no image, and lies so far behind that a figure with it shows nothing else."""

WITHHELD = "valid-withheld"
"""Predictions of valid as if no image came with a category."""


def write_comparison(corpus: Corpus, workspace: Workspace) -> Path | None:
    """Write `fusion.md` with its tables as csv and its figure; None without labelled valid images.

    The newest run of each strategy on this corpus takes part.
    """
    valid = corpus.labelled_images("valid")
    runs = newest_runs(corpus, workspace)
    if not len(valid) or not runs:
        return None
    found = [_compare(folder, corpus, valid) for folder in runs.values()]
    folder = workspace.reports
    folder.mkdir(parents=True, exist_ok=True)
    base = next((c for c in found if c.name == BASE), None)
    others = [c for c in found if c is not base]
    gains = {} if base is None else {c.name: _gain(c, base, valid) for c in others}
    if gains:
        drawn = {name: gain for name, gain in gains.items() if name != PRIOR}
        with style():
            figure = draw_gains(
                drawn,
                title="What the category adds to the same head",
                axis="gain in sample F1, paired, with its 95 % interval",
            )
            save_figure(figure, folder, "fusion_gain")
    path = folder / "fusion.md"
    metas = [read_meta(run) for run in runs.values()]
    path.write_text(comparison_page(corpus, valid, found, gains, metas), encoding="utf-8")
    _write_csv(folder / "fusion.csv", found, gains, valid)
    return path


def newest_runs(corpus: Corpus, workspace: Workspace) -> dict[str, Path]:
    """The newest run folder of each strategy on this corpus, in the order they were asked for.

    Only those on the features of the very newest: others could not be compared.
    """
    runs = []
    for folder in workspace.finished_runs(workspace.fusion):
        meta = read_meta(folder, "corpus", "strategy", "made", "embeddings")
        if meta["corpus"] == corpus.fingerprint:
            runs.append((asked(meta), folder, meta))
    runs.sort(key=lambda run: run[:2])
    newest = {
        meta["strategy"]: folder
        for _, folder, meta in runs
        if meta["embeddings"] == runs[-1][2]["embeddings"]
    }
    return dict(sorted(newest.items(), key=lambda item: [run[1] for run in runs].index(item[1])))


def _compare(folder: Path, corpus: Corpus, valid: ImageTable) -> Compared:
    meta = read_meta(folder, "strategy", "seconds")
    targets, rule = valid.targets(corpus.labels), empty_truth_rule(corpus.edition)

    def decide(name: str) -> csr_array:
        probs = Predictions.load(folder / "predictions" / name).rows(valid.image_ids).probs
        return cross_fitted_decisions(probs, targets, valid.folds, empty_truth=rule)

    decided = decide("valid")
    withheld = None
    if (folder / "predictions" / WITHHELD).is_dir():
        withheld = image_f1(targets, decide(WITHHELD), empty_truth=rule)
    return Compared(
        name=meta["strategy"],
        image_f1=image_f1(targets, decided, empty_truth=rule),
        withheld_f1=withheld,
        decided=decided,
        constant=constant_share(corpus, valid, decided),
        seconds=meta["seconds"],
        run=folder.name,
    )


def _gain(compared: Compared, base: Compared, valid: ImageTable) -> Interval:
    return bootstrap(compared.image_f1 - base.image_f1, groups=valid.groups)


def constant_share(
    corpus: Corpus, images: ImageTable, decided: csr_array, *, at_least: int = 50
) -> float:
    """Share of the images on which all constant concepts of their category are decided.

    NaN where no image is of a category that has some.

    Args:
        corpus: whose training images say what is constant.
        images: N images.
        decided: (N, L) boolean.
        at_least: training images that a category needs.
    """
    names = np.array(images.categories, dtype=np.str_)
    n_right = n_images = 0
    for category in CATEGORIES:
        columns = corpus.labels.columns(corpus.prior.constant(category, at_least=at_least))
        rows = np.flatnonzero(names == category)
        if len(columns) and len(rows):
            n_right += int(decided[rows][:, columns].toarray().all(axis=1).sum())
            n_images += len(rows)
    return n_right / n_images if n_images else float("nan")


def _write_csv(
    path: Path, found: Sequence[Compared], gains: Mapping[str, Interval], valid: ImageTable
) -> None:
    """The first table, numbers unrounded."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        ends = ("", "_low", "_high")
        columns = [*(f"f1{e}" for e in ends), *(f"gain{e}" for e in ends), "f1_withheld"]
        writer.writerow(["strategy", *columns, "constant", "seconds", "n"])
        for compared in found:
            f1 = bootstrap(compared.image_f1, groups=valid.groups)
            gain = gains.get(compared.name)
            withheld = compared.withheld_f1
            writer.writerow(
                [
                    compared.name,
                    *(f1.value, f1.low, f1.high),
                    *(("", "", "") if gain is None else (gain.value, gain.low, gain.high)),
                    "" if withheld is None else float(np.nanmean(withheld)),
                    compared.constant,
                    compared.seconds,
                    f1.n,
                ]
            )
