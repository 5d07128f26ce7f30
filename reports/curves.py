"""Figure 6 of the paper: loss and F1 of the stopping images by epoch, for any experiment."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from core.runs.paper import TABLE_4, Trial, Trials
from reports.pages.figures import BLUE, GREEN, ORANGE, save_figure, style

FIGURE_6 = 3
"""The experiment that the paper's figure shows."""

_COLOURS = {"val1": BLUE, "val2": ORANGE, "valid": GREEN}


def draw_curves(trials: Trials, folder: Path, *, name: str) -> dict[str, str]:
    """Draw the paper's figure, and one of all experiments.

    Args:
        trials: by experiment and half; those not finished are left out.
        folder: gets `<name>-figure-6.svg` and `.png`, `<name>-curves.svg` and `.png`.
        name: what the files' names begin with.

    Returns:
        Caption by name of the PNG file; empty where nothing is finished.
    """
    finished = [trial for trial in trials.values() if trial.meta]
    numbers = sorted({trial.number for trial in finished})
    captions = {}
    with style():
        if FIGURE_6 in numbers:
            figure = _paper_figure([t for t in finished if t.number == FIGURE_6])
            save_figure(figure, folder, f"{name}-figure-6")
            captions[f"{name}-figure-6.png"] = (
                f"Loss and F1 of the stopping images by epoch, experiment {FIGURE_6}"
                f" ({TABLE_4[FIGURE_6].title}); a dot marks the best epoch."
            )
        if numbers:
            figure = _grid([[t for t in finished if t.number == n] for n in numbers])
            save_figure(figure, folder, f"{name}-curves")
            captions[f"{name}-curves.png"] = (
                "F1 of the stopping images by epoch, all experiments; a dot marks the best epoch."
            )
    return captions


def _paper_figure(trials: Sequence[Trial]) -> Figure:
    figure = Figure(figsize=(7, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    _curves(left, trials, key="stop_loss", label="loss")
    _curves(right, trials, key="f1", label="sample F1, decided at 0.5")
    right.legend()
    return figure


def _grid(experiments: Sequence[Sequence[Trial]]) -> Figure:
    n_columns = min(5, len(experiments))
    n_rows = -(-len(experiments) // n_columns)
    figure = Figure(figsize=(2.1 * n_columns + 0.5, 2.0 * n_rows + 0.4), layout="constrained")
    axes = figure.subplots(n_rows, n_columns, sharey=True, squeeze=False)
    for axis in axes.flat[len(experiments) :]:
        axis.set_visible(False)
    for axis, trials in zip(axes.flat, experiments, strict=False):
        number = trials[0].number
        title = TABLE_4[number].title.replace(", ", "\n", 1)
        axis.set_title(f"{number}: {title}")
        _curves(axis, trials, key="f1", label="")
    for row in axes:
        row[0].set_ylabel("sample F1")
    by_label: dict[Any, Any] = {}
    for axis in axes.flat:
        handles, labels = axis.get_legend_handles_labels()
        by_label |= dict(zip(labels, handles, strict=True))
    names = sorted(by_label)
    handles = [by_label[name] for name in names]
    figure.legend(handles, names, loc="outside upper center", ncols=3)
    return figure


def _curves(axis: Axes, trials: Sequence[Trial], *, key: str, label: str) -> None:
    for trial in trials:
        entries: list[dict[str, Any]] = trial.epochs()
        epochs = [entry["epoch"] for entry in entries]
        values = [entry[key] for entry in entries]
        colour = _COLOURS[trial.stop_on]
        axis.plot(epochs, values, color=colour, label=f"stopped on {trial.stop_on}")
        best = epochs.index(trial.meta["best_epoch"][0])
        axis.plot(epochs[best], values[best], "o", color=colour, markersize=5)
    axis.set_xlabel("epoch")
    axis.set_ylabel(label)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axis.grid(alpha=0.3)
