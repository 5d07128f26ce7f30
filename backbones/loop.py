"""The one training loop: detectors, heads on pooled features and fusion heads all go through it."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn

from backbones.fit_config import FitConfig
from backbones.losses import LOSSES
from core.errors import ConceptError
from core.labels import Targets
from core.metrics import mean_in_order
from core.single_threshold import best_threshold, f1_by_threshold

Rows = npt.NDArray[np.intp]
Inputs = tuple[Tensor, ...]
Batches = Callable[[Rows], Inputs]
"""Inputs of the model for some images, by row number."""

Log = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What `fit` reached.

    Attributes:
        epoch: the epoch whose weights the model holds, counted from 1.
        f1: its stopping score; None where no image was held out to stop on.
    """

    epoch: int
    f1: float | None


def fit(
    model: nn.Module,
    batches: Batches,
    targets: csr_array,
    *,
    rows: Rows,
    stop: npt.NDArray[np.bool_],
    config: FitConfig,
    seed: int,
    evaluate: Batches,
    log: Log,
    device: str,
) -> Fitted:
    """Train a model and leave it with the weights of its best epoch.

    AdamW under a one-cycle schedule; the loss is the mean of its (B, L) entries. After each epoch
    the stopping images are scored: sample F1 at the best single threshold (a bce network decided at
    0.5 looks worse than it is and would be stopped at the wrong epoch).

    Args:
        model: takes what `batches` gives; logits (B, L).
        batches: inputs for training, augmented where that is wanted.
        targets: (n, L) boolean, CSR: the true concepts of `rows`; made dense a batch at a time.
        rows: (n,) rows of the images in the inputs.
        stop: (n,) which of them choose the epoch; the others are learnt from.
        config: loss, rate, length.
        seed: of the order of images.
        evaluate: inputs for scoring.
        log: told of each epoch.
        device: where the model runs.

    Raises:
        ConceptError: the loss became NaN or infinite.
    """
    model.to(device)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        fused=True,  # a step of a head takes 1 ms instead of 20 on a processor
    )
    learnt = np.flatnonzero(~stop)
    steps = -(-len(learnt) // config.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=config.epochs * steps
    )
    rng = np.random.default_rng(seed)
    best = Fitted(epoch=0, f1=None)
    best_state: dict[str, Tensor] = {}
    for epoch in range(1, config.epochs + 1):
        model.train()
        total = torch.zeros((), device=device)
        for chosen in epoch_batches(learnt, size=config.batch_size, rng=rng):
            inputs = to(batches(rows[chosen]), device)
            y = torch.from_numpy(targets[chosen].toarray()).to(device, torch.float32)
            loss = LOSSES[config.loss](model(*inputs), y).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
            optimizer.step()
            schedule.step()
            total += loss.detach() * len(chosen)
        mean_loss = float(total) / len(learnt)
        if not np.isfinite(mean_loss):
            raise ConceptError(
                f"the loss {config.loss} became {mean_loss} in epoch {epoch}; lower learning_rate"
                f" (now {config.learning_rate:g})"
            )
        f1 = None
        if stop.any():
            f1 = stopping_f1(predict(model, evaluate, rows[stop], device=device), targets[stop])
        log({"epoch": epoch, "loss": mean_loss, "f1": f1})
        if f1 is None or best.f1 is None or f1 > best.f1:
            best, best_state = Fitted(epoch=epoch, f1=f1), copy.deepcopy(model.state_dict())
        if epoch - best.epoch >= config.patience:
            break
    model.load_state_dict(best_state)
    return best


def predict(
    model: nn.Module, batches: Batches, rows: Rows, *, device: str, batch_size: int = 256
) -> npt.NDArray[np.float32]:
    """Probabilities (len(rows), L): the only place where logits become probabilities."""
    model.to(device).eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(rows), batch_size):
            logits = model(*to(batches(rows[start : start + batch_size]), device))
            parts.append(torch.sigmoid(logits.float()).cpu().numpy())
    return np.concatenate(parts)


def epoch_batches(rows: Rows, *, size: int, rng: np.random.Generator) -> Iterator[Rows]:
    """All rows once in random order, in batches; the last may be smaller.

    A single image left over joins the batch before: batch normalisation has no deviation of one.
    """
    order = rng.permutation(rows)
    starts = list(range(0, len(order), size))
    if len(order) > size > 1 and len(order) % size == 1:
        starts.pop()
    ends = [*starts[1:], len(order)]
    return (order[start:end] for start, end in zip(starts, ends, strict=True))


def stopping_f1(probs: npt.NDArray[np.float32], targets: csr_array) -> float:
    """Best sample F1 over single thresholds; chooses epochs and is never reported as a score.

    Stopping images without concepts are left out; where none has any, the score is 0.
    """
    known = Targets(matrix=targets, n_outside=np.zeros(targets.shape[0], dtype=np.int32))
    if not targets.nnz:
        return 0.0
    scores = f1_by_threshold(probs, known, empty_truth="left out")
    return mean_in_order(scores[best_threshold(scores)])


def to(inputs: Inputs, device: str) -> Inputs:
    """Inputs on a device."""
    return tuple(tensor.to(device, non_blocking=True) for tensor in inputs)
