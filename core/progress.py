"""Progress of long work on stderr: a bar with rate and remaining time, none without a terminal.

Only the bar needs rich, which is imported where one is shown; without it work goes on, barless.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.storage.text import visible

if TYPE_CHECKING:
    from rich.progress import Progress, Task, TaskID

Advance = Callable[[int], None]
"""Told how many more items are done."""

_HEARD: ContextVar[list[str] | None] = ContextVar("heard", default=None)
_BARRED: ContextVar[bool] = ContextVar("barred", default=False)


@dataclass(frozen=True)
class Bar:
    """A progress bar, or nothing where there is no terminal."""

    shown: "Progress | None" = None
    task: "TaskID | None" = None

    def __call__(self, n: int) -> None:
        """So many more items are done."""
        if self.shown is not None and self.task is not None:
            self.shown.advance(self.task, n)

    def note(self, text: str) -> None:
        """What was reached last, shown behind the bar."""
        if self.shown is not None and self.task is not None:
            self.shown.update(self.task, note=visible(text))


@contextmanager
def progress(what: str, *, total: int, unit: str, done: int = 0) -> Iterator[Bar]:
    """A progress bar for the length of a block.

    Args:
        what: shown before the bar.
        total: number of items.
        unit: what an item is called, in the plural: `images`.
        done: items done in an earlier, interrupted run.
    """
    shown = _bar_on_terminal(unit=unit) if _speaks() and not _BARRED.get() else None
    if shown is None:
        yield Bar()
        return
    with shown:
        yield Bar(shown, shown.add_task(visible(what), total=total, completed=done, note=""))


def _bar_on_terminal(*, unit: str) -> "Progress | None":
    """The bar, not shown yet; None without a terminal, or without rich."""
    try:
        from rich import progress as columns
        from rich.console import Console
        from rich.text import Text
    except ModuleNotFoundError:
        return None
    console = Console(stderr=True)
    if not console.is_terminal:
        return None

    class Rate(columns.ProgressColumn):
        """Items a second."""

        def render(self, task: "Task") -> Text:
            speed = task.finished_speed or task.speed
            if speed is None:
                return Text("")
            shown = f"{speed:,.0f}" if speed >= 10 else f"{speed:.1f}"
            return Text(f"{shown} {unit}/s", style="dim")

    return columns.Progress(
        columns.TextColumn("{task.description}", markup=False),
        columns.BarColumn(bar_width=30),
        columns.MofNCompleteColumn(),
        Rate(),
        columns.TimeRemainingColumn(compact=True),
        columns.TextColumn("{task.fields[note]}", style="dim", markup=False),
        console=console,
        transient=True,
    )


@contextmanager
def overheard(*, bars: bool = False) -> Iterator[list[str]]:
    """What is said within a block, kept in a list in place of stderr, for a caller in Python.

    It is heard in this thread alone; threads that are started meanwhile speak as ever.

    Args:
        bars: whether progress bars are shown all the same.
    """
    lines: list[str] = []
    heard, barred = _HEARD.set(lines), _BARRED.set(not bars)
    try:
        yield lines
    finally:
        _HEARD.reset(heard)
        _BARRED.reset(barred)


def say(line: str, *, each: bool = False) -> None:
    """One line of log on stderr; of many processes under torchrun only the first speaks.

    Signs that do something to a terminal stand there as codes (see `core.storage.text.visible`),
    here and in `answer`: all that is printed goes through one of the two.

    Args:
        line: what is said.
        each: whether every process says it.
    """
    line = visible(line)
    heard = _HEARD.get()
    if heard is not None:
        heard.append(line)
    elif each or _speaks():
        print(line, file=sys.stderr, flush=True)


def answer(*lines: object) -> None:
    """What a command was asked for, in lines on stdout."""
    for line in lines:
        print(visible(str(line)))
    sys.stdout.flush()


def _speaks() -> bool:
    return os.environ.get("RANK", "0") == "0"
