"""What each fusion strategy reaches on valid, beside the same head without metadata."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from core.categories import CATEGORIES
from core.editions import empty_truth_rule
from core.images import ImageTable
from core.metrics import Interval, bootstrap, cross_fitted_decisions, image_f1
from core.predictions import Predictions
from core.runs.fused import BLIND, PRIOR, FusedSource, find_fused_sources
from core.runs.workspace import Corpus, Workspace
from reports.fusion_page import Compared, comparison_page
from reports.gains import draw_gains
from reports.pages.figures import save_figure, style


def write_comparison(corpus: Corpus, workspace: Workspace) -> Path | None:
    """Write `fusion.md` with its tables as csv and its figure; None without labelled valid images.

    The newest run of each strategy on this corpus takes part, if it is on the features of the very
    newest: others could not be compared. They stand in the order in which they were asked for.
    """
    valid = corpus.labelled_images("valid")
    runs = find_fused_sources(workspace, corpus.fingerprint, comparable=True)
    runs.sort(key=lambda run: (run.asked, run.folder))
    if not len(valid) or not runs:
        return None
    found = [_compare(run, corpus, valid) for run in runs]
    folder = workspace.reports
    folder.mkdir(parents=True, exist_ok=True)
    base = next((c for c in found if c.name == BLIND), None)
    others = [c for c in found if c is not base]
    gains = {} if base is None else {c.name: _gain(c, base, valid) for c in others}
    if gains:
        # The prior lies so far behind that a figure with it shows nothing else.
        drawn = {name: gain for name, gain in gains.items() if name != PRIOR}
        with style():
            figure = draw_gains(
                drawn,
                title="What the category adds to the same head",
                axis="gain in sample F1, paired, with its 95 % interval",
            )
            save_figure(figure, folder, "fusion_gain")
    path = folder / "fusion.md"
    metas = [run.meta for run in runs]
    path.write_text(comparison_page(corpus, valid, found, gains, metas), encoding="utf-8")
    _write_csv(folder / "fusion.csv", found, gains, valid)
    return path


def _compare(run: FusedSource, corpus: Corpus, valid: ImageTable) -> Compared:
    targets, rule = valid.targets(corpus.labels), empty_truth_rule(corpus.edition)

    def decide(predictions: Predictions) -> csr_array:
        probs = predictions.rows(valid.image_ids).probs
        return cross_fitted_decisions(probs, targets, valid.folds, empty_truth=rule)

    decided = decide(run.predictions("valid"))
    withheld = run.withheld("valid")
    return Compared(
        name=run.strategy,
        image_f1=image_f1(targets, decided, empty_truth=rule),
        withheld_f1=None
        if withheld is None
        else image_f1(targets, decide(withheld), empty_truth=rule),
        decided=decided,
        constant=constant_share(corpus, valid, decided),
        seconds=run.meta["seconds"],
        run=run.folder.name,
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
