"""Images in rows of parquet files, read forward, so that memory stays bounded.

A column holds images if its cells are bytes, or pairs of bytes and a path, as the `datasets`
library of Hugging Face writes them.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from core.errors import CorpusError
from core.storage.documents import plain_file

_BATCH = 4 << 20  # bytes of images that are read at a time, at least one row
_KEPT = 96 << 20  # bytes of images that are kept of a file: as far as threads drift apart
_LONGEST = 256  # rows of a batch

_NAMES = ("image", "img", "picture", "pixels", "jpg", "png", "dicom", "bytes", "image_bytes")


def open_parquet(path: Path) -> Any:
    """A parquet file (`pyarrow.parquet.ParquetFile`), of which nothing but its end is read.

    Raises:
        CorpusError: pyarrow is not installed, or the file is no whole parquet file.
    """
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise CorpusError(
            f"{path}: parquet needs pyarrow: pip install 'radfuse[parquet]'"
        ) from None
    try:
        return parquet.ParquetFile(plain_file(path), buffer_size=1 << 20, pre_buffer=False)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise CorpusError(f"{path}: cannot be read as parquet ({reason})") from None


def image_column(path: Path) -> str | None:
    """Name of the column with the bytes of images; None where no column has any.

    Of several, one with a usual name (`image`, `img`, ...) counts, else the first.

    Raises:
        CorpusError: as `open_parquet`.
    """
    return _column(open_parquet(path).schema_arrow)


def image_names(path: Path) -> list[str | None]:
    """For each row the file name that is kept beside the bytes of its image, where there is one.

    Raises:
        CorpusError: as `open_parquet`.
    """
    file = open_parquet(path)
    column = _column(file.schema_arrow)
    n_rows: int = file.metadata.num_rows
    if column is None or not _has_field(file.schema_arrow.field(column).type, "path"):
        return [None] * n_rows
    cells = file.read(columns=[f"{column}.path"]).column(column)
    names = [cell and cell["path"] for cell in cells.to_pylist()]
    return [name if isinstance(name, str) and name else None for name in names]


def rows_without_image(path: Path) -> set[int]:
    """Rows of a file with images that have none: their bytes are null.

    Raises:
        CorpusError: as `open_parquet`.
    """
    file = open_parquet(path)
    column = _column(file.schema_arrow)
    if column is None:
        return set(range(file.metadata.num_rows))
    leaf = _leaf(file.schema_arrow, column)
    without: set[int] = set()
    start = 0
    for group in range(file.metadata.num_row_groups):
        n_rows = file.metadata.row_group(group).num_rows
        if not _is_full(file.metadata.row_group(group), leaf):
            for first, cells in _batches(file, group=group, column=column):
                without |= {start + first + k for k, cell in enumerate(cells) if cell is None}
        start += n_rows
    return without


def _is_full(group: Any, leaf: str) -> bool:
    """Whether a row group says of itself that no cell of a column is null."""
    for number in range(group.num_columns):
        chunk = group.column(number)
        if chunk.path_in_schema == leaf:
            said = chunk.statistics
            return bool(said is not None and said.has_null_count and said.null_count == 0)
    return False


def read_row(path: Path, row: int) -> bytes:
    """The bytes of the image in a row, counted from 0.

    Rows that are read about in order, from any number of threads, are each read once.

    Raises:
        FileNotFoundError: there is no such file or row, or the row has no image.
        CorpusError: as `open_parquet`, or no column holds images.
    """
    state = path.stat()
    shard = _shard(path, state.st_mtime_ns, state.st_size, os.getpid())
    found = shard.row(row)
    if not found:
        raise FileNotFoundError(f"{path}: no image in row {row}")
    return found


@lru_cache(maxsize=4)
def _shard(path: Path, changed_ns: int, size: int, process: int) -> "_Shard":
    del changed_ns, size, process
    return _Shard(path)


class _Shard:
    """A parquet file that is read forward, batch after batch; the last ones are kept."""

    def __init__(self, path: Path) -> None:
        self._file = open_parquet(path)
        column = _column(self._file.schema_arrow)
        if column is None:
            raise CorpusError(f"{path}: no column holds the bytes of images")
        self._column: str = column
        self._starts = [0]
        for group in range(self._file.metadata.num_row_groups):
            self._starts.append(self._starts[-1] + self._file.metadata.row_group(group).num_rows)
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, list[bytes | None]] = OrderedDict()  # by their first row
        self._group = -1
        self._next = 0
        self._ahead: Iterator[tuple[int, list[bytes | None]]] = iter(())

    def row(self, row: int) -> bytes | None:
        """The image of a row; None where it has none."""
        if not 0 <= row < self._starts[-1]:
            return None
        with self._lock:
            for start, cells in self._kept.items():
                if start <= row < start + len(cells):
                    return cells[row - start]
            group = next(g for g, end in enumerate(self._starts[1:]) if row < end)
            if group != self._group or row < self._next:
                self._group, self._next = group, self._starts[group]
                self._ahead = _batches(self._file, group=group, column=self._column)
            while True:
                first, cells = next(self._ahead)
                start = self._starts[group] + first
                self._next = start + len(cells)
                if row < self._next:
                    self._keep(start, cells)
                    return cells[row - start]

    def _keep(self, start: int, cells: list[bytes | None]) -> None:
        self._kept[start] = cells
        while len(self._kept) > 1 and sum(map(_size, self._kept.values())) > _KEPT:
            self._kept.popitem(last=False)


def _size(cells: list[bytes | None]) -> int:
    return sum(len(cell) for cell in cells if cell)


def _batches(file: Any, *, group: int, column: str) -> Iterator[tuple[int, list[bytes | None]]]:
    """First row within the group, and images, of one batch after the other."""
    said = file.metadata.row_group(group)
    leaf = _leaf(file.schema_arrow, column)
    chunks = [said.column(number) for number in range(said.num_columns)]
    size = sum(c.total_uncompressed_size for c in chunks if c.path_in_schema == leaf)
    n_rows = max(1, min(_LONGEST, _BATCH * said.num_rows // max(size, 1)))
    first = 0
    for batch in file.iter_batches(batch_size=n_rows, row_groups=[group], columns=[leaf]):
        cells = batch.column(0).to_pylist()
        yield first, [cell["bytes"] if isinstance(cell, dict) else cell for cell in cells]
        first += len(cells)


def _column(schema: Any) -> str | None:
    named = {field.name: field.type for field in schema if _holds_images(field.type)}
    by_lower = {name.lower(): name for name in reversed(named)}
    usual = [by_lower[name] for name in _NAMES if name in by_lower]
    return next(iter([*usual, *named]), None)


def _holds_images(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_struct(kind):
        if not _has_field(kind, "bytes"):
            return False
        content = kind.field("bytes").type  # without a type where all images are files
        return _holds_images(content) or (types.is_null(content) and _has_field(kind, "path"))
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _has_field(kind: Any, name: str) -> bool:
    import pyarrow.types as types

    return bool(types.is_struct(kind)) and kind.get_field_index(name) >= 0


def _leaf(schema: Any, column: str) -> str:
    return f"{column}.bytes" if _has_field(schema.field(column).type, "bytes") else column
