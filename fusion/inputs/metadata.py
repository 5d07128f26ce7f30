"""Further columns of the image table (age, sex, view, ...) as input of networks."""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from core.errors import ConfigError, PredictionsError, repeated
from core.images import ImageTable
from core.runs.workspace import HALF
from core.storage.documents import parse_json
from core.storage.folders import write_json
from fusion.inputs.columns import KINDS, Column, fit_column

# What says where an image stands or what is asked for, and not what it shows.
_REFUSED = (
    *("image_id", "path", "split", "fold", "group", "labelled", "concepts"),
    *("readable", HALF),
)


@dataclass(frozen=True)
class Block:
    """Where the numbers of a column stand: from `start` to before `stop`, `missing` being last."""

    name: str
    start: int
    stop: int

    @property
    def missing(self) -> int:
        """The number that is 1 where the column is missing."""
        return self.stop - 1


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Metadata of N images as numbers.

    Attributes:
        values: (N, M), a row an image.
        notes: what was odd, a line each, for the caller to say: values that training does not
            know, numbers far from all that it knows, columns that are missing altogether.
    """

    values: npt.NDArray[np.float32]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class MetadataEncoder:
    """Columns as they were fitted on training images.

    Attributes:
        columns: in the order of their numbers.
        notes: what each is and how often it is missing in training, a line each, for the caller to
            say.
    """

    columns: tuple[Column, ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def fitted(
        cls, train: ImageTable, columns: Sequence[str], *, min_images: int = 2
    ) -> "MetadataEncoder":
        """The encoder of some columns, from training images alone.

        Args:
            train: images of the training split.
            columns: `name` or `name:kind`, the kind one of `categorical`, `numeric` and `multi`
                (several values with `;` between them); without one it is recognised.
            min_images: training images that a value needs for a number of its own; a rarer one is
                seen as missing.

        Raises:
            ConfigError: a column is not there, stands twice, is no metadata, or tells nothing.
            CorpusError: text in a column that was called numeric.
        """
        if foreign := sorted(set(train.splits) - {"train"}):
            raise ValueError(f"expected training images only, found some of {foreign}")
        asked = [_name_and_kind(text, train.metadata) for text in columns]
        if twice := repeated(name for name, _ in asked):
            raise ConfigError(f"metadata: {twice[0]!r} stands twice; name it once")
        fits = [
            fit_column(
                name,
                _cells(train, name),
                image_ids=train.image_ids,
                kind=kind,
                min_images=min_images,
            )
            for name, kind in asked
        ]
        return cls(columns=tuple(c for c, _ in fits), notes=tuple(note for _, note in fits))

    @property
    def width(self) -> int:
        """M, how many numbers an image gets."""
        return sum(column.width for column in self.columns)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Where each column's numbers stand, in the order of the columns; together all of M."""
        stops = np.cumsum([column.width for column in self.columns]).tolist()
        return tuple(
            Block(name=column.name, start=stop - column.width, stop=stop)
            for column, stop in zip(self.columns, stops, strict=True)
        )

    def encode(self, table: ImageTable) -> Encoded:
        """The numbers of any images: each row depends on that image and on training alone.

        A missing value, and one that training does not know, is the column's missing state: 1 at
        the block's `missing` and 0 elsewhere. Quantities are standardised and end at 5 deviations.

        Raises:
            ConfigError: the table lacks a column.
            CorpusError: text in a numeric column.
        """
        parts = [np.zeros((len(table), 0), dtype=np.float32)]
        notes: list[str] = []
        for column in self.columns:
            _refuse_unknown(column.name, table.metadata)
            rows, odd = column.encode(_cells(table, column.name), table.image_ids)
            parts.append(rows)
            notes += odd
        return Encoded(values=np.concatenate(parts, axis=1), notes=tuple(notes))

    def save(self, path: Path) -> None:
        """Write a JSON file."""
        write_json(path, dataclasses.asdict(self))

    @classmethod
    def load(cls, path: Path) -> "MetadataEncoder":
        """Read what `save` wrote, equal to the last bit.

        Raises:
            PredictionsError: the file is missing, or is not what `save` writes.
        """
        try:
            said = parse_json(path.read_text(encoding="utf-8"))
            columns = [Column(**{**c, "values": tuple(c["values"])}) for c in said["columns"]]
            return cls(columns=tuple(columns), notes=tuple(said["notes"]))
        except FileNotFoundError:
            raise PredictionsError(f"{path}: no such file; make the run again") from None
        except (ValueError, KeyError, TypeError, ConfigError) as error:
            raise PredictionsError(
                f"{path}: not the metadata of a run ({error}); make the run again"
            ) from None


def with_missing(values: Tensor, blocks: Sequence[Block], *, dropped: Tensor) -> Tensor:
    """Metadata with some columns of some images replaced by missing values.

    Dropped at random in training, it teaches a network what to do without a column, above all with
    one that is never missing in training.

    Args:
        values: (B, M) as `MetadataEncoder.encode` makes them; left as they are.
        blocks: of the encoder, C of them.
        dropped: (B, C) boolean, which column of which image.

    Raises:
        ValueError: the shapes do not fit.
    """
    widths = [block.stop - block.start for block in blocks]
    if values.shape[1] != sum(widths) or dropped.shape != (len(values), len(blocks)):
        raise ValueError(
            f"{tuple(values.shape)} values and {tuple(dropped.shape)} dropped do not fit"
            f" {len(blocks)} columns of {sum(widths)} numbers"
        )
    missing_M = torch.zeros_like(values[:1]).squeeze(0)
    missing_M[[block.missing for block in blocks]] = 1
    column_of_M = torch.repeat_interleave(
        torch.tensor(widths, dtype=torch.long, device=values.device)
    )
    return torch.where(dropped[:, column_of_M], missing_M, values)


def _cells(table: ImageTable, name: str) -> list[str]:
    return [cell.strip() for cell in table.metadata[name]]


def _name_and_kind(text: str, metadata: Mapping[str, Sequence[str]]) -> tuple[str, str | None]:
    """The column that is meant, and its kind; a column's own name may have a colon."""
    name, colon, kind = text.rpartition(":")
    if text in metadata or not colon or (kind not in KINDS and name not in metadata):
        name, kind = text, ""
    elif kind not in KINDS:
        raise ConfigError(f"metadata: {text}: expected one of {', '.join(KINDS)} behind the colon")
    if name == "category":
        raise ConfigError(
            "metadata: 'category' is input of every such network anyway; leave it out"
        )
    if name in _REFUSED:
        raise ConfigError(
            f"metadata: {name!r} says where an image stands, not what it shows; leave it out"
        )
    _refuse_unknown(name, metadata)
    return name, kind or None


def _refuse_unknown(name: str, metadata: Mapping[str, Sequence[str]]) -> None:
    if name in metadata:
        return
    known = sorted(set(metadata) - set(_REFUSED))
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    there = f"known: {', '.join(known)}" if known else "the corpus has none: see README.md"
    raise ConfigError(f"metadata: no column {name!r} in the image table; {hint}{there}")
