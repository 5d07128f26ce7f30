"""Options that several commands share."""

from pathlib import Path
from typing import Annotated, Any

import typer

from core.config import SEED, Range
from core.errors import ConfigError, excerpt


def _with_caches(workspace: Path) -> Path:
    """The workspace; before any library is imported, each is told of a place it can write to."""
    from core.storage.caches import settle_caches

    settle_caches(workspace)
    return workspace


def number(help: str, expected: Range, *names: str) -> Any:  # noqa: A002 - as typer has it
    """An option whose value is a number of a range; its help says which.

    Args:
        help: what it is for, a sentence.
        expected: what it may be; whatever else is given ends in one line.
        names: as it is typed, where that does not follow from the argument's name.
    """

    def check(parameter: typer.CallbackParam, value: Any) -> Any:
        if value is not None and value not in expected:
            raise ConfigError(f"{parameter.opts[0]}: expected {expected}, found {excerpt(value)}")
        return value

    return typer.Option(*names, help=f"{help.removesuffix('.')} ({expected}).", callback=check)


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
    float,
    number("Minutes between two checkpoints within an epoch.", Range(least=0, most=1_000_000)),
]
SeedOption = Annotated[int, number("Of everything random.", SEED)]
CpusOption = Annotated[
    int | None,
    number("With ray: cores, and so threads, of each job; none: 1.", Range(least=1, most=10_000)),
]
GpusOption = Annotated[
    float | None,
    number(
        "With ray: GPUs of each job, parts count; none: 1 for cuda.", Range(least=0, most=1_000)
    ),
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
