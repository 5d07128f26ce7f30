"""`report`: what a workspace has reached, as a page in Markdown and as one HTML file."""

from collections.abc import Sequence
from pathlib import Path

from core.runs.workspace import Corpus, Workspace
from reports.ensemble.decisions import rules_part, threshold_parts
from reports.ensemble.probabilities import calibration_parts, forecast_parts
from reports.ensemble.run import Reached, read_reached
from reports.ensemble.scores import ladder_part, sources_part, worth_parts
from reports.pages.figures import save_figure, style
from reports.pages.html import html_page
from reports.pages.markdown import Part, as_markdown


def write_report(corpus: Corpus, workspace: Workspace) -> tuple[Path, Path]:
    """Write `report.md` and `report.html` for the newest ensemble of the corpus.

    The figures lie beside them as SVG and PNG; the HTML file holds them and needs no other.

    Returns:
        The paths of both pages.

    Raises:
        MissingStageError: there is no ensemble of this corpus; the command is named.
    """
    reached = read_reached(corpus, workspace)
    title = f"Concept detection on {corpus.name}"
    folder = workspace.reports
    folder.mkdir(parents=True, exist_ok=True)
    with style():
        parts = report_parts(reached)
        figures = {name: figure for part in parts for name, figure in part.figures.items()}
        for name, figure in figures.items():
            save_figure(figure, folder, name)
    svgs = {name: (folder / f"{name}.svg").read_text(encoding="utf-8") for name in figures}
    text = as_markdown(title, parts)
    pages = (folder / "report.md", folder / "report.html")
    pages[0].write_text(text, encoding="utf-8")
    pages[1].write_text(html_page(title, text, svgs), encoding="utf-8")
    return pages


def report_parts(reached: Reached) -> Sequence[Part]:
    """The parts of the page that the run has the files for."""
    return [
        _opening(reached),
        ladder_part(reached),
        sources_part(reached),
        *worth_parts(reached),
        rules_part(reached),
        *threshold_parts(reached),
        *calibration_parts(reached),
        *forecast_parts(reached),
        _provenance(reached),
    ]


def _opening(reached: Reached) -> Part:
    corpus, submitted = reached.corpus, reached.steps[-1].f1
    lines = [
        f"**{submitted.value:.4f}** [{submitted.low:.4f}, {submitted.high:.4f}]: sample F1 of the"
        f" submission on {submitted.n:,} validation images"
    ]
    if made := reached.meta.get("forecast"):
        lines.append(
            f"**{made['value']:.3f}** [{made['low']:.3f}, {made['high']:.3f}]: its forecast for"
            f" {made['n']:,} test images, made without their labels"
        )
    counts = [f"{len(corpus.table.of(split=s)):,} {s}" for s in ("train", "valid", "test")]
    lines.append(f"{', '.join(counts)} images; {len(corpus.labels):,} concepts in train")
    return Part(
        heading="",
        paragraphs=[
            "\n".join(f"- {line}" for line in (*lines, *corpus.notes)),
            "Sample F1 (the task's score: F1 of each image, then the mean) on the validation"
            " images, cross-fitted: every threshold, stacker and rule was fitted on folds that do"
            " not hold the image. Intervals are 95 % bootstrap intervals over groups (patients,"
            " studies); gains are paired on the same images.",
        ],
    )


def _provenance(reached: Reached) -> Part:
    meta = reached.meta
    versions = ", ".join(f"{name} {version}" for name, version in meta["packages"].items())
    return Part(
        heading="How it was made",
        paragraphs=[
            f"Run `{reached.run}`, {meta['made']}, Python {meta['python']}, {meta['machine']};"
            f" {versions}."
        ],
    )
