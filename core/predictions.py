"""Probabilities of concepts for images, with everything needed to use them rightly.

`Predictions` hold all of them; of `SparsePredictions` only the probable pairs are stored. A source
that was fitted once a fold has parts, see `core.runs.out_of_fold`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from core.errors import (
    AlignmentError,
    LabelSpaceError,
    LeakageError,
    PredictionsError,
    first_few,
    repeated,
)
from core.labels import LabelSpace
from core.storage.arrays import load_array, release, save_array
from core.storage.folders import new_folder, read_whole
from core.storage.tables import read_lines, write_lines

Probs = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Part:
    """Images that one part of a source predicts.

    Attributes:
        image_ids: the images.
        fitted_on: ids of all images that this part was fitted on.
    """

    image_ids: frozenset[str]
    fitted_on: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Probabilities that one source gives to L concepts on N images.

    A source that was fitted once a fold has parts: each image is held against what the part that
    predicts it was fitted on.

    Attributes:
        source: what made them, as a reader would call it: `global`, `DRCT`, `prior`, ...
        image_ids: N distinct ids.
        labels: the L concepts.
        probs: (N, L) float32 in [0, 1]; an array, or `core.storage.arrays.SharedRows`.
        fitted_on: ids of all images that the source was fitted on, early stopping included; with
            parts, by any of them.
        parts: of a source that was fitted several times; together they have each image once. Empty
            for a source that was fitted once.

    Raises:
        PredictionsError: a wrong shape or type, repeated ids, NaN, or values outside [0, 1]
            (logits are refused, not guessed at), or parts that do not fit the images.
    """

    source: str
    image_ids: tuple[str, ...]
    labels: LabelSpace
    probs: Probs
    fitted_on: frozenset[str]
    parts: tuple[Part, ...] = ()

    def __post_init__(self) -> None:
        expected = (len(self.image_ids), len(self.labels))
        if self.probs.shape != expected or self.probs.dtype != np.float32:
            raise PredictionsError(
                f"{self.source}: expected probabilities of shape {expected}, float32; found"
                f" {self.probs.shape}, {self.probs.dtype}"
            )
        check_ids(self.source, self.image_ids)
        if self.parts:
            check_parts(self.source, self.image_ids, fitted_on=self.fitted_on, parts=self.parts)
        if self.probs.size:
            low, high = float(self.probs.min()), float(self.probs.max())
            release(self.probs)  # else every page of twenty mapped files would stay in memory
            _check_range(self.source, low, high)

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def fitted_parts(self) -> tuple[Part, ...]:
        """The parts; of a source that was fitted once, one with all images."""
        whole = Part(image_ids=frozenset(self.image_ids), fitted_on=self.fitted_on)
        return self.parts or (whole,)

    @cached_property
    def out_of_sample(self) -> bool:
        """Whether what predicts an image had seen none of its part; computed from `fitted_on`."""
        return all(part.fitted_on.isdisjoint(part.image_ids) for part in self.fitted_parts)

    def require_out_of_sample(self) -> None:
        """Refuse to go on where the source had seen some of these images.

        Raises:
            LeakageError: it had; the first few are named.
        """
        if not self.out_of_sample:
            met = frozenset().union(*(p.image_ids & p.fitted_on for p in self.fitted_parts))
            seen = [i for i in self.image_ids if i in met]
            raise LeakageError(
                f"{self.source}: {len(seen)} of {len(self)} images were used to fit it:"
                f" {first_few(seen)}; use predictions made out of sample"
            )

    def require_groups_apart(self, group_of: Mapping[str, str]) -> None:
        """Refuse to go on where the source had seen an image of a predicted image's group.

        Images of a patient or study resemble each other: who saw one of them knows the others too
        well. An image that is not in the mapping, or whose group has no name (""), is alone.

        Raises:
            LeakageError: it had; the first few are named.
        """
        shared: set[str] = set()
        for part in self.fitted_parts:
            fitted = {group_of.get(i, "") for i in part.fitted_on} - {""}
            shared |= {i for i in part.image_ids if group_of.get(i, "") in fitted}
        if shared:
            raise LeakageError(
                f"{self.source}: {len(shared)} of {len(self)} images share a group with images it"
                f" was fitted on: {first_few([i for i in self.image_ids if i in shared])}; split"
                " whole groups"
            )

    def rows(self, image_ids: Sequence[str]) -> "Predictions":
        """The predictions of these images, in their order; of a single part, plain predictions.

        Raises:
            AlignmentError: an image has no predictions.
        """
        if tuple(image_ids) == self.image_ids:
            return self
        numbers = row_numbers(self.source, self.image_ids, wanted=image_ids)
        return _of_images(self, tuple(image_ids), self.probs[numbers])

    def by_part(self) -> "list[Predictions]":
        """The predictions of each part, as plain predictions: what was joined."""
        chosen = ([i for i in self.image_ids if i in p.image_ids] for p in self.fitted_parts)
        return [self.rows(ids) for ids in chosen]

    def widen(self, labels: LabelSpace, *, fill: float) -> "Predictions":
        """These predictions in a larger label space; concepts that the source lacks get `fill`.

        Raises:
            LabelSpaceError: a concept of the source is not in the larger space.
        """
        if labels.cuis == self.labels.cuis:
            return self
        try:
            columns = labels.columns(self.labels.cuis)
        except LabelSpaceError as error:
            raise LabelSpaceError(f"{self.source}: cannot be widened: {error}") from None
        probs = np.full((len(self), len(labels)), fill, dtype=np.float32)
        probs[:, columns] = self.probs
        return replace(self, labels=labels, probs=probs)

    def save(self, folder: Path, **meta: Any) -> None:
        """Write probs.npy, image_ids.txt, labels.txt, fitted_on.txt and meta.json.

        Raises:
            ValueError: they have parts, which are saved one by one;
                see `core.runs.out_of_fold`.
        """
        if self.parts:
            raise ValueError(f"{self.source}: joined predictions are saved a part at a time")
        header = {
            "source": self.source,
            "n_images": len(self),
            "n_concepts": len(self.labels),
            "labels_fingerprint": self.labels.fingerprint,
            "out_of_sample": self.out_of_sample,
            **meta,
        }
        with new_folder(folder, header) as draft:
            save_array(draft / "probs.npy", self.probs)
            write_lines(draft / "image_ids.txt", self.image_ids)
            write_lines(draft / "fitted_on.txt", sorted(self.fitted_on))
            self.labels.save(draft / "labels.txt")

    @classmethod
    def load(cls, folder: Path) -> "Predictions":
        """Read a predictions folder.

        Raises:
            PredictionsError: the folder is missing, unfinished, or its files do not fit together.
        """
        return cls(**_read_head(folder), probs=load_array(folder / "probs.npy"))


