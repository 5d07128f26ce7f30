"""The body of `browse`: a workspace read, a socket, pages behind it."""

import asyncio
import gc
import webbrowser
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from core.errors import ConfigError
from core.progress import answer, say
from core.runs.workspace import Workspace
from inference.serve.limits import Doors, Limits

_PACKAGES = ("fastapi", "uvicorn", "jinja2", "prometheus_client", "python_multipart")


def browse(
    workspace: Workspace,
    *,
    doors: Doors,
    compare: Sequence[Path] = (),
    shows_images: bool = True,
    distances: bool = False,
    opens: bool = False,
    device: str = "cpu",
) -> None:
    """Show a workspace until SIGTERM or Ctrl-C.

    Args:
        workspace: with a prepared corpus.
        doors: where, and under which names; its token is the key.
        compare: submissions that stand beside the ensembles.
        shows_images: whether pictures are shown.
        distances: compute the distance from train also where that takes minutes.
        opens: open the first page in the user's browser.
        device: that networks of heat maps run on.

    Raises:
        ConfigError: a package is missing, a file to compare is, or the socket cannot be had.
        MissingStageError: no corpus was prepared.
    """
    if missing := [name for name in _PACKAGES if find_spec(name) is None]:
        raise ConfigError(f"browse: run `pip install 'radfuse[browse]'` first ({missing[0]})")
    submissions = named(compare)
    from browser.guard import KEY, BrowserGuard
    from browser.library import Library
    from browser.pages.app import new_app
    from browser.state import State
    from inference.serve.listen import LimitedConfig, Server
    from inference.serve.measures import Measures
    from inference.serve.run import open_socket

    listening = open_socket(doors)
    gc.disable()  # a corpus is many small objects, all of which stay
    library = Library.open(workspace)
    gc.freeze()
    gc.enable()
    state = State(
        library=library, submissions=submissions, shows_images=shows_images, device=device
    )
    state.warm_up()
    state.compute_distances(always=distances)
    host, port = listening.getsockname()[:2]
    app = BrowserGuard(new_app(state), doors=doors, port=port)
    config = LimitedConfig(app, limits=Limits(), measures=Measures())
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{port}/?{KEY}={doors.token}"
    say(f"{len(library):,} images of {library.corpus.name}; Ctrl-C ends it")
    answer(address)
    if opens:
        webbrowser.open(address)
    try:
        asyncio.run(Server(config).serve(sockets=[listening]))
    finally:
        state.close()
    say("stopped")


def named(paths: Sequence[Path]) -> dict[str, Path]:
    """Submissions by a name each: the file's, and its folder's where two are alike."""
    named: dict[str, Path] = {}
    for path in paths:
        if not path.is_file():
            raise ConfigError(f"--compare {path}: no such file")
        name = path.name if path.name not in named else f"{path.parent.name}/{path.name}"
        if name in named:
            raise ConfigError(f"--compare {path}: given twice")
        named[name] = path
    return named
