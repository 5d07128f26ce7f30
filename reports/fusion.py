"""The page of `fuse`: what each strategy reaches, beside one head without metadata."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from core.categories import CATEGORIES, Category
from core.editions import empty_truth_rule
from core.images import ImageTable
from core.metrics import (
    Interval,
    Scores,
    bootstrap,
    column_sums,
    cross_fitted_decisions,
    image_f1,
    recall_by_frequency,
)
from core.predictions import Predictions
from core.runs.external import ExternalResource, resources_of_fused
from core.runs.fused import NO_METADATA, PRIOR, FusedSource, find_fused_sources
from core.runs.workspace import Corpus, Workspace
from core.storage.drafts import new_files
from core.storage.tables import write_rows
from core.storage.text import code, plain
from reports.pages.figures import draw_gains, save_figure, style
from reports.pages.markdown import picture, resources_table, table, versions_of


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A strategy, scored on N labelled images (`Corpus.scored`).

    Attributes:
        name: of the strategy.
        image_f1: (N,) cross-fitted at one threshold for all concepts.
        withheld_f1: the same with the category withheld; None where it makes no difference.
        decided: (N, L) what is decided so.
        constant: share of the images that have all constant concepts of their category.
        seconds: that it took to make.
        run: its run folder.
    """

    name: str
    image_f1: Scores
    withheld_f1: Scores | None
    decided: csr_array
    constant: float
    seconds: float
    run: str


def comparison_page(
    corpus: Corpus,
    scored: ImageTable,
    *,
    found: Sequence[Compared],
    gains: Mapping[str, Interval],
    metas: Sequence[Mapping[str, Any]],
    resources: Mapping[ExternalResource, Sequence[str]],
) -> str:
    """The comparison as Markdown.

    Args:
        corpus: what was worked on.
        scored: the N images.
        found: the strategies.
        gains: over `NO_METADATA`, paired, by strategy; empty where it was not made.
        metas: of the strategies' runs.
        resources: weights that networks started from, and which strategies took them.
    """
    images = "images of train and valid" if corpus.crossfit else "validation images"
    newest = max(metas, key=lambda meta: str(meta["made"]))
    parts = [
        f"# Ways of using the category on {plain(corpus.name)}",
        f"Sample F1 of {len(scored):,} {images}, each decided at the one threshold that is"
        " best on the other folds. Intervals are 95 % bootstrap intervals over groups (patients,"
        f" studies); gains are over `{NO_METADATA}`, the same head on the same features without"
        " metadata, paired on the same images.",
        _summary(found, gains, scored),
        "*Withheld*: the category is guessed from the features, and the loss is against knowing"
        " it. *Constant*: images on which every concept that stands on all training images of"
        " their category is decided.",
    ]
    if gains:
        parts.append(
            picture("fusion_gain", "Gain of each strategy with its interval, but for the prior")
        )
    parts += [
        "## Rare concepts",
        "Share of the true pairs of image and concept that is decided, by the number of training"
        " images that have the concept.",
        _recalls(corpus, found, scored),
        "## By category",
        _by_category(found, scored),
        "## External resources",
        resources_table(resources, header="strategies"),
        "## How it was made",
        f"Runs {', '.join(code(compared.run) for compared in found)}; {versions_of(newest)}.",
    ]
    return "\n\n".join(parts) + "\n"


def _summary(found: Sequence[Compared], gains: Mapping[str, Interval], scored: ImageTable) -> str:
    header = ["strategy", "sample F1", "gain", "withheld", "loss by it", "constant", "seconds"]
    rows = []
    for compared in found:
        without_category, loss = "", ""
        if compared.withheld_f1 is not None:
            without_category = f"{np.nanmean(compared.withheld_f1):.4f}"
            difference = compared.withheld_f1 - compared.image_f1
            loss = bootstrap(difference, groups=scored.groups).signed()
        gain = gains.get(compared.name)
        rows.append(
            [
                compared.name,
                str(bootstrap(compared.image_f1, groups=scored.groups)),
                "" if gain is None else gain.signed(),
                without_category,
                loss,
                f"{compared.constant:.1%}",
                f"{compared.seconds:.0f}",
            ]
        )
    return table(header, rows)


def _recalls(corpus: Corpus, found: Sequence[Compared], scored: ImageTable) -> str:
    targets = scored.targets(corpus.labels)
    train = corpus.table.of(split=corpus.learnt_from)
    n_train = column_sums(train.take(train.labelled).targets(corpus.labels).matrix)
    by_name = {c.name: recall_by_frequency(targets, c.decided, n_train=n_train) for c in found}
    buckets = next(iter(by_name.values()))
    shown = [name for name, (_, n) in buckets.items() if n]
    header = ["strategy", *(f"{name} images, n = {buckets[name][1]:,}" for name in shown)]
    rows = [
        [name, *(f"{recall[bucket][0]:.3f}" for bucket in shown)]
        for name, recall in by_name.items()
    ]
    return table(header, rows)