def _read_head(folder: Path) -> dict[str, Any]:
    """Source, images, concepts and images fitted on of a predictions folder."""
    meta = read_whole(folder)
    labels = LabelSpace.load(folder / "labels.txt")
    if meta.get("labels_fingerprint", labels.fingerprint) != labels.fingerprint:
        raise PredictionsError(f"{folder}: labels.txt was changed after the predictions were made")
    return {
        "source": str(meta.get("source", folder.name)),
        "image_ids": read_lines(folder / "image_ids.txt"),
        "labels": labels,
        "fitted_on": frozenset(read_lines(folder / "fitted_on.txt")),
    }


def _of_images(
    predictions: Predictions,
    image_ids: tuple[str, ...],
    probs: Probs,
    *,
    labels: LabelSpace | None = None,
) -> Predictions:
    """Predictions of some of the images; a single part that is left is plain predictions."""
    kept = frozenset(image_ids)
    own = (replace(part, image_ids=part.image_ids & kept) for part in predictions.parts)
    parts = tuple(part for part in own if part.image_ids)
    fitted_on = predictions.fitted_on
    if predictions.parts:
        fitted_on = frozenset().union(*(part.fitted_on for part in parts))
    return replace(
        predictions,
        image_ids=image_ids,
        labels=predictions.labels if labels is None else labels,
        probs=probs,
        fitted_on=fitted_on,
        parts=parts if len(parts) > 1 else (),
    )


def check_parts(
    source: str, image_ids: Sequence[str], *, fitted_on: frozenset[str], parts: Sequence[Part]
) -> None:
    """Refuse parts that do not have every image once, or whose `fitted_on` is not the whole's.

    Raises:
        PredictionsError: they do not.
    """
    n_images = sum(len(part.image_ids) for part in parts)
    joined = frozenset().union(*(part.image_ids for part in parts))
    if n_images != len(image_ids) or joined != frozenset(image_ids):
        raise PredictionsError(
            f"{source}: expected parts that have each of {len(image_ids)} images once; found"
            f" {n_images} images, {len(joined)} of them different"
        )
    if frozenset().union(*(part.fitted_on for part in parts)) != fitted_on:
        raise PredictionsError(f"{source}: the parts were fitted on other images than the whole")


def _check_range(source: str, low: float, high: float) -> None:
    if not (low >= 0.0 and high <= 1.0):  # NaN fails both comparisons
        raise PredictionsError(
            f"{source}: probabilities must lie in [0, 1] without NaN; found {low:.3g} to {high:.3g}"
        )


