"""Commands that write pages: report, and reproduce with the tables of the 2020 paper."""

from pathlib import Path
from typing import Annotated

import typer

from commands.options import (
    RUNS,
    CheckpointOption,
    DeviceOption,
    SeedOption,
    WorkspaceOption,
    names_workspace,
)


def report(
    workspace: WorkspaceOption = RUNS,
    images: Annotated[
        bool, typer.Option(help="Show examples; without pictures their ids and concepts stay.")
    ] = True,
) -> None:
    """Report the scores and how they were reached: Markdown, and one HTML file with figures."""
    import numpy as np
    import numpy.typing as npt

    from core.progress import answer
    from core.runs.workspace import Workspace
    from corpus.images.decode import read_picture
    from reports.ensemble.examples import LONGEST
    from reports.ensemble.page import write_report

    home = Workspace(workspace)
    corpus = home.open_corpus()

    def read(path: Path) -> npt.NDArray[np.uint8]:
        return read_picture(path, draft=LONGEST, decoding=corpus.decoding).pixels

    answer(*write_report(corpus, home, read=read if images else None))


def reproduce(
    context: typer.Context,
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
    seed: SeedOption = 0,
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
    from core.progress import answer
    from core.runs.workspace import Workspace
    from corpus.prepare import corpus_or_phantom
    from ensembles.submission.paper import check_truth, score_paper_runs, write_paper_runs
    from reports.paper import write_reproduction
    from training.devices.device import find_device

    home, given = Workspace(workspace), parse_settings(weights or (), option="--weights")
    trials = plan_trials(experiments or (), scale=scale, third=third, weights=given, seed=seed)
    found = find_device(device)
    corpus = corpus_or_phantom(home, draws=not names_workspace(context)).as_holdout()
    if truth is not None:
        check_truth(corpus, truth)
    crashed = run(
        trials, home, device=found, options=RunOptions(checkpoint_s=60 * checkpoint_minutes)
    )
    files = write_paper_runs(corpus, home, scale=scale)
    scores = score_paper_runs(files, truth=truth, edition=corpus.edition) if truth else {}
    title = SCALES[scale].title
    page = write_reproduction(corpus, home, scale=scale, title=title, scores=scores)
    answer(*files.values(), page)
    if crashed:
        raise typer.Exit(2)
