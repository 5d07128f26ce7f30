"""The category of an image as input: given, guessed from its pooled features, or doubted.

One network can serve images with and without a category, since a calibrated posterior stands in
for a missing one. What is known of training images teaches it; where only their concepts tell the
category, that is no input anywhere: the posterior stands in there as well, by a model that did not
learn from the image. The posterior also finds images whose features contradict their category: in a
real archive some folders are wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from core.categories import CATEGORIES, UNKNOWN
from core.config import fingerprint
from core.embeddings import Embeddings
from core.errors import MissingStageError
from core.images import ImageTable
from core.progress import say
from core.runs.fused import DOUBTED, GUESSED
from core.runs.workspace import Corpus, Workspace
from core.storage.arrays import load_array, save_array
from core.storage.folders import TURN, is_whole, new_folder, next_turn, read_meta, read_whole
from core.storage.tables import write_rows
from training.heads import Standardise

Floats = npt.NDArray[np.float32]

_N_PARTS = 5
"""Models, each of which leaves out a fifth of the folds of train."""

_C = 0.1
"""Inverse penalty of the logistic regression on standardised features: 0.003 to 0.3 were as right,
97.5 to 97.7 % of radbench's validation images."""

_LEAST_LOG = -20.0
"""Log probability of a category that a head has not met: its part of train had all of it."""


@dataclass(frozen=True, kw_only=True)
class CategoryModel:
    """Linear heads from standardised features to the categories, and one temperature for all.

    The posterior is the mean over the heads of their softmax at the temperature; that of a training
    image comes from the one head that did not learn from it.

    Attributes:
        mean, scale: (D,) of the training features.
        weights: (K, 7, D); 0 for a category that the head has not met.
        biases: (K, 7); minus infinity for it.
        temperature: at which the out-of-fold posteriors of train are the most likely.
        accuracy: of the out-of-fold guesses of train.
        n_of_category: (7,) training images.
    """

    mean: Floats
    scale: Floats
    weights: Floats
    biases: Floats
    temperature: float
    accuracy: float
    n_of_category: npt.NDArray[np.int64]

    def posterior(self, features: Floats) -> Floats:
        """(N, 7) P(category | features) of images that were not learnt from."""
        x = (features - self.mean) / self.scale
        heads = zip(self.weights, self.biases, strict=True)
        found = [softmax(_logits(x, w, b) / self.temperature, axis=1) for w, b in heads]
        return _no_surer(np.mean(found, axis=0, dtype=np.float32), self.n_of_category)

    def save(self, folder: Path) -> None:
        """Write an array a file; temperature and accuracy are the folder's meta."""
        for name in _ARRAYS:
            save_array(folder / f"{name}.npy", getattr(self, name))

    @classmethod
    def load(cls, folder: Path) -> "CategoryModel":
        """The model of a guess that `guess_categories` made.

        Raises:
            PredictionsError: the folder is not whole, or an earlier version made it.
        """
        meta = read_whole(folder, "temperature", "accuracy", N_OF_CATEGORY)
        return cls(
            **{name: load_array(folder / f"{name}.npy") for name in _ARRAYS},
            temperature=meta["temperature"],
            accuracy=meta["accuracy"],
            n_of_category=np.array(meta[N_OF_CATEGORY], dtype=np.int64),
        )


_ARRAYS = ("mean", "scale", "weights", "biases")

N_OF_CATEGORY = "n_of_category"
"""Training images of each category, in the meta of a guess; earlier versions kept their sum."""


