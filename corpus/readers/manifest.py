"""Reader of a manifest: any images at any place, one row each in a csv or parquet file.

    path            relative to the manifest, or absolute; or a column `image` of bytes in parquet
    split           train, valid or test
    image_id        optional; the name of the file without its ending
    category        optional; one of the seven by its code or a plain name (CT, MRI, X-ray), or empty
    concepts        optional; CUIs with `;` between them
    group           optional; images of one group never part
    concept_names   optional; names of the concepts, in their order, with `;` between them
    ...             any further column becomes metadata, a list in parquet joined by `;`

Concepts are known and none where the cell is empty; they are unknown where the column is missing
and in every row of test. In parquet a null is unknown too; in a further column it is a missing
value, as an empty cell is. Names of concepts may lie beside it in `concept_names.csv`.

What else is taken for these columns and their values, `corpus.readers.tables` knows: other
separators, names, lists, columns of 0 and 1. All of it is said.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from core.errors import CorpusError, as_typed, first_few
from core.images import SPLITS
from core.labels import Concepts
from corpus.readers.annotations import annotate, category_at, read_groups
from corpus.readers.concept_lists import ConceptList, clean_concepts, mended_notes, read_names
from corpus.readers.files import FoundImage
from corpus.readers.notes import Note, count
from corpus.readers.reading import Reading, make_reading
from corpus.readers.tables.cells import renamed_note, split_of
from corpus.readers.tables.columns import (
    MANIFEST,
    PATHS,
    hidden_groups,
    known_names,
    plain,
    rename,
)
from corpus.readers.tables.concept_cells import (
    Seen,
    concept_notes,
    concepts_in,
    names_beside,
    names_of_tags,
    writing_of,
)
from corpus.readers.tables.ids import ENDING, alike_note, bare
from corpus.readers.tables.indicators import joined_indicators, joined_rows
from corpus.readers.tables.parquet import Packed, is_parquet, read_parquet
from corpus.readers.tables.paths import ImageFinder, same_file_notes
from corpus.readers.tables.sheet import Sheet, read_header, read_sheet

LAYOUT = "manifest"

ENDINGS = (".csv", ".tsv", ".txt", ".parquet")

LOOKED_FOR = "manifest.csv, manifest.tsv, manifest.parquet"

NAMES_FILE = "concept_names.csv"

# A manifest belongs to no edition. That of 2025 is the newest format that takes any concept ids and
# any order of rows, and its score counts images known to have no concept.
_EDITION = 2025

_OTHER_FILES = (".zip", ".gz", ".tar", ".tgz", ".7z", ".xlsx", ".xls", ".ods", ".json", ".jsonl")


@dataclass(frozen=True)
class _Row:
    """One image of a manifest: where it stands, what it is, what its cells say."""

    place: str
    image: FoundImage
    cells: Mapping[str, str | None]

    @cached_property
    def concepts(self) -> str | None:
        return self.cells.get("concepts")


@dataclass(frozen=True, kw_only=True)
class _Manifest:
    """A manifest with its images found, those without a file left out."""

    path: Path
    header: tuple[str, ...]
    rows: Sequence[_Row]
    names: Mapping[str, str]
    notes: tuple[Note, ...]


def find_manifest(source: Path) -> Path | None:
    """The manifest that a path names, or the one in a folder; None where there is none.

    A file is one by its content: a table with a column that names image files or splits. In a
    folder it is called manifest, in any capitals, with one of `ENDINGS`.

    Raises:
        CorpusError: the folder has several.
    """
    if source.is_file():
        return source if _is_table(source) else None
    if not source.is_dir():
        return None
    inside = sorted(
        path
        for path in source.iterdir()
        if path.stem.lower() == "manifest" and path.suffix.lower() in ENDINGS and path.is_file()
    )
    # A list of checksums is called manifest.txt as often.
    inside = [p for p in inside if p.suffix.lower() in (".csv", ".parquet") or names_images(p)]
    if len(inside) > 1:
        raise CorpusError(f"{source}: {first_few(path.name for path in inside)}; name one of them")
    return inside[0] if inside else None


def _is_table(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix in ENDINGS or is_parquet(path):
        return True
    return suffix not in _OTHER_FILES and names_images(path)


def names_images(path: Path) -> bool:
    """Whether a file is a table whose header names image files or splits; False of any other."""
    if is_parquet(path):
        return True
    try:
        header = read_header(path, known=known_names(MANIFEST))
    except CorpusError:
        return False
    columns = {plain(name) for name in header}
    paths = {plain(name) for name in ("path", "split", *MANIFEST["path"], *MANIFEST["split"])}
    return len(header) > 1 and bool(columns & (paths - {"image"}))


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
    return _reading(_read(source), strict=strict)


def read_unsplit(source: Path, *, strict: bool = False) -> Reading:
    """The images of a manifest without a column `split`, every one of them in train: to be dealt.

    Where the manifest has that column after all, it is not read, which is noted.

    Raises:
        CorpusError: as `read_manifest`, but for the column.
    """
    return _reading(_read(source, split="train"), strict=strict)


def manifest_truth(source: Path) -> dict[str, Concepts]:
    """The concepts of the test images of a manifest, which nothing but a score may read.

    Returns:
        Image id, as `read_manifest` gives it, to concepts; images whose concepts are unknown (no
        column, or a null in parquet) are left out.

    Raises:
        CorpusError: as `read_manifest`, or no test image has concepts.
    """
    manifest = _read(source)
    rows = [row for row in manifest.rows if row.image.split == "test" and row.concepts is not None]
    if not any(row.concepts for row in rows):
        raise CorpusError(
            f"{manifest.path}: no test image has concepts; fill the column 'concepts' of its rows"
        )
    truth, _, _ = _concepts_of(manifest.path, manifest.rows, rows, where=manifest.path.name)
    return truth


def _reading(manifest: _Manifest, *, strict: bool) -> Reading:
    cells = {row.place: _cells(row) for row in manifest.rows}
    said = annotate(
        manifest.path,
        header=manifest.header,
        rows=cells,
        ignored=("path", "concepts", "concept_names"),
    )
    lists, notes, tags = _lists(manifest)
    beside, noted = read_names(_names_file(manifest.path.parent))
    return make_reading(
        [row.image for row in manifest.rows],
        lists,
        layout=LAYOUT,
        edition=_EDITION,
        names={**tags, **manifest.names, **beside},
        annotations=[said, *read_groups(manifest.path.parent)],
        notes=[*manifest.notes, *noted, *notes],
        strict=strict,
    )


def _names_file(folder: Path) -> Path | None:
    path = folder / NAMES_FILE
    return path if path.is_file() else None


def _cells(row: _Row) -> dict[str, str]:
    cells = {column: value or "" for column, value in row.cells.items()}
    if "split" in cells:
        cells["split"] = row.image.split
    return {**cells, "image_id": row.image.image_id}


def _read(source: Path, *, split: str = "") -> _Manifest:
    """A manifest; `split` is that of every image, "" where a column says it."""
    path = find_manifest(source)
    if path is None:
        raise CorpusError(f"{source}: no manifest; expected a .csv or .parquet file")
    if path.stat().st_size == 0:
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
            rows.append(_Row(place, image, cells))
    if not rows:
        raise _no_file(path, missing)
    return _Manifest(
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
    if "path" in header or "image_id" not in header or (packed and packed.image):
        return sheet
    ids = sheet.column("image_id")
    if not ids or not all(cell and ENDING.search(cell) for cell in ids):
        return sheet
    note = Note(f"{sheet.path.name}: no column 'path': image_id names files, taken for it")
    rows = [[*row, cell] for row, cell in zip(sheet.rows, ids, strict=True)]
    return replace(sheet, header=(*header, "path"), rows=rows, notes=(*sheet.notes, note))


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
        where = f"{sheet.path}: {place}"
        if not named and inside is None:
            raise CorpusError(f"{where}: no path")
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
    unnamed = {file for file, image_id in zip(files, given, strict=True) if file and not image_id}
    names = {file: _stem(file, sheet.path) for file in unnamed}
    notes = []
    if len(set(names.values())) < len(names):
        twice = [name for name, n in Counter(names.values()).items() if n > 1]
        home = Path(os.path.commonpath([file.parent for file in unnamed]))
        names = {file: file.relative_to(home).with_suffix("").as_posix() for file in unnamed}
        if len(set(names.values())) < len(names):
            names = {file: file.relative_to(home).as_posix() for file in unnamed}
        shown = next(names[file] for file in sorted(unnamed) if file.stem == twice[0])
        text = f"{count(len(twice), 'file name')} in several folders, so ids hold the folder"
        notes.append(Note(f"{sheet.path.name}: {text}: {twice[0]!r} is {shown!r}"))
    ids = []
    for file, image_id, path in zip(files, given, written, strict=True):
        ids.append(image_id or (names[file] if file else bare(path or "")))
    return ids, notes


def _stem(file: Path, manifest: Path) -> str:
    packed = file.parent == manifest.absolute()
    return f"{manifest.stem}_{file.name}" if packed else file.stem


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


def _lists(manifest: _Manifest) -> tuple[dict[str, ConceptList], list[Note], dict[str, str]]:
    """The concepts of train and of valid; an image whose concepts are unknown is in no list.

    Further, what there is to note, and names of concepts that the cells tell.
    """
    path = manifest.path
    of_split = {s: [r for r in manifest.rows if r.image.split == s] for s in SPLITS}
    _require_concepts(manifest, of_split)
    told = [row.image.image_id for row in of_split["test"] if row.concepts]
    notes = []
    if told:
        text = f"{path.name}: concepts of {count(len(told), 'test image')} not read"
        notes.append(Note(f"{text}: {first_few(told)}"))
    lists, names = {}, {}
    labelled = [row for split in ("train", "valid") for row in of_split[split]]
    for split in ("train", "valid"):
        rows = [row for row in of_split[split] if row.concepts is not None]
        concepts, noted, tags = _concepts_of(path, labelled, rows, where=f"{path.name}, {split}")
        lists[split] = ConceptList(path=path, concepts=concepts, notes=tuple(noted))
        names |= tags
    pairs = [
        ((row.concepts or "").split(";"), row.cells.get("concept_names") or "") for row in labelled
    ]
    beside, noted = names_beside(pairs, where=path.name)
    return lists, [*notes, *noted], {**names, **beside}


def _require_concepts(manifest: _Manifest, of_split: Mapping[str, Sequence[_Row]]) -> None:
    """Refuse a manifest that has nothing to learn from."""
    train = of_split["train"]
    if not train:
        found = Counter(row.image.split for row in manifest.rows)
        shown = ", ".join(f"{split} ({n})" for split, n in found.items())
        raise CorpusError(f"{manifest.path}: no image with split 'train'; found {shown}")
    if "concepts" not in manifest.header:
        others = ", ".join(MANIFEST["concepts"][:6])
        raise CorpusError(
            f"{manifest.path}: none of {count(len(train), 'training image')} has concepts: no"
            f" column 'concepts' (nor {others}, nor two columns of 0 and 1); found"
            f" {first_few(manifest.header, n=12)}"
        )


def _concepts_of(
    path: Path, column: Sequence[_Row], rows: Sequence[_Row], *, where: str
) -> tuple[dict[str, Concepts], list[Note], dict[str, str]]:
    """The concepts of rows, what was odd, and names of tags.

    `column` are the rows that tell how the cells are written.
    """
    writing = writing_of(row.concepts or "" for row in column)
    seen, mended, concepts = Seen(), [], {}
    for row in rows:
        text = row.concepts or ""
        try:
            found, repairs = clean_concepts(concepts_in(text, writing=writing, seen=seen))
        except ValueError:
            raise CorpusError(
                f"{path}: {row.place}: expected concepts as CUI;CUI, found {text!r}"
            ) from None
        mended.append(repairs)
        concepts[row.image.image_id] = found
    notes = [*concept_notes(where, seen), *mended_notes(where, mended)]
    return concepts, notes, dict(names_of_tags([seen]))
