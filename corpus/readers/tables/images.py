"""The images that a table lists: a file, a split, a category and an id for each."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from core.errors import CorpusError, as_typed, first_few
from core.storage.documents import plain_file
from corpus.readers.files import FoundImage
from corpus.readers.notes import Note, count
from corpus.readers.tables.cells import category_at, is_split, renamed_note, split_of
from corpus.readers.tables.columns import (
    MANIFEST,
    PATHS,
    hidden_groups,
    known_names,
    plain,
    rename,
)
from corpus.readers.tables.ids import ENDING, alike_note, bare
from corpus.readers.tables.indicators import joined_indicators, joined_rows
from corpus.readers.tables.parquet import Packed, is_parquet, read_parquet
from corpus.readers.tables.paths import ImageFinder, same_file_notes
from corpus.readers.tables.sheet import Sheet, read_sheet


@dataclass(frozen=True)
class ImageRow:
    """One image of a table.

    Attributes:
        place: where it stands ("line 3").
        image: its file, id, split and category.
        cells: what the row says, by the names of `columns.MANIFEST`.
    """

    place: str
    image: FoundImage
    cells: Mapping[str, str | None]

    @property
    def concepts(self) -> str | None:
        """Its cell of concepts, None where they are not known."""
        return self.cells.get("concepts")


@dataclass(frozen=True, kw_only=True)
class ImageRows:
    """A table with its images found, those without a file left out.

    Attributes:
        path: its file.
        header: its columns, by the names of `columns.MANIFEST`.
        rows: a row an image.
        names: names of concepts that were columns.
        notes: what was mended, left out or strange.
    """

    path: Path
    header: tuple[str, ...]
    rows: Sequence[ImageRow]
    names: Mapping[str, str]
    notes: tuple[Note, ...]


def read_images(path: Path, *, split: str = "") -> ImageRows:
    """The images of a table in a text or parquet file.

    Args:
        path: the file.
        split: the split of every image; "" where a column says it.

    Raises:
        CorpusError: the table is malformed, a value is out of its range, no file is there, or
            parquet is not installed.
    """
    if plain_file(path).stat().st_size == 0:
        raise CorpusError(f"{path}: empty; expected a header with the columns path and split")
    is_packed = is_parquet(path) or path.suffix.lower() == ".parquet"
    packed = read_parquet(path) if is_packed else None
    sheet = packed.sheet if packed else read_sheet(path, known=known_names(MANIFEST))
    sheet = _renamed(sheet, packed)
    if split and "split" in sheet.header:
        note = Note(f"{path.name}: column 'split' not read, the images are dealt anew")
        sheet = sheet.without({sheet.header.index("split")}, note)
    _require(sheet, packed, split=split)
    sheet, tags = joined_indicators(sheet, known=MANIFEST)
    files, notes = _files(sheet, packed)
    if packed and any(packed.names) and "image_id" not in sheet.header:
        told = Note(f"{path.name}: ids are the names beside the bytes in {packed.image!r}")
        with_id = [[*row, bare(n or "")] for row, n in zip(sheet.rows, packed.names, strict=True)]
        sheet = replace(sheet, header=(*sheet.header, "image_id"), rows=with_id)
        notes = [*notes, told]
    ids, noted = _ids(sheet, files)
    sheet, kept = joined_rows(sheet, ids)
    rows, missing, splits = [], [], []
    for at, (place, cells) in zip(kept, sheet.dicts().items(), strict=True):
        where, file = f"{path}: {place}", files[at]
        named = split or cells["split"] or ""
        of = split_of(named, where=where)
        splits.append((named, of))
        category = category_at(where, cells.get("category") or "")
        if file is None:
            missing.append((ids[at], cells.get("path") or ""))
        else:
            image = FoundImage(image_id=ids[at], path=file, split=of, category=category)
            rows.append(ImageRow(place, image, cells))
    if not rows:
        raise _no_file(path, missing)
    return ImageRows(
        path=path,
        header=sheet.header,
        rows=rows,
        names=tags,
        notes=(
            *sheet.notes,
            *renamed_note(splits, file=path.name, what="splits by other names"),
            *hidden_groups(sheet.header, file=path.name),
            *notes,
            *noted,
            *_missing_notes(path, missing),
            *same_file_notes(
                {row.image.image_id: (row.image.path, row.image.split) for row in rows},
                file=path.name,
            ),
            *alike_note((row.image.image_id for row in rows), file=path.name),
        ),
    )


def _renamed(sheet: Sheet, packed: Packed | None) -> Sheet:
    """The table with the names of `MANIFEST`; names of image files in `image_id` are the paths."""
    meanings = dict(MANIFEST)
    if packed and packed.image and "path" not in {plain(name) for name in sheet.header}:
        meanings.pop("path")
    header, notes = rename(sheet.header, meanings, file=str(sheet.path))
    sheet = replace(sheet, header=header, notes=(*sheet.notes, *notes))
    if "split" not in header and (of_splits := _split_column(sheet)):
        header = tuple("split" if name == of_splits else name for name in header)
        note = Note(f"{sheet.path.name}: column {of_splits!r} holds the splits")
        sheet = replace(sheet, header=header, notes=(*sheet.notes, note))
    if "path" in header or "image_id" not in header or (packed and packed.image):
        return sheet
    ids = sheet.column("image_id")
    if not ids or not all(cell and ENDING.search(cell) for cell in ids):
        return sheet
    note = Note(f"{sheet.path.name}: no column 'path': image_id names files, taken for it")
    rows = [[*row, cell] for row, cell in zip(sheet.rows, ids, strict=True)]
    return replace(sheet, header=(*header, "path"), rows=rows, notes=(*sheet.notes, note))


def _split_column(sheet: Sheet) -> str | None:
    """The one column that holds nothing but names of splits, train among them."""
    found = []
    for name in sheet.header:
        words = [] if name in MANIFEST else [is_split(cell or "") for cell in sheet.column(name)]
        if words and all(words) and len(set(words)) > 1 and "train" in words:
            found.append(name)
    return found[0] if len(found) == 1 else None


def _require(sheet: Sheet, packed: Packed | None, *, split: str) -> None:
    """Refuse a table without images, splits or rows."""
    path, header = sheet.path, sheet.header
    needed = [*([] if packed and packed.image else ["path"]), *([] if split else ["split"])]
    lacking = [name for name in needed if name not in header]
    if lacking == ["split"]:
        deal = as_typed(f"deal {path}")
        raise CorpusError(
            f"{path}: no column 'split' with train, valid or test; {deal!r} deals the images into"
            f" the three; found {first_few(header, n=12)}"
        )
    if lacking:
        raise CorpusError(
            f"{path}: no column {first_few(lacking)}; expected path (or {', '.join(PATHS[:6])}),"
            f" split, concepts; found {first_few(header, n=12)}"
        )
    if not sheet.rows:
        raise CorpusError(f"{path}: a header and no row below it; expected a row for each image")


def _files(sheet: Sheet, packed: Packed | None) -> tuple[list[Path | None], list[Note]]:
    """The file of each row, None where there is none."""
    finder = ImageFinder(sheet.path.parent)
    found: dict[str, Path | None] = {}
    files: list[Path | None] = []
    written = sheet.column("path") or [None] * len(sheet.rows)
    n_packed = 0
    for at, (place, named) in enumerate(zip(sheet.places, written, strict=True)):
        inside = packed.path_of(at) if packed else None
        named = named or (packed.named(at) if packed and inside is None else None)
        where = f"{sheet.path}: {place}"
        if not named and inside is None:
            lacking = f"no bytes in {packed.image!r} and no path" if packed else "no path"
            raise CorpusError(f"{where}: {lacking}; fill it, or remove the row")
        if named and named not in found:
            found[named] = finder.find(named, where=where)
        file = found[named] if named else None
        n_packed += file is None and inside is not None
        files.append(file or inside)
    notes = finder.notes(sheet.path.name)
    if packed and packed.image:
        name = f"{sheet.path.name}: column {packed.image!r} of images"
        there = count(n_packed, "image") + " read from it" if n_packed else ""
        notes.append(Note(f"{name}: {there or 'left out, the files of path are there'}"))
    return files, notes


def _ids(sheet: Sheet, files: Sequence[Path | None]) -> tuple[list[str], list[Note]]:
    """The id of each row: its cell, else the name of the file, with its folder where names meet."""
    given = sheet.column("image_id") or [None] * len(files)
    written = sheet.column("path") or [None] * len(files)
    unnamed = dict.fromkeys(
        file for file, image_id in zip(files, given, strict=True) if file and not image_id
    )
    names = {file: _name(file, sheet.path) for file in unnamed}
    notes = []
    if len(set(names.values())) < len(names):
        plain_names = names
        twice = [name for name, n in Counter(names.values()).items() if n > 1]
        home = Path(os.path.commonpath([file.parent for file in unnamed]))
        names = {file: _without_ending(file.relative_to(home)).as_posix() for file in unnamed}
        if len(set(names.values())) < len(names):
            names = {file: file.relative_to(home).as_posix() for file in unnamed}
        shown = next(names[file] for file in sorted(unnamed) if plain_names[file] == twice[0])
        text = f"{count(len(twice), 'file name')} in several folders, so ids hold the folder"
        notes.append(Note(f"{sheet.path.name}: {text}: {twice[0]!r} is {shown!r}"))
    ids = []
    for file, image_id, path in zip(files, given, written, strict=True):
        ids.append(image_id or (names[file] if file else bare(path or "")))
    return ids, notes


def _name(file: Path, manifest: Path) -> str:
    packed = file.parent == manifest.absolute()
    return f"{manifest.stem}_{file.name}" if packed else _without_ending(file).name


def _without_ending(file: Path) -> Path:
    """The path without the ending of its name; a number is no ending but the last part of a UID."""
    return file if file.suffix[1:].isdecimal() else file.with_suffix("")


def _no_file(path: Path, missing: Sequence[tuple[str, str]]) -> CorpusError:
    named = missing[0][1]
    tried = ImageFinder(path.parent).tried(named)
    return CorpusError(
        f"{path}: no file for any of its {count(len(missing), 'image')}; paths are taken from"
        f" {path.parent.absolute()}: {named!r} was looked for at {tried}"
    )


def _missing_notes(path: Path, missing: Sequence[tuple[str, str]]) -> list[Note]:
    if not missing:
        return []
    text = f"{path.name}: {count(len(missing), 'image')} without a file, left out"
    shown = first_few(image_id for image_id, _ in missing)
    tried = ImageFinder(path.parent).tried(missing[0][1])
    return [Note(f"{text}: {shown}; the first was looked for at {tried}", grave=True)]
