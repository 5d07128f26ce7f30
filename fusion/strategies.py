"""Ways from what is given to one answer in the full label space, by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from backbones.compute import Compute
from backbones.examples import Examples
from backbones.heads import Standardise
from backbones.members import fit_members, predict_members
from backbones.predict import Rows
from core.detectors import GLOBAL
from core.errors import ConfigError
from core.images import ImageTable
from core.predictions import Predictions, row_numbers
from core.prior import CategoryPrior
from core.progress import progress
from fusion.config import FuseConfig
from fusion.given import Given
from fusion.head import OneHotHead
from fusion.modality import one_hot
from fusion.retrieval import retrieve_by_category
from fusion.route import route

SPLITS = ("valid", "test")


@dataclass(frozen=True, kw_only=True)
class Fused:
    """What a strategy made.

    Attributes:
        predictions: by split, `valid` and `test`.
        contains: names of the detectors whose say is already in these predictions.
    """

    predictions: Mapping[str, Predictions]
    contains: tuple[str, ...] = ()


Made = Mapping[str, Fused]
"""What the strategies before have made, by name."""


def prior(given: Given, config: FuseConfig, made: Made) -> Fused:
    """How often a concept stands on training images of the category."""
    of_category = CategoryPrior.of(given.training_images(), given.corpus.labels)
    table = given.corpus.table
    return Fused(predictions={s: of_category.predict(table.of(split=s)) for s in SPLITS})


def retrieval(given: Given, config: FuseConfig, made: Made) -> Fused:
    """Concepts of the nearest training images of the same category.

    Features are standardised on train first: retrieval alone is hardly better for it, but it errs
    less like the networks do, and their mean gains.
    """
    train = given.training_images()
    features = torch.tensor(given.embeddings.rows(train.image_ids).values)
    standardise = Standardise.fitted(features)
    memory = standardise(features).numpy()
    targets = train.targets(given.corpus.labels).matrix

    def answer(table: ImageTable) -> Predictions:
        probs = retrieve_by_category(
            standardise(torch.tensor(given.embeddings.rows(table.image_ids).values)).numpy(),
            memory,
            targets,
            query_categories=table.categories,
            memory_categories=train.categories,
            k=config.k,
            temperature=config.temperature,
            device=given.device,
        )
        return _predictions("retrieval", table, probs, given, train)

    return Fused(predictions={split: answer(given.corpus.images(split)) for split in SPLITS})


def one_hot_head(given: Given, config: FuseConfig, made: Made) -> Fused:
    """A shallow network on pooled features and the category, averaged over members."""
    ids, labels = given.embeddings.image_ids, given.corpus.labels
    table = given.corpus.table
    categories = [table.categories[row] for row in table.row_numbers(ids)]
    features, category = (
        torch.tensor(given.embeddings.values),
        torch.from_numpy(one_hot(categories)),
    )

    def batch(rows: Rows) -> tuple[torch.Tensor, ...]:
        chosen = torch.from_numpy(rows)
        return features[chosen], category[chosen]

    train = given.training_images()
    examples = Examples(
        batches=batch,
        targets=train.targets(labels).matrix,
        rows=row_numbers("pooled features", ids, train.image_ids),
    )
    compute = Compute(device=given.device)
    n_epochs = config.n_members * config.seeds * config.epochs
    with progress("fusing", total=n_epochs, unit="epochs") as advance:
        members = fit_members(
            lambda train_rows: OneHotHead(batch(train_rows)[0], len(labels), config),
            examples,
            folds=train.folds,
            config=config,
            compute=compute,
            log=lambda entry: advance(1),
        )
    models = [model for model, _ in members]

    def answer(images: ImageTable) -> Predictions:
        rows = row_numbers("pooled features", ids, images.image_ids)
        probs = predict_members(models, batch, rows, n_concepts=len(labels), compute=compute)
        return _predictions("one-hot", images, probs, given, train)

    return Fused(predictions={split: answer(given.corpus.images(split)) for split in SPLITS})


def routed(given: Given, config: FuseConfig, made: Made) -> Fused:
    """Specialists where they know, elsewhere the global detector, or the fused head without one."""
    general = next((run for run in given.detectors if run.category == GLOBAL), None)
    specialists = [run for run in given.detectors if run.category != GLOBAL]
    if general is None and "one-hot" not in made:
        raise ConfigError(
            "strategies: `routed` needs the global detector, or `one-hot` named before it"
        )
    answers = {}
    for split in SPLITS:
        base = general.predictions(split) if general else made["one-hot"].predictions[split]
        answers[split] = route(base, [run.predictions(split) for run in specialists])
    contains = tuple(run.name for run in specialists)
    return Fused(predictions=answers, contains=contains)


Strategy = Callable[[Given, FuseConfig, Made], Fused]

STRATEGIES: dict[str, Strategy] = {
    "one-hot": one_hot_head,
    "retrieval": retrieval,
    "routed": routed,
    "prior": prior,
}


def _predictions(
    source: str, table: ImageTable, probs: npt.NDArray[np.float32], given: Given, train: ImageTable
) -> Predictions:
    return Predictions(
        source=source,
        image_ids=table.image_ids,
        labels=given.corpus.labels,
        probs=probs,
        fitted_on=frozenset(train.image_ids),
    )
