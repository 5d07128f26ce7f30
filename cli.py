"""radfuse on the command line: `python cli.py COMMAND --help`."""

import errno
import shlex
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TextIO

try:
    import typer
except ModuleNotFoundError:
    print(
        "radfuse's packages are not installed for this Python: run `make install`, then"
        " `source .venv/bin/activate`",
        file=sys.stderr,
    )
    sys.exit(2)

from commands.browsing import browse
from commands.corpora import deal, prepare, stats
from commands.inference import bundle, export, predict, serve
from commands.learning import fuse, sample, train_backbone
from commands.options import RUNS, DeviceOption, WorkspaceOption
from commands.reporting import report, reproduce
from commands.submissions import check, ensemble, score
from core.errors import (
    ConceptError,
    ConfigError,
    as_typed,
    bounded,
    excerpt,
    first_line,
    is_out_of_memory,
    typed,
)

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Concepts in radiology images: detectors, fusion with the category, and the ensemble that"
    " makes the submission. Research software, not a medical device.",
)

_MENDABLE = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO),
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP),
)
"""What the system refuses for reasons of the disk, of rights or of a path that was given."""

_INTERRUPTED = (130, 143)
"""Exit codes of Ctrl-C and SIGTERM."""

_NOTED: set[str] = set()
"""What libraries warned of so far."""

for command in (
    prepare, stats, deal, sample, train_backbone, fuse, ensemble, score, check, predict, bundle,
    export, serve, browse, reproduce, report,
):  # fmt: skip
    app.command()(command)


@app.command()
def demo(workspace: WorkspaceOption = RUNS / "demo", device: DeviceOption = "auto") -> None:
    """Run the whole chain on the phantom corpus, down to a checked and scored submission."""
    from core.runs.workspace import Workspace
    from corpus.prepare import refuse_other_corpus

    home = Workspace(workspace)
    refuse_other_corpus(home)
    there, chosen = ("-w", workspace), () if device == "auto" else ("--device", device)
    _run("prepare", *there)
    _run("train-backbone", *there, *chosen)
    _run("fuse", *there, *chosen)
    submission = _run("ensemble", "--submit", *there)
    _run("report", *there)
    year, truth = home.open_corpus().edition, home.phantom / "Test-Concepts.txt"
    _run("check", submission, "--edition", year, *there)
    _run("score", submission, "--edition", year, "--truth", truth)


def _run(*arguments: object) -> Any:
    """Show a command as a user types it, and run it; what it returns."""
    from core.progress import answer

    words = list(map(str, arguments))
    answer(f"$ {as_typed(shlex.join(words))}")
    with typed(words):
        return app(words, standalone_mode=False)


def main() -> None:
    """Run the command; what the user can mend is one line and exit code 2."""
    warnings.showwarning = _note
    try:
        with _watched_signals() as received, typed(sys.argv[1:]):
            _refuse_empty(sys.argv)
            _command(received)
    except ConceptError as error:
        _stop(f"{type(error).__name__}: {error}")
    except (MemoryError, RuntimeError, OSError) as error:
        if is_out_of_memory(error):
            _stop(f"out of memory: {first_line(error)}; free some, or ask for less at once")
        if not isinstance(error, OSError) or error.errno not in _MENDABLE:
            raise
        _stop(f"{error.filename or _workspace()}: {error.strerror}")
    except SystemExit as end:
        if end.code in _INTERRUPTED:
            print("interrupted; run the same command again to go on", file=sys.stderr)
        raise


@contextmanager
def _watched_signals() -> Iterator[list[int]]:
    """A block that Ctrl-C and SIGTERM end; it is given those that came."""
    received: list[int] = []

    def end(number: int, frame: FrameType | None) -> NoReturn:
        received.append(number)
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGTERM, end)
    if before[signal.SIGINT] is signal.default_int_handler:  # in the background it is not
        signal.signal(signal.SIGINT, end)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _command(received: Sequence[int]) -> None:
    """Run the command; an interruption that a library took for its own error is one all the same.

    Matplotlib's machine code says `Invalid bounding box` where Ctrl-C meets it.

    Args:
        received: signals to end that came so far.
    """
    try:
        app()
    except Exception:
        if not received:
            raise
        sys.exit(128 + received[-1])


def _refuse_empty(words: Sequence[str]) -> None:
    """Stop at an argument without a letter: as a path it would be the current folder.

    Raises:
        ConfigError: there is one, or an option ends in `=`.
    """
    for before, word in pairwise(words):
        name, sign, value = word.partition("=")
        if not word or (name.startswith("--") and sign and not value):
            place = name or f"the argument after {excerpt(before)}"
            raise ConfigError(f"{place} is empty; is a variable of the shell not set?")


def _note(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """What a library warns of, in one line of log, once; Python would show its source as well."""
    from core.progress import say

    text = bounded(next(iter(str(message).splitlines()), ""))
    parts = Path(filename).parts
    place = parts[parts.index("site-packages") + 1] if "site-packages" in parts[:-1] else "radfuse"
    if (noted := f"note: {place.removesuffix('.py')} warns: {text}") not in _NOTED:
        _NOTED.add(noted)
        say(noted)


def _workspace() -> str:
    """Where the command writes: for what the system refuses without a name."""
    words = [word.removeprefix("--workspace=") for word in sys.argv]
    at = next((k for k, word in enumerate(words) if word in ("-w", "--workspace")), None)
    plain = [word for word, own in zip(words, sys.argv, strict=True) if word != own]
    given = words[at + 1 : at + 2] if at is not None else plain
    return f"a file in {next(iter(given), RUNS)}, or a temporary one"


def _stop(line: str) -> None:
    from core.storage.text import visible

    print(visible(bounded(line)), file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
