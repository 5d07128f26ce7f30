"""An ensemble asked of images that nobody sees, so that parts that do not fit show at once."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from core.categories import CATEGORIES, UNKNOWN
from core.images import ImageTable
from core.predictions import Predictions
from inference.loaded.answers import RetrievalAnswer
from inference.loaded.block import Answer, ImageBlock
from inference.loaded.ensemble import LoadedEnsemble
from inference.loaded.networks import LoadedDetector


def try_out(
    ensemble: LoadedEnsemble, parts: Sequence[Answer], *, widths: Mapping[str, int]
) -> None:
    """Decide an image of each category and one of none, all of them with features of 0.

    Networks on images and neighbours, which take long, are not asked: what they take and give was
    held against their tensors.

    Args:
        ensemble: to be tried.
        parts: all that it is made of.
        widths: number of features by their name.

    Raises:
        ArithmeticError: probabilities are none, or numbers run over.
        Exception: whatever else parts raise that were not made for each other.
    """
    guesses = [ensemble.guess, *(getattr(part, "guess", None) for part in parts)]
    lacking = any(guess is not None and guess.lacking for guess in guesses)
    kinds = CATEGORIES if lacking else (*CATEGORIES, UNKNOWN)
    ids = tuple(f"try{number}" for number in range(len(kinds)))
    table = ImageTable(
        image_ids=ids,
        paths=ids,
        categories=kinds,
        splits=("test",) * len(kinds),
        folds=np.full(len(kinds), -1, dtype=np.int16),
        groups=ids,
        concepts=(None,) * len(kinds),
        metadata={name: ("",) * len(kinds) for name in ensemble.columns},
    )
    said = {
        id(part): Predictions(
            source=part.name if isinstance(part, RetrievalAnswer) else part.category,
            image_ids=ids,
            labels=part.labels,
            probs=np.full((len(kinds), len(part.labels)), 0.5, dtype=np.float32),
            fitted_on=frozenset(),
        )
        for part in parts
        if isinstance(part, RetrievalAnswer)
        or (isinstance(part, LoadedDetector) and not part.features)
    }
    features = {name: np.zeros((len(kinds), n), dtype=np.float32) for name, n in widths.items()}
    block = ImageBlock(
        table=table, pixels={}, networks=ensemble.networks, _features=features, _answers=said
    )
    with np.errstate(all="ignore", over="raise"):  # of images that there are not
        found = replace(ensemble, reference=None).decide(block)
    for numbers in (found.probs, found.calibrated, found.expected_f1):
        if not ((numbers >= 0) & (numbers <= 1)).all():  # NaN lies nowhere
            raise ArithmeticError("what it says are no probabilities")
