"""Many images through an ensemble, block by block: memory does not grow with their number."""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import numpy.typing as npt

from core.errors import ImageError
from core.images import ImageTable
from corpus.images.decode import decode
from inference.images import NewImage
from inference.loaded.block import ImageBlock
from inference.loaded.ensemble import Decisions, LoadedEnsemble
from inference.loaded.networks import Look

Pixels = dict[Look, npt.NDArray[np.uint8]]

N_AT_ONCE = 128
"""Images of a block: at 224 and 320 pixels 58 MB, twice while the next one is decoded."""


N_OF_UNIT = 1000
"""Images of a unit: no block has images of two, so that a unit is the same bits whoever does it."""


@dataclass(kw_only=True)
class Skipped:
    """Images that could not be decoded, and why.

    Attributes:
        reasons: by the path of the image.
        n_decided: images that could.
    """

    reasons: dict[str, str] = field(default_factory=dict)
    n_decided: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class DecidedBlock:
    """Decisions with the images that they are of, in the same order."""

    images: Sequence[NewImage]
    decisions: Decisions


@dataclass(frozen=True, kw_only=True, eq=False)
class Unit:
    """Images that are done by one process, in blocks of their own.

    Attributes:
        number: of the unit.
        images: of distinct ids, also among units.
        skipped: is told of those that cannot be decoded.
    """

    number: int
    images: Sequence[NewImage]
    skipped: Skipped = field(default_factory=Skipped)


def decide_images(
    ensemble: LoadedEnsemble,
    images: Iterable[NewImage],
    *,
    skipped: Skipped | None = None,
    n_at_once: int = N_AT_ONCE,
) -> Iterator[DecidedBlock]:
    """Decisions of the images, in their order, a block at a time.

    While a block is decided the next one is decoded. Images that cannot be decoded are left out;
    what is said of the others is the same bits without them, but for the rounding of products of
    matrices in blocks that are filled otherwise, at most until the next unit begins.

    Args:
        ensemble: that decides.
        images: of distinct ids.
        skipped: is told of what was left out.
        n_at_once: images of a block.
    """
    told = Skipped() if skipped is None else skipped
    coming = iter(images)
    parts = iter(lambda: list(islice(coming, N_OF_UNIT)), [])
    units = (Unit(number=n, images=part, skipped=told) for n, part in enumerate(parts))
    for _, block in decide_units(ensemble, units, n_at_once=n_at_once):
        if block is not None:
            yield block


def decide_units(
    ensemble: LoadedEnsemble, units: Iterable[Unit], *, n_at_once: int = N_AT_ONCE
) -> Iterator[tuple[Unit, DecidedBlock | None]]:
    """Decisions of units in their order, a block at a time; None where a unit ends.

    While a block is decided the next one is decoded, of the next unit as well: a unit is taken as
    soon as all images of the one before are being decoded.

    Args:
        ensemble: that decides.
        units: with distinct ids.
        n_at_once: images of a block.
    """
    coming = ((unit, image) for unit in units for image in (*unit.images, None))
    ahead = deque[tuple[Unit, NewImage | None, Future[Pixels | ImageError] | None]]()
    readable: list[NewImage] = []
    pixels: list[Pixels] = []
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        while True:
            for unit, image in islice(coming, 2 * n_at_once - len(ahead) - len(readable)):
                job = None if image is None else pool.submit(_tried, ensemble, image)
                ahead.append((unit, image, job))
            if not ahead:
                break
            unit, image, tried = ahead.popleft()
            if image is not None and tried is not None:
                found = tried.result()
                if isinstance(found, ImageError):
                    unit.skipped.reasons[str(image.path)] = str(found)
                    continue
                readable.append(image)
                pixels.append(found)
                unit.skipped.n_decided += 1
            if readable and (image is None or len(readable) == n_at_once):
                yield unit, decide_block(ensemble, readable, pixels=pixels)
                readable, pixels = [], []
            if image is None:
                yield unit, None
    finally:
        pool.shutdown(cancel_futures=True)


def decide_block(
    ensemble: LoadedEnsemble, images: Sequence[NewImage], *, pixels: Sequence[Pixels]
) -> DecidedBlock:
    """Decisions of decoded images.

    Args:
        ensemble: that decides.
        images: n of distinct ids, at least one.
        pixels: of each, as `decoded` gives them.
    """
    block = new_block(ensemble, images, pixels=pixels)
    return DecidedBlock(images=images, decisions=ensemble.decide(block))


def new_block(
    ensemble: LoadedEnsemble, images: Sequence[NewImage], *, pixels: Sequence[Pixels]
) -> ImageBlock:
    """Decoded images to be asked about; see `decide_block`."""
    return ImageBlock(
        table=_table(images, ensemble.columns),
        pixels={look: np.stack([own[look] for own in pixels]) for look in ensemble.looks},
        networks=ensemble.networks,
    )


def decoded(ensemble: LoadedEnsemble, image: NewImage) -> Pixels:
    """The image at each size that is looked at, as the training images were decoded.

    Raises:
        ImageError: it cannot be decoded; the file is named.
    """
    return {
        (size, resample): decode(
            image.path, size=size, resample=resample, decoding=ensemble.decoding
        ).pixels
        for size, resample in ensemble.looks
    }


def _tried(ensemble: LoadedEnsemble, image: NewImage) -> Pixels | ImageError:
    try:
        return decoded(ensemble, image)
    except ImageError as error:
        return error


def _table(images: Sequence[NewImage], columns: Sequence[str]) -> ImageTable:
    """The images as the stages know them: of test, and without concepts."""
    ids = tuple(image.image_id for image in images)
    return ImageTable(
        image_ids=ids,
        paths=tuple(str(image.path) for image in images),
        categories=tuple(image.category for image in images),
        splits=("test",) * len(images),
        folds=np.full(len(images), -1, dtype=np.int16),
        groups=ids,
        concepts=(None,) * len(images),
        metadata={name: tuple(i.cells.get(name, "") for i in images) for name in columns},
    )
