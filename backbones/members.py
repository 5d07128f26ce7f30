"""Several networks of one kind, trained on different parts of train and averaged."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array
from torch import nn

from backbones.fit_config import FitConfig
from backbones.loop import Batches, Fitted, Log, Rows, fit, predict


def fit_members(
    new_model: Callable[[Rows], nn.Module],
    batches: Batches,
    targets: csr_array,
    *,
    rows: Rows,
    folds: npt.NDArray[np.int16],
    config: FitConfig,
    log: Log,
    device: str,
    evaluate: Batches | None = None,
) -> list[tuple[nn.Module, Fitted]]:
    """Train `config.n_members` networks, each stopped on a fold of its own.

    Args:
        new_model: a fresh network for these training rows.
        batches: inputs for training, by row.
        targets: (n, L) boolean, CSR: the true concepts of `rows`.
        rows: (n,) rows of the training images in the inputs.
        folds: (n,) their folds.
        config: how to fit.
        log: told of each epoch, with the member's number.
        device: where to train.
        evaluate: inputs for scoring; None where `batches` does not augment.

    Returns:
        Each network with what it reached.
    """
    members = []
    for number in range(config.n_members):
        stop = stopping_images(folds, number)
        torch.manual_seed(config.seed + number)
        model = new_model(rows[~stop])

        def log_member(entry: dict[str, Any], number: int = number) -> None:
            log({"member": number, **entry})

        fitted = fit(
            model,
            batches,
            targets,
            rows=rows,
            stop=stop,
            config=config,
            seed=config.seed + number,
            evaluate=evaluate or batches,
            log=log_member,
            device=device,
        )
        members.append((model, fitted))
    return members


def predict_members(
    models: Sequence[nn.Module], batches: Batches, rows: Rows, *, n_concepts: int, device: str
) -> npt.NDArray[np.float32]:
    """(len(rows), n_concepts) mean probability over the networks."""
    probs = np.zeros((len(rows), n_concepts), dtype=np.float32)
    for model in models:
        if len(rows):
            probs += predict(model, batches, rows, device=device)
    return np.clip(probs / len(models), 0.0, 1.0)  # the mean's rounding may pass 1


def stopping_images(folds: npt.NDArray[np.int16], member: int) -> npt.NDArray[np.bool_]:
    """(n,) which images stop the member: those of one fold, another one for each member.

    A small category may be missing from some folds; only the present ones are gone through. Where
    all images share one fold none is held out, and training runs its full length.
    """
    present = np.unique(folds)
    chosen: npt.NDArray[np.bool_] = folds == present[member % len(present)]
    return chosen if len(present) > 1 else np.zeros_like(chosen)
