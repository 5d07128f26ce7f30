"""Probabilities of concepts for images, with everything needed to use them rightly."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import (
    AlignmentError,
    LabelSpaceError,
    LeakageError,
    PredictionsError,
    first_few,
    repeated,
)
from core.labels import LabelSpace
from core.storage.arrays import load_array, read_lines, release, save_array, write_lines
from core.storage.folders import new_folder, read_meta

Probs = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Probabilities that one source gives to L concepts on N images.

    Attributes:
        source: what made them, as a reader would call it: `global`, `DRCT`, `prior`, ...
        image_ids: N distinct ids.
        labels: the L concepts.
        probs: (N, L) float32 in [0, 1].
        fitted_on: ids of all images that the source was fitted on, early stopping included.

    Raises:
        PredictionsError: a wrong shape or type, repeated ids, NaN, or values outside [0, 1]
            (logits are refused, not guessed at).
    """

    source: str
    image_ids: tuple[str, ...]
    labels: LabelSpace
    probs: Probs
    fitted_on: frozenset[str]

    def __post_init__(self) -> None:
        expected = (len(self.image_ids), len(self.labels))
        if self.probs.shape != expected or self.probs.dtype != np.float32:
            raise PredictionsError(
                f"{self.source}: expected probabilities of shape {expected}, float32; found"
                f" {self.probs.shape}, {self.probs.dtype}"
            )
        check_ids(self.source, self.image_ids)
        if self.probs.size:
            low, high = float(self.probs.min()), float(self.probs.max())
            release(self.probs)  # else every page of twenty mapped files would stay in memory
            if not (low >= 0.0 and high <= 1.0):  # NaN fails both comparisons
                raise PredictionsError(
                    f"{self.source}: probabilities must lie in [0, 1] without NaN; found"
                    f" {low:.3g} to {high:.3g}"
                )

    def __len__(self) -> int:
        return len(self.image_ids)

    @cached_property
    def out_of_sample(self) -> bool:
        """Whether the source had seen none of these images; computed from `fitted_on`."""
        return self.fitted_on.isdisjoint(self.image_ids)

    def require_out_of_sample(self) -> None:
        """Refuse to go on where the source had seen some of these images.

        Raises:
            LeakageError: it had; the first few are named.
        """
        if not self.out_of_sample:
            seen = [i for i in self.image_ids if i in self.fitted_on]
            raise LeakageError(
                f"{self.source}: {len(seen)} of {len(self)} images were used to fit it:"
                f" {first_few(seen)}; use predictions made out of sample"
            )

    def rows(self, image_ids: Sequence[str]) -> "Predictions":
        """The predictions of these images, in their order.

        Raises:
            AlignmentError: an image has no predictions.
        """
        if tuple(image_ids) == self.image_ids:
            return self
        numbers = row_numbers(self.source, self.image_ids, image_ids)
        return replace(self, image_ids=tuple(image_ids), probs=self.probs[numbers])

    def widen(self, labels: LabelSpace, *, fill: float) -> "Predictions":
        """The same in a larger label space; concepts that the source does not cover get `fill`.

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
        """Write probs.npy, image_ids.txt, labels.txt, fitted_on.txt and meta.json."""
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
        meta = read_meta(folder)
        labels = LabelSpace.load(folder / "labels.txt")
        if meta.get("labels_fingerprint", labels.fingerprint) != labels.fingerprint:
            raise PredictionsError(
                f"{folder}: labels.txt was changed after the predictions were made"
            )
        return cls(
            source=str(meta.get("source", folder.name)),
            image_ids=read_lines(folder / "image_ids.txt"),
            labels=labels,
            probs=load_array(folder / "probs.npy"),
            fitted_on=frozenset(read_lines(folder / "fitted_on.txt")),
        )


def check_ids(source: str, image_ids: Collection[str]) -> None:
    """Refuse repeated ids.

    Raises:
        PredictionsError: an id stands twice.
    """
    if twice := repeated(image_ids):
        raise PredictionsError(f"{source}: images stand twice: {first_few(twice)}")


def row_numbers(source: str, have: Sequence[str], wanted: Sequence[str]) -> npt.NDArray[np.intp]:
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
