"""The image table: one row an image, from `prepare` to the last report."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from core.categories import CATEGORIES, UNKNOWN
from core.errors import AlignmentError, CorpusError, PredictionsError, first_few
from core.labels import Concepts, LabelSpace, Targets
from core.storage.tables import read_rows, write_rows

_T = TypeVar("_T")

SPLITS = ("train", "valid", "test")

LABELLED = "labelled"
"""Name of the images of train and valid together whose concepts are known: what cross-fitted
detectors and second stages learn from."""

_COLUMNS = ("image_id", "path", "category", "split", "fold", "group", "labelled", "concepts")

TAUGHT = "taught_category"
"""Column of `images.csv` with the taught categories; it is there only if an image has one."""

TAUGHT_CAPTION = "taught_caption"
"""The same of the taught captions."""

_TEACHING = ("taught_categories", "taught_captions", "captions")


@dataclass(frozen=True, kw_only=True)
class ImageTable:
    """N images with all that is known of them; every sequence has N entries in one order.

    Attributes:
        image_ids: distinct ids, as the task writes them.
        paths: image files.
        categories: one of `CATEGORIES`, or `UNKNOWN`: what is given with the image, and so may be
            used to predict it.
        splits: one of `SPLITS`.
        folds: fold of the image within its split, or within `LABELLED` where train and valid were
            dealt together; -1 where there is none. Whole groups share one. `prepare` assigns them,
            nothing else does.
        groups: images that must not be parted (a patient, a study, a video).
        concepts: true concepts, () for an image known to have none, None where they are not known.
        metadata: further columns by name, "" where a value is missing.
        taught_categories: what the concepts of an image tell of its category where none is given,
            else `UNKNOWN`; () where that is so of all. They come from the labels: only
            `as_training_images` makes use of them, nothing that predicts does.
        taught_captions: what is written of an image beside its concepts, "" where nothing is; ()
            where that is so of all. Only `as_training_images` makes use of them, likewise.
        captions: the same, of images that are learnt from: what `as_training_images` gives out, and
            on no table but its own.

    Raises:
        CorpusError: lengths differ, an id stands twice (the splits are named where it crosses
            them), a category or split is not known, or an image whose concepts are not known has a
            caption.
    """

    image_ids: tuple[str, ...]
    paths: tuple[str, ...]
    categories: tuple[str, ...]
    splits: tuple[str, ...]
    folds: npt.NDArray[np.int16]
    groups: tuple[str, ...]
    concepts: tuple[Concepts | None, ...]
    metadata: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    taught_categories: tuple[str, ...] = ()
    taught_captions: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = {f.name for f in fields(self)} - {"metadata"}
        names -= {name for name in _TEACHING if not getattr(self, name)}
        lengths = {name: len(getattr(self, name)) for name in sorted(names)}
        lengths |= {name: len(values) for name, values in self.metadata.items()}
        if len(set(lengths.values())) > 1:
            raise CorpusError(f"columns of the image table differ in length: {lengths}")
        if len(self.row_of) < len(self.image_ids):
            self._refuse_repeated_ids()
        for name, values, known in (
            ("category", self.categories, {*CATEGORIES, UNKNOWN}),
            ("category", self.taught_categories, {*CATEGORIES, UNKNOWN}),
            ("split", self.splits, set(SPLITS)),
        ):
            if strange := sorted(set(values) - known):
                expected = ", ".join(sorted(known - {UNKNOWN}))
                raise CorpusError(
                    f"unknown {name} {first_few(strange)}; expected one of {expected}"
                )
        captioned = [row for row, caption in enumerate(self.taught_captions) if caption]
        if told := [self.image_ids[row] for row in captioned if self.concepts[row] is None]:
            raise CorpusError(
                f"{len(told)} images whose concepts are not known have a caption: {first_few(told)}"
            )

    def _refuse_repeated_ids(self) -> None:
        first: dict[str, str] = {}
        for image_id, split in zip(self.image_ids, self.splits, strict=True):
            if image_id in first:
                where = (
                    f"in {first[image_id]}"
                    if first[image_id] == split
                    else (f"in {first[image_id]} and in {split}")
                )
                raise CorpusError(f"image {image_id!r} stands twice, {where}; keep one of them")
            first[image_id] = split

    def __len__(self) -> int:
        return len(self.image_ids)

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Row of each image, by id."""
        return {image_id: row for row, image_id in enumerate(self.image_ids)}

    @property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """(N,) whether the image's concepts are known."""
        return np.array([concepts is not None for concepts in self.concepts], dtype=np.bool_)

    def row_numbers(self, image_ids: Sequence[str]) -> npt.NDArray[np.intp]:
        """Rows of these images, in their order.

        Raises:
            AlignmentError: an id is not in the table.
        """
        if missing := [i for i in image_ids if i not in self.row_of]:
            raise AlignmentError(
                f"{len(missing)} of {len(image_ids)} images are not in the image table:"
                f" {first_few(missing)}"
            )
        return np.array([self.row_of[i] for i in image_ids], dtype=np.intp)

    def take(self, rows: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> "ImageTable":
        """The table of some rows, by number or by mask, in the order given."""
        numbers = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows

        chosen = numbers.tolist()

        def pick(values: tuple[_T, ...]) -> tuple[_T, ...]:
            return tuple([values[i] for i in chosen])  # by way of a list in a third of the time

        return ImageTable(
            image_ids=pick(self.image_ids),
            paths=pick(self.paths),
            categories=pick(self.categories),
            splits=pick(self.splits),
            folds=self.folds[numbers],
            groups=pick(self.groups),
            concepts=pick(self.concepts),
            metadata={name: pick(values) for name, values in self.metadata.items()},
            taught_categories=self.taught_categories and pick(self.taught_categories),
            taught_captions=self.taught_captions and pick(self.taught_captions),
            captions=self.captions and pick(self.captions),
        )

    def of(self, *, split: str | None = None, category: str | None = None) -> "ImageTable":
        """The images of a split or of `LABELLED`, of a category, or of both."""
        keep = np.ones(len(self), dtype=np.bool_)
        splits = np.array(self.splits, dtype=np.str_)
        if split == LABELLED:
            keep &= (splits != "test") & self.labelled
        elif split is not None:
            keep &= splits == split
        if category is not None:
            keep &= np.array(self.categories, dtype=np.str_) == category
        return self.take(keep)

    def as_training_images(self) -> "ImageTable":
        """These images as they are learnt from: a category that only labels tell counts as theirs.

        The category prior, specialists and guesses of the category are fitted on them, and captions
        teach detectors. What is predicted from such a table has seen the answer.

        Raises:
            AlignmentError: the concepts of an image are not known.
        """
        if not self.labelled.all():
            without = [i for i, c in zip(self.image_ids, self.concepts, strict=True) if c is None]
            raise AlignmentError(
                f"{len(without)} of {len(self)} images have no concepts to learn from:"
                f" {first_few(without)}"
            )
        if not (self.taught_categories or self.taught_captions):
            return self
        pairs = zip(self.categories, self.taught_categories or self.categories, strict=True)
        return replace(
            self,
            categories=tuple(given or taught for given, taught in pairs),
            taught_categories=(),
            captions=self.taught_captions or self.captions,
            taught_captions=(),
        )

    def with_folds(self, folds: npt.NDArray[np.int16]) -> "ImageTable":
        """These images in other folds."""
        return replace(self, folds=folds)

    def targets(self, labels: LabelSpace) -> Targets:
        """True concepts as a matrix.

        Raises:
            AlignmentError: the concepts of an image are not known.
        """
        known = [concepts for concepts in self.concepts if concepts is not None]
        if len(known) < len(self):
            unknown = [i for i, c in zip(self.image_ids, self.concepts, strict=True) if c is None]
            raise AlignmentError(
                f"the concepts of {len(unknown)} of {len(self)} images are not known:"
                f" {first_few(unknown)}"
            )
        return labels.encode(known)

    def save(self, path: Path) -> None:
        """Write `images.csv`."""
        taught = [TAUGHT] if self.taught_categories else []
        taught += [TAUGHT_CAPTION] if self.taught_captions else []
        write_rows(path, [[*_COLUMNS, *taught, *self.metadata], *self._csv_rows()])

    def _csv_rows(self) -> Iterator[list[str]]:
        for row, concepts in enumerate(self.concepts):
            yield [
                self.image_ids[row],
                self.paths[row],
                self.categories[row],
                self.splits[row],
                str(self.folds[row]),
                self.groups[row],
                str(int(concepts is not None)),
                ";".join(concepts or ()),
                *self.taught_categories[row : row + 1],
                *self.taught_captions[row : row + 1],
                *(values[row] for values in self.metadata.values()),
            ]

    @classmethod
    def load(cls, path: Path) -> "ImageTable":
        """Read `images.csv`.

        Raises:
            CorpusError: the file is missing, or its columns are not those that `save` writes.
        """
        try:
            header, *rows = read_rows(path) or [[]]
        except PredictionsError as error:
            raise CorpusError(str(error)) from None
        if tuple(header[: len(_COLUMNS)]) != _COLUMNS:
            raise CorpusError(f"{path}: expected columns {', '.join(_COLUMNS)}, found {header}")
        if short := [n for n, row in enumerate(rows, start=2) if len(row) != len(header)]:
            raise CorpusError(f"{path}: line {short[0]} has not {len(header)} columns")
        columns = list(zip(*rows, strict=True)) or [()] * len(header)
        ids, paths, categories, splits, folds, groups, labelled, concepts = columns[:8]
        metadata = dict(zip(header[8:], columns[8:], strict=True))
        return cls(
            image_ids=ids,
            paths=paths,
            categories=categories,
            splits=splits,
            folds=_as_folds(folds, path),
            groups=groups,
            concepts=tuple(
                tuple(c.split(";") if c else ()) if known == "1" else None
                for c, known in zip(concepts, labelled, strict=True)
            ),
            taught_categories=metadata.pop(TAUGHT, ()),
            taught_captions=metadata.pop(TAUGHT_CAPTION, ()),
            metadata=metadata,
        )


def _as_folds(texts: Sequence[str], path: Path) -> npt.NDArray[np.int16]:
    try:
        return np.array([int(text) for text in texts], dtype=np.int16)
    except (ValueError, OverflowError) as error:
        raise CorpusError(f"{path}: a fold is not a small whole number ({error})") from None
