"""`report`: what a workspace has reached, as a page in Markdown and as one HTML file."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from core.metrics import bootstrap
from core.runs.ensemble import EnsembleRun, newest_ensemble
from core.runs.external import ExternalResource, resources_of_members
from core.runs.leakage import concerned_images, counted_duplicates, known_duplicates
from core.runs.workspace import Corpus, Workspace
from core.storage.drafts import new_files
from core.storage.text import plain
from reports.ensemble.concepts import concepts_section
from reports.ensemble.decisions import rules_section, threshold_sections
from reports.ensemble.examples import EXAMPLE, Reader, example_sections
from reports.ensemble.judged import JudgedImages
from reports.ensemble.paper_tables import FILE, paper_tables
from reports.ensemble.probabilities import calibration_sections, forecast_sections
from reports.ensemble.provenance import MadeStep, provenance_section, steps_of
from reports.ensemble.rare import rare_sections
from reports.ensemble.review import review_sections
from reports.ensemble.scores import (
    ladder_section,
    learning_sections,
    sources_section,
    valid_section,
    worth_sections,
)
from reports.pages.figures import save_figure, style
from reports.pages.html import html_page
from reports.pages.markdown import Section, as_markdown, resources_table


def write_report(
    corpus: Corpus, workspace: Workspace, *, read: Reader | None = None
) -> tuple[Path, Path]:
    """Write `report.md` and `report.html` for the newest ensemble of the corpus.

    The figures lie beside them as SVG and PNG, pictures of examples as JPEG; the HTML file holds
    all of them and needs no other. `report.tex` has the scores as tables for a paper. Pictures of
    an earlier report go.

    Args:
        corpus: the prepared corpus.
        workspace: where it lies.
        read: gives the pixels of an image file; None leaves pictures out.

    Returns:
        The paths of both pages.

    Raises:
        MissingStageError: there is no ensemble of this corpus; the command is named.
    """
    run = newest_ensemble(corpus, workspace)
    title = f"Concept detection on {corpus.name}"
    with new_files(workspace.reports) as folder, style():
        known = run.meta.get("members")  # not of a run of an earlier version
        resources = (
            None if known is None else resources_of_members(known, corpus, workspace=workspace)
        )
        parts = report_sections(
            run,
            likeness=_likeness(run, workspace),
            resources=resources,
            read=read,
            steps=steps_of(run, workspace),
        )
        (folder / FILE).write_text(paper_tables(run), encoding="ascii")
        pictures = {name: picture for part in parts for name, picture in part.pictures.items()}
        for name, picture in pictures.items():
            (folder / f"{name}.jpg").write_bytes(picture)
        figures = {name: figure for part in parts for name, figure in part.figures.items()}
        for name, figure in figures.items():
            save_figure(figure, folder, name=name)
        svgs = {name: (folder / f"{name}.svg").read_text(encoding="utf-8") for name in figures}
        text = as_markdown(title, parts)
        (folder / "report.md").write_text(text, encoding="utf-8")
        page = html_page(title, text, svgs=svgs, pictures=pictures)
        (folder / "report.html").write_text(page, encoding="utf-8")
    for path in workspace.reports.glob(f"{EXAMPLE}*.jpg"):
        if path.stem not in pictures:
            path.unlink(missing_ok=True)
    return workspace.reports / "report.md", workspace.reports / "report.html"


def report_sections(
    run: EnsembleRun,
    *,
    likeness: Sequence[str] = (),
    resources: Mapping[ExternalResource, Sequence[str]] | None = None,
    read: Reader | None = None,
    steps: Sequence[MadeStep] = (),
) -> Sequence[Section]:
    """The parts of the page that the run has the files for.

    Args:
        run: the ensemble.
        likeness: what is known of near-duplicates across the splits, a line each.
        resources: weights that networks started from, and which members took them; None where that
            was not looked for.
        read: gives the pixels of an image file; None leaves pictures out.
        steps: by which commands everything was made; none where that was not looked for.
    """
    judged, names = JudgedImages.of(run), run.corpus.names
    return [
        _opening(run, likeness),
        ladder_section(run),
        *valid_section(run),
        sources_section(run),
        *worth_sections(run),
        *learning_sections(run),
        rules_section(run),
        concepts_section(judged, names=names),
        *example_sections(judged, names=names, read=read),
        *threshold_sections(run),
        *rare_sections(run),
        *calibration_sections(run),
        *forecast_sections(run),
        *review_sections(run),
        *([] if resources is None else [_external(resources)]),
        provenance_section(run, steps),
    ]


def _likeness(run: EnsembleRun, workspace: Workspace) -> list[str]:
    """Near-duplicates across the splits, and the score of valid without them; none if not sought.

    Groups that cross are among the corpus' notes.
    """
    pairs = known_duplicates(run.corpus, workspace)
    if pairs is None:
        return []
    lines = [f"near-duplicates across splits: {counted_duplicates(pairs)}"]
    alike = concerned_images(run.corpus, workspace, split="valid", learnt_from=("train",))
    kept = np.array([
        split == "valid" and image_id not in (alike.by_likeness or ())
        for image_id, split in zip(run.scored.image_ids, run.scored.splits, strict=True)
    ])  # fmt: skip
    submitted = run.rungs[-1].image_f1[kept]
    if alike.by_likeness and not np.isnan(submitted).all():
        f1 = bootstrap(submitted, groups=run.scored.take(kept).groups)
        lines.append(
            f"**{f1}**: the submission on the {f1.n:,} validation images that have no"
            " near-duplicate in train"
        )
    return lines


def _opening(run: EnsembleRun, likeness: Sequence[str]) -> Section:
    corpus, submitted = run.corpus, run.steps[-1].f1
    lines = [
        f"**{submitted.value:.4f}** [{submitted.low:.4f}, {submitted.high:.4f}]: sample F1 of the"
        f" submission on {submitted.n:,} {_scored(corpus)}"
    ]
    if valid := run.steps_on_valid:
        lines.append(
            f"**{valid[-1].f1}**: the same on the {valid[-1].f1.n:,} validation images alone"
        )
    if made := run.meta.get("forecast"):
        lines.append(
            f"**{made['value']:.3f}** [{made['low']:.3f}, {made['high']:.3f}]: its forecast for"
            f" {made['n']:,} test images, made without their labels"
        )
    counts = [f"{len(corpus.table.of(split=s)):,} {s}" for s in ("train", "valid", "test")]
    lines.append(
        f"{', '.join(counts)} images; {len(corpus.labels):,} concepts in train"
        f"{' and valid' if corpus.crossfit else ''}"
    )
    return Section(
        heading="",
        paragraphs=[
            "\n".join(f"- {line}" for line in (*lines, *map(plain, corpus.notes), *likeness)),
            "Sample F1 (the task's score: F1 of each image, then the mean) on the"
            f" {_scored(corpus)}, cross-fitted: {_SOURCES_TOO if corpus.crossfit else 'every'}"
            " threshold, stacker and rule was fitted on folds that do not hold the image. Intervals"
            " are 95 % bootstrap intervals over groups (patients, studies); gains are paired on the"
            " same images.",
        ],
    )


_SOURCES_TOO = "every detector, fused source,"


def _scored(corpus: Corpus) -> str:
    """The scored images, as the text calls them."""
    return "labelled images, train and valid together" if corpus.crossfit else "validation images"


def _external(resources: Mapping[ExternalResource, Sequence[str]]) -> Section:
    return Section(
        heading="External resources",
        paragraphs=[
            "Weights that the networks started from, beside the corpus itself, with the licence"
            " that their source states.",
            resources_table(resources),
        ],
    )
