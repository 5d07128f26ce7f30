"""radfuse on the command line: `python cli.py COMMAND --help`."""

import errno
import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

try:
    import typer
except ModuleNotFoundError:
    print(
        "radfuse's packages are not installed for this Python: run `make install`, then"
        " `source .venv/bin/activate`",
        file=sys.stderr,
    )
    sys.exit(2)

from core.categories import CATEGORIES
from core.errors import ConceptError, as_typed

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Concepts in radiology images: detectors, fusion with the category, and the ensemble that"
    " makes the submission. Research software, not a medical device.",
)

WorkspaceOption = Annotated[
    Path, typer.Option("-w", "--workspace", help="Folder with the corpus and all that is made.")
]
PresetOption = Annotated[str, typer.Option(help="Named settings to start from.")]
ConfigOption = Annotated[Path | None, typer.Option(help="TOML file with settings.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="One setting, key=value; may be repeated.")
]
CheckpointOption = Annotated[
    float, typer.Option(min=0, help="Minutes between two checkpoints within an epoch.")
]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, or auto for cuda where there is one.")]
ProtocolOption = Annotated[
    str | None, typer.Option(help="holdout: valid is not learnt from; crossfit: it is, by folds.")
]
StrictOption = Annotated[
    bool, typer.Option("--strict", help="Stop at what is otherwise counted and reported.")
]
RUNS = Path("runs")

_MENDABLE = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO),
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP),
)
"""What the system refuses for reasons of the disk, of rights or of a path that was given."""

_INTERRUPTED = (130, 143)
"""Exit codes of Ctrl-C and SIGTERM."""


@app.command()
def prepare(
    source: Annotated[
        Path | None, typer.Argument(help="Folder or manifest; none: the phantom corpus.")
    ] = None,
    workspace: WorkspaceOption = RUNS,
    layout: Annotated[str | None, typer.Option(help="Layout, where recognising fails.")] = None,
    protocol: ProtocolOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    strict: StrictOption = False,
) -> None:
    """Read a corpus into the workspace: images, concepts, folds, decoded cache."""
    from core.config import configured
    from core.runs.workspace import Workspace
    from corpus.prepare import PrepareConfig, overview
    from corpus.prepare import prepare as run

    options = {"protocol": protocol}
    chosen = configured(PrepareConfig(), file=config, given=settings or (), options=options)
    corpus = run(source, Workspace(workspace), config=chosen, layout=layout, strict=strict)
    typer.echo("\n".join(overview(corpus)))


@app.command()
def stats(
    source: Annotated[
        Path | None,
        typer.Argument(help="Folder, manifest or concept list; none: the prepared corpus."),
    ] = None,
    workspace: WorkspaceOption = RUNS,
    layout: Annotated[str | None, typer.Option(help="Layout, where recognising fails.")] = None,
    names: Annotated[
        Path | None, typer.Option(help="File with names of concepts: CUI, TAB or comma, name.")
    ] = None,
) -> None:
    """Count a corpus: tables and figures of images, concepts, categories, and of train and valid.

    Images are not opened, and a SOURCE need not be prepared.
    """
    from core.runs.workspace import Workspace
    from corpus.prepare import corpus_or_phantom
    from corpus.readers.unprepared import named, read_unprepared
    from reports.statistics.page import write_stats

    home = Workspace(workspace)
    if source is None:
        lines = write_stats(named(corpus_or_phantom(home), names), home.reports / "stats")
    else:
        corpus = read_unprepared(source, layout=layout, names=names)
        name = f"stats-{source.resolve().stem}-{corpus.fingerprint}"
        lines = write_stats(corpus, home.reports / name)
    typer.echo("\n".join(lines))


