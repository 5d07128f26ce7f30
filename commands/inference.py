"""Commands on new images: predict; and bundle, which carries what decides them elsewhere."""

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
    out: Annotated[
        Path | None,
        typer.Option(help="File to write, or for parquet a folder of parts; none: stdout."),
    ] = None,
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
    engine: Annotated[
        str, typer.Option(help="serial: in this process; ray: on the nodes of a cluster.")
    ] = "serial",
    address: Annotated[
        str | None,
        typer.Option(help="Ray cluster that shares images and workspace; none: this machine."),
    ] = None,
    cpus_per_job: Annotated[
        int | None,
        typer.Option(help="With ray: cores, and threads, of each 1,000 images; none: 1."),
    ] = None,
    gpus_per_job: Annotated[
        float | None,
        typer.Option(help="With ray: GPUs of each 1,000 images, parts count; none: 1 for cuda."),
    ] = None,
) -> None:
    """Decide new images by the ensemble that was last made, or by that of a bundle.

    Images that it cannot read are listed.

    Ends with 1 where any was left out. With --out: killed at any moment, the same command goes on,
    and several processes with the same command share the work. On several GPUs: torchrun
    --nproc-per-node N cli.py predict ...
    """
    from inference.starting import start_quickly

    start_quickly()
    from backbones.detectors.ray import cluster_of
    from inference.predict import predict_places

    cluster = cluster_of(
        engine, address=address, device=device, cpus_per_job=cpus_per_job, gpus_per_job=gpus_per_job
    )
    left_out = predict_places(
        images,
        place_of(context, workspace, bundle),
        category=category,
        out=out,
        form=form,
        top=top,
        edition=edition,
        device=device,
        cluster=cluster,
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
