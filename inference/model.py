"""A finished ensemble from Python: `radfuse.load` opens it, and what it says is a DataFrame."""

import glob
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import nullcontext
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from core.categories import KNOWN_NAMES, UNKNOWN, category_of_name
from core.errors import ConfigError, ImageError, MissingStageError, as_typed
from core.progress import Bar, overheard, say
from core.progress import progress as bar
from core.runs.workspace import Workspace
from core.storage.folders import is_complete
from core.storage.packed import exists
from corpus.images.decode import pixels_of, to_square
from corpus.readers.files import name_of_image
from inference.archive.units import UnitReport, UnitSizes, joined_reports
from inference.archive.work import UnitWork
from inference.bundle.files import GRAPH, SUMS
from inference.images import ASKED, NewImage, NewImages, find_images
from inference.loaded.ensemble import LoadedEnsemble
from inference.place import EnsemblePlace
from inference.predict import notes_of
from inference.stream import (
    N_AT_ONCE,
    DecidedBlock,
    Pixels,
    Skipped,
    decide_block,
)
from inference.tables import COLUMNS, NUMBERS, exact_objects, rows
from training.devices.device import find_device

AnyPath = str | os.PathLike[str]
Picture = Image.Image | npt.NDArray[np.uint8]
AnyImages = AnyPath | Picture | Iterable[AnyPath | Picture]
Errors = Literal["raise", "skip"]

GIVEN = "given"
"""Where the category comes from that a caller names; on the command line it is `ASKED`."""

_KINDS = {"decided": "bool", **dict.fromkeys(("probability", *NUMBERS), "float64")}


