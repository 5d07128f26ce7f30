"""Commands that decide and judge: ensemble, score, check."""

from pathlib import Path
from typing import Annotated

import typer

from commands.options import (
    RUNS,
    ConfigOption,
    PresetOption,
    SetOption,
    WorkspaceOption,
)
from core.errors import ConfigError


def ensemble(
    submit: Annotated[
        bool, typer.Option("--submit", help="Write and check the submission of the test images.")
    ] = False,
    edition: Annotated[
        int | None, typer.Option(help="Year of the submission's format; none: the corpus' own.")
    ] = None,
    member: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of predictions made elsewhere, or of a run; may be repeated."),
    ] = None,
    workspace: WorkspaceOption = RUNS,
    preset: PresetOption = "quick",
    config: ConfigOption = None,
    settings: SetOption = None,
) -> Path:
    """Stack all members, tune the decision by cross-fitting, and make the submission."""
    from core.config import configured, preset_of
    from core.progress import answer
    from core.runs.ladder import ladder_table
    from core.runs.workspace import Workspace
    from ensembles.config import PRESETS
    from ensembles.ensemble import ensemble as run

    made = run(
        Workspace(workspace).open_corpus(),
        Workspace(workspace),
        config=configured(preset_of(PRESETS, preset), file=config, given=settings or ()),
        submit=submit,
        edition=edition,
        outside=member or (),
    )
    ladders = (ladder_table(steps, images=images) for images, steps in made.ladders.items())
    answer(*(line for ladder in ladders for line in ladder))
    if made.concepts:
        answer(made.concepts)
    path = made.submission or made.folder
    answer(path)
    return path


def score(
    submission: Annotated[Path, typer.Argument(help="The file to score.")],
    truth: Annotated[
        Path,
        typer.Option(
            help="The true concepts: an evaluator's file in the edition's format; a manifest whose"
            " test images have concepts; or the word manifest, for the one that was prepared."
        ),
    ],
    edition: Annotated[
        int | None,
        typer.Option(help="Year whose rule applies; none: the corpus' own, of a manifest."),
    ] = None,
    secondary_truth: Annotated[
        Path | None,
        typer.Option(help="2025, 2026: concepts_manual.csv, for the secondary score as well."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    public_script: Annotated[
        bool,
        typer.Option(
            "--public-script",
            help="2017-2020: the number of the public script, which lets faults pass.",
        ),
    ] = False,
    workspace: Annotated[
        Path | None,
        typer.Option(
            "-w",
            "--workspace",
            help="Corpus: score also without images like those learnt from; or its manifest.",
        ),
    ] = None,
) -> None:
    """Give the official score of a submission, bit for bit; or that on labels of your own."""
    import json

    from core.progress import answer, say
    from core.runs.workspace import Workspace
    from corpus.readers.manifest import EDITION, manifest_meant, manifest_truth
    from ensembles.submission.apart import score_apart
    from ensembles.submission.check import first_lines
    from ensembles.submission.own_corpus import OwnScore, score_own
    from ensembles.submission.score import OfficialScore, score_submission

    scored: OfficialScore | OwnScore
    if manifest := manifest_meant(truth, Workspace(workspace or RUNS)):
        if secondary_truth or public_script:
            raise ConfigError("--secondary-truth, --public-script: only with an evaluator's truth")
        own, year = manifest_truth(manifest), edition or EDITION
        scored = score_own(submission, truth=own, edition=year, named=str(manifest))
    elif edition is None:
        raise ConfigError(
            f"--edition: name the year in whose format {truth} is; without it --truth is a"
            " manifest, a table with the columns path and split"
        )
    else:
        scored = score_submission(
            submission,
            truth=truth,
            edition=edition,
            secondary_truth=secondary_truth,
            public_script=public_script,
        )
        if scored.warnings:
            for line in first_lines(scored.warnings):
                say(line)
    apart = score_apart(scored.pairs, workspace=Workspace(workspace)) if workspace else None
    if as_json:
        answer(json.dumps({**scored.numbers, **({"apart": apart.numbers} if apart else {})}))
    else:
        answer(*scored.lines, *([apart.sentence] if apart else []))


def check(
    submission: Annotated[Path, typer.Argument(help="The file to check.")],
    edition: Annotated[
        int | None,
        typer.Option(help="Year whose evaluator would read it; none: that of the corpus of -w."),
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(help="Truth file whose images the submission must have.")
    ] = None,
    workspace: Annotated[
        Path | None,
        typer.Option("-w", "--workspace", help="Corpus whose test images it must have."),
    ] = None,
) -> None:
    """Say whether the evaluator would take a submission, and if not, where and why."""
    from core.errors import SubmissionError
    from core.progress import answer
    from core.runs.workspace import Workspace
    from ensembles.submission.check import verdict_on
    from ensembles.submission.truth import expected_ids

    prepared = None if workspace is None else Workspace(workspace)
    if edition is None:
        if prepared is None:
            raise ConfigError("--edition: name the year, or the corpus with -w")
        edition = prepared.open_corpus().edition
    ids = expected_ids(truth, edition=edition, workspace=prepared)
    verdict = verdict_on(submission, edition=edition, expected_ids=ids)
    if verdict.lines:
        answer(*verdict.lines)
    if not verdict.is_taken:
        raise SubmissionError(verdict.sentence)
    answer(verdict.sentence)
