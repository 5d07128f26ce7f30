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


def decide_images(
    ensemble: LoadedEnsemble,
    images: Iterable[NewImage],
    *,
    skipped: Skipped | None = None,
    n_at_once: int = N_AT_ONCE,
) -> Iterator[DecidedBlock]:
    """Decisions of the images, in their order, a block at a time.

    While a block is decided the next one is decoded. Images that cannot be decoded are left out;
    what is said of the others is the same bits without them.

    Args:
        ensemble: that decides.
        images: of distinct ids.
        skipped: is told of what was left out.
        n_at_once: images of a block.
    """
    skipped = Skipped() if skipped is None else skipped
    coming, ahead = iter(images), deque[tuple[NewImage, Future[Pixels | ImageError]]]()
    readable: list[NewImage] = []
    pixels: list[Pixels] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while True:
            for image in islice(coming, 2 * n_at_once - len(ahead) - len(readable)):
                ahead.append((image, pool.submit(_tried, ensemble, image)))
            if not ahead:
                break
            image, tried = ahead.popleft()
            found = tried.result()
            if isinstance(found, ImageError):
                skipped.reasons[str(image.path)] = str(found)
                continue
            readable.append(image)
            pixels.append(found)
            skipped.n_decided += 1
            if len(readable) == n_at_once:
                yield decide_block(ensemble, readable, pixels=pixels)
                readable, pixels = [], []
    if readable:
        yield decide_block(ensemble, readable, pixels=pixels)


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
