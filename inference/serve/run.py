"""The body of `serve`: a socket, an ensemble behind it, and an end in order."""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING

from core.errors import ConfigError
from core.progress import say
from inference.serve.limits import Doors, Limits
from inference.threads import use_threads, wait_asleep

if TYPE_CHECKING:
    from inference.loaded.ensemble import LoadedEnsemble
    from inference.place import EnsemblePlace
    from inference.serve.blocks import Blocks
    from inference.serve.listen import Server

_PACKAGES = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")

_LAST_S = 1.0  # for threads to end once everything is answered


def serve_ensemble(
    place: "Callable[[], EnsemblePlace]",
    *,
    doors: Doors,
    limits: Limits,
    device: str,
    n_threads: int = 0,
) -> None:
    """Answer requests until SIGTERM or Ctrl-C, then finish those in work.

    The socket listens before the ensemble is read, so that a port in use is said at once, and
    `/healthz` answers.

    Args:
        place: gives that of the ensemble; asked once the socket is there, since what it imports
            takes seconds.
        doors: where, and who may ask.
        limits: of requests.
        device: cpu, cuda or auto.
        n_threads: see `inference.threads.use_threads`.

    Raises:
        ConfigError: a package is missing, or the socket cannot be had.
        ConceptError: the ensemble cannot be read: see `EnsemblePlace.read`.
    """
    if any(find_spec(name) is None for name in _PACKAGES):
        raise ConfigError("serve: run `pip install 'radfuse[serve]'` first")
    with suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # nothing is in work so far
    listening = open_socket(doors)
    wait_asleep()
    from inference.serve.answers import new_app
    from inference.serve.blocks import Blocks, threads_at_work
    from inference.serve.listen import LimitedConfig, Server
    from inference.serve.measures import Measures
    from training.devices.device import find_device

    def read_it() -> "LoadedEnsemble":
        use_threads(n_threads)
        return place().read(find_device(device))

    _speak_plainly()
    measures = Measures()

    async def run() -> Exception | None:
        blocks = Blocks(limits=limits, measures=measures)
        app = new_app(blocks, doors=doors, limits=limits, measures=measures)
        server = Server(LimitedConfig(app, limits=limits, measures=measures))
        host, port = listening.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        say(f"listening on http://{shown}:{port}")
        reading = asyncio.create_task(_read(read_it, blocks, server))
        try:
            await server.serve(sockets=[listening])
        finally:
            blocks.stop()
            reading.cancel()
        return reading.result() if reading.done() and not reading.cancelled() else None

    error = asyncio.run(run())
    if error is not None:
        raise error
    say("stopped")
    for thread in threads_at_work():
        thread.join(_LAST_S)
    if threads_at_work():  # an image that takes for ever; Python would wait for it
        sys.stderr.flush()
        os._exit(0)


def open_socket(doors: Doors) -> socket.socket:
    """A socket that listens, before anything large is read.

    Raises:
        ConfigError: there is no such host, the port is in use, or the system refuses it.
    """
    where = f"--host {doors.host} --port {doors.port}"
    try:
        family, kind, *_, address = socket.getaddrinfo(
            doors.host, doors.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or "no such host"
        raise ConfigError(f"{where}: {reason}") from None
    listening = socket.socket(family, kind)
    try:
        if sys.platform != "win32":  # there it lets two programs share a port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(1)
    except OSError as error:
        listening.close()
        reason = (error.strerror or "refused").lower()
        raise ConfigError(f"{where}: {reason}; choose another with --port or --host") from None
    return listening


async def _read(
    read: "Callable[[], LoadedEnsemble]", blocks: "Blocks", server: "Server"
) -> Exception | None:
    """Have the ensemble read and used; where that fails, the server ends."""
    loop = asyncio.get_running_loop()
    try:
        await blocks.start(await loop.run_in_executor(blocks.deciding, read))
    except Exception as error:  # noqa: BLE001 - raised by whoever runs the server
        server.should_exit = True
        return error
    say("ready")
    return None


class _Lines(logging.Handler):
    """What uvicorn and asyncio log of errors: the line, without the values of a traceback."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say it."""
        raised = record.exc_info[0] if record.exc_info else None
        kind = f" ({raised.__name__})" if raised else ""
        say(f"{record.name}: {str(record.msg).splitlines()[0]}{kind}")


def _speak_plainly() -> None:
    """Have libraries say errors alone, and nothing of what was sent."""
    for name, level in (("uvicorn", logging.ERROR), ("asyncio", logging.ERROR)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [_Lines()], False
        logger.setLevel(level)
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
