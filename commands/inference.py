"""Commands on new images: predict, serve; bundle and export carry what decides elsewhere."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from commands.options import (
    RUNS,
    BundleOption,
    DeviceOption,
    WorkspaceOption,
    names_workspace,
)


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
    from inference.threads import wait_asleep

    wait_asleep()
    from backbones.detectors.ray import cluster_of
    from inference.place import chosen_place
    from inference.predict import predict_places

    cluster = cluster_of(
        engine, address=address, device=device, cpus_per_job=cpus_per_job, gpus_per_job=gpus_per_job
    )
    left_out = predict_places(
        images,
        chosen_place(workspace, bundle, is_named=names_workspace(context)),
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


def serve(
    context: typer.Context,
    workspace: WorkspaceOption = RUNS,
    bundle: BundleOption = None,
    host: Annotated[
        str, typer.Option(help="Where to listen; any but this machine's own takes a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(help="File with the token to show; none: RADFUSE_TOKEN of the environment."),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(help="A name under which the server is asked; may be repeated."),
    ] = None,
    max_mb: Annotated[int, typer.Option(min=1, help="Megabytes of a request.")] = 64,
    max_files: Annotated[int, typer.Option(min=1, help="Images of a request.")] = 32,
    max_megapixels: Annotated[float, typer.Option(min=0.01, help="Of an image.")] = 40,
    max_memory_mb: Annotated[
        int, typer.Option(min=1, help="Megabytes of all requests that are in memory.")
    ] = 512,
    max_queue: Annotated[int, typer.Option(min=1, help="Images of all requests that wait.")] = 256,
    max_connections: Annotated[int, typer.Option(min=1, help="Open at once.")] = 256,
    max_head_kb: Annotated[int, typer.Option(min=1, help="Kilobytes of a request's head.")] = 16,
    read_seconds: Annotated[
        float, typer.Option(min=0.1, help="In which a request has to be there.")
    ] = 30,
    request_seconds: Annotated[
        float, typer.Option(min=0.1, help="In which a request is answered.")
    ] = 60,
    stop_seconds: Annotated[
        float, typer.Option(min=1, help="To finish what is in work, once told to stop.")
    ] = 20,
    company_ms: Annotated[
        float,
        typer.Option(min=0, help="For which an image waits for another to be decided together."),
    ] = 5,
    block: Annotated[int, typer.Option(min=1, help="Images decided at once.")] = 32,
    decoders: Annotated[
        int, typer.Option(min=0, help="Images decoded at once; 0: as many as cores, at most 4.")
    ] = 0,
    exact: Annotated[
        bool,
        typer.Option("--exact", help="The bits of `predict`; an image takes ten times as long."),
    ] = False,
    threads: Annotated[int, typer.Option(min=0, help="Threads of a library; 0: its own.")] = 0,
    device: DeviceOption = "auto",
) -> None:
    """Answer requests with images over HTTP, until SIGTERM or Ctrl-C.

    Research software, not a medical device. Nothing of the images is kept or logged.
    """
    from inference.serve.limits import Doors, Limits, read_token
    from inference.serve.run import serve_ensemble

    doors = Doors(
        host=host,
        port=port,
        token=read_token(token_file, os.environ),
        allowed_hosts=tuple(allowed_host or ()),
    )
    limits = Limits(
        request_bytes=max_mb << 20,
        files=max_files,
        pixels=int(max_megapixels * 1e6),
        held_bytes=max_memory_mb << 20,
        queue=max_queue,
        connections=max_connections,
        head_bytes=max_head_kb << 10,
        read_s=read_seconds,
        request_s=request_seconds,
        stop_s=stop_seconds,
        company_s=company_ms / 1000,
        block=block,
        decoders=decoders or min(4, os.cpu_count() or 1),
        exact=exact,
    )

    def place() -> Any:
        from inference.place import chosen_place

        return chosen_place(workspace, bundle, is_named=names_workspace(context))

    serve_ensemble(place, doors=doors, limits=limits, device=device, n_threads=threads)


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
    from inference.place import chosen_place

    if onnx is None and hub is None:
        raise ConfigError("export: say what: --onnx FOLDER, --hub FOLDER, or both")
    if opset is not None and onnx is None:
        raise ConfigError(f"--opset {opset}: is that of --onnx FOLDER, which is not given")
    place = chosen_place(workspace, bundle, is_named=names_workspace(context))
    if onnx is not None:
        from inference.export.folder import export_onnx

        typer.echo(export_onnx(onnx, place, opset=opset))
    if hub is not None:
        from inference.export.hub import export_hub

        typer.echo("\n".join(export_hub(hub, place)))
