"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer


def _with_caches(workspace: Path) -> Path:
    """The workspace; before any library is imported, each is told of a place it can write to."""
    from core.storage.caches import settle_caches

    settle_caches(workspace)
    return workspace


WorkspaceOption = Annotated[
    Path,
    typer.Option(
        "-w",
        "--workspace",
        help="Folder with the corpus and all that is made.",
        callback=_with_caches,
    ),
]
BundleOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder or zip that `bundle` wrote, in place of a workspace.", show_default=False
    ),
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


def names_workspace(context: typer.Context) -> bool:
    """Whether `-w` was given, and the phantom corpus is not what was meant where none is there."""
    source = context.get_parameter_source("workspace")
    return source is not None and source.name == "COMMANDLINE"
