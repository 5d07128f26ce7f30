"""Commands that read corpora: prepare, stats."""

from pathlib import Path
from typing import Annotated

import typer

from commands.options import (
    RUNS,
    ConfigOption,
    ProtocolOption,
    SetOption,
    StrictOption,
    WorkspaceOption,
    names_workspace,
)


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


def stats(
    context: typer.Context,
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
        if names_workspace(context):
            home.require_corpus()
        lines = write_stats(named(corpus_or_phantom(home), names), home.reports / "stats")
    else:
        corpus = read_unprepared(source, layout=layout, names=names)
        name = f"stats-{source.resolve().stem}-{corpus.fingerprint}"
        lines = write_stats(corpus, home.reports / name)
    typer.echo("\n".join(lines))
