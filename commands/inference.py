"""Commands on new images, and on what decides them: predict, export."""

from pathlib import Path
from typing import Annotated

import typer

from commands.options import RUNS, DeviceOption, WorkspaceOption


def predict(
    images: Annotated[
        list[str],
        typer.Argument(help="Images, folders, patterns, zips, or tables that list images."),
    ],
    workspace: WorkspaceOption = RUNS,
    category: Annotated[
        str | None,
        typer.Option(help="Category of all of them; none: by table, folder or DICOM, or guessed."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; none: stdout.")] = None,
    form: Annotated[
        str, typer.Option("--format", help="csv, jsonl, parquet, or submission.")
    ] = "csv",
    top: Annotated[
        int, typer.Option(min=0, help="Candidates of an image beside what is decided.")
    ] = 0,
    edition: Annotated[
        int | None, typer.Option(help="Year of a submission's format; none: the corpus' own.")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Decide new images by the ensemble that was last made; images it cannot read are listed.

    Ends with 1 where any was left out.
    """
    from inference.place import EnsemblePlace
    from inference.predict import predict_places

    left_out = predict_places(
        images,
        EnsemblePlace(workspace=workspace),
        category=category,
        out=out,
        form=form,
        top=top,
        edition=edition,
        device=device,
    )
    if left_out:
        raise typer.Exit(1)


def export(
    workspace: WorkspaceOption = RUNS,
    onnx: Annotated[
        Path | None,
        typer.Option(help="Folder to make: the ensemble's detectors as ONNX graphs."),
    ] = None,
    opset: Annotated[
        int | None, typer.Option(help="Of the graphs; none: what the exporter suggests.")
    ] = None,
) -> None:
    """Write what others run without radfuse: detectors as ONNX graphs."""
    from core.errors import ConfigError
    from inference.export.folder import export_onnx
    from inference.place import EnsemblePlace

    if onnx is None:
        raise ConfigError("export: say what: --onnx FOLDER")
    typer.echo(str(export_onnx(onnx, EnsemblePlace(workspace=workspace), opset=opset)))
