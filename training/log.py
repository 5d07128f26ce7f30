"""What is seen of a training: progress bar, lines, `log.jsonl`, and TensorBoard where asked for."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from core.errors import ConfigError
from core.progress import Bar, progress, say
from core.storage.drafts import naming
from training.loop import Watch

Sink = Callable[[dict[str, Any]], None]

_SPOKEN_FROM_S = 20.0
"""Epochs of at least so many seconds are worth a line each where there is no terminal."""


class TrainingLog:
    """The log of one training, and its progress bar.

    Attributes:
        seconds: spent in the epochs that are done, over all starts.
    """

    def __init__(self, what: str, bar: Bar, sinks: list[Sink]) -> None:
        self.what = what
        self.bar = bar
        self.sinks = sinks
        self.seconds = 0.0

    @property
    def watch(self) -> Watch:
        """For the training loop."""
        return Watch(log=self.note, advance=self.bar)

    def note(self, entry: dict[str, Any]) -> None:
        """Take in an entry of the log."""
        for sink in self.sinks:
            sink(entry)
        if "loss" not in entry:
            return
        self.seconds += entry["seconds"]
        f1 = "" if entry["f1"] is None else f", F1 {entry['f1']:.3f}"
        line = f"epoch {entry['epoch']}: loss {entry['loss']:.4g}{f1}"
        self.bar.note(line)
        if self.bar.shown is None and entry["seconds"] >= _SPOKEN_FROM_S:
            say(f"{self.what}: {line}, {entry['images_per_s']:.1f} images/s")


@contextmanager
def watched(
    folder: Path, what: str, *, n_images: int, writes: bool, tensorboard: Path | None
) -> Iterator[TrainingLog]:
    """A log for the length of a training.

    A training that resumes reports its earlier epochs again, so files are written anew.

    Args:
        folder: gets `log.jsonl`.
        what: the training, for the bar and the lines.
        n_images: images that it will learn from in all.
        writes: whether this process writes files.
        tensorboard: folder for TensorBoard's events; None for none.
    """
    with ExitStack() as stack:
        bar = stack.enter_context(progress(f"training {what}", total=n_images, unit="images"))
        sinks = []
        if writes:
            sinks.append(_json_lines(folder, stack))
        if writes and tensorboard is not None:
            sinks.append(_events(tensorboard, stack))
        yield TrainingLog(what, bar, sinks)


def _json_lines(folder: Path, stack: ExitStack) -> Sink:
    path = folder / "log.jsonl"
    file = stack.enter_context(path.open("w", encoding="utf-8"))

    def write(entry: dict[str, Any]) -> None:
        with naming(path):
            print(json.dumps(entry), file=file, flush=True)

    return write


def _events(folder: Path, stack: ExitStack) -> Sink:
    """Losses, F1 by category and rates, by epoch.

    Raises:
        ConfigError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ConfigError("--tensorboard: run `pip install 'radfuse[tensorboard]'` first") from None
    shutil.rmtree(folder, ignore_errors=True)
    writer = SummaryWriter(str(folder))
    stack.callback(writer.close)

    def write(entry: dict[str, Any]) -> None:
        epoch = entry["epoch"]
        scalars = {name: entry[name] for name in _PLOTTED if entry.get(name) is not None}
        by_category = entry.get("f1_by_category", {})
        scalars |= {f"f1 by category/{name}": f1 for name, f1 in by_category.items()}
        for name, value in scalars.items():
            writer.add_scalar(name, value, epoch)
        writer.flush()

    return write


_PLOTTED = (
    "loss",
    "text_loss",
    "stop_loss",
    "f1",
    "rate",
    "lowest_rate",
    "images_per_s",
    "micro_batch",
)
