"""The page of `reproduce`: the paper's Tables 4 and 5 with ours beside theirs, and its findings.

Scores are of the half of valid that did not stop a network; Figure 6 is drawn for any experiment.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from core.editions import empty_truth_rule
from core.errors import LeakageError
from core.images import ImageTable
from core.metrics import Interval, Scores, bootstrap, decided_at, image_f1
from core.runs.paper import (
    FINDINGS,
    OTHER_HALF,
    TABLE_4,
    TABLE_5,
    THRESHOLD,
    PaperFinding,
    Trial,
    Trials,
    find_trials,
)
from core.runs.workspace import Corpus, Workspace
from core.storage.drafts import new_files
from core.storage.text import plain
from reports.pages.figures import BLUE, GREEN, ORANGE, save_figure, style
from reports.pages.markdown import table, versions_of


def write_reproduction(
    corpus: Corpus,
    workspace: Workspace,
    *,
    scale: str,
    title: str,
    scores: Mapping[str, float] | None = None,
) -> Path:
    """Write `reproduce-<scale>.md` with its figures, and give its path.

    Args:
        corpus: the prepared corpus.
        workspace: with the trained networks.
        scale: whose networks.
        title: what the scale changes, in words.
        scores: official F1 of the runs of Table 5, where the truth of test is known.
    """
    trials = find_trials(corpus, workspace, scale=scale)
    name = f"reproduce-{scale}"
    with new_files(workspace.reports) as folder:
        figures = draw_curves(trials, folder, name=name)
        (folder / f"{name}.md").write_text(
            page(corpus, trials, scale=scale, title=title, scores=scores or {}, figures=figures),
            encoding="utf-8",
        )
    return workspace.reports / f"{name}.md"


def page(
    corpus: Corpus,
    trials: Trials,
    *,
    scale: str,
    title: str,
    scores: Mapping[str, float],
    figures: Mapping[str, str],
) -> str:
    """The page as Markdown; arguments as of `write_reproduction`, figures caption by file."""
    halves = [len(corpus.valid_half(half)) for half in OTHER_HALF]
    parts = [
        f"# The paper's experiments on {plain(corpus.name)}",
        f"Scale `{scale}`: {title}.",
        "Ten experiments of team iml (ImageCLEFmed Caption 2020, Table 4), each a pair of networks:"
        f" one stopped on val1 ({halves[0]:,} images) and tested on val2 ({halves[1]:,}), one the"
        " other way round. Concepts are decided at 0.5; the score is sample F1 with its 95 %"
        " bootstrap interval over groups (patients, studies). The paper's columns are its own, on"
        " the task's 15,970 validation images with 3,047 concepts: what can be compared is which"
        " experiment beats which, not the numbers.",
        "## Table 4",
        table_4(corpus, trials),
        "## The paper's findings",
        "Paired on the same images, both halves together. A gain holds where its interval lies"
        " above 0, and its reverse where it lies below. That something brings nothing is not shown"
        " by an interval that holds 0: it is then not contradicted.",
        findings_table(corpus, trials),
        "## Table 5",
        "The five submitted runs, by the networks that val1 stopped; ours are scored on valid, each"
        " half under the network that the other stopped. `nomissing` gives an image that is left"
        " without a concept its most probable one (the paper does not define it).",
        table_5(corpus, trials, scores=scores),
        "## Figure 6",
        *(f"![{caption}]({file})\n\n{caption}" for file, caption in figures.items()),
        "## How it was made",
        _made(trials),
    ]
    return "\n\n".join(parts) + "\n"


def table_4(corpus: Corpus, trials: Trials) -> str:
    """A row an experiment: theirs and ours, epochs and wall time included."""
    header = ["#", "experiment", "at this scale"]
    for half in OTHER_HALF:
        header += [f"{half}: theirs, epoch", "F1", "ours, epoch", "F1 [95 %]"]
    header += ["online", "our time"]
    rows = []
    for number, row in TABLE_4.items():
        cells = [str(number), row.title]
        pair = [trials.get((number, half)) for half in OTHER_HALF]
        cells.append(_settings(next((t for t in pair if t is not None and t.meta), None)))
        for trial, epoch, f1 in zip(pair, row.epochs, row.f1, strict=True):
            cells += ["crash", ""] if f1 is None else [str(epoch), f"{f1:.4f}"]
            cells += _ours(corpus, trial)
        seconds = sum(t.meta.get("seconds", 0) for t in pair if t is not None)
        cells += ["" if row.online is None else f"{row.online:.3f}", _minutes(seconds)]
        rows.append(cells)
    return table(header, rows)


def _ours(corpus: Corpus, trial: Trial | None) -> list[str]:
    """Best epoch and score, or why there is none."""
    if trial is None:
        return ["", "not trained"]
    if not trial.meta:
        return ["crash", trial.crash.partition(":")[0]] if trial.crash else ["", "under way"]
    on = score_half(corpus, trial)
    return [str(trial.meta["best_epoch"][0]), str(bootstrap(on.image_f1, groups=on.images.groups))]


def _settings(trial: Trial | None) -> str:
    """What a reader must know of a finished network's settings."""
    if trial is None:
        return ""
    settings = trial.settings
    start = _start(settings["weights"])
    widths = "x".join([str(len(settings["hidden"])), str(settings["hidden"][0])])
    (size,) = settings["image_sizes"]
    return f"{size} px, {widths}, batch {settings['batch_size']}, {start}"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds else ""


