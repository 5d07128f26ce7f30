"""Parquet files as tables of text, images packed into them left where they are."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

from core.errors import CorpusError, first_few
from core.storage.documents import parse_json, plain_file
from core.storage.shards import image_column, image_names, open_parquet
from corpus.readers.notes import Note, count
from corpus.readers.tables.sheet import Cell, Sheet, refuse_unwritable

MAGIC = b"PAR1"
"""First bytes of a parquet file."""

_EXACT = 2**53  # up to here a float tells whole numbers apart

_IMAGES = ("image", "img", "bytes", "picture")
"""Names of columns with images."""

_LONGEST_WORD = 4096  # bytes of a cell that may be text

_INDEX = "__index_level_"
"""What pandas calls the column of an index without a name."""


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A parquet file.

    Attributes:
        sheet: its columns but for those of bytes; a named index is a column.
        image: the column that holds images, "" where there is none.
        there: of each row, whether it has an image in that column.
        names: of each row, the name of a file that stands beside the bytes; () without such names.
    """

    sheet: Sheet
    image: str = ""
    there: Sequence[bool] = ()
    names: Sequence[str | None] = ()

    def path_of(self, row: int) -> Path | None:
        """Where the image of a row lies, as `core.storage.packed` reads it."""
        return self.sheet.path.absolute() / str(row) if self.there and self.there[row] else None

    def named(self, row: int) -> str | None:
        """The file that a row names beside its bytes, None where it names none."""
        return self.names[row] if self.names else None


def is_parquet(path: Path) -> bool:
    """Whether a file begins as parquet does."""
    with plain_file(path).open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_parquet(path: Path) -> Packed:
    """The rows of a parquet file as text.

    Whole numbers are written without a fraction, times without a clock at midnight as dates, lists
    as the cell of a concept list, further structures as JSON; nulls and NaN are None. Rows are
    numbered from 1 in messages and from 0 in the paths of packed images.

    Raises:
        CorpusError: pyarrow is not installed, the file is not parquet, several columns hold images,
            or an index of words has no name.
    """
    file = open_parquet(path)
    import pyarrow as pa

    try:
        schema = file.schema_arrow
        if twice := [name for name in schema.names if schema.names.count(name) > 1]:
            raise CorpusError(f"{path}: column {twice[0]!r} stands twice; keep one")
        words = _words(pa, file)
        binary = [f.name for f in schema if f.name not in words and _holds_image(pa, f)]
        names = [name for name in schema.names if name not in binary]
        table = file.read(columns=names)
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise CorpusError(f"{path}: cannot be read as parquet ({reason})") from None
    columns = {name: _texts(table.column(at)) for at, name in enumerate(table.column_names)}
    columns = _with_range(columns, schema.metadata or {}, n_rows=table.num_rows)
    image, notes = _image_column(path, binary)
    header, rows, noted = _without_index(path, columns, n_rows=table.num_rows)
    sheet = Sheet(
        path=path,
        header=tuple(header),
        places=[f"row {number}" for number in range(1, len(rows) + 1)],
        rows=rows,
        notes=(*notes, *noted),
    )
    if words:
        text = f"{count(len(words), 'column')} of bytes that are UTF-8, read as text"
        sheet = replace(sheet, notes=(*sheet.notes, Note(f"{path.name}: {text}")))
    refuse_unwritable(sheet)
    there = _there(file, image) if image else ()
    names_beside = image_names(path) if image else []
    told = names_beside if any(names_beside) else ()
    return Packed(sheet=sheet, image=image, there=there, names=told)


def _words(pa: Any, file: Any) -> list[str]:
    """Columns of bytes that hold text, as some programs write all of theirs."""
    kinds = (pa.types.is_binary, pa.types.is_large_binary)
    found = [
        field.name
        for field in file.schema_arrow
        if any(is_kind(field.type) for is_kind in kinds) and field.name.casefold() not in _IMAGES
    ]
    batch = next(file.iter_batches(batch_size=64, columns=found), None) if found else None
    return [name for name in found if batch is not None and _is_text(batch.column(name))]


def _is_text(column: Any) -> bool:
    cells = [cell for cell in column.to_pylist() if cell is not None]
    try:
        texts = [cell.decode() for cell in cells if len(cell) < _LONGEST_WORD]
    except UnicodeDecodeError:
        return False
    return any(texts) and len(texts) == len(cells) and all(map(str.isprintable, texts))