def fit_category_model(
    features: Floats,
    categories: Sequence[str],
    *,
    folds: npt.NDArray[np.integer],
    widths: Sequence[int] = (),
) -> tuple[CategoryModel, Floats]:
    """Fit on training images; those of unknown category teach nothing.

    Args:
        features: (N, D).
        categories: N of `CATEGORIES`, or `UNKNOWN`.
        folds: (N,) of `prepare`: whole groups, so that no patient is on both sides.
        widths: columns of each encoder; () for one.

    Returns:
        The model, and the (N, 7) out-of-fold posterior of the training images.

    Raises:
        MissingStageError: fewer than two categories have training images in two folds.
    """
    column = columns_of(categories)
    known = column >= 0
    parts = np.searchsorted(np.unique(folds), folds) % _N_PARTS
    standardise = Standardise.fitted(torch.tensor(features), widths=widths)
    mean, scale = standardise.mean.numpy(), standardise.std.numpy()
    x = (features - mean) / scale
    logits = np.zeros((len(x), len(CATEGORIES)), dtype=np.float32)
    weights, biases = [], []
    for part in np.unique(parts):
        learnt, here = known & (parts != part), parts == part
        if len(np.unique(column[learnt])) < 2:
            raise MissingStageError(
                "categories cannot be guessed: fewer than two have training images in two folds"
            )
        w, b = _fit_head(x[learnt], column[learnt])
        logits[here] = _logits(x[here], w, b)
        weights.append(w)
        biases.append(b)
    temperature = _fit_temperature(logits[known], column[known])
    model = CategoryModel(
        mean=mean,
        scale=scale,
        weights=np.stack(weights),
        biases=np.stack(biases),
        temperature=temperature,
        accuracy=float((logits[known].argmax(axis=1) == column[known]).mean()),
        n_of_category=np.bincount(column[known], minlength=len(CATEGORIES)),
    )
    return model, _no_surer(softmax(logits / temperature, axis=1), model.n_of_category)


def _no_surer(posterior: Floats, n_of_category: npt.NDArray[np.int64]) -> Floats:
    """A posterior no surer than so many right guesses make it, by Laplace's rule of succession.

    Guesses that were all right would have a temperature of 0, and be certain for ever.
    """
    n_images = n_of_category.sum()
    mixed: Floats = (posterior * n_images + n_of_category / n_images) / (n_images + 1)
    return mixed.astype(np.float32)


def _fit_head(x: Floats, column: npt.NDArray[np.integer]) -> tuple[Floats, Floats]:
    """(7, D) weights and (7,) biases of a multinomial logistic regression."""
    from sklearn.linear_model import LogisticRegression  # 1.1 s, which asking need not wait for

    fitted = LogisticRegression(C=_C, max_iter=1000).fit(x, column)
    weights = np.zeros((len(CATEGORIES), x.shape[1]), dtype=np.float32)
    biases = np.full(len(CATEGORIES), -np.inf, dtype=np.float32)
    if len(fitted.classes_) == 2:  # one row: the log odds of the second
        weights[fitted.classes_[1]], biases[fitted.classes_] = fitted.coef_[0], 0.0
        biases[fitted.classes_[1]] = fitted.intercept_[0]
    else:
        weights[fitted.classes_], biases[fitted.classes_] = fitted.coef_, fitted.intercept_
    return weights, biases


def _logits(x: Floats, weights: Floats, biases: Floats) -> Floats:
    """(N, 7) of standardised features, the same bits however many images are asked at once."""
    product = x.astype(np.float64) @ weights.T.astype(np.float64)  # rounded below what is kept
    return (product + biases).astype(np.float32)


def _fit_temperature(logits: Floats, column: npt.NDArray[np.integer]) -> float:
    """The temperature that makes the true categories most likely (Guo et al., ICML 2017)."""
    rows = np.arange(len(logits))

    def loss(log_temperature: float) -> float:
        log_probs = log_softmax(logits / np.exp(log_temperature), axis=1)[rows, column]
        return -float(np.maximum(log_probs, _LEAST_LOG).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-8, 4), method="bounded").x))


_DOUBTED_UNDER = 0.01
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


def guess_name(corpus_fingerprint: str, names: tuple[str, ...]) -> str:
    """Name of the folder of a guess, by the corpus or view and the names of its features."""
    return f"category-{fingerprint(corpus_fingerprint, names)}"


def guess_categories(
    corpus: Corpus,
    workspace: Workspace,
    *,
    embeddings: Embeddings,
    names: tuple[str, ...],
    tell: bool = True,
) -> Guess | None:
    """The guess for all images that have features; made once, then read again.

    Images whose category was guessed or is doubted are counted in a line each and listed in
    `guessed.csv` and `doubted.csv`; a category that is told by concepts may be doubted as well.

    Returns:
        None where fewer than two categories have training images: nothing could be guessed.
    """
    home = workspace.fusion / guess_name(corpus.fingerprint, names)
    table = corpus.table.take(corpus.table.row_numbers(embeddings.image_ids))
    if not (is_whole(home) and N_OF_CATEGORY in read_meta(home)):
        try:
            _fit(home, embeddings, table, corpus.fingerprint)
        except MissingStageError as error:
            if tell:
                say(str(error))
            return None
    meta, posterior = read_meta(home), load_array(home / "posterior.npy")
    if tell:
        _tell(home, meta["n_guessed"], meta["n_doubted"], accuracy=meta["accuracy"])
    return Guess(
        posterior=posterior, accuracy=meta["accuracy"], n_images=meta["n_images"], folder=home
    )


