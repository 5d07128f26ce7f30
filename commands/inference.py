"""Commands on new images: predict; bundle and export carry what decides them elsewhere."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commands.options import (
    RUNS,
    BundleOption,
    DeviceOption,
    WorkspaceOption,
    names_workspace,
)

if TYPE_CHECKING:
    from inference.place import EnsemblePlace


def place_of(context: typer.Context, workspace: Path, bundle: Path | None) -> "EnsemblePlace":
    """The bundle that is named, else the workspace.

    Raises:
        ConfigError: both are named.
    """
    from core.errors import ConfigError
    from inference.place import EnsemblePlace

    if bundle is None:
        return EnsemblePlace(workspace=workspace)
    if names_workspace(context):
        raise ConfigError(
            f"--bundle {bundle} and -w {workspace}: an ensemble lies in one of them; name one"
        )
    return EnsemblePlace(bundle=bundle)


def predict(
    context: typer.Context,
    images: Annotated[
        list[str],
        typer.Argument(help="Images, folders, patterns, zips, or tables that list images."),
    ],
    workspace: WorkspaceOption = RUNS,
    bundle: BundleOption = None,
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
    """Decide new images by the ensemble that was last made, or by that of a bundle.

    Images that it cannot read are listed.

    Ends with 1 where any was left out.
    """
    from inference.predict import predict_places

    left_out = predict_places(
        images,
        place_of(context, workspace, bundle),
        category=category,
        out=out,
        form=form,
        top=top,
        edition=edition,
        device=device,
    )
    if left_out:
        raise typer.Exit(1)


def bundle(
    out: Annotated[Path, typer.Argument(help="Folder to write; a zip where it ends in .zip.")],
    workspace: WorkspaceOption = RUNS,
    training_ids: Annotated[
        bool,
        typer.Option("--training-ids", help="Ids of training images too: whom an image resembles."),
    ] = False,
) -> None:
    """Write the ensemble that was last made, with all it needs and no image, to be used elsewhere.

    `predict --bundle OUT` decides by it, without the workspace.
    """
    from core.runs.workspace import Workspace
    from inference.bundle.bundle import write_bundle

    typer.echo(write_bundle(Workspace(workspace), out, training_ids=training_ids))


def export(
    context: typer.Context,
    workspace: WorkspaceOption = RUNS,
    bundle: BundleOption = None,
    onnx: Annotated[
        Path | None,
        typer.Option(help="Folder to make: the detectors as ONNX graphs."),
    ] = None,
    opset: Annotated[
        int | None, typer.Option(help="Of the graphs; none: what the exporter suggests.")
    ] = None,
    hub: Annotated[
        Path | None,
        typer.Option(help="Folder to make: the bundle as Hugging Face's hub takes it."),
    ] = None,
) -> None:
    """Write for others: detectors as ONNX graphs, the bundle as Hugging Face's hub takes it.

    Nothing is uploaded: the command that would is printed.
    """
    from core.errors import ConfigError

    if onnx is None and hub is None:
        raise ConfigError("export: say what: --onnx FOLDER, --hub FOLDER, or both")
    if opset is not None and onnx is None:
        raise ConfigError(f"--opset {opset}: is that of --onnx FOLDER, which is not given")
    place = place_of(context, workspace, bundle)
    if onnx is not None:
        from inference.export.folder import export_onnx

        typer.echo(export_onnx(onnx, place, opset=opset))
    if hub is not None:
        from inference.export.hub import export_hub

        typer.echo("\n".join(export_hub(hub, place)))
