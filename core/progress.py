"""Progress of long work on stderr: a bar with rate and remaining time, none without a terminal."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
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
        if speed is None:
            return Text("")
        shown = f"{speed:,.0f}" if speed >= 10 else f"{speed:.1f}"
        return Text(f"{shown} {self._unit}/s", style="dim")


@dataclass(frozen=True)
class Bar:
    """A progress bar, or nothing where there is no terminal."""

    shown: Progress | None = None
    task: TaskID | None = None

    def __call__(self, n: int) -> None:
        """So many more items are done."""
        if self.shown is not None and self.task is not None:
            self.shown.advance(self.task, n)

    def note(self, text: str) -> None:
        """What was reached last, shown behind the bar."""
        if self.shown is not None and self.task is not None:
            self.shown.update(self.task, note=text)


@contextmanager
def progress(what: str, *, total: int, unit: str, done: int = 0) -> Iterator[Bar]:
    """A progress bar for the length of a block.

    Args:
        what: shown before the bar.
        total: number of items.
        unit: what an item is called, in the plural: `images`.
        done: items done in an earlier, interrupted run.
    """
    console = Console(stderr=True)
    if not console.is_terminal or not _speaks():
        yield Bar()
        return
    columns = (
        TextColumn(what),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        _Rate(unit),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}", style="dim"),
    )
    with Progress(*columns, console=console, transient=True) as shown:
        yield Bar(shown, shown.add_task(what, total=total, completed=done, note=""))


def say(line: str) -> None:
    """One line of log on stderr; of many processes under torchrun only the first speaks."""
    if _speaks():
        print(line, file=sys.stderr, flush=True)


def _speaks() -> bool:
    return os.environ.get("RANK", "0") == "0"
