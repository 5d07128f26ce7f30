"""Reader of a manifest: any images at any place, one row each in a csv or parquet file.

    path        relative to the manifest, or absolute
    split       train, valid or test
    image_id    optional; the name of the file without its ending
    category    optional; one of the seven by its code or a plain name (CT, MRI, X-ray), or empty
    concepts    optional; CUIs with `;` between them
    group       optional; images of one group never part
    ...         any further column becomes metadata, a list in parquet joined by `;`

Concepts are known and none where the cell is empty; they are unknown where the column is missing
and in every row of test. In parquet a null is unknown too; in a further column it is a missing
value, as an empty cell is.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import CorpusError, first_few
from core.images import SPLITS
from corpus.readers.annotations import (
    annotate,
    category_at,
    check_header,
    read_groups,
    read_rows,
    without_split,
)
from corpus.readers.concept_lists import ConceptList, clean_concepts, mended_notes
from corpus.readers.files import FoundImage
from corpus.readers.notes import Note, count
from corpus.readers.reading import Reading, make_reading

LAYOUT = "manifest"

ENDINGS = (".csv", ".parquet")

LOOKED_FOR = "manifest.csv, manifest.parquet"

_NEEDED = ("path", "split")

# A manifest belongs to no edition. That of 2025 is the newest format that takes any concept ids and
# any order of rows, and its score counts images known to have no concept.
_EDITION = 2025

_EXACT = 2**53  # up to here a float tells whole numbers apart

Row = Mapping[str, str | None]

Told = tuple[FoundImage, Row]
"""The image of a row, and the row."""


@dataclass(frozen=True)
class _Sheet:
    """Columns of a manifest, and its rows by the place that a message names."""

    header: list[str]
    rows: Mapping[str, Row]


def find_manifest(source: Path) -> Path | None:
    """The manifest that a path names, or the one in a folder; None where there is none.

    Raises:
        CorpusError: the folder has one of each kind.
    """
    if source.is_file():
        return source if source.suffix.lower() in ENDINGS else None
    inside = [path for ending in ENDINGS if (path := source / f"manifest{ending}").is_file()]
    if len(inside) > 1:
        raise CorpusError(f"{source}: {first_few(path.name for path in inside)}; name one of them")
    return inside[0] if inside else None


def is_manifest(source: Path) -> bool:
    """Whether the path is a manifest or a folder with one."""
    return find_manifest(source) is not None


def read_manifest(source: Path, *, strict: bool = False) -> Reading:
    """The images of a manifest, given by the file or by the folder with it.

    Rows of test stay unlabelled even where they have concepts. Images whose file is missing are
    left out and counted.

    Raises:
        CorpusError: the manifest is missing or malformed, a value is out of its range, no file is
            there, or parquet is not installed.
    """
    return _read(source, strict=strict, needed=_NEEDED)


def read_unsplit(source: Path, *, strict: bool = False) -> Reading:
    """As `read_manifest`, but every image is in train: a column `split` is not needed, nor read.

    Raises:
        CorpusError: as `read_manifest`.
    """
    return _read(source, strict=strict, needed=("path",))


def _read(source: Path, *, strict: bool, needed: Sequence[str]) -> Reading:
    path = find_manifest(source)
    if path is None:
        raise CorpusError(f"{source}: no manifest; expected a .csv or .parquet file")
    is_parquet = path.suffix.lower() == ".parquet"
    sheet = _read_parquet(path, needed) if is_parquet else _read_csv(path, needed)
    beside = read_groups(path.parent)
    if "split" not in needed:
        told = {place: {**row, "split": "train"} for place, row in sheet.rows.items()}
        sheet, beside = _Sheet(sheet.header, told), [without_split(said) for said in beside]
    rows = {place: (_image(path, place, row), row) for place, row in sheet.rows.items()}
    here = {place: (image, row) for place, (image, row) in rows.items() if image.path.is_file()}
    if not here:
        raise CorpusError(
            f"{path}: no file for any of its {count(len(rows), 'image')}; paths are taken from"
            f" {path.parent.absolute()}"
        )
    missing = [image.image_id for place, (image, _) in rows.items() if place not in here]
    said = annotate(
        path,
        header=sheet.header,
        rows={
            place: {**_plain(row), "image_id": image.image_id}
            for place, (image, row) in here.items()
        },
        ignored=("path", "concepts"),
    )
    return make_reading(
        [image for image, _ in here.values()],
        _lists(path, here),
        layout=LAYOUT,
        edition=_EDITION,
        names={},
        annotations=[said, *beside],
        notes=_notes(path, missing, here),
        strict=strict,
    )


def _notes(path: Path, missing: Sequence[str], here: Mapping[str, Told]) -> Iterator[Note]:
    if missing:
        text = f"{path.name}: {count(len(missing), 'image')} without a file, left out"
        yield Note(f"{text}: {first_few(missing)}", grave=True)
    told = [i.image_id for i, row in here.values() if i.split == "test" and row.get("concepts")]
    if told:
        text = f"{path.name}: concepts of {count(len(told), 'test image')} not read"
        yield Note(f"{text}: {first_few(told)}")


def _image(manifest: Path, place: str, row: Row) -> FoundImage:
    where = f"{manifest}: {place}"
    if not row["path"]:
        raise CorpusError(f"{where}: no path")
    split, category = row["split"] or "", category_at(where, row.get("category") or "")
    if split not in SPLITS:
        raise CorpusError(f"{where}: split {split!r}; expected one of {', '.join(SPLITS)}")
    path = (manifest.parent / row["path"]).absolute()
    image_id = row.get("image_id") or path.stem
    return FoundImage(image_id=image_id, path=path, split=split, category=category)


def _lists(path: Path, here: Mapping[str, Told]) -> dict[str, ConceptList]:
    """The concepts of train and of valid; an image whose concepts are unknown is in no list."""
    lists = {}
    for split in ("train", "valid"):
        concepts, mended = {}, []
        for place, (image, row) in here.items():
            text = row.get("concepts")
            if image.split != split or text is None:
                continue
            try:
                concepts[image.image_id], repairs = clean_concepts(text.split(";") if text else [])
            except ValueError:
                raise CorpusError(
                    f"{path}: {place}: expected concepts as CUI;CUI, found {text!r}"
                ) from None
            mended.append(repairs)
        notes = mended_notes(f"{path.name}, {split}", mended)
        lists[split] = ConceptList(path=path, concepts=concepts, notes=notes)
    return lists


def _plain(row: Row) -> dict[str, str]:
    return {column: value or "" for column, value in row.items()}


def _read_csv(path: Path, needed: Sequence[str]) -> _Sheet:
    header, rows = read_rows(path, needed=needed)
    return _Sheet(header, rows)


def _read_parquet(path: Path, needed: Sequence[str]) -> _Sheet:
    import pandas as pd  # half a second that no other reader needs

    try:
        frame = pd.read_parquet(path, engine="pyarrow")
    except ImportError:
        raise CorpusError(f"{path}: parquet needs pyarrow: pip install pyarrow") from None
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise CorpusError(f"{path}: cannot be read as parquet ({reason})") from None
    header = [str(column) for column in frame.columns]
    check_header(path, header, needed=needed)
    cells = [frame[c].astype(object).where(frame[c].notna(), None) for c in frame.columns]
    columns = [[_text(value) for value in column] for column in cells]
    rows = [dict(zip(header, values, strict=True)) for values in zip(*columns, strict=True)]
    return _Sheet(header, {f"row {number}": row for number, row in enumerate(rows, start=1)})


def _text(value: Any) -> str | None:
    """A cell as text, a list as the text of a concepts' cell, a null as None.

    A whole number is written without a fraction: pandas makes floats of integers with a gap.
    """
    if isinstance(value, (list, np.ndarray)):
        return ";".join(_text(part) or "" for part in value)
    if value is None or value != value:
        return None
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return str(int(value))
    return str(value).strip()