class Model:
    """A finished ensemble: detectors, fusion, stacker and decision rule, as they were submitted.

    Calls from several threads wait for each other: an ensemble decides one block at a time. A model
    can be pickled, which keeps its place alone; it is read again where it is unpickled.

    Attributes:
        place: the bundle or workspace that it was read from.
        device: where its networks run.
        members: names of the sources that are stacked.
        notes: what there is to know of the ensemble, a line each.
    """

    def __init__(
        self, ensemble: LoadedEnsemble, *, place: Path, device: str, notes: Sequence[str] = ()
    ) -> None:
        self.place, self.device, self.notes = place, device, tuple(notes)
        self.members = tuple(member.name for member in ensemble.members)
        self._ensemble, self._lock = ensemble, threading.RLock()

    def __repr__(self) -> str:
        n_concepts, n_members = len(self._ensemble.labels), len(self.members)
        said = f"{n_concepts:,} concepts, {n_members} members, on {self.device}"
        return f"<radfuse.Model {str(self.place)!r}: {said}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_again, (self.place.absolute(), self.device)

    @property
    def concepts(self) -> pd.DataFrame:
        """The concepts it knows: `CUI`, and `name`, missing where none is known."""
        cuis = self._ensemble.labels.cuis
        names = [self._ensemble.names.get(cui) for cui in cuis]
        return pd.DataFrame({"CUI": _texts(cuis), "name": _texts(names)})

    def predict(
        self,
        images: AnyImages,
        *,
        category: str | None = None,
        top: int = 0,
        errors: Errors = "raise",
        progress: bool = False,
    ) -> pd.DataFrame:
        """The decided concepts of images, a row each; an image without any has one row.

        Images are decided in blocks of 128; beside the answer, memory does not grow with their
        number. Files, folders, patterns, zips and tables mean what they do on the command line; an
        image that is named twice is taken once.

        Args:
            images: a path, a Pillow image, or an array of uint8, (H, W) or (H, W, 3); or any
                iterable of paths, or of images and arrays.
            category: of all of them, `DRCT` or a plain name (`CT`); None to look in table, folder
                and DICOM header, and to guess from the features where nothing tells.
            top: rows of candidates for each image beside what is decided.
            errors: `raise` stops at an image that cannot be read, `skip` leaves it out and keeps
                the reason in `attrs["skipped"]`, by path or id.
            progress: whether a terminal shows a bar on stderr.

        Returns:
            The columns `image`, `CUI`, `name`, `rule`, `category`, `category_from` and
            `nearest_image` of pandas' `string`; `probability`, calibrated, `expected_f1`,
            `review`, `distance` and `nearest` of float64; `decided` of bool. What is not there is
            missing: `CUI` of an image without concepts, `rule` of a candidate, `nearest_image` of
            most bundles. `image` is the name of the file, or the position of an image without one.
            `attrs["notes"]` has what
            the command line would say on stderr.

        Raises:
            ImageError: an image cannot be read; it is named.
            ConfigError: a category, a type or an array means nothing here.
            CorpusError: there is nothing at a path.
            MissingStageError: a category has to be guessed and the ensemble cannot.
        """
        if top < 0:
            raise ConfigError(f"top={top}: expected 0 or more")
        return self._ask(
            images,
            lambda block: _rows(block, top=top),
            empty=_frame({name: [] for name in COLUMNS}),
            category=category, errors=errors, progress=progress,
        ).reset_index(drop=True)  # fmt: skip

    def probabilities(
        self,
        images: AnyImages,
        *,
        category: str | None = None,
        errors: Errors = "raise",
        progress: bool = False,
    ) -> pd.DataFrame:
        """Calibrated probabilities of all concepts: a row an image, a column a CUI, float32.

        A concept that no source finds likely enough to look at has 0. The index is named `image`.
        For arguments, `attrs` and errors see `predict`.
        """
        cuis = list(self._ensemble.labels.cuis)

        def matrix(ids: Sequence[str], probs: npt.NDArray[np.float32]) -> pd.DataFrame:
            index = pd.Index(list(ids), name="image", dtype="str")
            return pd.DataFrame(probs, index=index, columns=cuis)

        return self._ask(
            images,
            lambda block: matrix(block.decisions.image_ids, block.decisions.calibrated),
            empty=matrix([], np.zeros((0, len(cuis)), dtype=np.float32)),
            category=category, errors=errors, progress=progress,
        )  # fmt: skip

    def _ask(
        self,
        images: AnyImages,
        told: Callable[[DecidedBlock], pd.DataFrame],
        *,
        empty: pd.DataFrame,
        category: str | None,
        errors: Errors,
        progress: bool,
    ) -> pd.DataFrame:
        """What is told of all images, block by block."""
        if errors not in ("raise", "skip"):
            raise ConfigError(f"errors={errors!r}: expected 'raise' or 'skip'")
        given = _category(category)
        places, pictures, total = _sorted_out(images)
        skipped = Skipped()
        with self._lock, overheard(bars=progress) as lines:
            if pictures is None:
                found = _found(places, given, errors=errors, skipped=skipped)
                blocks, total = self._of_paths(found, skipped=skipped), len(found.images)
            else:
                blocks = self._of_pictures(pictures, given, skipped=skipped)
            frames = []
            shown = bar("deciding", total=total, unit="images") if total else nullcontext(Bar())
            with shown as advance:
                for block in blocks:
                    _stop_at(skipped, errors)
                    frames.append(told(block))
                    advance(len(block.images))
            _stop_at(skipped, errors)
        frame = pd.concat(frames) if frames else empty
        frame.attrs = {"skipped": dict(skipped.reasons), "notes": lines}
        return frame

    def _of_paths(self, found: NewImages, *, skipped: Skipped) -> Iterator[DecidedBlock]:
        """Decisions of the images that paths name, in the blocks of the command line."""
        images, sizes, reports = found.images, UnitSizes(), list[UnitReport]()
        work = UnitWork(form="csv", top=0, headers=not found.told)
        units = ((n, images[sizes.images_of(n)]) for n in range(sizes.n_units(len(images))))
        for _, part in work.decided(self._ensemble, units):
            if isinstance(part, DecidedBlock):
                yield part
            else:
                reports.append(part)
                skipped.reasons.update(part.skipped)
        for note in notes_of(joined_reports(reports)):
            say(note)

    def _of_pictures(
        self, pictures: Iterable[Any], given: str, *, skipped: Skipped
    ) -> Iterator[DecidedBlock]:
        """Decisions of images in memory; only what was scaled is kept until its block is whole."""
        ensemble, taken = self._ensemble, set[str]()
        for note in notes_of(UnitReport(wanted=ensemble.columns)):
            say(note)
        images: list[NewImage] = []
        pixels: list[Pixels] = []
        for position, picture in enumerate(pictures):
            name = _name(picture, position, taken=taken)
            taken.add(name)
            try:
                whole = _whole(picture, position, ensemble=ensemble)
            except ImageError as error:
                skipped.reasons[name] = f"{name}: {error}"
                continue
            pixels.append({
                (size, resample): to_square(whole, size=size, resample=resample)
                for size, resample in ensemble.looks
            })  # fmt: skip
            images.append(
                NewImage(
                    image_id=name, path=Path(name), category=given, told_by=ASKED if given else ""
                )
            )
            if len(images) == N_AT_ONCE:
                yield decide_block(ensemble, images, pixels=pixels)
                images, pixels = [], []
        if images:
            yield decide_block(ensemble, images, pixels=pixels)


def open_model(place: AnyPath, *, device: str = "auto") -> Model:
    """See `radfuse.load`."""
    path = Path(place)
    try:
        found = find_device(device)
    except ConfigError as error:
        raise ConfigError(str(error).removeprefix("--")) from None
    with overheard() as lines:
        ensemble = _place_of(path).read(found)
    return Model(ensemble, place=path, device=found, notes=lines)


def _open_again(place: Path, device: str) -> Model:
    return open_model(place, device=device)


