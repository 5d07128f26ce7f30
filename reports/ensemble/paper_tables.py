"""The scores of an ensemble as LaTeX tables: `report.tex` beside the page."""

from collections.abc import Sequence

from core.metrics import Interval, bootstrap
from core.runs.ensemble import EnsembleRun
from core.runs.ladder import LadderStep
from reports.pages.latex import booktabs, tex

FILE = "report.tex"


def paper_tables(run: EnsembleRun) -> str:
    """The ladder, on the validation images alone as well where that is another, and the sources.

    A comment says what the tables need and which run they are of.
    """
    images = "labelled images" if run.corpus.crossfit else "validation images"
    parts = [
        rf"% Needs \usepackage{{booktabs}}. Written by `report`, of {tex(run.folder.name)}.",
        _ladder(run, run.steps, images=images, label="tab:ladder"),
    ]
    if steps := run.steps_on_valid:
        parts.append(_ladder(run, steps, images="validation images", label="tab:ladder-valid"))
    scores = {
        name: bootstrap(image_f1, groups=run.scored.groups)
        for name, image_f1 in run.record.scores.items()
    }
    n = next(iter(scores.values())).n
    parts.append(
        booktabs(
            ["source", "sample F1", r"95\,\% interval"],
            [[tex(name), *_cells(f1)] for name, f1 in scores.items()],
            caption=f"Sample F1 of every source on {n:,} {images} of {tex(run.corpus.name)} at one"
            " threshold, and of the submission; cross-fitted, with bootstrap intervals over"
            " groups.",
            label="tab:sources",
        )
    )
    return "\n\n".join(parts) + "\n"


def _ladder(run: EnsembleRun, steps: Sequence[LadderStep], *, images: str, label: str) -> str:
    rows = [
        [
            tex(step.name),
            *_cells(step.f1),
            *(("", "") if step.gain is None else _cells(step.gain, signed=True)),
            step.state,
        ]
        for step in steps
    ]
    return booktabs(
        ["step", "sample F1", r"95\,\% interval", "gain", r"95\,\% interval", ""],
        rows,
        caption=f"From the category prior to the submission on {steps[0].f1.n:,} {images} of"
        f" {tex(run.corpus.name)}: cross-fitted sample F1, and the paired gain over the kept step"
        " above, with bootstrap intervals over groups.",
        label=label,
        wraps=True,
    )


def _cells(interval: Interval, *, signed: bool = False) -> tuple[str, str]:
    """A value and its interval; signs of differences are those of mathematics."""
    sign = "+" if signed else ""
    value, low, high = (
        f"${each:{sign}.4f}$" for each in (interval.value, interval.low, interval.high)
    )
    return value, f"{{[}}{low}, {high}{{]}}"
