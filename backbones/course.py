"""How far a training got, and the order in which it goes through the images."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from torch import Tensor

from training.config import FitConfig
from training.predict import Rows


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What a training reached.

    Attributes:
        epoch: the epoch whose weights the model holds, counted from 1.
        f1: its stopping score; None where no image was held out to stop on.
    """

    epoch: int
    f1: float | None


@dataclass(kw_only=True)
class Course:
    """How far a training got.

    Attributes:
        total: sum of the loss over the images of the running epoch so far.
        epoch: the running one, counted from 1.
        step: steps taken in it.
        seconds: spent in it.
        best: the best epoch before it.
        best_state: its weights.
        entries: of the log.
    """

    total: Tensor
    epoch: int = 1
    step: int = 0
    seconds: float = 0.0
    best: Fitted = field(default_factory=lambda: Fitted(epoch=0, f1=None))
    best_state: dict[str, Tensor] = field(default_factory=dict)
    entries: list[dict[str, Any]] = field(default_factory=list)

    def is_over(self, config: FitConfig) -> bool:
        """Whether the last epoch is done, or patience has ended."""
        done = self.epoch - 1
        return done >= config.epochs or done - self.best.epoch >= config.patience

    def state(self) -> dict[str, Any]:
        """All of it in plain types."""
        return {**vars(self), "best": vars(self.best)}

    def restore(self, state: dict[str, Any]) -> None:
        """Be where the state says."""
        total = state["total"].to(self.total.device)
        vars(self).update({**state, "best": Fitted(**state["best"]), "total": total})

    def begin_epoch(self) -> None:
        """Go on to the next epoch."""
        self.total.zero_()
        self.epoch, self.step, self.seconds = self.epoch + 1, 0, 0.0


def epoch_batches(rows: Rows, *, size: int, seed: int, epoch: int) -> Iterator[Rows]:
    """All rows once in the epoch's own order, in batches; the last may be smaller.

    The order depends on seed and epoch alone, so that a training can go on in the middle of it. A
    single image left over joins the batch before: batch normalisation has no deviation of one.
    """
    order = np.random.default_rng((seed, epoch)).permutation(rows)
    bounds = [*range(0, len(order), size), len(order)]
    if len(bounds) > 2 and size > 1 and bounds[-1] - bounds[-2] == 1:
        del bounds[-2]
    return (order[start:end] for start, end in pairwise(bounds))


def n_batches(n_rows: int, *, size: int) -> int:
    """How many batches `epoch_batches` gives."""
    left_over = n_rows > size > 1 and n_rows % size == 1
    return -(-n_rows // size) - left_over
