"""Sections of the report on scores: ladder, sources by category, worth of members and images."""

from collections.abc import Sequence

import numpy as np

from core.categories import CATEGORIES, Category
from core.images import ImageTable
from core.metrics import Scores, bootstrap
from core.runs.ensemble import EnsembleRun
from core.runs.ladder import LadderStep
from core.runs.learning import LearningPoint
from core.storage.text import code, plain
from reports.ensemble.figures import draw_ladder, draw_learning, draw_sources
from reports.ensemble.paper_tables import FILE
from reports.pages.figures import draw_gains, percent, shorten
from reports.pages.markdown import Section, errors, picture, table


def ladder_section(run: EnsembleRun) -> Section:
    """Every rung, kept or not."""
    rows = [[step.name, str(step.f1), _signed(step), step.state] for step in run.steps]
    alt = "Each rung of the ladder with its sample F1 and its gain over the kept rung above it"
    return Section(
        heading="From the category prior to the submission",
        paragraphs=[
            "The simplest first. *Kept* is what the next lines are compared with; *not kept* was"
            f" tried, but does not gain {errors(run.meta['margin'])} of the paired difference,"
            " so the simpler one stays. The last line is what is submitted. As LaTeX tables, with"
            f" the sources below: {code(FILE)} beside this page.",
            picture("report_ladder", alt),
            table(
                [f"n = {run.steps[0].f1.n:,}", "sample F1", "gain over the kept line above", ""],
                rows,
            ),
        ],
        figures={"report_ladder": draw_ladder(run.steps)},
    )


def valid_section(run: EnsembleRun) -> Sequence[Section]:
    """The ladder on the validation images alone, where others were scored beside them."""
    steps = run.steps_on_valid
    if steps is None:
        return []
    rows = [[step.name, str(step.f1), _signed(step), step.state] for step in steps]
    header = [f"n = {steps[0].f1.n:,}", "sample F1", "gain over the kept line above", ""]
    return [
        Section(
            heading="On the validation images alone",
            paragraphs=[
                "The same ladder on the images that others are scored on as well.",
                table(header, rows),
            ],
        )
    ]


def sources_section(run: EnsembleRun) -> Section:
    """Every source in every category, as colours and as numbers."""
    names, scores = run.names, run.record.scores
    present = [c for c in CATEGORIES if (names == c).any()]
    columns = [np.ones(len(names), dtype=np.bool_), *(names == c for c in present)]
    scored = ~np.isnan(next(iter(scores.values())))  # the rule leaves out the same for every source
    counts = [int((scored & here).sum()) for here in columns]
    titles = ["all", *(Category(c).value for c in present)]
    header = [f"{title}, n = {n:,}" for title, n in zip(titles, counts, strict=True)]
    rows = []
    for name, image_f1 in scores.items():
        cells = [_cell(image_f1[here], run.scored.take(here)) for here in columns[1:]]
        whole = str(bootstrap(image_f1, groups=run.scored.groups))
        rows.append([name, whole, *cells])
    means = np.array([[_mean(f1[here]) for here in columns] for f1 in scores.values()])
    order = np.argsort(-means[:, 0], kind="stable")
    figure = draw_sources(
        means[order],
        rows=[shorten(list(scores)[row]) for row in order],
        columns=[f"{title}\nn = {n:,}" for title, n in zip(titles, counts, strict=True)],
    )
    alt = "Sample F1 of each source in each category, coloured by the distance from the best"
    legend = ", ".join(f"{c} {Category(c).meaning}" for c in present)
    return Section(
        heading="Every source, by category",
        paragraphs=[
            "With one threshold for all concepts, but for the submission, which decides by"
            f" {plain(run.meta['decision'])}. Where a source does not cover an image, as a"
            " specialist most, it stands for the mean of those that do. In the figure the best on"
            " all images is at the top.",
            picture("report_sources", alt),
            *([f"{legend}."] if present else []),
            table(["source", *header], rows),
        ],
        figures={"report_sources": figure},
    )


def worth_sections(run: EnsembleRun) -> Sequence[Section]:
    """What each member is worth; nothing where that is not known."""
    if not run.record.worth:
        return []
    gains = {shorten(step.name): step.gain for step in run.record.worth if step.gain is not None}
    figure = draw_gains(
        gains,
        title="What the stack gains by having a member",
        axis="gain in sample F1, paired, with its 95 % interval",
    )
    rows = [[step.name, str(step.f1), _signed(step)] for step in run.record.worth]
    return [
        Section(
            heading="What each member is worth",
            paragraphs=[
                f"Cross-fitted sample F1 of the stacker {code(run.meta['worth_to'])} at one"
                " threshold, fitted without the member, and what having it gains, paired. Members"
                " that say the same are worth little each: the gains do not add up.",
                picture("report_members", "Gain by having each member with its interval"),
                table(["member", "sample F1 without it", "gain by having it"], rows),
            ],
            figures={"report_members": figure},
        )
    ]


def learning_sections(run: EnsembleRun) -> Sequence[Section]:
    """What more labelled images would bring; nothing where that was not looked at."""
    points = run.record.learning
    if not points:
        return []
    rows = [
        [
            percent(point.share),
            f"{point.n_images:,.0f}",
            str(point.f1),
            "" if point.gain is None else point.gain.signed(),
        ]
        for point in points
    ]
    name = run.meta.get("worth_to") or "mean"
    learns = "" if name != "mean" else " The mean learns nothing but its threshold."
    return [
        Section(
            heading="Would more labelled images help?",
            paragraphs=[
                f"The stacker {code(name)} at one threshold, fitted on a share of the labelled"
                " groups (patients, studies), drawn at random, and judged on all scored images,"
                f" each by what drawn images of other folds taught.{learns} Shares below all of"
                " them are means of three draws. The detectors and fused sources are the same at"
                " every point: what more images would teach *them* is not in it.",
                _outlook(points),
                picture(
                    "report_learning", "Sample F1 by the number of labelled images learnt from"
                ),
                table(["share", "labelled images", "sample F1", "gain over the line above"], rows),
            ],
            figures={"report_learning": draw_learning(points)},
        )
    ]


def _outlook(points: Sequence[LearningPoint]) -> str:
    """What the end of the curve means."""
    last = points[-1].gain
    assert last is not None
    meaning = (
        "A curve that still rises at its end means that more labelled images would help; one that"
        " is flat there means that they would hardly. "
    )
    step = f"the last step, from {percent(points[-2].share)} to all, brings {last.signed()}"
    if last.low > 0:
        return f"{meaning}**It still rises:** {step}, which is beyond chance."
    if last.high < 0:
        return f"{meaning}**It falls:** {step}; more images like these would not help."
    return f"{meaning}**It is flat, as far as can be told:** {step}, which chance alone can bring."


def _signed(step: LadderStep) -> str:
    return "" if step.gain is None else step.gain.signed()


def _mean(image_f1: Scores) -> float:
    kept = image_f1[~np.isnan(image_f1)]
    return float(kept.mean()) if len(kept) else float("nan")


def _cell(image_f1: Scores, images: ImageTable) -> str:
    if np.isnan(image_f1).all():
        return "-"
    interval = bootstrap(image_f1, groups=images.groups)
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
