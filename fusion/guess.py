"""The category that images look like: a guess where none is given, a doubt where another is."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from core.categories import CATEGORIES, UNKNOWN
from core.config import fingerprint
from core.embeddings import Embeddings
from core.errors import MissingStageError
from core.images import ImageTable
from core.progress import say
from core.runs.workspace import Corpus, Workspace
from core.storage.arrays import load_array, save_array
from core.storage.folders import is_complete, new_folder, read_meta
from fusion.inputs.category import Floats, fit_category_model
from fusion.modality import columns_of

DOUBTED = 0.01
"""A given category that the features find less likely than this is doubted."""


@dataclass(frozen=True, kw_only=True)
class Guess:
    """What the pooled features say of the category of N images.

    Attributes:
        posterior: (N, 7) P(category | features), of training images by models that did not learn
            from them.
        accuracy: of the guesses for training images.
        n_images: training images of known category.
        folder: where the model, the guesses and the doubts lie.
    """

    posterior: Floats
    accuracy: float
    n_images: int
    folder: Path


def guess_categories(
    corpus: Corpus, workspace: Workspace, embeddings: Embeddings, names: tuple[str, ...]
) -> Guess | None:
    """The guess for all images that have features; made once, then read again.

    Images whose category was guessed or is doubted are counted in a line each and listed in
    `guessed.csv` and `doubted.csv`.

    Returns:
        None where fewer than two categories have training images: nothing could be guessed.
    """
    home = workspace.fusion / f"category-{fingerprint(corpus.fingerprint, names)}"
    table = corpus.table.take(corpus.table.row_numbers(embeddings.image_ids))
    if not is_complete(home):
        try:
            _fit(home, embeddings, table)
        except MissingStageError as error:
            say(str(error))
            return None
    meta, posterior = read_meta(home), load_array(home / "posterior.npy")
    _tell(home, meta["n_guessed"], meta["n_doubted"], accuracy=meta["accuracy"])
    return Guess(
        posterior=posterior, accuracy=meta["accuracy"], n_images=meta["n_images"], folder=home
    )


def _fit(home: Path, embeddings: Embeddings, table: ImageTable) -> None:
    in_train = np.array(table.splits) == "train"
    train = table.take(in_train)
    model, of_train = fit_category_model(embeddings.values[in_train], train.categories, train.folds)
    posterior = model.posterior(embeddings.values)
    posterior[in_train] = of_train
    given = np.array(table.categories, dtype=np.str_)
    unknown = given == UNKNOWN
    own = _of_given(posterior, table)
    doubted = ~unknown & (own < DOUBTED)
    meta = {
        "accuracy": model.accuracy,
        "temperature": model.temperature,
        "n_images": int(model.n_of_category.sum()),
        "n_guessed": int(unknown.sum()),
        "n_doubted": int(doubted.sum()),
    }
    with new_folder(home, meta) as draft:
        model.save(draft)
        save_array(draft / "posterior.npy", posterior)
        _list(draft / "guessed.csv", table, posterior, unknown)
        _list(draft / "doubted.csv", table, posterior, doubted)


def _of_given(posterior: Floats, table: ImageTable) -> Floats:
    """(N,) what the features give to the given category; 1 where none is given."""
    own = columns_of(table.categories)
    return np.where(own < 0, 1.0, posterior[np.arange(len(own)), own])


def _list(path: Path, table: ImageTable, posterior: Floats, chosen: npt.NDArray[np.bool_]) -> None:
    """Write images with what their features say, the surest first."""
    rows = np.flatnonzero(chosen)
    rows = rows[np.argsort(-posterior[rows].max(axis=1), kind="stable")]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image_id", "split", "given", "guess", *CATEGORIES])
        for row in rows:
            guess = CATEGORIES[int(posterior[row].argmax())]
            values = [f"{p:.4f}" for p in posterior[row]]
            of_image = [table.image_ids[row], table.splits[row], table.categories[row]]
            writer.writerow([*of_image, guess, *values])


def _tell(home: Path, n_guessed: int, n_doubted: int, *, accuracy: float) -> None:
    if n_guessed:
        have = "image has" if n_guessed == 1 else "images have"
        say(
            f"{n_guessed:,} {have} no category: guessed from their features (right for"
            f" {accuracy:.1%} of train, held out), {home / 'guessed.csv'}"
        )
    if n_doubted:
        look = "image looks" if n_doubted == 1 else "images look"
        say(
            f"{n_doubted:,} {look} like another category than the given one (under {DOUBTED:.0%} by"
            f" their features); worth a look: {home / 'doubted.csv'}"
        )
