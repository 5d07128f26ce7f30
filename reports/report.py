"""`report`: what a workspace has reached, as one Markdown page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core.categories import CATEGORIES, Category
from core.errors import MissingStageError
from core.images import ImageTable
from core.ladder import Step, climb, read_rungs, read_scores, read_steps
from core.metrics import Interval, Scores, bootstrap
from core.runs import asked, read_meta
from core.workspace import Corpus, Workspace
from reports.markdown import table


def write_report(corpus: Corpus, workspace: Workspace) -> Path:
    """Write `report.md` for the newest ensemble of the corpus, and give its path.

    Raises:
        MissingStageError: there is no ensemble of this corpus; the command is named.
    """
    run = _newest_ensemble(corpus, workspace)
    meta = read_meta(run)
    image_ids, scores = read_scores(run / "valid_f1.csv")
    valid = corpus.table.take(corpus.table.row_numbers(image_ids))
    worth = read_steps(run / "members.csv") if (run / "members.csv").exists() else []
    path = workspace.reports / "report.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    steps = climb(read_rungs(run, meta["ladder"]), groups=valid.groups)
    text = page(corpus, valid, scores, meta, steps=steps, worth=worth, run=run.name)
    path.write_text(text, encoding="utf-8")
    return path


def page(
    corpus: Corpus,
    valid: ImageTable,
    scores: Mapping[str, Scores],
    meta: Mapping[str, Any],
    *,
    steps: Sequence[Step],
    worth: Sequence[Step] = (),
    run: str,
) -> str:
    """The report as Markdown.

    Args:
        corpus: what was worked on.
        valid: the N validation images that were scored.
        scores: (N,) cross-fitted F1 by source, NaN where an image is left out.
        meta: of the ensemble's run.
        steps: the ladder.
        worth: a step a member: the stack without it, and the gain by having it.
        run: the run's name.
    """
    versions = ", ".join(f"{name} {version}" for name, version in meta["packages"].items())
    parts = [
        f"# Concept detection on {corpus.name}",
        "Sample F1 (the task's score: F1 of each image, then the mean) on the validation images,"
        " cross-fitted: every threshold, stacker and rule was fitted on folds that do not hold the"
        " image. Intervals are 95 % bootstrap intervals over groups (patients, studies); gains are"
        " paired on the same images.",
        _corpus_lines(corpus),
        "## From the category prior to the submission",
        _ladder(steps),
        "## Every source, by category",
        "With one threshold for all concepts, but for the submission, which decides by"
        f" {meta['decision']}.",
        _by_category(valid, scores),
        *_worth(worth, meta),
        "## Decision rules",
        "Cross-fitted sample F1 of the rules that were tried on the stacked probabilities: one"
        " plain threshold (of 49); exact thresholds for all, by category and by concept; the set"
        " with the highest expected F1. A rule is used only where it beats the simpler one by"
        f" {meta['margin']:g} standard errors of the paired difference.",
        table(["rule", "sample F1"], [[k, f"{v:.4f}"] for k, v in meta["decision_scores"].items()]),
        "## How it was made",
        f"Run `{run}`, {meta['made']}, Python {meta['python']}, {meta['machine']}; {versions}.",
    ]
    return "\n\n".join(parts) + "\n"


def _newest_ensemble(corpus: Corpus, workspace: Workspace) -> Path:
    runs = workspace.finished_runs(workspace.ensembles)
    metas = [(read_meta(run, "corpus", "made"), run) for run in runs]
    found = [(asked(meta), run) for meta, run in metas if meta["corpus"] == corpus.fingerprint]
    if not found:
        raise MissingStageError(
            f"no ensemble of this corpus in {workspace.ensembles}; run"
            f" `python cli.py ensemble --submit -w {workspace.root}` first"
        )
    return max(found)[1]


def _corpus_lines(corpus: Corpus) -> str:
    counts = [f"{len(corpus.table.of(split=s)):,} {s}" for s in ("train", "valid", "test")]
    lines = [f"- {', '.join(counts)} images; {len(corpus.labels):,} concepts in train"]
    return "\n".join([*lines, *(f"- {note}" for note in corpus.notes)])


def _ladder(steps: Sequence[Step]) -> str:
    rows = [
        [
            step.name,
            str(step.f1),
            "" if step.gain is None else step.gain.signed(),
            step.state,
        ]
        for step in steps
    ]
    return table([f"n = {steps[0].f1.n:,}", "sample F1", "gain over the last one kept", ""], rows)


def _worth(worth: Sequence[Step], meta: Mapping[str, Any]) -> list[str]:
    if not worth:
        return []
    rows = [[s.name, str(s.f1), "" if s.gain is None else s.gain.signed()] for s in worth]
    return [
        "## What each member is worth",
        f"Cross-fitted sample F1 of the stacker `{meta['worth_to']}` at one threshold, fitted"
        " without the member, and what having it gains, paired. Members that say the same are worth"
        " little each: the gains do not add up.",
        table(["member", "sample F1 without it", "gain by having it"], rows),
    ]


def _by_category(valid: ImageTable, scores: Mapping[str, Scores]) -> str:
    names = np.array(valid.categories, dtype=np.str_)
    present = [c for c in CATEGORIES if (names == c).any()]
    scored = ~np.isnan(next(iter(scores.values())))  # the rule leaves out the same for every source
    counts = [int((scored & (names == c)).sum()) for c in present]
    header = ["source", f"all, n = {scored.sum():,}"]
    header += [f"{Category(c).value}, n = {n:,}" for c, n in zip(present, counts, strict=True)]
    rows = []
    for name, image_f1 in scores.items():
        whole = bootstrap(image_f1, groups=valid.groups)
        cells = [_cell(image_f1[names == c], valid.take(names == c)) for c in present]
        rows.append([name, str(whole), *cells])
    legend = ", ".join(f"{c} {Category(c).meaning}" for c in present)
    return f"{table(header, rows)}\n\n{legend}." if present else table(header, rows)


def _cell(image_f1: Scores, images: ImageTable) -> str:
    if np.isnan(image_f1).all():
        return "-"
    interval: Interval = bootstrap(image_f1, groups=images.groups)
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