def _holds_image(pa: Any, field: Any) -> bool:
    """Whether a column holds bytes, or pairs of bytes and a path of which all bytes are null."""
    kind = field.type
    if pa.types.is_struct(kind) and {f.name for f in kind} == {"bytes", "path"}:
        return True
    return _holds_bytes(pa, kind)


def _holds_bytes(pa: Any, kind: Any) -> bool:
    if pa.types.is_struct(kind):
        return any(_holds_bytes(pa, field.type) for field in kind)
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def _image_column(path: Path, binary: Sequence[str]) -> tuple[str, list[Note]]:
    """The column that `core.storage.shards` reads images from, and a note on others of bytes.

    Raises:
        CorpusError: which one is meant is not clear.
    """
    named = [name for name in binary if name.casefold() in _IMAGES]
    if len(named) > 1 or (not named and len(binary) > 1):
        raise CorpusError(
            f"{path}: columns {first_few(named or binary)} hold bytes; call the one with the images"
            " image and leave the others out"
        )
    if not binary:
        return "", []
    image = image_column(path) or ""
    if image not in binary:
        raise CorpusError(f"{path}: column {binary[0]!r} holds bytes; call it image")
    others = [name for name in binary if name != image]
    if not others:
        return image, []
    text = f"{count(len(others), 'column')} of bytes left out: {first_few(others)}"
    return image, [Note(f"{path.name}: {text}")]


def _there(file: Any, image: str) -> list[bool]:
    """Of each row, whether its image has bytes."""
    there: list[bool] = []
    for batch in file.iter_batches(batch_size=256, columns=[image]):
        column = batch.column(0)
        for value in column:
            content = value.as_py()
            content = content.get("bytes") if isinstance(content, dict) else content
            there.append(bool(content))
    return there


def _texts(column: Any) -> list[Cell]:
    narrow = str(column.type) in ("float", "halffloat")
    return [_text(value, narrow=narrow) for value in column.to_pylist()]


def _text(value: Any, *, narrow: bool = False) -> Cell:
    """A cell as text; of a float of 32 bits the digits that it has."""
    if value is None or value != value:
        return None
    if isinstance(value, bytes):
        return value.decode(errors="replace").strip()
    if isinstance(value, (list, tuple)):
        return ";".join(_text(part) or "" for part in value)
    if isinstance(value, dict):
        return json.dumps(value, default=str, ensure_ascii=False)
    if isinstance(value, float):
        if value.is_integer() and abs(value) < _EXACT:
            return str(int(value))
        return f"{value:.7g}" if narrow else str(value)
    if isinstance(value, datetime):
        midnight = value.time() == datetime.min.time() and value.tzinfo is None
        return value.date().isoformat() if midnight else str(value)
    if isinstance(value, date):
        return value.isoformat()
    return str(value).strip()


def _with_range(
    columns: dict[str, list[Cell]], metadata: dict[bytes, bytes], *, n_rows: int
) -> dict[str, list[Cell]]:
    """The columns with an index that pandas keeps as its first number and its step."""
    try:
        told = parse_json(metadata.get(b"pandas", b"{}")).get("index_columns", [])
        for index in told:
            if isinstance(index, dict) and (name := index.get("name")) and str(name) not in columns:
                numbers = range(index["start"], index["stop"], index["step"])
                if len(numbers) == n_rows:
                    columns = {str(name): [str(number) for number in numbers], **columns}
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
        return columns  # not as pandas writes it
    return columns


def _without_index(
    path: Path, columns: dict[str, list[Cell]], *, n_rows: int
) -> tuple[list[str], list[list[Cell]], list[Note]]:
    """Header and rows without an index of numbers that has no name."""
    notes = []
    for name in [name for name in columns if name.startswith(_INDEX)]:
        cells = columns.pop(name)
        if not all(cell is not None and cell.isdecimal() for cell in cells):
            shown = next((cell for cell in cells if cell), "")
            raise CorpusError(
                f"{path}: the index has no name, but {shown!r} in it; call it image_id if it holds"
                " the ids, or reset it"
            )
        notes.append(Note(f"{path.name}: the index without a name, of numbers, left out"))
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    return list(columns), rows or [[] for _ in range(n_rows)], notes
