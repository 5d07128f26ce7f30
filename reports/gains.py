"""Paired gains with their intervals, as a figure."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from core.metrics import Interval
from reports.pages.figures import BLUE, GREY, WIDTH


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
    axes.set_yticks(range(len(ordered)), labels=[name for name, _ in ordered])
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.12)
    axes.set_ylim(-0.6, len(ordered) - 0.4)
    axes.set_title(title)
    axes.set_xlabel(axis)
    return figure
