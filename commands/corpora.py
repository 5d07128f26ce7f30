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
    number,
)
from core.config import SEED, Range


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
    from core.progress import answer
    from core.runs.workspace import Workspace
    from corpus.prepare import PrepareConfig, overview
    from corpus.prepare import prepare as run

    options = {"protocol": protocol, "group_by": group_by, "frames": frames}
    chosen = configured(PrepareConfig(), file=config, given=settings or (), options=options)
    corpus = run(source, Workspace(workspace), config=chosen, layout=layout, strict=strict)
    answer(*overview(corpus))


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
    sheet: Annotated[
        bool, typer.Option("--sheet", help="Also draw examples of every kind of image file.")
    ] = False,
) -> None:
    """Count a corpus: tables and figures of images, concepts, categories, and of train and valid.

    Images are opened for --sheet and --duplicates alone, and a SOURCE need not be prepared.
    """
    from core.progress import answer
    from core.runs.workspace import Workspace
    from corpus.prepare import corpus_or_phantom
    from corpus.readers.unprepared import named, read_unprepared
    from reports.statistics.page import write_stats

    home = Workspace(workspace)
    if source is None:
        prepared = corpus_or_phantom(home, draws=not names_workspace(context))
        corpus, suffix = named(prepared, names), ""
    else:
        corpus = read_unprepared(source, layout=layout, names=names)
        suffix = f"-{source.resolve().stem}-{corpus.fingerprint}"
    lines = write_stats(corpus, home.reports / f"stats{suffix}")
    if duplicates:
        from corpus.duplicates.found import write_duplicates

        found = home.reports / f"duplicates{suffix}" if source else home.duplicates
        lines += write_duplicates(corpus, found, cache=home.cache)
    if sheet:
        from corpus.images.contact_sheet import write_sheet

        drawn = home.reports / f"stats{suffix}-sheet.png"
        lines += write_sheet(corpus, drawn, prepared=None if source else home.corpus)
    answer(*lines)


def deal(
    source: Annotated[
        Path, typer.Argument(help="Manifest, folder with one concept list, or any other corpus.")
    ],
    out: Annotated[Path, typer.Option(help="The manifest to write, a .csv.")],
    valid: Annotated[float, number("Share of valid, 0 for none.", Range(least=0, below=1))] = 0.1,
    test: Annotated[float, number("Share of test, 0 for none.", Range(least=0, below=1))] = 0.1,
    seed: Annotated[int, number("Decides ties: another one, another deal.", SEED)] = 0,
    concepts: Annotated[
        Path | None, typer.Option(help="The concept list, where the folder has not just one.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a manifest that is there.")
    ] = False,
    strict: StrictOption = False,
) -> None:
    """Deal an archive into train, valid and test: whole groups, by category and concept."""
    from core.progress import answer
    from corpus.deal import DealConfig, dealt_lines, refuse_overwriting, write_manifest
    from corpus.deal import deal as run
    from corpus.readers.unsplit import read_archive

    config = DealConfig(valid=valid, test=test, seed=seed)
    refuse_overwriting(out, overwrite=overwrite)
    reading = read_archive(source, concepts=concepts, strict=strict)
    table = run(reading, config=config)
    write_manifest(table, out, names=reading.names)
    answer(*dealt_lines(reading, table, config=config), out)
