"""Commands on new images: predict and serve; bundle and export carry an ensemble elsewhere."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from commands.options import (
    RUNS,
    BundleOption,
    CpusOption,
    DeviceOption,
    GpusOption,
    WorkspaceOption,
    names_workspace,
    number,
)
from core.config import Range

_SECONDS = Range(least=0.1, most=86_400)


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
        typer.Option(
            help="Category of all images, DRCT or CT; none: by table, folder or DICOM, or guessed."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File to write, or for parquet a folder of parts; none: csv, jsonl to stdout."
        ),
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="csv: a row a concept; jsonl: an object an image; parquet; submission.",
        ),
    ] = "csv",
    top: Annotated[
        int,
        number(
            "Further concepts of each image, the most probable that were not decided.",
            Range(least=0, most=1_000_000),
        ),
    ] = 0,
    edition: Annotated[
        int | None, typer.Option(help="Year of a submission's format; none: that of the corpus.")
    ] = None,
    device: DeviceOption = "auto",
    engine: Annotated[
        str, typer.Option(help="serial: in this process; ray: on the nodes of a cluster.")
    ] = "serial",
    address: Annotated[
        str | None,
        typer.Option(help="With ray: HOST:PORT of a cluster that sees the same files; none: here."),
    ] = None,
    cpus_per_job: CpusOption = None,
    gpus_per_job: GpusOption = None,
) -> None:
    """Decide new images by the ensemble that was last made, or by that of a bundle.

    Images that cannot be read are listed and left out, and the command then ends with 1.

    With --out: killed at any moment, the same command goes on,
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
        typer.Option(
            "--training-ids",
            help="Write ids of training images too: `predict` then names the nearest one.",
        ),
    ] = False,
) -> None:
    """Write the ensemble that was last made, with all it needs and no image, to be used elsewhere.

    `predict --bundle OUT` decides by it, without the workspace.
    """
    from core.progress import answer
    from core.runs.workspace import Workspace
    from inference.bundle.bundle import write_bundle

    answer(write_bundle(Workspace(workspace), out, training_ids=training_ids))


def serve(
    context: typer.Context,
    workspace: WorkspaceOption = RUNS,
    bundle: BundleOption = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but this machine's own takes a token.")
    ] = "127.0.0.1",
    port: Annotated[
        int, number("Port to listen on; 0: a free one.", Range(least=0, most=65_535))
    ] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the token that requests show; none: the variable RADFUSE_TOKEN."
        ),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(help="A further name that the Host header may have; may be repeated."),
    ] = None,
    max_mb: Annotated[
        int, number("Most megabytes of a request.", Range(least=1, most=1_000_000))
    ] = 64,
    max_files: Annotated[
        int, number("Most images of a request.", Range(least=1, most=100_000))
    ] = 32,
    max_megapixels: Annotated[
        float, number("Most megapixels of an image.", Range(least=0.01, most=10_000))
    ] = 40,
    max_memory_mb: Annotated[
        int, number("Most megabytes of all requests in memory.", Range(least=1, most=1_000_000))
    ] = 512,
    max_queue: Annotated[
        int, number("Most images of all requests that wait.", Range(least=1, most=1_000_000))
    ] = 256,
    max_connections: Annotated[
        int, number("Most connections open at once.", Range(least=1, most=100_000))
    ] = 256,
    max_head_kb: Annotated[
        int, number("Most kilobytes of a request's headers.", Range(least=1, most=16_384))
    ] = 16,
    read_seconds: Annotated[
        float, number("Seconds in which a request has to be there.", _SECONDS)
    ] = 30,
    request_seconds: Annotated[
        float, number("Seconds in which a request is answered.", _SECONDS)
    ] = 60,
    stop_seconds: Annotated[
        float,
        number(
            "Seconds to finish what is in work, once told to stop.", Range(least=1, most=86_400)
        ),
    ] = 20,
    company_ms: Annotated[
        float,
        number(
            "Milliseconds for which an image waits for others, to be decided together.",
            Range(least=0, most=60_000),
        ),
    ] = 5,
    block: Annotated[int, number("Most images decided at once.", Range(least=1, most=10_000))] = 32,
    decoders: Annotated[
        int,
        number(
            "Most images decoded at once; 0: as many as cores, at most 4.",
            Range(least=0, most=1_000),
        ),
    ] = 0,
    exact: Annotated[
        bool,
        typer.Option(
            "--exact",
            help="The same bits as `predict`; a single image takes several times as long.",
        ),
    ] = False,
    threads: Annotated[
        int,
        number(
            "Threads of torch, BLAS and numba; 0: their own number.", Range(least=0, most=1_024)
        ),
    ] = 0,
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
        typer.Option(help="Folder to write: the detectors as ONNX graphs."),
    ] = None,
    opset: Annotated[
        int | None,
        number("Opset version of the graphs; none: the exporter's own.", Range(least=7, most=100)),
    ] = None,
    hub: Annotated[
        Path | None,
        typer.Option(help="Folder to write: the bundle as Hugging Face's hub takes it."),
    ] = None,
) -> None:
    """Write for others: detectors as ONNX graphs, the bundle as Hugging Face's hub takes it.

    Nothing is uploaded: the command that would is printed.
    """
    from core.errors import ConfigError
    from core.progress import answer
    from inference.place import chosen_place

    if onnx is None and hub is None:
        raise ConfigError("export: say what: --onnx FOLDER, --hub FOLDER, or both")
    if opset is not None and onnx is None:
        raise ConfigError(f"--opset {opset}: is that of --onnx FOLDER, which is not given")
    place = chosen_place(workspace, bundle, is_named=names_workspace(context))
    if onnx is not None:
        from inference.export.folder import export_onnx

        answer(export_onnx(onnx, place, opset=opset))
    if hub is not None:
        from inference.export.hub import export_hub

        answer(*export_hub(hub, place))
