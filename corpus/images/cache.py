"""Images decoded and scaled once into a uint8 memory map: (N, S, S, 3).

Decoding and scaling a radiograph costs milliseconds, reading it back from the map microseconds.
A cache that was interrupted goes on where it stopped; two processes that build the same one write
the same bytes.
"""

import csv
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt

from core.config import fingerprint
from core.errors import ImageError
from core.images import ImageTable
from core.progress import progress
from core.runs.decoding import REMARKS_FILE, USUAL, Decoding
from core.runs.workspace import Corpus
from core.storage.arrays import load_array, open_map, read_lines, write_lines, write_rows
from core.storage.folders import META, is_complete, provenance, write_json
from core.storage.packed import file_state, reading_order
from corpus.images.decode import Resample, decode

_UNREADABLE, _DONE = 2, 3  # 1: decoded by a version that read fewer kinds of files right
_MET = "remarks-met.csv"  # as they come: an interrupted cache does not lose them
_SHARE = 16  # images that a thread takes at a time; one each cost 4 % on two cores


@dataclass(frozen=True, kw_only=True)
class ImageCache:
    """Decoded images of a corpus.

    Attributes:
        image_ids: N ids, in table order.
        pixels: (N, S, S, 3) uint8, mapped from disk; zeros where an image cannot be decoded.
        errors: reason by id, for each image that cannot be decoded.
        remarks: what was done to show an image, by id, for those that were not plain.
    """

    image_ids: tuple[str, ...]
    pixels: npt.NDArray[np.uint8]
    errors: dict[str, str]
    remarks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def remark_rows(self) -> list[tuple[str, str]]:
        """Id and remark of each remark, in table order."""
        return _in_order(self.image_ids, self.remarks)


def build_cache(
    table: ImageTable,
    folder: Path,
    *,
    size: int,
    resample: Resample = "bilinear",
    decoding: Decoding = USUAL,
    strict: bool = False,
    workers: int | None = None,
) -> ImageCache:
    """The cache of a corpus at one image size, built as far as it is not there yet.

    Args:
        table: the images; files that changed since are decoded again.
        folder: where caches lie; each size and file state has a folder of its own.
        size: S, pixels.
        resample: how images are scaled.
        decoding: how files are read that leave a choice.
        strict: stop at the first image that cannot be decoded.
        workers: decoding threads; None for one a core.

    Raises:
        ImageError: an image cannot be decoded, and `strict` is set.
    """
    changes = [decoding.changes] if decoding.changes else []
    state = fingerprint(table.image_ids, _state_of_files(table.paths), *changes)
    home = folder / f"{size}px-{resample}-{state}"
    if not (is_complete(home) and (home / REMARKS_FILE).is_file()):
        _fill(
            home,
            table,
            size=size,
            resample=resample,
            decoding=decoding,
            strict=strict,
            workers=workers,
        )
    with (home / "errors.csv").open(encoding="utf-8", newline="") as file:
        errors = dict(csv.reader(file))
    if strict and errors:
        raise ImageError(next(iter(errors.values())))
    return ImageCache(
        image_ids=read_lines(home / "image_ids.txt"),
        pixels=load_array(home / "pixels.npy"),
        errors=errors,
        remarks=read_remarks(home / REMARKS_FILE),
    )


def cache_of(
    corpus: Corpus, folder: Path, *, size: int, resample: Resample = "bilinear"
) -> ImageCache:
    """The cache of a corpus, its images read as they were prepared; else as `build_cache`."""
    decoding = corpus.decoding
    return build_cache(corpus.table, folder, size=size, resample=resample, decoding=decoding)


def _fill(
    home: Path,
    table: ImageTable,
    *,
    size: int,
    resample: Resample,
    decoding: Decoding,
    strict: bool,
    workers: int | None,
) -> None:
    home.mkdir(parents=True, exist_ok=True)
    n = len(table)
    pixels = open_map(home / "pixels.npy", (n, size, size, 3), dtype=np.uint8)
    state = open_map(home / "state.npy", (n,), dtype=np.uint8)
    errors: dict[int, str] = {}
    writing = Lock()

    def load(rows: npt.NDArray[np.intp]) -> int:
        met: list[tuple[str, str]] = []
        done: list[int] = []
        for row in rows.tolist():
            path = Path(table.paths[row])
            try:
                image = decode(path, size=size, resample=resample, decoding=decoding)
                pixels[row] = image.pixels
                met += ((table.image_ids[row], remark) for remark in image.remarks)
                done.append(row)
            except ImageError as error:
                if strict:
                    raise
                errors[row] = str(error)
                state[row] = _UNREADABLE
        if met:
            with writing:
                write_rows(home / _MET, met, mode="a")
        state[done] = _DONE  # not before their remarks are kept
        return len(rows)

    todo = np.flatnonzero(state != _DONE)  # unreadable ones are tried again: they may be mended
    order = reading_order(Path(table.paths[row]) for row in todo)
    todo = todo[np.array(order, dtype=np.intp)]
    with (
        ThreadPoolExecutor(workers or os.cpu_count()) as pool,
        progress("decoding", total=n, unit="images", done=n - len(todo)) as advance,
    ):
        for n_done in pool.map(load, _shares(todo)):  # an error cancels those that wait
            advance(n_done)
    write_lines(home / "image_ids.txt", table.image_ids)
    write_rows(home / "errors.csv", [(table.image_ids[r], errors[r]) for r in sorted(errors)])
    write_rows(home / REMARKS_FILE, _in_order(table.image_ids, read_remarks(home / _MET)))
    meta = {"size": size, "resample": resample, "n_images": n, **decoding.changes}
    write_json(home / META, {**meta, **provenance()})


def _shares(rows: npt.NDArray[np.intp]) -> Iterable[npt.NDArray[np.intp]]:
    return (rows[start : start + _SHARE] for start in range(0, len(rows), _SHARE))


def _state_of_files(paths: Sequence[str]) -> list[tuple[str, int, int]]:
    """Name, size and time of change of each file; -1 for a missing one."""
    states = []
    for path in paths:
        try:
            stat = file_state(Path(path))
            states.append((path, stat.st_size, stat.st_mtime_ns))
        except FileNotFoundError:
            states.append((path, -1, -1))
    return states


def _in_order(
    image_ids: Sequence[str], remarks: Mapping[str, Sequence[str]]
) -> list[tuple[str, str]]:
    return [(i, remark) for i in image_ids for remark in remarks.get(i, ())]


def read_remarks(path: Path) -> dict[str, tuple[str, ...]]:
    """Remarks by id, each once though two processes may have met them; none of a missing file."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.reader(file):
                if len(row) == 2:  # a process may have been killed in the middle of a line
                    found[row[0]][row[1]] = None
    return {image_id: tuple(remarks) for image_id, remarks in found.items()}