@app.command()
def train_backbone(
    category: Annotated[
        str | None,
        typer.Option(
            help=f"{', '.join(CATEGORIES)}; global; each (all seven)."
            " Without it: the global detector and all seven."
        ),
    ] = None,
    workspace: WorkspaceOption = RUNS,
    preset: Annotated[
        str,
        typer.Option(help="Named settings to start from; auto: fine-tune on a GPU, else quick."),
    ] = "auto",
    config: ConfigOption = None,
    settings: SetOption = None,
    folds: Annotated[
        int | None, typer.Option(help="K networks that predict train out of fold.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Times each network is trained.")] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="What networks start from: package, hub, none (random), or a file."),
    ] = None,
    start_from: Annotated[
        str | None,
        typer.Option(help="Start from a fine-tuned detector: global, or its run folder."),
    ] = None,
    device: DeviceOption = "auto",
    checkpoint_minutes: CheckpointOption = 10.0,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write TensorBoard's events.")
    ] = False,
    engine: Annotated[
        str, typer.Option(help="serial: one network after the other; ray: side by side.")
    ] = "serial",
    address: Annotated[
        str | None,
        typer.Option(help="Ray cluster that shares the workspace's disk; none: this machine."),
    ] = None,
    cpus_per_job: Annotated[
        int | None, typer.Option(help="With ray: cores, and threads, of each network; none: 1.")
    ] = None,
    gpus_per_job: Annotated[
        float | None,
        typer.Option(help="With ray: GPUs of each network, parts count; none: 1 for cuda."),
    ] = None,
) -> None:
    """Train CNN concept detectors, per category and for all images.

    Killed at any moment, the same command resumes. On several GPUs: torchrun --nproc-per-node N
    cli.py train-backbone ...
    """
    from backbones.detectors.ray import cluster_of
    from backbones.detectors.run import RunOptions
    from backbones.request import TrainingRequest, train_asked
    from core.runs.workspace import Workspace

    request = TrainingRequest(
        category=category,
        preset=preset,
        file=config,
        given=tuple(settings or ()),
        options={"folds": folds, "seeds": seeds, "weights": weights},
        start_from=start_from,
    )
    cluster = cluster_of(
        engine, address=address, device=device, cpus_per_job=cpus_per_job, gpus_per_job=gpus_per_job
    )
    options = RunOptions(checkpoint_s=60 * checkpoint_minutes, tensorboard=tensorboard)
    home = Workspace(workspace)
    for run in train_asked(request, home, device=device, options=options, cluster=cluster):
        typer.echo(str(run))