def check_ids(source: str, image_ids: Collection[str]) -> None:
    """Refuse repeated ids.

    Raises:
        PredictionsError: an id stands twice.
    """
    if twice := repeated(image_ids):
        raise PredictionsError(f"{source}: images stand twice: {first_few(twice)}")


def row_numbers(source: str, have: Sequence[str], *, wanted: Sequence[str]) -> npt.NDArray[np.intp]:
    """Rows of the wanted ids among those at hand.

    Raises:
        AlignmentError: a wanted id is not at hand.
    """
    row_of = {image_id: row for row, image_id in enumerate(have)}
    if missing := [i for i in wanted if i not in row_of]:
        raise AlignmentError(
            f"{source}: {len(missing)} of {len(wanted)} images have no row: {first_few(missing)}"
        )
    return np.array([row_of[i] for i in wanted], dtype=np.intp)


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
        expected, found = (len(self.bare), len(self.labels)), self.probs.shape
        if found != expected:
            raise PredictionsError(
                f"{self.source}: expected probabilities of shape {expected}; found {found}"
            )
        values = self.probs.data
        if len(values):
            _check_range(self.source, float(values.min()), float(values.max()))

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

    @property
    def fitted_parts(self) -> tuple[Part, ...]:
        """The parts it was fitted in; see `Predictions`."""
        return self.bare.fitted_parts

    def require_groups_apart(self, group_of: Mapping[str, str]) -> None:
        """Refuse to go on where the source had seen images of their groups; see `Predictions`."""
        self.bare.require_groups_apart(group_of)

    @classmethod
    def of_pairs(
        cls,
        source: str,
        image_ids: tuple[str, ...],
        *,
        labels: LabelSpace,
        probs: csr_array,
        fitted_on: frozenset[str],
    ) -> "SparsePredictions":
        """These probabilities, (N, L) CSR; see `Predictions` for the rest."""
        bare = Predictions(
            source=source,
            image_ids=image_ids,
            labels=LabelSpace(()),
            probs=np.empty((len(image_ids), 0), dtype=np.float32),
            fitted_on=fitted_on,
        )
        return cls(bare=bare, labels=labels, probs=probs)

    @classmethod
    def of(cls, predictions: Predictions, *, at_least: float) -> "SparsePredictions":
        """The pairs of at least this probability."""
        kept = csr_array(np.where(predictions.probs >= at_least, predictions.probs, 0))
        bare = replace(predictions, labels=LabelSpace(()), probs=predictions.probs[:, :0])
        return cls(bare=bare, labels=predictions.labels, probs=kept)

    def save(self, folder: Path) -> None:
        """Write indptr.npy, indices.npy, values.npy, and what `Predictions` writes beside them."""
        if self.bare.parts:
            raise ValueError(f"{self.source}: joined predictions are saved a part at a time")
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
        head = _read_head(folder)
        indptr, indices, values = (np.array(load_array(folder / f"{n}.npy")) for n in _ARRAYS)
        try:
            probs = csr_array(
                (values.astype(np.float32), indices, indptr),
                shape=(len(head["image_ids"]), len(head["labels"])),
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
        return cls.of_pairs(**head, probs=probs)


AnyPredictions = Predictions | SparsePredictions


def read_predictions(folder: Path) -> AnyPredictions:
    """Predictions in either form: sparse where there is an indptr.npy.

    Raises:
        PredictionsError: the folder is missing, unfinished, or its files do not fit together.
    """
    if (folder / "indptr.npy").exists():
        return SparsePredictions.load(folder)
    return Predictions.load(folder)


def restrict(
    predictions: AnyPredictions, image_ids: frozenset[str], *, labels: LabelSpace
) -> AnyPredictions:
    """Predictions for these images and concepts alone, in their own order."""
    rows = [r for r, i in enumerate(predictions.image_ids) if i in image_ids]
    columns = [c for c, cui in enumerate(predictions.labels.cuis) if cui in labels]
    if len(rows) == len(predictions) and len(columns) == len(predictions.labels):
        return predictions
    kept_ids = tuple(predictions.image_ids[r] for r in rows)
    kept_labels = LabelSpace(tuple(predictions.labels.cuis[c] for c in columns))
    if isinstance(predictions, Predictions):
        probs = predictions.probs[np.ix_(rows, columns)]
        return _of_images(predictions, kept_ids, probs, labels=kept_labels)
    bare = _of_images(predictions.bare, kept_ids, predictions.bare.probs[rows])
    part = csr_array(predictions.probs[rows][:, columns])
    return replace(predictions, bare=bare, labels=kept_labels, probs=part)
