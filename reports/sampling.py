"""The page of `sample --curve`: what each way to choose images costs and gains, with one figure."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from core.images import ImageTable
from core.metrics import Interval, bootstrap
from core.runs.learning import (
    ALL,
    BASELINE,
    BUCKETS,
    SampledScores,
    bucket_of_concepts,
    read_trials,
    scores_of,
)
from core.runs.workspace import CONFIG, Corpus, Workspace
from core.storage.documents import parse_json
from core.storage.drafts import new_files
from core.storage.tables import write_rows
from core.storage.text import plain
from reports.pages.figures import GREY, WIDTH, Numbers, save_figure, style
from reports.pages.markdown import picture, table

_NAME = "sampling"

_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#882255", "#117733")
"""Of Okabe and Ito, and two of Tol."""

_MARKERS = ("s", "^", "D", "v", "P", "X", "<", ">")

_LOWEST, _LOWEST_RECALL = -0.02, -0.05
"""Of the gains that are drawn: what lies far below would leave no room for the others."""

_SETTINGS = (
    *("backbone", "joined", "image_sizes", "hidden", "loss", "learning_rate", "batch_size"),
    *("epochs", "seed", "sample_rare", "sample_within", "sample_power"),
)
"""That the page names."""


@dataclass(frozen=True, kw_only=True)
class Reached:
    """What a strategy reaches at a share of the images, over B buckets of concepts.

    Attributes:
        scores: image by image.
        f1: sample F1.
        loss: what it is above that of all images, paired; below 0 where it is lost.
        gain: what it is above that of random draws of as many images, paired; None where there
            are none.
        recalls: (B,) share of the true pairs of image and concept that is decided; 0 where no pair
            is true.
        recall_gains: (B,) what they are above those of random draws, paired; None where there are
            none, or no pair is true.
    """

    scores: SampledScores
    f1: Interval
    loss: Interval
    gain: Interval | None
    recalls: tuple[float, ...]
    recall_gains: tuple[Interval | None, ...]

    @classmethod
    def of(
        cls,
        scores: SampledScores,
        *,
        every: SampledScores,
        base: SampledScores | None,
        scored: ImageTable,
        n_true: Numbers,
    ) -> "Reached":
        """Measure.

        Args:
            scores: of the strategy.
            every: of all images.
            base: of random draws of as many.
            scored: the N images that are judged.
            n_true: (N, B) of `true_by_bucket`.
        """

        def gain(bucket: int) -> Interval | None:
            if base is None or not n_true[:, bucket].sum():
                return None
            return recall_gain(scores, base, scored=scored, n_true=n_true, bucket=bucket)

        buckets = range(n_true.shape[1])
        groups = scored.groups
        return cls(
            scores=scores,
            f1=bootstrap(scores.f1, groups=groups),
            loss=bootstrap(scores.f1 - every.f1, groups=groups),
            gain=None if base is None else bootstrap(scores.f1 - base.f1, groups=groups),
            recalls=tuple(recall(scores, n_true, bucket=bucket) for bucket in buckets),
            recall_gains=tuple(gain(bucket) for bucket in buckets),
        )


Curves = Mapping[str, Mapping[float, Reached]]
"""By strategy and share."""


def write_curve(corpus: Corpus, workspace: Workspace, *, folder: Path) -> list[Path]:
    """Write `sampling.md`, its tables as csv and its figure to the workspace's reports.

    Args:
        corpus: what was worked on.
        workspace: where the page goes.
        folder: of the trials, with the settings of their networks.

    Returns:
        The page and the figure.
    """
    scored = corpus.labelled_images(corpus.scored)
    n_true = true_by_bucket(corpus, scored)
    curves = read_curves(folder, corpus, scored=scored, n_true=n_true)
    settings = parse_json((folder / CONFIG).read_text(encoding="utf-8"))
    page = curve_page(corpus, scored, curves=curves, n_true=n_true, settings=settings)
    with new_files(workspace.reports) as draft:
        with style():
            save_figure(draw_curves(curves, n_true=n_true), draft, name=_NAME)
        write_rows(draft / f"{_NAME}.csv", _csv_rows(curves), for_people=True)
        (draft / f"{_NAME}.md").write_text(page, encoding="utf-8")
    return [workspace.reports / f"{_NAME}.md", workspace.reports / f"{_NAME}.png"]


def read_curves(folder: Path, corpus: Corpus, *, scored: ImageTable, n_true: Numbers) -> Curves:
    """What every strategy reached at every share, of the rounds that are finished.

    Args:
        folder: of the trials.
        corpus: what was worked on.
        scored: its N images that are judged.
        n_true: (N, B) of `true_by_bucket`.
    """
    n_parts = corpus.n_folds if corpus.crossfit else 1
    found = {
        point: scores_of(trials, scored, n_parts=n_parts)
        for point, trials in sorted(read_trials(folder).items())
        if len({trial.number for trial in trials}) >= n_parts
    }
    curves: dict[str, dict[float, Reached]] = {}
    for (name, share), scores in found.items():
        curves.setdefault(name, {})[share] = Reached.of(
            scores,
            every=found[ALL, 1.0],
            base=found.get((BASELINE, share)),
            scored=scored,
            n_true=n_true,
        )
    return curves


def true_by_bucket(corpus: Corpus, scored: ImageTable) -> Numbers:
    """(N, B) true concepts of each image, by how frequent they are."""
    matrix = scored.targets(corpus.labels).matrix
    buckets = bucket_of_concepts(corpus)
    of_image = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    own = buckets[matrix.indices]
    counts = np.zeros((matrix.shape[0], len(BUCKETS)))
    np.add.at(counts, (of_image[own >= 0], own[own >= 0]), 1)
    return counts


def recall_gain(
    scores: SampledScores, base: SampledScores, *, scored: ImageTable, n_true: Numbers, bucket: int
) -> Interval:
    """Paired difference in recall of the true pairs of a bucket, groups drawn anew."""
    n = n_true[:, bucket].astype(int)
    rows = np.flatnonzero(n)
    each = (scores.hits[rows, bucket] - base.hits[rows, bucket]) / n[rows]
    groups = np.repeat(np.array(scored.groups, dtype=object)[rows], n[rows])
    return bootstrap(np.repeat(each, n[rows]), groups=groups.tolist())


def recall(scores: SampledScores, n_true: Numbers, *, bucket: int) -> float:
    """Share of the true pairs of a bucket that is decided."""
    return float(scores.hits[:, bucket].sum() / max(n_true[:, bucket].sum(), 1))


def curve_page(
    corpus: Corpus,
    scored: ImageTable,
    *,
    curves: Curves,
    n_true: Numbers,
    settings: Mapping[str, Any],
) -> str:
    """The page as Markdown."""
    every = curves[ALL][1.0]
    names = _strategies(curves)
    shares = sorted({share for name in names for share in curves[name]})
    judged = "images of train and valid" if corpus.crossfit else "validation images"
    how = (
        "Network k chooses among the images outside fold k, learns from those that it keeps and is"
        " judged on fold k"
        if corpus.crossfit
        else "Each network chooses among the images of train, learns from those that it keeps and"
        " is judged on valid"
    )
    length = (
        "On fewer images they are trained for more epochs, so that all take about as many steps."
        if settings["same_steps"]
        else "All are trained for as many epochs: on fewer images they take fewer steps."
    )
    parts = [
        f"# Choosing training images of {plain(corpus.name)}",
        f"Heads on frozen features, {every.scores.n_networks} networks of their own seeds for each"
        f" strategy and share. {length} {how}; {len(scored):,} {judged}, one threshold for"
        " all concepts, the best of the other folds.",
        "Differences are paired on the same images, the mean over the networks first, with 95 %"
        " bootstrap intervals over groups: how much networks differ by their seeds is not in them."
        f" `{BASELINE}` draws from all images; all other strategies keep every image with a rare"
        " concept first.",
        picture(
            _NAME,
            "Above sample F1 and recall by frequency of the concept, by share of the images; below"
            " the same less that of random draws of as many, paired, with 95 % intervals",
        ),
        f"All images: sample F1 {every.f1}.",
        "## Sample F1",
        _table([*names, ALL], [*shares, 1.0], lambda one: f"{one.f1.value:.4f}", curves),
        "## Gain over random draws of as many images",
        _table(names, shares, lambda one: one.gain.signed() if one.gain else "", curves),
        "## Loss against all images",
        _table(names, shares, lambda one: one.loss.signed(), curves),
        "## Recall by frequency of the concept",
        "Share of the true pairs of image and concept that is decided, by the images that have the"
        " concept among all that are learnt from.",
        *(_recalls(names, curves, n_true, share) for share in shares),
        "## Time of a choice",
        _table(names, shares, lambda one: f"{one.scores.seconds:.2f} s", curves),
        "## How it was made",
        "Settings of `train-backbone`: "
        + ", ".join(f"{name} {plain(str(settings[name]))}" for name in _SETTINGS)
        + ".",
    ]
    return "\n\n".join(parts) + "\n"


def _table(
    names: Sequence[str], shares: Sequence[float], cell: Callable[[Reached], str], curves: Curves
) -> str:
    rows = [
        [name, *(cell(curves[name][share]) if share in curves[name] else "" for share in shares)]
        for name in names
    ]
    return table(["strategy", *(f"{share:.0%}" for share in shares)], rows)


def _recalls(names: Sequence[str], curves: Curves, n_true: Numbers, share: float) -> str:
    shown = _buckets(n_true)
    header = [
        f"{share:.0%} kept",
        *(f"{BUCKETS[b]} images, n = {n_true[:, b].sum():,.0f}" for b in shown),
    ]
    every = curves[ALL][1.0]
    rows = [["all images (100%)", *(f"{every.recalls[b]:.3f}" for b in shown)]]
    for name in names:
        if share in curves[name]:
            one = curves[name][share]
            gains = [None if name == BASELINE else one.recall_gains[b] for b in shown]
            cells = [
                f"{one.recalls[b]:.3f}" + (f", {gain.signed()}" if gain else "")
                for b, gain in zip(shown, gains, strict=True)
            ]
            rows.append([name, *cells])
    return table(header, rows)


@dataclass(frozen=True, kw_only=True)
class _Measure:
    """What a column of the figure shows: `level` above, `gain` below, down to `lowest`."""

    title: str
    lowest: float
    level: Callable[[Reached], float]
    gain: Callable[[Reached], Interval | None]


def _recall_of(bucket: int) -> _Measure:
    return _Measure(
        title=f"recall, concepts of {BUCKETS[bucket]} images",
        lowest=_LOWEST_RECALL,
        level=lambda one: one.recalls[bucket],
        gain=lambda one: one.recall_gains[bucket],
    )


_SAMPLE_F1 = _Measure(
    title="sample F1", lowest=_LOWEST, level=lambda one: one.f1.value, gain=lambda one: one.gain
)


def draw_curves(curves: Curves, *, n_true: Numbers) -> Figure:
    """Sample F1 and recall by bucket against the share of the images; below, gains over chance."""
    measures = [_SAMPLE_F1, *map(_recall_of, _buckets(n_true))]
    figure = Figure(figsize=(0.45 * len(measures) * WIDTH, 0.95 * WIDTH), layout="constrained")
    grid = figure.subplots(2, len(measures))
    for above, below, measure in zip(*grid, measures, strict=True):
        highest = _draw_levels(above, curves, measure)
        _draw_gains(below, curves, measure)
        if not highest:
            _say_none(above, below)
    grid[1][0].set_ylabel("gain over random draws, 95 %")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6)
    return figure


def _draw_levels(axes: Axes, curves: Curves, measure: _Measure) -> float:
    """Draw each strategy up to all images; the highest level there is."""
    names = _strategies(curves)
    last = highest = measure.level(curves[ALL][1.0])
    axes.axhline(last, color=GREY, linewidth=0.8, linestyle=":")
    for name in names:
        shares = sorted(curves[name])
        levels = [measure.level(curves[name][share]) for share in shares]
        highest = max(highest, *levels)
        axes.plot([*shares, 1.0], [*levels, last], label=name, **_line(name, names))
    axes.set_title(measure.title)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axes.set_xticks([0.1, 0.25, 0.5, 0.75, 1.0])
    axes.set_xlabel("share of the training images")
    return highest


def _draw_gains(axes: Axes, curves: Curves, measure: _Measure) -> None:
    names = _strategies(curves)
    others = [name for name in names if name != BASELINE]
    axes.axhline(0, color="black", linewidth=1)
    places = {share: place for place, share in enumerate(sorted(curves[BASELINE]))}
    least = 0.0
    for number, name in enumerate(others):
        offset = (number - (len(others) - 1) / 2) * 0.8 / len(others)
        look = _line(name, names)
        for share, one in curves[name].items():
            gain = measure.gain(one)
            if gain is not None:
                place = places[share] + offset
                least = min(least, gain.low)
                axes.plot([place] * 2, [gain.low, gain.high], color=look["color"], lw=1)
                axes.plot(
                    place, gain.value, color=look["color"], marker=look["marker"], markersize=3
                )
    axes.set_xticks([*places.values()], labels=[f"{share:.0%}" for share in places])
    if least < measure.lowest:
        axes.set_ylim(bottom=measure.lowest)
        axes.text(0.99, 0.01, "lower ones are not shown", transform=axes.transAxes, ha="right",
                  fontsize=7, color=GREY)  # fmt: skip
    axes.set_xlabel("share of the training images")


def _say_none(*panels: Axes) -> None:
    """In place of an axis around a line of zeros."""
    for axes in panels:
        axes.set_yticks([0])
        axes.text(0.5, 0.6, "none of them found", transform=axes.transAxes, ha="center", color=GREY)


def _strategies(curves: Curves) -> list[str]:
    return [name for name in curves if name != ALL]


def _buckets(n_true: Numbers) -> list[int]:
    """Those that a true concept is in."""
    return [bucket for bucket in range(len(BUCKETS)) if n_true[:, bucket].sum()]


def _line(name: str, names: Sequence[str]) -> dict[str, Any]:
    """Colour and marker of a strategy among all; random draws are drawn in black and grey."""
    if name == BASELINE:
        return {"color": "black", "marker": "o", "linewidth": 1.8, "markersize": 3}
    if name.startswith(BASELINE):
        return {"color": GREY, "marker": "o", "linewidth": 1.8, "markersize": 3}
    number = [other for other in names if not other.startswith(BASELINE)].index(name)
    return {
        "color": _COLOURS[number % len(_COLOURS)],
        "marker": _MARKERS[number % len(_MARKERS)],
        "linewidth": 1.0,
        "markersize": 3.5,
    }


def _csv_rows(curves: Curves) -> Iterator[list[object]]:
    """Every strategy at every share, numbers unrounded; what is not there is empty."""
    ends = ("", "_low", "_high")
    yield [
        *("strategy", "share", "images", "networks", "seconds"),
        *(f"{what}{end}" for what in ("f1", "gain", "loss") for end in ends),
        *(f"recall_{bucket}" for bucket in BUCKETS),
        *(f"recall_gain_{bucket}{end}" for bucket in BUCKETS for end in ends),
    ]
    for name, by_share in curves.items():
        for share, one in by_share.items():
            scores = one.scores
            yield [
                *(name, share, scores.n_kept, scores.n_networks, scores.seconds),
                *_cells(one.f1, one.gain, one.loss),
                *one.recalls,
                *_cells(*one.recall_gains),
            ]


def _cells(*intervals: Interval | None) -> list[object]:
    return [
        cell
        for found in intervals
        for cell in (("", "", "") if found is None else (found.value, found.low, found.high))
    ]