def _place_of(path: Path) -> EnsemblePlace:
    if not path.exists():
        raise MissingStageError(f"{path}: no such file or folder")
    if path.is_file() or any((path / name).is_file() for name in (GRAPH, SUMS)):
        return EnsemblePlace(bundle=path)
    if is_complete(Workspace(path).corpus):
        return EnsemblePlace(workspace=path)
    raise MissingStageError(
        f"{path}: neither a bundle ({GRAPH}, {SUMS}) nor a workspace with a prepared corpus; name"
        f" one of them: `{as_typed('bundle OUT -w WORKSPACE')}` makes the one of the other"
    )


def _found(places: Sequence[str], given: str, *, errors: Errors, skipped: Skipped) -> NewImages:
    """The images that paths name; those that are not there are left out if that is asked for."""
    if errors == "skip":
        for place in places:
            if not glob.has_magic(place) and not exists(Path(place).absolute()):
                skipped.reasons[place] = f"{place}: no such file or folder"
        places = [place for place in places if place not in skipped.reasons]
    found = find_images(places, category=given or None)
    for note in found.notes:
        say(note.text)
    return found


def _category(named: str | None) -> str:
    if named is None:
        return UNKNOWN
    known = category_of_name(named)
    if known is None:
        raise ConfigError(f"category {named!r}: expected one of {KNOWN_NAMES}")
    return known


def _sorted_out(images: Any) -> tuple[list[str], Iterable[Any] | None, int]:
    """Paths, or else images in memory, with their number, 0 where it is not known.

    Raises:
        ConfigError: it is neither, or both.
    """
    if isinstance(images, str | os.PathLike):
        return [os.fspath(images)], None, 0
    if isinstance(images, Image.Image) or _is_one(images):
        return [], (images,), 1
    if isinstance(images, bytes) or not isinstance(images, Iterable):
        raise _odd(images, "images")
    coming = iter(images)
    first = next(coming, None)
    everything = chain(() if first is None else (first,), coming)
    if first is not None and not isinstance(first, str | os.PathLike):
        return [], everything, len(images) if isinstance(images, Sized) else 0
    places = []
    for position, place in enumerate(everything):
        if not isinstance(place, str | os.PathLike):
            raise _odd(place, f"image {position}, after paths")
        places.append(os.fspath(place))
    return places, None, 0


def _is_one(images: object) -> bool:
    """Whether it is one image as an array, not a batch (N, H, W, 3) or an array of paths."""
    return isinstance(images, np.ndarray) and images.dtype.kind not in "OUT" and images.ndim < 4


def _odd(found: object, what: str) -> ConfigError:
    return ConfigError(
        f"{what}: expected paths, or images of Pillow and arrays of uint8, found"
        f" {type(found).__name__}"
    )


def _name(picture: object, position: int, *, taken: set[str]) -> str:
    """Name of the file that Pillow opened, or else the position."""
    file = getattr(picture, "filename", "") if isinstance(picture, Image.Image) else ""
    file = os.fsdecode(file) if isinstance(file, str | bytes | os.PathLike) else ""
    names = (name_of_image(Path(file).name), file, str(position), f"image {position}")
    return next(name for name in names if name and name not in taken)


def _whole(picture: object, position: int, *, ensemble: LoadedEnsemble) -> npt.NDArray[np.uint8]:
    """Pixels of an image in memory, (H, W) or (H, W, 3)."""
    if isinstance(picture, Image.Image):
        return pixels_of(picture, decoding=ensemble.decoding)
    if not isinstance(picture, np.ndarray):
        raise _odd(picture, f"image {position}")
    is_grey, is_colour = picture.ndim == 2, picture.ndim == 3 and picture.shape[-1] == 3
    if picture.dtype != np.uint8 or not (is_grey or is_colour) or not picture.size:
        shape = " x ".join(map(str, picture.shape))
        raise ConfigError(
            f"image {position}: expected H x W or H x W x 3 of uint8, found {shape} of"
            f" {picture.dtype}"
        )
    return picture


def _stop_at(skipped: Skipped, errors: Errors) -> None:
    if errors == "raise" and skipped.reasons:
        reason = next(iter(skipped.reasons.values()))
        raise ImageError(f"{reason}; errors='skip' leaves such images out")


def _rows(block: DecidedBlock, *, top: int) -> pd.DataFrame:
    """A row a concept, by `COLUMNS`."""
    told = list(rows(exact_objects(block, top=top)))
    columns = {name: [row[name] for row in told] for name in COLUMNS}
    columns["category_from"] = [GIVEN if t == ASKED else t for t in columns["category_from"]]
    return _frame(columns)


def _frame(columns: dict[str, list[Any]]) -> pd.DataFrame:
    return pd.DataFrame({
        name: pd.Series(values, dtype=_KINDS[name]) if name in _KINDS else _texts(values)
        for name, values in columns.items()
    })  # fmt: skip


def _texts(values: Sequence[str | None]) -> "pd.Series[str]":
    """Text, missing where it is empty."""
    return pd.Series([value or None for value in values], dtype="string")