@app.command()
def fuse(
    workspace: WorkspaceOption = RUNS,
    preset: PresetOption = "quick",
    config: ConfigOption = None,
    settings: SetOption = None,
    strategy: Annotated[
        list[str] | None,
        typer.Option(help="What is made, or all; may be repeated. None: those of the preset."),
    ] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option(help="Further column that networks are given; may be repeated."),
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Fuse image evidence with the category and other metadata, and compare the ways to do it."""
    from core.config import configured, preset_of
    from core.runs.workspace import Workspace
    from fusion.config import PRESETS
    from fusion.fuse import fuse as run
    from reports.fusion import write_comparison
    from training.devices.device import find_device

    options = {"strategies": strategy, "metadata": metadata}
    given = [f"{key}={','.join(values)}" for key, values in options.items() if values]
    home = Workspace(workspace)
    corpus = home.open_corpus()
    made = run(
        corpus,
        home,
        config=configured(
            preset_of(PRESETS, preset), file=config, given=[*(settings or ()), *given]
        ),
        preset=preset,
        device=find_device(device),
    )
    typer.echo("\n".join(map(str, made)))
    if page := write_comparison(corpus, home):
        typer.echo(str(page))


@app.command()
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
    typer.echo("\n".join(ladders))
    path = made.submission or made.folder
    typer.echo(str(path))
    return path


@app.command()
def score(
    submission: Annotated[Path, typer.Argument(help="The file to score.")],
    truth: Annotated[Path, typer.Option(help="The true concepts, in the edition's format.")],
    edition: Annotated[int, typer.Option(help="Year whose rule applies.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    public_script: Annotated[
        bool,
        typer.Option(
            "--public-script",
            help="2017-2020: the number of the public script, which lets faults pass.",
        ),
    ] = False,
) -> None:
    """Give the official score of a submission, bit for bit."""
    import json

    from ensembles.submission.check import first_lines
    from ensembles.submission.score import score_submission

    result = score_submission(submission, truth=truth, edition=edition, public_script=public_script)
    if result.warnings:
        typer.echo("\n".join(first_lines(result.warnings)), err=True)
    if as_json:
        typer.echo(json.dumps({"f1": result.f1, "n_images": result.n_images}))
        return
    typer.echo(f"F1 {result.f1!r} over {result.n_images:,} images ({edition} rule)")
    if result.secondary_f1 is not None:
        typer.echo(f"secondary F1 {result.secondary_f1!r} over {result.n_secondary:,} images")


@app.command()
def check(
    submission: Annotated[Path, typer.Argument(help="The file to check.")],
    edition: Annotated[int, typer.Option(help="Year whose evaluator would read it.")],
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
    from core.runs.workspace import Workspace
    from ensembles.submission.check import verdict_on
    from ensembles.submission.truth import expected_ids

    prepared = None if workspace is None else Workspace(workspace)
    ids = expected_ids(truth, edition=edition, workspace=prepared)
    verdict = verdict_on(submission, edition=edition, expected_ids=ids)
    if verdict.lines:
        typer.echo("\n".join(verdict.lines))
    if not verdict.is_taken:
        raise SubmissionError(verdict.sentence)
    typer.echo(verdict.sentence)


@app.command()
def reproduce(
    experiments: Annotated[
        list[int] | None, typer.Argument(help="Numbers in Table 4 of the paper; none: all ten.")
    ] = None,
    workspace: WorkspaceOption = RUNS,
    scale: Annotated[
        str, typer.Option(help="full: the paper's settings; small: two cores; tiny: a trial.")
    ] = "small",
    third: Annotated[
        bool, typer.Option("--third", help="Also a network that stops on all of valid.")
    ] = False,
    weights: Annotated[
        list[str] | None,
        typer.Option(help="NETWORK=FILE to start from, resnet50=... say; may be repeated."),
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(help="True concepts of test, to score the five runs.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    device: DeviceOption = "auto",
    checkpoint_minutes: CheckpointOption = 10.0,
) -> None:
    """Train the 2020 paper's experiments, and write its Tables 4 and 5 with ours beside theirs.

    Finished runs are skipped, unfinished runs resume, and a crash does not stop the others.
    """
    from backbones.detectors.run import RunOptions
    from backbones.reproduce import plan_trials
    from backbones.reproduce import reproduce as run
    from backbones.settings.paper import SCALES
    from core.config import parse_settings
    from core.runs.workspace import Workspace
    from corpus.prepare import corpus_or_phantom
    from ensembles.submission.paper import check_truth, score_paper_runs, write_paper_runs
    from reports.paper import write_reproduction
    from training.devices.device import find_device

    home, given = Workspace(workspace), parse_settings(weights or (), option="--weights")
    trials = plan_trials(experiments or (), scale=scale, third=third, weights=given, seed=seed)
    found = find_device(device)
    corpus = corpus_or_phantom(home).as_holdout()
    if truth is not None:
        check_truth(corpus, truth)
    crashed = run(
        trials, home, device=found, options=RunOptions(checkpoint_s=60 * checkpoint_minutes)
    )
    files = write_paper_runs(corpus, home, scale=scale)
    scores = score_paper_runs(files, truth=truth, edition=corpus.edition) if truth else {}
    title = SCALES[scale].title
    page = write_reproduction(corpus, home, scale=scale, title=title, scores=scores)
    typer.echo("\n".join(map(str, [*files.values(), page])))
    if crashed:
        raise typer.Exit(2)


@app.command()
def report(workspace: WorkspaceOption = RUNS) -> None:
    """Report the scores and how they were reached: Markdown, and one HTML file with figures."""
    from core.runs.workspace import Workspace
    from reports.ensemble.page import write_report

    home = Workspace(workspace)
    typer.echo("\n".join(map(str, write_report(home.open_corpus(), home))))


@app.command()
def demo(workspace: WorkspaceOption = RUNS / "demo", device: DeviceOption = "auto") -> None:
    """Run the whole chain on the phantom corpus, down to a checked and scored submission."""
    from core.runs.workspace import Workspace
    from corpus.prepare import refuse_other_corpus

    home = Workspace(workspace)
    refuse_other_corpus(home)
    there, chosen = ("-w", workspace), () if device == "auto" else ("--device", device)
    _run("prepare", *there)
    _run("train-backbone", *there, *chosen)
    _run("fuse", *there, *chosen)
    submission = _run("ensemble", "--submit", *there)
    _run("report", *there)
    year, truth = home.open_corpus().edition, home.phantom / "Test-Concepts.txt"
    _run("check", submission, "--edition", year, *there)
    _run("score", submission, "--edition", year, "--truth", truth)


def _run(*arguments: object) -> Any:
    """Show a command as a user types it, and run it; what it returns."""
    words = list(map(str, arguments))
    typer.echo(f"$ {as_typed(shlex.join(words))}")
    return app(words, standalone_mode=False)


def main() -> None:
    """Run the command; what the user can mend is one line and exit code 2."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        app()
    except ConceptError as error:
        _stop(f"{type(error).__name__}: {error}")
    except OSError as error:
        if error.errno not in _MENDABLE:
            raise
        _stop(f"{error.filename or 'disk'}: {error.strerror}")
    except SystemExit as end:
        if end.code in _INTERRUPTED:
            print("interrupted; run the same command again to go on", file=sys.stderr)
        raise


def _stop(line: str) -> None:
    print(line, file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
