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
class FitConfig:
    """How a model is fitted; the fields mean what `BackboneConfig` says."""

    loss: str
    learning_rate: float
    weight_decay: float
    batch_size: int
    epochs: int
    patience: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What `fit` reached.

    Attributes:
        epoch: the best epoch, counted from 1; the model holds its weights.
        f1: its stopping score.
        epochs: epochs trained.
    """

    epoch: int
    f1: float
    epochs: int


def fit(
    model: nn.Module,
    batches: Batches,
    targets: csr_array,
    *,
    train_rows: Rows,
    stop_rows: Rows,
    config: FitConfig,
    evaluate: Batches | None = None,
    log: Log = lambda entry: None,
    device: str = "cpu",
) -> Fitted:
    """Train a model and leave it with the weights of its best epoch.

    AdamW under a one-cycle schedule; the loss is the mean of its (B, L) entries. After each epoch
    the stopping images are scored: sample F1 at the best single threshold (a bce network decided at
    0.5 looks worse than it is and would be stopped at the wrong epoch).

    Args:
        model: takes what `batches` gives; logits (B, L).
        batches: inputs for training, augmented where that is wanted.
        targets: (N, L) boolean, CSR; made dense a batch at a time.
        train_rows: images to learn from.
        stop_rows: images that choose the epoch.
        config: loss, rate, length.
        evaluate: inputs for scoring; None where `batches` does not augment.
        log: told of each epoch.
        device: where the model runs.

    Raises:
        ConceptError: the loss became NaN or infinite.
    """
    model.to(device)
    loss_of = LOSSES[config.loss]
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    steps = -(-len(train_rows) // config.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=config.epochs * steps
    )
    rng = np.random.default_rng(config.seed)
    best = Fitted(epoch=0, f1=-1.0, epochs=0)
    best_state: dict[str, Tensor] = {}
    for epoch in range(1, config.epochs + 1):
        model.train()
        total = torch.zeros((), device=device)
        for rows in epoch_batches(train_rows, size=config.batch_size, rng=rng):
            y = torch.from_numpy(targets[rows].toarray()).float().to(device)
            loss = loss_of(model(*to(batches(rows), device)), y).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
            optimizer.step()
            schedule.step()
            total += loss.detach() * len(rows)
        mean_loss = float(total) / len(train_rows)
        if not np.isfinite(mean_loss):
            raise ConceptError(
                f"the loss {config.loss} became {mean_loss} in epoch {epoch}; lower learning_rate"
                f" (now {config.learning_rate:g})"
            )
        probs = predict(model, evaluate or batches, stop_rows, device=device)
        f1 = stopping_f1(probs, targets[stop_rows])
        log({"epoch": epoch, "loss": mean_loss, "f1": f1})
        if f1 > best.f1:
            best, best_state = Fitted(epoch=epoch, f1=f1, epochs=epoch), _copy_state(model)
        if epoch - best.epoch >= config.patience:
            break
    model.load_state_dict(best_state)
    return Fitted(epoch=best.epoch, f1=best.f1, epochs=epoch)


def predict(
    model: nn.Module, batches: Batches, rows: Rows, *, device: str = "cpu", batch_size: int = 256
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
    """All rows once in random order, in batches; the last may be smaller."""
    order = rng.permutation(rows)
    return (order[start : start + size] for start in range(0, len(order), size))


def stopping_f1(probs: npt.NDArray[np.float32], targets: csr_array) -> float:
    """Best sample F1 over single thresholds; chooses epochs and is never reported as a score."""
    known = Targets(matrix=targets, n_outside=np.zeros(targets.shape[0], dtype=np.int32))
    scores = f1_by_threshold(probs, known, empty_truth="left out")
    return mean_in_order(scores[best_threshold(scores)])


def to(inputs: Inputs, device: str) -> Inputs:
    """Inputs on a device."""
    return tuple(tensor.to(device, non_blocking=True) for tensor in inputs)


def _copy_state(model: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(model.state_dict())
