"""A detector: the members trained for one category or for all images, and what they predict."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array
from torch import nn

from backbones.config import BackboneConfig
from backbones.loop import FitConfig, Fitted, Log, Rows, fit, predict
from backbones.material import Material
from core.images import ImageTable
from core.labels import LabelSpace
from core.predictions import Predictions, row_numbers


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained detector.

    Attributes:
        members: networks that are averaged.
        fitted: what each of them reached on its stopping images.
        fitted_on: ids of all images that any of them learnt from or was stopped on.
    """

    members: tuple[nn.Module, ...]
    fitted: tuple[Fitted, ...]
    fitted_on: frozenset[str]


def train_detector(
    table: ImageTable,
    labels: LabelSpace,
    material: Material,
    config: BackboneConfig,
    *,
    device: str,
    log: Log,
) -> Trained:
    """Train the config's members on labelled, readable images of the training split.

    Args:
        table: the images to learn from, stopping images included; their folds say which are which.
        labels: the concepts to detect.
        material: inputs; must hold every image of the table.
        config: the detector's settings.
        device: where to train.
        log: told of each epoch of each member.
    """
    rows = row_numbers("training inputs", material.image_ids, table.image_ids)
    targets = _at_rows(table.targets(labels).matrix, rows, n_rows=len(material.image_ids))
    members, fitted = [], []
    for member in range(config.n_members):
        stop = stopping_rows(table.folds, member)
        torch.manual_seed(config.seed + member)
        model = material.new_model(rows[~stop], len(labels))

        def log_member(entry: dict[str, Any], member: int = member) -> None:
            log({"member": member, **entry})

        reached = fit(
            model,
            material.train,
            targets,
            train_rows=rows[~stop],
            stop_rows=rows[stop],
            config=fit_config(config, seed=config.seed + member),
            evaluate=material.evaluate,
            log=log_member,
            device=device,
        )
        members.append(model)
        fitted.append(reached)
    return Trained(
        members=tuple(members), fitted=tuple(fitted), fitted_on=frozenset(table.image_ids)
    )


def _at_rows(matrix: csr_array, rows: Rows, *, n_rows: int) -> csr_array:
    """The same rows elsewhere in a matrix of n_rows rows, nothing in the others."""
    placed = matrix.tocoo()
    shape = (n_rows, matrix.shape[1])
    return csr_array((placed.data, (rows[placed.row], placed.col)), shape=shape)


def stopping_rows(folds: npt.NDArray[np.int16], member: int) -> npt.NDArray[np.bool_]:
    """(n,) which images stop the member: those of one fold, another one for each member.

    A small category may be missing from some folds; only the present ones are gone through. Where
    all images share one fold (one group), they stop the training that they also feed.
    """
    present = np.unique(folds)
    chosen: npt.NDArray[np.bool_] = folds == present[member % len(present)]
    return chosen if len(present) > 1 else np.zeros_like(chosen)


def predict_detector(
    detector: Trained,
    material: Material,
    *,
    source: str,
    labels: LabelSpace,
    image_ids: Sequence[str],
    device: str,
) -> Predictions:
    """Mean probability over the members, for these images."""
    rows: Rows = row_numbers(source, material.image_ids, image_ids)
    probs = np.zeros((len(rows), len(labels)), dtype=np.float32)
    for model in detector.members:
        if len(rows):
            probs += predict(model, material.evaluate, rows, device=device)
    return Predictions(
        source=source,
        image_ids=tuple(image_ids),
        labels=labels,
        probs=np.clip(probs / len(detector.members), 0.0, 1.0),  # rounding of the mean
        fitted_on=detector.fitted_on,
    )


def fit_config(config: BackboneConfig, *, seed: int) -> FitConfig:
    """The part of a detector's settings that the loop needs."""
    return FitConfig(
        loss=config.loss,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        batch_size=config.batch_size,
        epochs=config.epochs,
        patience=config.patience,
        seed=seed,
    )