def _by_category(found: Sequence[Compared], scored: ImageTable) -> str:
    names = np.array(scored.categories, dtype=np.str_)
    present = [c for c in CATEGORIES if np.isfinite(found[0].image_f1[names == c]).any()]
    header = ["strategy", *(f"{Category(c).value}, n = {(names == c).sum():,}" for c in present)]
    rows = [
        [c.name, *(f"{np.nanmean(c.image_f1[names == category]):.3f}" for category in present)]
        for c in found
    ]
    legend = ", ".join(f"{c} {Category(c).meaning}" for c in present)
    return f"{table(header, rows)}\n\n{legend}." if present else table(header, rows)


def write_comparison(corpus: Corpus, workspace: Workspace) -> Path | None:
    """Write `fusion.md` with its tables as csv and its figure; None without labelled images.

    The newest run of each strategy on this corpus takes part, if it is on the features of the very
    newest: others could not be compared. They stand in the order in which they were asked for.
    """
    scored = corpus.labelled_images(corpus.scored)
    runs = find_fused_sources(workspace, corpus.fingerprint, comparable=True)
    runs.sort(key=lambda run: (run.asked, run.folder))
    if not len(scored) or not runs:
        return None
    found = [_compare(run, corpus, scored) for run in runs]
    base = next((c for c in found if c.name == NO_METADATA), None)
    others = [c for c in found if c is not base]
    gains = {} if base is None else {c.name: _gain(c, base, scored) for c in others}
    metas = [run.meta for run in runs]
    resources: dict[ExternalResource, list[str]] = {}
    for run in runs:
        for own in resources_of_fused(run.meta, corpus, workspace=workspace):
            resources.setdefault(own, []).append(run.strategy)
    page = comparison_page(
        corpus, scored, found=found, gains=gains, metas=metas, resources=resources
    )
    with new_files(workspace.reports) as folder:
        if gains:
            # The prior lies so far behind that a figure with it shows nothing else.
            drawn = {name: gain for name, gain in gains.items() if name != PRIOR}
            with style():
                figure = draw_gains(
                    drawn,
                    title="What the category adds to the same head",
                    axis="gain in sample F1, paired, with its 95 % interval",
                )
                save_figure(figure, folder, name="fusion_gain")
        _write_csv(folder / "fusion.csv", found, gains, scored)
        (folder / "fusion.md").write_text(page, encoding="utf-8")
    return workspace.reports / "fusion.md"


def _compare(run: FusedSource, corpus: Corpus, scored: ImageTable) -> Compared:
    targets, rule = scored.targets(corpus.labels), empty_truth_rule(corpus.edition)

    def decide(predictions: Predictions) -> csr_array:
        probs = predictions.rows(scored.image_ids).probs
        return cross_fitted_decisions(probs, targets, folds=scored.folds, empty_truth=rule)

    decided = decide(run.predictions(corpus.scored))
    without_category = run.without_category(corpus.scored)
    return Compared(
        name=run.strategy,
        image_f1=image_f1(targets, decided, empty_truth=rule),
        withheld_f1=None
        if without_category is None
        else image_f1(targets, decide(without_category), empty_truth=rule),
        decided=decided,
        constant=constant_share(corpus, scored, decided=decided),
        seconds=run.meta["seconds"],
        run=run.folder.name,
    )


def _gain(compared: Compared, base: Compared, scored: ImageTable) -> Interval:
    return bootstrap(compared.image_f1 - base.image_f1, groups=scored.groups)


def constant_share(
    corpus: Corpus, images: ImageTable, *, decided: csr_array, at_least: int = 50
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
    path: Path, found: Sequence[Compared], gains: Mapping[str, Interval], scored: ImageTable
) -> None:
    """The first table, numbers unrounded."""
    ends = ("", "_low", "_high")
    columns = [*(f"f1{e}" for e in ends), *(f"gain{e}" for e in ends), "f1_withheld"]
    rows: list[list[object]] = [["strategy", *columns, "constant", "seconds", "n"]]
    for compared in found:
        f1 = bootstrap(compared.image_f1, groups=scored.groups)
        gain = gains.get(compared.name)
        without_category = compared.withheld_f1
        rows.append(
            [
                compared.name,
                *(f1.value, f1.low, f1.high),
                *(("", "", "") if gain is None else (gain.value, gain.low, gain.high)),
                "" if without_category is None else float(np.nanmean(without_category)),
                compared.constant,
                compared.seconds,
                f1.n,
            ]
        )
    write_rows(path, rows, for_people=True)
