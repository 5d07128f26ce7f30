"""The figures of `report`: ladder, sources, reliability, forecast beside truth, learning curve."""

from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from core.metrics import Interval
from core.runs.ladder import LadderStep, RungState
from core.runs.learning import LearningPoint
from core.storage.text import visible
from reports.pages.figures import BLUE, GREEN, GREY, ORANGE, WIDTH, Numbers, percent
from reports.review_order import ReviewOrder

_LOOKS: Mapping[RungState, tuple[str, str, bool]] = {
    "kept": (BLUE, "o", True),
    "not kept": (ORANGE, "o", False),
    "submitted": (GREEN, "D", True),
}

_WRAPPED = 34  # characters of a rung in a line: a rule is longer

_LIGHT, _DARK = "#f7f7f7", "#111111"  # on a cell: neither is the page's ink nor its paper

_NOTED = (0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)  # probabilities named on an axis


def draw_ladder(steps: Sequence[LadderStep]) -> Figure:
    """Every rung with its interval; beside it its paired gain over the kept one above."""
    names = [fill(visible(step.name), width=_WRAPPED) for step in steps]
    n_lines = 1 + max(name.count("\n") for name in names)
    height = 1.3 + (0.14 + 0.13 * n_lines) * len(steps)
    figure = Figure(figsize=(WIDTH + 1, height), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.15, 1))
    for place, step in enumerate(steps):
        _point(left, step.f1, place, state=step.state)
        left.text(step.f1.high, place, f"  {step.f1.value:.4f}", va="center", fontsize=7)
    left.set_yticks(range(len(steps)), labels=names)
    left.set_ylim(len(steps) - 0.5, -0.5)
    left.margins(x=0.14)
    left.set_xlabel("sample F1 with its 95 % interval")
    _draw_step_gains(right, steps)
    for axes in (left, right):
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", color=GREY, alpha=0.25, linewidth=0.6)
    handles = [
        left.plot([], [], marker, color=colour, fillstyle="full" if full else "none", label=name)[0]
        for name, (colour, marker, full) in _LOOKS.items()
        if any(step.state == name for step in steps)
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))
    figure.suptitle("From the prior to the submission", x=0.01, ha="left", fontsize=9.0)
    return figure


def _draw_step_gains(axes: Axes, steps: Sequence[LadderStep]) -> None:
    """Paired gains; one that would make all others unreadable leaves the axis, with its number."""
    gains = {place: (s.gain, s.state) for place, s in enumerate(steps) if s.gain is not None}
    reach = {place: max(abs(gain.low), abs(gain.high)) for place, (gain, _) in gains.items()}
    smallest = sorted(reach.values())[: max(1, len(reach) - 1)]
    limit = 1.15 * max(smallest, default=0.01) or 0.01
    if reach and max(reach.values()) < 4 * limit:
        limit = 1.15 * max(reach.values())
    axes.axvline(0, color=GREY, linewidth=1)
    for place, (gain, state) in gains.items():
        if reach[place] > limit:
            sign, side = (1, "right") if gain.value > 0 else (-1, "left")
            arrow = f"{gain.value:+.4f}  →" if sign > 0 else f"←  {gain.value:+.4f}"
            axes.text(sign * limit, place, arrow, ha=side, va="center", fontsize=7)
        else:
            _point(axes, gain, place, state=state)
            text = f" {gain.value:+.4f}"
            axes.annotate(text, (limit, place), va="center", fontsize=7, annotation_clip=False)
    axes.set_xlim(-limit, limit)
    axes.xaxis.set_major_locator(MaxNLocator(4, symmetric=True))
    axes.set_xlabel("gain over the kept line above,\npaired, with its 95 % interval")


def _point(axes: Axes, interval: Interval, place: int, *, state: RungState) -> None:
    colour, marker, full = _LOOKS[state]
    face = colour if full else "none"
    axes.plot((interval.low, interval.high), (place, place), color=colour, linewidth=1.5)
    axes.plot(interval.value, place, marker, color=colour, markerfacecolor=face, markersize=5)


