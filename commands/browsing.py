"""`browse`."""

import os
import secrets
from pathlib import Path
from typing import Annotated

import typer

from commands.options import RUNS, DeviceOption, WorkspaceOption, number
from core.config import Range


def browse(
    workspace: WorkspaceOption = RUNS,
    compare: Annotated[
        list[Path] | None,
        typer.Option(help="A submission to hold beside the ensembles; may be given again."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, number("Port to listen on; 0 for a free one.", Range(least=0, most=65_535))
    ] = 8123,
    key_file: Annotated[
        Path | None,
        typer.Option(help="File with the key of the pages; none: RADFUSE_TOKEN, else a drawn one."),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(help="Further name under which the pages are asked for; may be given again."),
    ] = None,
    images: Annotated[
        bool, typer.Option(help="Show pictures; without them only ids, concepts and numbers.")
    ] = True,
    distances: Annotated[
        bool,
        typer.Option(
            "--distances", help="Compute distances from train also where that takes minutes."
        ),
    ] = False,
    open_browser: Annotated[
        bool, typer.Option("--open", help="Open the first page in your browser.")
    ] = False,
    device: DeviceOption = "cpu",
) -> None:
    """Look at images, concepts and errors in your browser: a local page.

    Prints an address with a key; nobody sees the pages without it. For a workspace on a server,
    forward the port: `ssh -L 8123:localhost:8123 SERVER`.
    """
    from browser.run import browse as show
    from core.runs.workspace import Workspace
    from inference.serve.limits import Doors, read_token

    key = read_token(key_file, os.environ, option="--key-file") or secrets.token_urlsafe(16)
    doors = Doors(host=host, port=port, token=key, allowed_hosts=tuple(allowed_host or ()))
    show(
        Workspace(workspace),
        doors=doors,
        compare=compare or (),
        shows_images=images,
        distances=distances,
        opens=open_browser,
        device=device,
    )
