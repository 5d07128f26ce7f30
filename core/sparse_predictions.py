"""Predictions of which only the probable pairs are stored, in CSR form."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from core.errors import PredictionsError
from core.labels import LabelSpace
from core.predictions import Predictions
from core.storage.arrays import load_array, read_lines, save_array, write_lines
from core.storage.folders import new_folder, read_meta

_ARRAYS = ("indptr", "indices", "values")


@dataclass(frozen=True, kw_only=True)
class SparsePredictions:
    """Probabilities that one source gives to its most probable pairs; all others are 0.

    A source made elsewhere need not store 15,970 x 3,047 numbers. What is not stored is 0, and in
    a mean of log odds that is a strong word (-16): store everything down to 0.001 or so.

    Attributes:
        probs: (N, L) float32 in [0, 1], CSR; sorted columns, none twice.
        bare: the same without concepts: source, image ids and the images fitted on.
        labels: the L concepts.

    Raises:
        PredictionsError: a wrong shape, or values outside [0, 1].
    """

    bare: Predictions
    labels: LabelSpace
    probs: csr_array

    def __post_init__(self) -> None:
        expected = (len(self.bare), len(self.labels))
        if self.probs.shape != expected:
            raise PredictionsError(
                f"{self.source}: expected probabilities of shape {expected}; found"
                f" {self.probs.shape}"
            )
        values = self.probs.data
        if len(values) and not (float(values.min()) >= 0.0 and float(values.max()) <= 1.0):
            raise PredictionsError(
                f"{self.source}: probabilities must lie in [0, 1] without NaN; found"
                f" {values.min():.3g} to {values.max():.3g}"
            )

    def __len__(self) -> int:
        return len(self.bare)

    @property
    def source(self) -> str:
        """What made them."""
        return self.bare.source

    @property
    def image_ids(self) -> tuple[str, ...]:
        """N distinct ids."""
        return self.bare.image_ids

    @property
    def fitted_on(self) -> frozenset[str]:
        """Ids of all images that the source was fitted on."""
        return self.bare.fitted_on

    def require_out_of_sample(self) -> None:
        """Refuse to go on where the source had seen some of these images; see `Predictions`."""
        self.bare.require_out_of_sample()

    @classmethod
    def of(cls, predictions: Predictions, *, at_least: float) -> "SparsePredictions":
        """The pairs of at least this probability."""
        kept = csr_array(np.where(predictions.probs >= at_least, predictions.probs, 0))
        return cls(bare=_bare(predictions), labels=predictions.labels, probs=kept)

    @cached_property
    def dense(self) -> Predictions:
        """The same with its zeros."""
        return replace(self.bare, labels=self.labels, probs=self.probs.toarray())

    def save(self, folder: Path) -> None:
        """Write indptr.npy, indices.npy, values.npy, and what `Predictions` writes beside them."""
        header = {"source": self.source, "labels_fingerprint": self.labels.fingerprint}
        with new_folder(folder, header) as draft:
            arrays = (self.probs.indptr, self.probs.indices, self.probs.data)
            for name, array in zip(_ARRAYS, arrays, strict=True):
                save_array(draft / f"{name}.npy", array)
            write_lines(draft / "image_ids.txt", self.image_ids)
            write_lines(draft / "fitted_on.txt", sorted(self.fitted_on))
            self.labels.save(draft / "labels.txt")

    @classmethod
    def load(cls, folder: Path) -> "SparsePredictions":
        """Read a folder; columns need no order within a row, values may be float16.

        Raises:
            PredictionsError: a file is missing, or they do not fit together.
        """
        meta = read_meta(folder)
        labels = LabelSpace.load(folder / "labels.txt")
        if meta.get("labels_fingerprint", labels.fingerprint) != labels.fingerprint:
            raise PredictionsError(
                f"{folder}: labels.txt was changed after the predictions were made"
            )
        ids = read_lines(folder / "image_ids.txt")
        indptr, indices, values = (np.array(load_array(folder / f"{n}.npy")) for n in _ARRAYS)
        try:
            probs = csr_array(
                (values.astype(np.float32), indices, indptr), shape=(len(ids), len(labels))
            )
            probs.check_format(full_check=True)
        except (ValueError, TypeError) as error:
            raise PredictionsError(f"{folder}: not a CSR matrix ({error})") from None
        if not probs.has_canonical_format:
            probs.sort_indices()
            n_stored = probs.nnz
            probs.sum_duplicates()
            if probs.nnz < n_stored:
                raise PredictionsError(f"{folder}: a concept stands twice in a row")
        bare = Predictions(
            source=str(meta.get("source", folder.name)),
            image_ids=ids,
            labels=LabelSpace(()),
            probs=np.empty((len(ids), 0), dtype=np.float32),
            fitted_on=frozenset(read_lines(folder / "fitted_on.txt")),
        )
        return cls(bare=bare, labels=labels, probs=probs)


def _bare(predictions: Predictions) -> Predictions:
    return replace(predictions, labels=LabelSpace(()), probs=predictions.probs[:, :0])


AnyPredictions = Predictions | SparsePredictions


def read_predictions(folder: Path) -> AnyPredictions:
    """Predictions in either form: sparse where there is an indptr.npy.

    Raises:
        PredictionsError: the folder is missing, unfinished, or its files do not fit together.
    """
    if (folder / "indptr.npy").exists():
        return SparsePredictions.load(folder)
    return Predictions.load(folder)


def within(
    predictions: AnyPredictions, image_ids: frozenset[str], labels: LabelSpace
) -> AnyPredictions:
    """The part that is about these images and concepts, in its own order."""
    rows = [r for r, i in enumerate(predictions.image_ids) if i in image_ids]
    columns = [c for c, cui in enumerate(predictions.labels.cuis) if cui in labels]
    if len(rows) == len(predictions) and len(columns) == len(predictions.labels):
        return predictions
    kept_ids = tuple(predictions.image_ids[r] for r in rows)
    kept_labels = LabelSpace(tuple(predictions.labels.cuis[c] for c in columns))
    if isinstance(predictions, Predictions):
        probs = predictions.probs[np.ix_(rows, columns)]
        return replace(predictions, image_ids=kept_ids, labels=kept_labels, probs=probs)
    bare = replace(predictions.bare, image_ids=kept_ids, probs=predictions.bare.probs[rows])
    part = csr_array(predictions.probs[rows][:, columns])
    return replace(predictions, bare=bare, labels=kept_labels, probs=part)
