"""Where things lie in a workspace, and the corpus that every stage works on."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from core.categories import CATEGORIES
from core.errors import MissingStageError, as_typed
from core.images import ImageTable
from core.labels import LabelSpace
from core.prior import CategoryPrior
from core.storage.folders import is_complete, read_meta

HALF = "valid_half"
"""Column of the image table that says which half of valid an image is in, `val1` or `val2`."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A prepared corpus.

    Attributes:
        name: the layout it was read from, as a reader would call it.
        table: all images of all splits.
        labels: the full label space: every concept of the training split, sorted.
        names: preferred name of a concept, where one is known.
        edition: year whose submission format and score apply.
        fingerprint: eight hex digits; changes with the images, their concepts or their folds.
        notes: what was counted, left out or strange, one line each.
    """

    name: str
    table: ImageTable
    labels: LabelSpace
    names: Mapping[str, str]
    edition: int
    fingerprint: str
    notes: tuple[str, ...]

    @cached_property
    def readable_ids(self) -> tuple[str, ...]:
        """Ids of the images that can be decoded, in table order."""
        return self.table.take(self._readable).image_ids

    @cached_property
    def _readable(self) -> npt.NDArray[np.bool_]:
        marks = self.table.metadata.get("readable")
        return np.array([m != "0" for m in marks or ("1",) * len(self.table)], dtype=np.bool_)

    @cached_property
    def training_categories(self) -> tuple[str, ...]:
        """Categories with images to train a specialist on."""
        found = set(self.training_images().categories)
        return tuple(category for category in CATEGORIES if category in found)

    @cached_property
    def prior(self) -> CategoryPrior:
        """What the category says, counted on all labelled training images."""
        train = self.table.of(split="train")
        return CategoryPrior.of(train.take(train.labelled).as_training_images(), self.labels)

    def training_images(self, *, category: str | None = None) -> ImageTable:
        """The labelled images of train that can be decoded, or those of a category, to learn from.

        Where no category is given it is the one that their concepts tell: nothing may be predicted
        from it.
        """
        return self.labelled_images("train").as_training_images().of(category=category)

    def images(self, split: str, *, category: str | None = None) -> ImageTable:
        """The images of a split, or of a category in it, that can be decoded."""
        return self.table.take(self._readable).of(split=split, category=category)

    def valid_half(self, name: str, *, category: str | None = None) -> ImageTable:
        """The labelled, readable images of `val1` or `val2`, or of all of `valid`.

        Those of a category where one is asked for, also by what their concepts tell of it: they are
        to stop a training, which looks at their concepts anyway.

        Raises:
            MissingStageError: the corpus was prepared before halves were drawn.
        """
        valid = self.labelled_images("valid")
        if category is not None:
            valid = valid.as_training_images().of(category=category)
        if name == "valid":
            return valid
        halves = valid.metadata.get(HALF)
        if halves is None:
            raise MissingStageError(
                f"{self.name}: prepared without the halves val1 and val2; run `prepare` again"
            )
        return valid.take(np.array(halves, dtype=np.str_) == name)

    def labelled_images(self, split: str, *, category: str | None = None) -> ImageTable:
        """The images of a split, or of a category in it, whose concepts are known."""
        images = self.images(split, category=category)
        return images.take(images.labelled)


@dataclass(frozen=True)
class Workspace:
    """A folder with one prepared corpus and everything made from it."""

    root: Path

    @property
    def corpus(self) -> Path:
        """The prepared corpus."""
        return self.root / "corpus"

    @property
    def phantom(self) -> Path:
        """The drawn corpus, where there is one."""
        return self.root / "phantom"

    @property
    def cache(self) -> Path:
        """Decoded images."""
        return self.root / "cache"

    @property
    def embeddings(self) -> Path:
        """Pooled features of frozen networks, shared by all detectors."""
        return self.root / "embeddings"

    @property
    def speed(self) -> Path:
        """Memory formats and precisions that were measured to be fastest."""
        return self.root / "speed"

    @property
    def backbones(self) -> Path:
        """Detectors: a folder a category, a folder a run."""
        return self.root / "backbones"

    @property
    def reproduced(self) -> Path:
        """The paper's experiments: a folder a scale, a folder a network."""
        return self.root / "reproduce"

    @property
    def fusion(self) -> Path:
        """Fusion runs."""
        return self.root / "fusion"

    @property
    def ensembles(self) -> Path:
        """Ensemble runs."""
        return self.root / "ensembles"

    @property
    def reports(self) -> Path:
        """Reports."""
        return self.root / "reports"

    def has_corpus(self) -> bool:
        """Whether a corpus was prepared here."""
        return is_complete(self.corpus)

    def open_corpus(self) -> Corpus:
        """The prepared corpus.

        Raises:
            MissingStageError: none was prepared, or its files are not those of this version; the
                command is named.
        """
        if not self.has_corpus():
            raise MissingStageError(
                f"no corpus is prepared in {self.root}; run"
                f" `{as_typed(f'train-backbone -w {self.root}')}` for the phantom corpus, or"
                f" `prepare SOURCE -w {self.root}` first"
            )
        try:
            return self._read_corpus(read_meta(self.corpus))
        except (FileNotFoundError, KeyError) as error:
            raise MissingStageError(
                f"{self.corpus}: not whole, or made by another version ({error}); run"
                f" `{as_typed(f'prepare SOURCE --workspace {self.root}')}` again"
            ) from None

    def _read_corpus(self, meta: Mapping[str, Any]) -> Corpus:
        with (self.corpus / "names.csv").open(encoding="utf-8", newline="") as file:
            names = dict(csv.reader(file))
        return Corpus(
            name=meta["name"],
            table=ImageTable.load(self.corpus / "images.csv"),
            labels=LabelSpace.load(self.corpus / "labels.txt"),
            names=names,
            edition=meta["edition"],
            fingerprint=meta["fingerprint"],
            notes=tuple(meta["notes"]),
        )

    def finished_runs(self, folder: Path) -> list[Path]:
        """Finished run folders below a folder of this workspace, in the order of their paths."""
        folders = (meta.parent for meta in folder.rglob("meta.json"))
        return sorted(f for f in folders if is_run(f) and not f.name.startswith("."))  # no drafts


def is_run(folder: Path) -> bool:
    """Whether a folder is a run of its own, not a part (predictions, embeddings) of one."""
    return (folder / "config.json").is_file()