def _fit(home: Path, embeddings: Embeddings, table: ImageTable, corpus: str) -> None:
    in_train = np.array(table.splits) == "train"
    to_learn = in_train & table.labelled
    learnt = table.take(to_learn).as_training_images()
    told = dict(zip(learnt.image_ids, learnt.categories, strict=True))
    known = zip(table.image_ids, table.categories, strict=True)
    table = replace(table, categories=tuple(told.get(i, given) for i, given in known))
    train = table.take(in_train)
    model, of_train = fit_category_model(
        embeddings.values[in_train],
        train.categories,
        folds=train.folds,
        widths=embeddings.widths,
    )
    posterior = model.posterior(embeddings.values)
    posterior[in_train] = of_train
    unknown = np.array(table.categories, dtype=np.str_) == UNKNOWN
    own = _of_given(posterior, table)
    doubted = ~unknown & (own < _DOUBTED_UNDER)
    meta = {
        "corpus": corpus,
        "accuracy": model.accuracy,
        "temperature": model.temperature,
        "n_images": int(model.n_of_category.sum()),
        N_OF_CATEGORY: model.n_of_category.tolist(),
        "n_guessed": int(unknown.sum()),
        "n_doubted": int(doubted.sum()),
        TURN: next_turn(home.parent),
    }
    with new_folder(home, meta) as draft:
        model.save(draft)
        save_array(draft / "posterior.npy", posterior)
        _list(draft / GUESSED, table, posterior, unknown)
        _list(draft / DOUBTED, table, posterior, doubted)


def _of_given(posterior: Floats, table: ImageTable) -> Floats:
    """(N,) what the features give to the given category; 1 where none is given."""
    own = columns_of(table.categories)
    return np.where(own < 0, 1.0, posterior[np.arange(len(own)), own])


def _list(path: Path, table: ImageTable, posterior: Floats, chosen: npt.NDArray[np.bool_]) -> None:
    """Write images with what their features say, the surest first."""
    rows = np.flatnonzero(chosen)
    rows = rows[np.argsort(-posterior[rows].max(axis=1), kind="stable")]
    lines: list[list[str]] = [["image_id", "split", "given", "guess", *CATEGORIES]]
    for row in rows:
        guess = CATEGORIES[int(posterior[row].argmax())]
        values = [f"{p:.4f}" for p in posterior[row]]
        of_image = [table.image_ids[row], table.splits[row], table.categories[row]]
        lines.append([*of_image, guess, *values])
    write_rows(path, lines, for_people=path.name == DOUBTED)


def _tell(home: Path, n_guessed: int, n_doubted: int, *, accuracy: float) -> None:
    if n_guessed:
        have = "image has" if n_guessed == 1 else "images have"
        say(
            f"{n_guessed:,} {have} no category: guessed from their features (right for"
            f" {accuracy:.1%} of train, held out), {home / GUESSED}"
        )
    if n_doubted:
        one = n_doubted == 1
        look, own = ("image looks", "its own") if one else ("images look", "their own")
        say(
            f"{n_doubted:,} {look} like another category than {own} (under {_DOUBTED_UNDER:.0%} by"
            f" their features); worth a look: {home / DOUBTED}"
        )


_COLUMN_OF = {str(category): column for column, category in enumerate(CATEGORIES)}


def columns_of(categories: Sequence[str]) -> npt.NDArray[np.intp]:
    """(N,) place of each image's category among the seven, -1 where it is unknown."""
    return np.array([_COLUMN_OF.get(category, -1) for category in categories], dtype=np.intp)


def one_hot(categories: Sequence[str]) -> npt.NDArray[np.float32]:
    """(N, 7) with a 1 at each image's category; a row of zeros where it is unknown."""
    columns = columns_of(categories)
    rows = np.zeros((len(columns), len(CATEGORIES)), dtype=np.float32)
    known = np.flatnonzero(columns >= 0)
    rows[known, columns[known]] = 1.0
    return rows
