"""Commands that read corpora: prepare, stats, deal."""

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
    group_by: Annotated[
        str | None,
        typer.Option(help="Metadata column whose values are the groups, such as PMCID."),
    ] = None,
    frames: Annotated[
        str | None,
        typer.Option(help="Page or frame of files with several: first, middle, last, or a number."),
    ] = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    strict: StrictOption = False,
) -> None:
    """Read a corpus into the workspace: images, concepts, folds, decoded cache."""
    from core.config import configured
    from core.runs.workspace import Workspace
    from corpus.prepare import PrepareConfig, overview
    from corpus.prepare import prepare as run

    options = {"protocol": protocol, "group_by": group_by, "frames": frames}
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
    duplicates: Annotated[
        bool, typer.Option("--duplicates", help="Look for near-duplicate images across splits.")
    ] = False,
) -> None:
    """Count a corpus: tables and figures of images, concepts, categories, and of train and valid.

    Images are opened only to look for near-duplicates, and a SOURCE need not be prepared.
    """
    from core.runs.workspace import Workspace
    from corpus.prepare import corpus_or_phantom
    from corpus.readers.unprepared import named, read_unprepared
    from reports.statistics.page import write_stats

    home = Workspace(workspace)
    if source is None:
        if names_workspace(context):
            home.require_corpus()
        corpus, found = named(corpus_or_phantom(home), names), home.duplicates
        lines = write_stats(corpus, home.reports / "stats")
    else:
        corpus = read_unprepared(source, layout=layout, names=names)
        name = f"stats-{source.resolve().stem}-{corpus.fingerprint}"
        found = home.reports / name.replace("stats", "duplicates", 1)
        lines = write_stats(corpus, home.reports / name)
    if duplicates:
        from corpus.duplicates.found import write_duplicates

        lines += write_duplicates(corpus, found, cache=home.cache)
    typer.echo("\n".join(lines))


def deal(
    source: Annotated[
        Path, typer.Argument(help="Manifest, or folder of images with one concept list.")
    ],
    out: Annotated[Path, typer.Option(help="The manifest to write, a .csv.")],
    valid: Annotated[float, typer.Option(help="Share of valid, 0 for none.")] = 0.1,
    test: Annotated[float, typer.Option(help="Share of test, 0 for none.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Decides ties: another one, another deal.")] = 0,
    concepts: Annotated[
        Path | None, typer.Option(help="The concept list, where the folder has not just one.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a manifest that is there.")
    ] = False,
    strict: StrictOption = False,
) -> None:
    """Deal an archive into train, valid and test: whole groups, by category and concept."""
    from corpus.deal import DealConfig, dealt_lines, refuse_overwriting, write_manifest
    from corpus.deal import deal as run
    from corpus.readers.unsplit import read_archive

    config = DealConfig(valid=valid, test=test, seed=seed)
    refuse_overwriting(out, overwrite=overwrite)
    reading = read_archive(source, concepts=concepts, strict=strict)
    table = run(reading, config=config)
    write_manifest(table, out)
    typer.echo("\n".join([*dealt_lines(reading, table, config=config), str(out)]))
