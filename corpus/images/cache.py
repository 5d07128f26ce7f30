"""Images decoded and scaled once into uint8 memory maps: a plane for a grey one, three for another.

Decoding and scaling a radiograph costs milliseconds, reading it back from the maps microseconds.
A cache that was interrupted goes on where it stopped. Of two processes that build the same one the
second waits; where files have no locks both write the same bytes.

Whether an image is grey is known when it is decoded, and many are decoded at once. So its further
planes are written first where they would lie if no image were grey, into a file of holes that takes
no more room than what is in it, and moved together at the end.
"""

import errno
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from core.config import fingerprint
from core.errors import ImageError, PredictionsError
from core.images import ImageTable
from core.progress import progress, say
from core.runs.decoding import REMARKS_FILE, USUAL, Decoding
from core.runs.workspace import Corpus
from core.storage.arrays import load_array, open_map, release, save_array
from core.storage.drafts import draft_folder
from core.storage.folders import META, is_complete, locked, provenance, write_json
from core.storage.packed import file_state, reading_order
from core.storage.tables import read_lines, read_pairs, read_rows, write_lines, write_rows
from corpus.images.decode import Resample, decode
from corpus.images.planes import GREY, Planes, split

_FIRST, _FURTHER, _PLACES = "first.npy", "further.npy", "places.npy"
_BY_ROW = "further-by-row.npy"  # (N, 2, S, S), of which grey images leave holes
_UNREADABLE, _GREY, _COLOUR = 1, 2, 3  # in state.npy; 0 is to do
_MET = "remarks-met.csv"  # as they come: an interrupted cache does not lose them
_SHARE = 16  # images that a thread takes at a time; one each cost 4 % on two cores


@dataclass(frozen=True, kw_only=True)
class ImageCache:
    """Decoded images of a corpus.

    Attributes:
        image_ids: N ids, in table order.
        planes: their pixels, mapped from disk; zeros where an image cannot be decoded.
        errors: reason by id, for each image that cannot be decoded.
        remarks: what was done to show an image, by id, for those that were not plain.
    """

    image_ids: tuple[str, ...]
    planes: Planes
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
    home = folder / f"{size}px-{resample}-planes-{state}"
    if not is_complete(home):
        if is_complete(old := folder / f"{size}px-{resample}-{state}"):
            say(f"{old}: of a version that kept three planes of every image; it can be removed")
        with locked(home, what=f"images at {size} px"):
            if not is_complete(home):
                _fill(
                    home,
                    table,
                    size=size,
                    resample=resample,
                    decoding=decoding,
                    strict=strict,
                    workers=workers,
                )
    errors = read_pairs(home / "errors.csv")
    if strict and errors:
        raise ImageError(next(iter(errors.values())))
    return ImageCache(
        image_ids=read_lines(home / "image_ids.txt"),
        planes=_load(home),
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
    n = len(table)
    first = open_map(home / _FIRST, (n, size, size), dtype=np.uint8)
    state = open_map(home / "state.npy", (n,), dtype=np.uint8)
    if not (home / _BY_ROW).exists():
        state[state == _COLOUR] = 0  # what was done of them is not there any more
    further: Any = open_map(home / _BY_ROW, (n, 2, size, size), dtype=np.uint8, reserve=False)
    errors: dict[int, str] = {}
    writing = Lock()

    def load(rows: npt.NDArray[np.intp]) -> int:
        met: list[tuple[str, str]] = []
        done: dict[int, int] = {}
        for row in rows.tolist():
            path = Path(table.paths[row])
            try:
                image = decode(path, size=size, resample=resample, decoding=decoding)
            except ImageError as error:
                if strict:
                    raise
                errors[row] = str(error)
                state[row] = _UNREADABLE
                continue
            planes, is_grey = split(image.pixels)
            first[row] = planes[0]
            if not is_grey:
                with writing:
                    _write(file, planes[1:], at=further.offset + row * planes[1:].nbytes)
            met += ((table.image_ids[row], remark) for remark in image.remarks)
            done[row] = _GREY if is_grey else _COLOUR
        if met:
            with writing:
                write_rows(home / _MET, met, mode="a")
        state[list(done)] = list(done.values())  # not before their remarks are kept
        release(first)  # else it would be seen to be held whole
        return len(rows)

    todo = np.flatnonzero(state <= _UNREADABLE)  # unreadable ones may have been mended
    order = reading_order(Path(table.paths[row]) for row in todo)
    todo = todo[np.array(order, dtype=np.intp)]
    with (
        (home / _BY_ROW).open("r+b", buffering=0) as file,
        ThreadPoolExecutor(workers or os.cpu_count()) as pool,
        progress("decoding", total=n, unit="images", done=n - len(todo)) as advance,
    ):
        for n_done in pool.map(load, _shares(todo)):  # an error cancels those that wait
            advance(n_done)
    if is_complete(home):  # no locks here, and another process was faster
        return
    n_colour = _move_together(home, state, further)
    write_lines(home / "image_ids.txt", table.image_ids)
    write_rows(home / "errors.csv", [(table.image_ids[r], errors[r]) for r in sorted(errors)])
    write_rows(home / REMARKS_FILE, _in_order(table.image_ids, read_remarks(home / _MET)))
    counts = {"n_images": n, "n_colour": n_colour}
    meta = {"size": size, "resample": resample, **counts, **decoding.changes}
    write_json(home / META, {**meta, **provenance()})


def _write(file: FileIO, planes: npt.NDArray[np.uint8], *, at: int) -> None:
    """Write planes into a file of holes that is mapped as well, but not through the map.

    Where the disk is full, the map would end the process by a signal, without a word; and room
    cannot be reserved, for nobody knows yet how much it will be.
    """
    try:
        file.seek(at)
        n_written = file.write(planes.data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(file.name)) from None
    if n_written < planes.nbytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file.name))


