"""Figures for a paper: bars, histograms, heat maps and scatters, as SVG and PNG.

Colours are those of Okabe and Ito and matplotlib's cividis, which people with any colour vision
tell apart. The same numbers give the same bytes.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from core.metrics import Interval
from core.storage.text import brief, visible

Numbers = npt.NDArray[np.float64]

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#E69F00", "#009E73", "#999999"
PALETTE = (BLUE, ORANGE, GREEN)

WIDTH = 7.0  # inches: the text of an A4 page
_LONGEST = 42  # characters of a concept's name beside its CUI

_STYLE: dict[Any, Any] = {
    "font.size": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.0,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "savefig.dpi": 200,
    "svg.hashsalt": "radfuse",  # ids in the file that do not change from run to run
    "text.parse_math": False,  # a dollar in a concept's name is a dollar
}


@contextmanager
def style() -> Iterator[None]:
    """The project's look, for the length of a block; figures are made and saved in it."""
    with matplotlib.rc_context(_STYLE):
        yield


def save_figure(figure: Figure, folder: Path, *, name: str) -> None:
    """Write `<name>.svg` and `<name>.png`, without a date in them.

    Letters that the font lacks, of other scripts than European ones, are drawn as boxes.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph [0-9]+ .* missing from")
        figure.savefig(folder / f"{name}.svg", format="svg", metadata={"Date": None})
        figure.set_layout_engine("none")  # it stays as it was laid out
        figure.savefig(folder / f"{name}.png", format="png", metadata={"Software": None})


def shorten(text: str, *, longest: int = _LONGEST) -> str:
    """Text from data for a figure: on one line, cut at the end where it is too long.

    Example:
        >>> shorten("computed tomography", longest=10)
        'computed…'
    """
    return brief(text, longest=longest)


def bars(
    labels: Sequence[str], counts: npt.NDArray[np.int64], *, total: int, title: str, axis: str
) -> Figure:
    """Horizontal bars with their number and share, the first one at the top."""
    figure, axes = _canvas(height=0.9 + 0.19 * len(labels))
    places = np.arange(len(labels))
    axes.barh(places, counts, color=BLUE, height=0.75)
    axes.set_yticks(places, labels=labels)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    for place, count in zip(places.tolist(), counts.tolist(), strict=True):
        text = f" {count:,} ({percent(count / total)})"
        axes.text(count, place, text, va="center", fontsize=7)
    axes.set_xlim(0, 1.2 * max(int(counts.max(initial=1)), 1))
    axes.set_ylim(len(labels) - 0.4, -0.6)
    _finish(axes, title=title, x=axis)
    return figure


def grouped_bars(
    labels: Sequence[str], counts: npt.NDArray[np.int64], *, series: Sequence[str], title: str
) -> Figure:
    """Horizontal bars of several series beside each other.

    Args:
        labels: C groups of bars.
        counts: (S, C).
        series: S names.
        title: above the figure.
    """
    figure, axes = _canvas(height=0.9 + (0.16 * len(series) + 0.14) * len(labels))
    height = 0.8 / len(series)
    for row, (name, values) in enumerate(zip(series, counts, strict=True)):
        places = np.arange(len(labels)) + (row - (len(series) - 1) / 2) * height
        axes.barh(places, values, height=0.9 * height, color=PALETTE[row], label=name)
        for place, value in zip(places.tolist(), values.tolist(), strict=True):
            axes.text(value, place, f" {value:,}", va="center", fontsize=7)
    axes.set_yticks(np.arange(len(labels)), labels=labels)
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 1.12 * max(int(counts.max(initial=1)), 1))
    axes.set_ylim(len(labels) - 0.45, -0.55)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 0.99), ncols=len(series))
    _finish(axes, title=title, x="images", pad=20.0)
    return figure


def columns(
    counts: npt.NDArray[np.int64], *, mean: float, title: str, axis: str, note: str
) -> Figure:
    """A histogram of whole numbers from 0, with its mean, and a note in its free corner."""
    figure, axes = _canvas(height=3.0)
    axes.bar(np.arange(len(counts)), counts, width=0.85, color=BLUE)
    axes.axvline(mean, color=ORANGE, linewidth=1.5, label=f"mean {mean:.2f}")
    axes.set_xlim(-0.8, len(counts) - 0.2)
    axes.set_ylim(0, 1.08 * max(int(counts.max(initial=1)), 1))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=11, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.yaxis.set_major_formatter(_thousands())
    axes.legend(loc="upper right", title=note, alignment="right")
    axes.set_ylabel("images")
    axes.set_xlabel(axis)
    axes.set_title(title)
    return figure


def heat_map(
    values: Numbers, *, rows: Sequence[str], columns: Sequence[str], title: str, legend: str
) -> Figure:
    """Shares in [0, 1] as colours, written into the cells where these are wide enough."""
    few = len(columns) <= 12
    width = WIDTH if few else WIDTH + 0.05 * len(columns)
    figure, axes = _canvas(height=1.2 + (0.2 if few else 0.24) * len(rows), width=width)
    shown = axes.imshow(values, vmin=0, vmax=1, cmap="cividis", aspect="auto")
    axes.set_xticks(np.arange(len(columns)), labels=columns, rotation=0 if few else 90, fontsize=7)
    axes.set_yticks(np.arange(len(rows)), labels=rows)
    axes.tick_params(length=0, top=few, labeltop=few, bottom=not few, labelbottom=not few)
    axes.spines[:].set_visible(False)
    for (row, column), value in np.ndenumerate(values):
        if value >= 0.005 and (few or value >= 0.095):
            text = percent(value) if few else f"{100 * value:.0f}"
            colour = "white" if value < 0.55 else "black"
            size = 6.5 if few else 5.0
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)
    bar = figure.colorbar(shown, ax=axes, shrink=min(1.0, 4 / (0.24 * len(rows) + 1)), pad=0.02)
    bar.set_label(legend)
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value)))
    figure.suptitle(title, x=0.01, ha="left", fontsize=9.0)
    return figure


def scatter_shares(
    shares: Numbers,
    *,
    n_images: tuple[int, int],
    marked: npt.NDArray[np.bool_],
    named: Sequence[tuple[int, str]],
    title: str,
) -> Figure:
    """Shares of images in train and in valid, both axes logarithmic.

    A concept that one split lacks stands on the line at that split's margin.

    Args:
        shares: (2, L).
        n_images: of train and of valid.
        marked: (L,) drawn in another colour.
        named: columns to name, with their names; keyed by numbers in the figure.
        title: above the figure.
    """
    figure, axes = _canvas(height=5.2)
    edges = 0.4 / np.array(n_images, dtype=np.float64)  # left of, and below, a single image
    x, y = np.maximum(shares, edges[:, None])
    highest = 1.5
    line = np.geomspace(edges.min(), 1.0, 200)
    spread = 1.96 * np.sqrt(line * (1 - line) * (1 / n_images[0] + 1 / n_images[1]))
    low, high = np.maximum(line - spread, edges.min() / 10), np.minimum(line + spread, 2.0)
    axes.fill_between(line, low, high, color=GREY, alpha=0.25, linewidth=0, label="95 % by chance,"
                      " were all images independent")  # fmt: skip
    for bound in (line, low, high):
        axes.plot(line, bound, color="black", linewidth=0.5, zorder=3)
    for mask, colour, label in (
        (~marked, BLUE, "concepts"),
        (marked, ORANGE, "share differs (false discovery rate 5 %)"),
    ):
        if mask.any():
            axes.scatter(x[mask], y[mask], s=10, color=colour, alpha=0.6, linewidths=0, label=label)
    for value, draw in ((edges[0], axes.axvline), (edges[1], axes.axhline)):
        draw(value, color=GREY, linewidth=0.5, linestyle=":")
    for number, (column, _) in enumerate(named, start=1):
        place = (float(x[column]), float(y[column]))
        axes.annotate(str(number), place, xytext=(4, 4), textcoords="offset points", fontsize=7)
    key = "\n".join(f"{number}  {name}" for number, (_, name) in enumerate(named, start=1))
    if key:
        axes.text(  # hardly a concept is frequent in train and rare in valid
            *(0.99, 0.05), key, transform=axes.transAxes, ha="right", va="bottom", fontsize=7,
            multialignment="left", bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8},
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(edges[0] / 1.3, highest)
    axes.set_ylim(edges[1] / 1.3, highest)
    for one in (axes.xaxis, axes.yaxis):
        one.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axes.legend(loc="upper left", fontsize=7)
    axes.set_xlabel(f"share of the {n_images[0]:,} images of train; dotted: none of them")
    axes.set_ylabel(f"share of the {n_images[1]:,} images of valid; dotted: none of them")
    axes.set_title(title)
    return figure


def percent(share: float) -> str:
    """A share for people.

    Example:
        >>> percent(0.1234), percent(0.012), percent(0.0004), percent(0.0)
        ('12 %', '1.2 %', '<0.1 %', '0 %')
    """
    if 0 < share < 0.0005:
        return "<0.1 %"
    return f"{100 * share:.1f} %" if 0 < share < 0.0995 else f"{100 * share:.0f} %"


def _canvas(*, height: float, width: float = WIDTH) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _finish(axes: Axes, *, title: str, x: str, pad: float = 6.0) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.xaxis.set_major_formatter(_thousands())
    axes.set_xlabel(x)
    axes.set_title(title, x=0, pad=pad)


def _thousands() -> FuncFormatter:
    return FuncFormatter(lambda value, _: f"{value:,.0f}")


def draw_gains(gains: Mapping[str, Interval], *, title: str, axis: str) -> Figure:
    """Values with their intervals on a common axis with a line at 0, the highest at the top."""
    figure = Figure(figsize=(WIDTH, 0.9 + 0.22 * len(gains)), layout="constrained")
    axes = figure.add_subplot()
    axes.axvline(0, color=GREY, linewidth=1)
    ordered = sorted(gains.items(), key=lambda item: item[1].value)
    for place, (_, gain) in enumerate(ordered):
        axes.plot((gain.low, gain.high), (place, place), color=BLUE, linewidth=1.5)
        axes.plot(gain.value, place, "o", color=BLUE, markersize=4)
        axes.text(gain.high, place, f"  {gain.value:+.4f}", va="center", fontsize=7)
    axes.set_yticks(range(len(ordered)), labels=[visible(name) for name, _ in ordered])
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.12)
    axes.set_ylim(-0.6, len(ordered) - 0.4)
    axes.set_title(title)
    axes.set_xlabel(axis)
    return figure