def draw_sources(values: Numbers, *, rows: Sequence[str], columns: Sequence[str]) -> Figure:
    """Sample F1 of each source in each category, coloured by how far it is below the best there.

    Args:
        values: (S, C) sample F1, NaN where a category has no scored image.
        rows: S sources.
        columns: C categories.
    """
    height = 1.5 + 0.21 * len(rows)
    figure = Figure(figsize=(max(WIDTH, 2.4 + 0.72 * len(columns)), height), layout="constrained")
    axes = figure.add_subplot()
    below = np.nan_to_num(values, nan=-1.0).max(axis=0) - values
    most = max(0.02, float(np.nanquantile(below, 0.85)))
    norm = Normalize(0, most, clip=True)
    shown = axes.pcolormesh(below, norm=norm, cmap="cividis_r", edgecolors="none")
    for (row, column), value in np.ndenumerate(values):
        if np.isnan(value):
            axes.text(column + 0.5, row + 0.5, "-", ha="center", va="center", fontsize=7)
            continue
        best = below[row, column] < 5e-4
        axes.text(
            *(column + 0.5, row + 0.5, f"{value:.3f}"), ha="center", va="center", fontsize=7,
            color=_DARK if norm(below[row, column]) < 0.5 else _LIGHT,
            weight="bold" if best else "normal",
        )  # fmt: skip
    axes.set_yticks(np.arange(len(rows)) + 0.5, labels=rows)
    axes.set_xticks(np.arange(len(columns)) + 0.5, labels=columns, fontsize=7)
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.invert_yaxis()
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(
        shown, ax=axes, orientation="horizontal", shrink=0.6, aspect=40, pad=0.02, extend="max"
    )
    bar.set_label("F1 below the best source of that column (yellow, bold: the best)")
    bar.outline.set_visible(False)
    return figure


