"""Progress of long work on stderr: a bar with rate and remaining time, none without a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

Advance = Callable[[int], None]
"""Told how many more items are done."""


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} {self._unit}/s", style="dim")


@contextmanager
def progress(what: str, *, total: int, unit: str, done: int = 0) -> Iterator[Advance]:
    """A progress bar for the length of a block.

    Args:
        what: shown before the bar.
        total: number of items.
        unit: what an item is called, in the plural: `images`.
        done: items done in an earlier, interrupted run.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda n: None
        return
    columns = (
        TextColumn(what),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        _Rate(unit),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total, completed=done)

        def advance(n: int) -> None:
            bar.advance(task, n)

        yield advance


def say(line: str) -> None:
    """One line of log on stderr."""
    print(line, file=sys.stderr, flush=True)