def findings_table(corpus: Corpus, trials: Trials) -> str:
    """Each finding of the paper, the paired difference here, and whether it holds."""
    header = [
        "the paper",
        "experiments",
        "difference [95 %]",
        "n",
        "here",
        "the settings differ in",
    ]
    rows = []
    for finding in FINDINGS:
        found = difference(corpus, trials, finding=finding)
        cells = ["not trained", ""] if found is None else [found.signed(), f"{found.n:,}"]
        differing = "" if found is None else _differing(trials, finding)
        says = verdict(finding, found)
        if "weights" in differing:
            says = "not comparable"
        numbers = f"{finding.better} - {finding.worse}"
        rows.append([finding.says, numbers, *cells, says, differing])
    return table(header, rows)


def _differing(trials: Trials, finding: PaperFinding) -> str:
    """Settings that tell the two experiments apart as they were trained here."""
    ours, theirs = (trials[n, "val1"].settings for n in (finding.better, finding.worse))
    ours["weights"], theirs["weights"] = (_start(s["weights"]) for s in (ours, theirs))
    names = [name for name in ours if ours[name] != theirs.get(name)]
    return ", ".join(name for name in names if name != "backbone")


def _start(weights: str) -> str:
    return "random weights" if weights == "none" else "pretrained"


def difference(corpus: Corpus, trials: Trials, *, finding: PaperFinding) -> Interval | None:
    """Sample F1 of the one experiment less that of the other, paired; None without both pairs."""
    pairs = [score_pair(corpus, trials, number=n) for n in (finding.better, finding.worse)]
    better, worse = pairs
    if better is None or worse is None:
        return None
    return bootstrap(better.image_f1 - worse.image_f1, groups=better.images.groups)


def verdict(finding: PaperFinding, found: Interval | None) -> str:
    """Whether a finding holds here."""
    if found is None:
        return ""
    above, below = found.low > 0, found.high < 0
    if finding.gains:
        return "holds" if above else "the reverse holds" if below else "not decided"
    return "does not hold" if above else "it loses" if below else "not contradicted"