def draw_reliability(bins: Mapping[str, Numbers]) -> Figure:
    """Predicted beside observed, before and after calibration, with the number of pairs below."""
    figure = Figure(figsize=(WIDTH, 5.4), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot((0, 1), (0, 1), color=GREY, linewidth=1, label="what is meant by a probability")
    for name, colour, marker in (("before", ORANGE, "s"), ("after", BLUE, "o")):
        if name not in bins:
            continue
        low, high, mean, share, n = bins[name].T
        label = f"{name} calibration, {int(n.sum()):,} pairs"
        face = "none" if name == "before" else colour
        upper.plot(mean, share, f"{marker}-", color=colour, markerfacecolor=face, label=label)
        lower.stairs(n, np.append(low, high[-1]), color=colour, linewidth=1.5, baseline=0.5)
    upper.set_ylabel("share of these pairs that is true")
    lower.set_xlabel("probability that the concept is on the image (axes stretched near 0)")
    lower.set_ylabel("pairs in the bin\n(each step ×10)")
    lower.set_yscale("log")
    upper.set_xscale("function", functions=(np.sqrt, np.square))  # of both: they share it
    upper.set_yscale("function", functions=(np.sqrt, np.square))
    for axes in (upper, lower):
        axes.set_xlim(0, 1.02)
        axes.set_xticks(_NOTED, labels=[percent(p) for p in _NOTED])
        axes.grid(color=GREY, alpha=0.25, linewidth=0.6)
    upper.set_ylim(0, 1.02)
    upper.set_yticks(_NOTED, labels=[percent(p) for p in _NOTED])
    lower.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    upper.legend(loc="upper left")
    upper.set_title("Do probabilities mean what they say?")
    return figure


def draw_deciles(deciles: Sequence[tuple[float, Interval]]) -> Figure:
    """Truth against forecast of images that were forecast alike.

    Args:
        deciles: mean forecast, and mean F1 reached, of each tenth of the images.
    """
    figure = Figure(figsize=(0.75 * WIDTH, 0.75 * WIDTH), layout="constrained")
    axes = figure.add_subplot()
    axes.plot((0, 1), (0, 1), color=GREY, linewidth=1, label="forecast is right")
    forecast = [mean for mean, _ in deciles]
    for mean, truth in deciles:
        axes.plot((mean, mean), (truth.low, truth.high), color=BLUE, linewidth=1.5)
    label = "a tenth of the images, 95 % interval" if len(deciles) == 10 else "images alike"
    axes.plot(forecast, [truth.value for _, truth in deciles], "o", color=BLUE, label=label)
    lowest = min([*forecast, *(truth.low for _, truth in deciles)])
    start = max(0.0, np.floor(10 * lowest - 0.2) / 10)
    axes.set_xlim(start, 1.01)
    axes.set_ylim(start, 1.01)
    axes.set_aspect("equal")
    axes.grid(color=GREY, alpha=0.25, linewidth=0.6)
    axes.set_xlabel("forecast F1, mean of these images")
    axes.set_ylabel("F1 that they reached, mean")
    axes.legend(loc="upper left")
    axes.set_title("Images forecast without their labels")
    return figure


def draw_review(orders: Mapping[str, ReviewOrder]) -> Figure:
    """F1 of the images that are not reviewed by the share that is; one line an order."""
    figure = Figure(figsize=(0.85 * WIDTH, 0.5 * WIDTH), layout="constrained")
    axes = figure.add_subplot()
    some = next(iter(orders.values()))
    best = ReviewOrder(scores=np.sort(some.scores), groups=some.groups)
    axes.axhline(float(some.scores.mean()), color=GREY, linewidth=1, label="in any order")
    for name, order, colour, line in (
        *zip(orders, orders.values(), (BLUE, ORANGE, GREEN), ("-", "--", "-."), strict=False),
        ("the worst first, if they were known", best, GREY, ":"),
    ):
        shares, rest = order.curve()
        axes.plot(shares, rest, line, color=colour, label=name)
    axes.set_xlim(0, 0.95)
    axes.set_ylim(top=1.01)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: percent(share)))
    axes.grid(color=GREY, alpha=0.25, linewidth=0.6)
    axes.set_xlabel("share of the images that is reviewed")
    axes.set_ylabel("sample F1 of the rest")
    axes.legend(loc="upper left")
    axes.set_title("What is left when the least sure images are reviewed")
    return figure


def draw_learning(points: Sequence[LearningPoint]) -> Figure:
    """F1 of the second stage by how many labelled images it was fitted on, with intervals."""
    figure = Figure(figsize=(0.85 * WIDTH, 0.5 * WIDTH), layout="constrained")
    axes = figure.add_subplot()
    n_images = [point.n_images for point in points]
    axes.plot(n_images, [point.f1.value for point in points], "o-", color=BLUE, markersize=5)
    for n, point in zip(n_images, points, strict=True):
        axes.plot((n, n), (point.f1.low, point.f1.high), color=BLUE, linewidth=1.5)
        text, place = f"{point.f1.value:.4f}", (n, point.f1.value)
        axes.annotate(text, place, xytext=(5, -9), textcoords="offset points", fontsize=7)
    axes.set_xscale("log")
    axes.set_xticks(n_images, labels=[f"{n:,.0f}\n({percent(p.share)})" for n, p in
                                      zip(n_images, points, strict=True)])  # fmt: skip
    axes.minorticks_off()
    axes.margins(x=0.12)
    axes.grid(axis="y", color=GREY, alpha=0.25, linewidth=0.6)
    axes.set_xlabel("labelled images that the second stage could learn from")
    axes.set_ylabel("sample F1 with its 95 % interval")
    axes.set_title("Would more labelled images help the second stage?")
    return figure
