"""Pooled features of images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import PredictionsError
from core.predictions import check_ids, row_numbers
from core.storage.arrays import load_array, read_lines, save_array, write_lines
from core.storage.folders import new_folder, read_meta


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """D features of N images.

    Attributes:
        source: the network and its settings, as a reader would call them.
        image_ids: N distinct ids.
        values: (N, D) float32, finite.

    Raises:
        PredictionsError: a wrong shape or type, repeated ids, or values that are not finite.
    """

    source: str
    image_ids: tuple[str, ...]
    values: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        shape = self.values.shape
        if (
            self.values.ndim != 2
            or shape[0] != len(self.image_ids)
            or self.values.dtype != np.float32
        ):
            raise PredictionsError(
                f"{self.source}: expected features of shape ({len(self.image_ids)}, D), float32;"
                f" found {shape}, {self.values.dtype}"
            )
        check_ids(self.source, self.image_ids)
        if not np.isfinite(self.values.sum(dtype=np.float64)):
            raise PredictionsError(f"{self.source}: features must be finite")

    def __len__(self) -> int:
        return len(self.image_ids)

    def rows(self, image_ids: Sequence[str]) -> "Embeddings":
        """The features of these images, in their order.

        Raises:
            AlignmentError: an image has no features.
        """
        numbers = row_numbers(self.source, self.image_ids, wanted=image_ids)
        return replace(self, image_ids=tuple(image_ids), values=self.values[numbers])

    def save(self, folder: Path, **meta: Any) -> None:
        """Write a folder: values.npy, image_ids.txt, meta.json."""
        header = {"source": self.source, "shape": list(self.values.shape), **meta}
        with new_folder(folder, header) as draft:
            save_array(draft / "values.npy", self.values)
            write_lines(draft / "image_ids.txt", self.image_ids)

    @classmethod
    def load(cls, folder: Path) -> "Embeddings":
        """Read a folder; the values stay on disk until they are used.

        Raises:
            PredictionsError: the folder is missing, unfinished, or its files do not fit together.
        """
        meta = read_meta(folder)
        return cls(
            source=str(meta.get("source", folder.name)),
            image_ids=read_lines(folder / "image_ids.txt"),
            values=load_array(folder / "values.npy"),
        )


def join(parts: Sequence[Embeddings]) -> Embeddings:
    """The features of several sources side by side, for the images of the first.

    Raises:
        AlignmentError: a source lacks an image of the first.
    """
    first, *others = parts
    if not others:
        return first
    aligned = [first, *(part.rows(first.image_ids) for part in others)]
    return Embeddings(
        source=" + ".join(part.source for part in aligned),
        image_ids=first.image_ids,
        values=np.concatenate([part.values for part in aligned], axis=1),
    )