def table_5(corpus: Corpus, trials: Trials, *, scores: Mapping[str, float]) -> str:
    """The submitted runs."""
    header = ["run", "theirs, test", "rank of 47", "ours, valid [95 %]", "n", "without a concept"]
    header += ["ours, test"] if scores else []
    rows = []
    for name, run in TABLE_5.items():
        on = score_pair(corpus, trials, number=run.experiment, nomissing=run.nomissing)
        cells = [name, f"{run.f1:.4f}", str(run.rank)]
        if on is None:
            cells += ["not trained", "", ""]
        else:
            f1 = bootstrap(on.image_f1, groups=on.images.groups)
            n_empty = "0" if run.nomissing else f"{_n_empty(corpus, trials, run.experiment):,}"
            cells += [str(f1), f"{f1.n:,}", n_empty]
        if scores:
            cells.append(f"{scores[name]:.4f}" if name in scores else "")
        rows.append(cells)
    return table(header, rows)


def _n_empty(corpus: Corpus, trials: Trials, number: int) -> int:
    """Valid images that the pair's networks leave without a concept."""
    n_empty = 0
    for half, other in OTHER_HALF.items():
        ids = corpus.valid_half(other).image_ids
        probs = trials[number, half].predictions("valid").rows(ids).probs
        n_empty += int((probs.max(axis=1) < np.float32(THRESHOLD)).sum())
    return n_empty


def _made(trials: Trials) -> str:
    finished = [trial.meta for trial in trials.values() if trial.meta]
    if not finished:
        return "Nothing is trained yet."
    newest = max(finished, key=lambda meta: str(meta["made"]))
    seconds = sum(meta["seconds"] for meta in finished)
    return (
        f"{len(finished)} networks, {seconds / 60:.0f} minutes of training in all, the last"
        f" {plain(newest['made'][:10])}; {plain(newest['device'])}, {versions_of(newest)}."
    )


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
            save_figure(figure, folder, name=f"{name}-figure-6")
            captions[f"{name}-figure-6.png"] = (
                f"Loss and F1 of the stopping images by epoch, experiment {FIGURE_6}"
                f" ({TABLE_4[FIGURE_6].title}); a dot marks the best epoch."
            )
        if numbers:
            figure = _grid([[t for t in finished if t.number == n] for n in numbers])
            save_figure(figure, folder, name=f"{name}-curves")
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


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Valid images with the F1 that networks reached which these images did not stop.

    Attributes:
        images: n images.
        image_f1: (n,) NaN where the score leaves an image out.
    """

    images: ImageTable
    image_f1: Scores

    @classmethod
    def join(cls, corpus: Corpus, parts: list["Scored"]) -> "Scored":
        """Both halves as one."""
        ids = [image_id for part in parts for image_id in part.images.image_ids]
        images = corpus.table.take(corpus.table.row_numbers(ids))
        return cls(images=images, image_f1=np.concatenate([part.image_f1 for part in parts]))


def score_half(corpus: Corpus, trial: Trial, *, nomissing: bool = False) -> Scored:
    """A finished network on the half of valid that did not stop it, decided at 0.5.

    Args:
        corpus: the prepared corpus.
        trial: stopped on `val1` or `val2`.
        nomissing: whether an image left without a concept gets its most probable one.

    Raises:
        LeakageError: it met these images while it was trained.
    """
    images = corpus.valid_half(OTHER_HALF[trial.stop_on])
    predictions = trial.predictions("valid").rows(images.image_ids)
    if met := predictions.fitted_on.intersection(images.image_ids):
        raise LeakageError(
            f"{trial.folder}: {len(met)} of the images that test it stopped it; train it again"
        )
    decided = decided_at(predictions.probs, THRESHOLD, nomissing=nomissing)
    rule = empty_truth_rule(corpus.edition)
    truth = images.targets(predictions.labels)
    return Scored(images=images, image_f1=image_f1(truth, decided, empty_truth=rule))


def score_pair(
    corpus: Corpus, trials: Trials, *, number: int, nomissing: bool = False
) -> Scored | None:
    """Both halves of valid, each under the network that the other stopped; None without both."""
    pair = [trials.get((number, stop_on)) for stop_on in OTHER_HALF]
    finished = [trial for trial in pair if trial is not None and trial.meta]
    if len(finished) < len(OTHER_HALF):
        return None
    parts = [score_half(corpus, trial, nomissing=nomissing) for trial in finished]
    return Scored.join(corpus, parts)
