"""The page of `reproduce`: the paper's Tables 4 and 5 with ours beside theirs, and its findings."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from core.metrics import Interval, bootstrap
from core.runs.paper import (
    FINDINGS,
    OTHER_HALF,
    TABLE_4,
    TABLE_5,
    THRESHOLD,
    Finding,
    Trial,
    Trials,
    find_trials,
)
from core.runs.workspace import Corpus, Workspace
from reports.curves import draw_curves
from reports.halves import score_half, score_pair
from reports.pages.markdown import table


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
    trials = find_trials(corpus, workspace, scale)
    home = workspace.reports
    home.mkdir(parents=True, exist_ok=True)
    path = home / f"reproduce-{scale}.md"
    figures = draw_curves(trials, home, name=path.stem)
    path.write_text(
        page(corpus, trials, scale=scale, title=title, scores=scores or {}, figures=figures),
        encoding="utf-8",
    )
    return path


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
        f"# The paper's experiments on {corpus.name}",
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
        table_5(corpus, trials, scores),
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
        found = difference(corpus, trials, finding)
        cells = ["not trained", ""] if found is None else [found.signed(), f"{found.n:,}"]
        differing = "" if found is None else _differing(trials, finding)
        says = verdict(finding, found)
        if "weights" in differing:
            says = "not comparable"
        numbers = f"{finding.better} - {finding.worse}"
        rows.append([finding.says, numbers, *cells, says, differing])
    return table(header, rows)


def _differing(trials: Trials, finding: Finding) -> str:
    """Settings that tell the two experiments apart as they were trained here."""
    ours, theirs = (trials[n, "val1"].settings for n in (finding.better, finding.worse))
    ours["weights"], theirs["weights"] = (_start(s["weights"]) for s in (ours, theirs))
    names = [name for name in ours if ours[name] != theirs.get(name)]
    return ", ".join(name for name in names if name != "backbone")


def _start(weights: str) -> str:
    return "random weights" if weights == "none" else "pretrained"


def difference(corpus: Corpus, trials: Trials, finding: Finding) -> Interval | None:
    """Sample F1 of the one experiment less that of the other, paired; None without both pairs."""
    pairs = [score_pair(corpus, trials, n) for n in (finding.better, finding.worse)]
    better, worse = pairs
    if better is None or worse is None:
        return None
    return bootstrap(better.image_f1 - worse.image_f1, groups=better.images.groups)


def verdict(finding: Finding, found: Interval | None) -> str:
    """Whether a finding holds here."""
    if found is None:
        return ""
    above, below = found.low > 0, found.high < 0
    if finding.gains:
        return "holds" if above else "the reverse holds" if below else "not decided"
    return "does not hold" if above else "it loses" if below else "not contradicted"


def table_5(corpus: Corpus, trials: Trials, scores: Mapping[str, float]) -> str:
    """The submitted runs."""
    header = ["run", "theirs, test", "rank of 47", "ours, valid [95 %]", "n", "without a concept"]
    header += ["ours, test"] if scores else []
    rows = []
    for name, run in TABLE_5.items():
        on = score_pair(corpus, trials, run.experiment, nomissing=run.nomissing)
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
    versions = ", ".join(f"{name} {version}" for name, version in newest["packages"].items())
    seconds = sum(meta["seconds"] for meta in finished)
    return (
        f"{len(finished)} networks, {seconds / 60:.0f} minutes of training in all, the last"
        f" {newest['made'][:10]}; {newest['device']}, {newest['machine']}, Python"
        f" {newest['python']}; {versions}."
    )
