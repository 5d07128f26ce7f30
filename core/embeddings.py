"""Pooled features of images."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import PredictionsError
from core.predictions import check_ids, row_numbers
from core.storage.arrays import load_array, save_array
from core.storage.folders import new_folder, read_meta
from core.storage.tables import read_lines, write_lines


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """D features of N images.

    Attributes:
        source: the network and its settings, as a reader would call them.
        image_ids: N distinct ids.
        values: (N, D) float32, finite.
        blocks: whose the columns are and how many, from the left, see `maker_of`; of one maker its
            columns are one block. () where all are of one.

    Raises:
        PredictionsError: a wrong shape or type, repeated ids, or values that are not finite.
    """

    source: str
    image_ids: tuple[str, ...]
    values: npt.NDArray[np.float32]
    blocks: tuple[tuple[str, int], ...] = ()

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

    @property
    def widths(self) -> tuple[int, ...]:
        """Columns of each maker, from the left; they sum to D."""
        return tuple(width for _, width in self.blocks) or (self.values.shape[1],)

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
        meta, values = read_meta(folder), load_array(folder / "values.npy")
        return cls(
            source=str(meta.get("source", folder.name)),
            image_ids=read_lines(folder / "image_ids.txt"),
            values=values,
            blocks=((maker_of(folder.name), values.shape[-1]),) if values.ndim == 2 else (),
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
        blocks=joined_blocks([block for part in aligned for block in _blocks_of(part)]),
    )


def _blocks_of(part: Embeddings) -> tuple[tuple[str, int], ...]:
    return part.blocks or ((part.source, part.values.shape[1]),)


def joined_blocks(parts: Sequence[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    """Columns side by side as blocks: those of one maker that stand together are one.

    Args:
        parts: maker and number of columns of each part, from the left.

    Example:
        >>> joined_blocks([("b0", 1280), ("b0", 1280), ("vit", 384)])
        (('b0', 2560), ('vit', 384))
    """
    return tuple(
        (maker, sum(width for _, width in own)) for maker, own in groupby(parts, key=lambda p: p[0])
    )


_FOLDER = re.compile(r"(?:global-(?P<run>.+)|(?P<encoder>.+)-\d+px)-[0-9a-f]{8}(?:-\d+of\d+)?")


def maker_of(name: str) -> str:
    """What made the features in a folder, by the folder's name: an encoder, or a preset.

    Two sizes of an encoder are of one maker, and so are the folds of a fine-tuned network.

    Example:
        >>> maker_of("tf_efficientnet_lite0-224px-3a23ae03"), maker_of("other")
        ('tf_efficientnet_lite0', 'other')
        >>> maker_of("global-finetune-0a1b2c3d-1of5")
        'finetune'
    """
    found = _FOLDER.fullmatch(name)
    return name if found is None else found["encoder"] or found["run"]


def makers_of(names: Sequence[str]) -> str:
    """Those of several folders in one word.

    Example:
        >>> makers_of(["b0-224px-3a23ae03", "b0-320px-75400813", "vit-224px-0a0a0a0a"])
        'b0+vit'
    """
    return "+".join(dict.fromkeys(map(maker_of, names)))