def _move_together(home: Path, state: npt.NDArray[np.uint8], further: npt.NDArray[np.uint8]) -> int:
    """Leave no holes between the further planes, and write down where each image's are.

    They are copied, and stay where they are if more than half of the images have them: no more
    room is ever taken than three planes of every image would.

    Returns:
        How many images are not grey.
    """
    rows = np.flatnonzero(state == _COLOUR)
    places = np.full(len(state), GREY)
    places[rows] = rows if _stay_by_row(len(rows), len(state)) else np.arange(len(rows))
    if len(rows) and not _stay_by_row(len(rows), len(state)):
        with draft_folder(home / "further") as draft:
            together = open_map(draft / _FURTHER, (len(rows), *further.shape[1:]), dtype=np.uint8)
            for start in range(0, len(rows), _SHARE):
                part = slice(start, start + _SHARE)
                together[part] = further[rows[part]]
                release(together)
                release(further)
            (draft / _FURTHER).replace(home / _FURTHER)
    save_array(home / _PLACES, places)
    return len(rows)


def _stay_by_row(n_colour: int, n_images: int) -> bool:
    return 2 * n_colour > n_images


def _load(home: Path) -> Planes:
    """The planes of a finished cache; what was needed to make them goes."""
    first, places = load_array(home / _FIRST), np.array(load_array(home / _PLACES))
    n_colour = int((places != GREY).sum())
    if n_colour:
        name = _BY_ROW if _stay_by_row(n_colour, len(places)) else _FURTHER
        further = load_array(home / name)
    else:
        name, further = "", np.empty((0, 2, *first.shape[1:]), np.uint8)
    for spare in {_BY_ROW, _FURTHER} - {name}:
        with suppress(OSError):  # it is not there, or in use, or nothing can be written
            (home / spare).unlink()
    try:
        return Planes(first=first, further=further, places=places)
    except ValueError as error:
        raise PredictionsError(
            f"{home}: its files do not fit together ({error}); remove the folder, so that it is"
            " made again"
        ) from None


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
        for row in read_rows(path):
            if len(row) == 2:  # a process may have been killed in the middle of a line
                found[row[0]][row[1]] = None
    return {image_id: tuple(remarks) for image_id, remarks in found.items()}
