"""Images of all requests, decoded side by side and decided together.

A block takes what is decoded, and waits a few milliseconds at most, only while another image is
being decoded. What is said of an image does not depend on its company but for rounding: see
docs/predict.md.
"""

import asyncio
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from core.categories import CATEGORIES, UNKNOWN
from core.errors import HugeImageError, ImageError
from corpus.dicom.headers import header_of
from corpus.images.decode import decode_content
from corpus.readers.files import name_of_image
from inference.images import NewImage
from inference.loaded.ensemble import LoadedEnsemble
from inference.serve.body import Upload
from inference.serve.limits import Limits, busy
from inference.serve.measures import Measures
from inference.stream import Pixels, decide_block
from inference.tables import objects

Told = dict[str, Any]
"""An object of an answer: decisions as `inference.tables.objects` gives them, or an `error`."""

_LARGE = 8_000_000  # pixels, of which 16-bit colours take 400 MB while they are decoded
_ONE_LARGE = threading.Lock()  # larger images are decoded one at a time

_THREADS = "serve-"

_BATCH = 8
"""Images of a network's batch. Convolutions of up to 15 images have been seen to add up an image's
sums in one order, whatever the others, and those of 16 and more in another one."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is said of all images of a request.

    Attributes:
        category: one of `CATEGORIES`, or `UNKNOWN`.
        cells: further columns.
        top: candidates of an image beside what is decided.
    """

    category: str = UNKNOWN
    cells: Mapping[str, str] = field(default_factory=dict)
    top: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class _Waiting:
    """A decoded image that is to be decided."""

    image: NewImage
    pixels: Pixels
    top: int
    since: float
    told: "asyncio.Future[Told]"


class Blocks:
    """Decides images of many requests; lives in one event loop.

    Attributes:
        deciding: the one thread in which networks run: OpenMP keeps a team for each that calls it.
    """

    def __init__(self, *, limits: Limits, measures: Measures) -> None:
        """Without an ensemble; see `start`."""
        self.limits, self.measures = limits, measures
        self.deciding = ThreadPoolExecutor(1, thread_name_prefix=f"{_THREADS}deciding")
        self._decoders = ThreadPoolExecutor(
            limits.decoders, thread_name_prefix=f"{_THREADS}decoding"
        )
        self._ensemble: LoadedEnsemble | None = None
        self._ready: deque[_Waiting] = deque()
        self._changed = asyncio.Event()
        self._numbers = count()
        self._n_taken = self._n_decoding = 0
        self._loop_task: asyncio.Task[None] | None = None

    @property
    def is_ready(self) -> bool:
        """Whether images can be decided."""
        return self._ensemble is not None

    @property
    def columns(self) -> tuple[str, ...]:
        """Further columns that heads take."""
        return () if self._ensemble is None else self._ensemble.columns

    async def start(self, ensemble: LoadedEnsemble) -> None:
        """Decide by an ensemble from now on; the first block, which compiles, is behind it."""
        loop = asyncio.get_running_loop()
        quick = ensemble if self.limits.exact else for_small_blocks(ensemble)
        await loop.run_in_executor(self.deciding, _warm_up, quick)
        self._ensemble = quick
        self._loop_task = asyncio.create_task(self._decide_blocks())
        self.measures.ready.set(1)

    def stop(self) -> None:
        """Begin nothing any more."""
        if self._loop_task is not None:
            self._loop_task.cancel()
        for pool in (self._decoders, self.deciding):
            pool.shutdown(wait=False, cancel_futures=True)

    @contextmanager
    def places(self, n: int) -> Iterator[None]:
        """Places in the queue for the images of a request.

        Raises:
            RequestRefused: there are not so many.
        """
        if self._n_taken + n > self.limits.queue:
            raise busy("queue", f"{self._n_taken} images are waiting; try again in a second")
        self._take(n)
        try:
            yield
        finally:
            self._take(-n)

    def refuse_when_full(self) -> None:
        """Refuse a request whose images would find no place, before its body is read.

        Raises:
            RequestRefused: as `places`.
        """
        with self.places(1):
            pass

    def _take(self, n: int) -> None:
        self._n_taken += n
        self.measures.queue.set(self._n_taken)

    async def tell(self, uploads: Sequence[Upload], asked: Asked) -> list[Told]:
        """What is said of the images, in their order; those that cannot be read have an `error`.

        Raises:
            RequestRefused: the ensemble is not read yet, or the queue has no place.
            Exception: of the ensemble: a bug.
        """
        if self._ensemble is None:
            raise busy("loading", "the ensemble is still being read")
        with self.places(len(uploads)):
            ensemble = self._ensemble
            found = await asyncio.gather(
                *(self._one(ensemble, upload, asked) for upload in uploads), return_exceptions=True
            )
            told = []
            for one in found:
                if isinstance(one, BaseException):
                    raise one
                told.append(one)
            return told

    async def _one(self, ensemble: LoadedEnsemble, upload: Upload, asked: Asked) -> Told:
        name = name_of_image(upload.name)
        start, loop = time.perf_counter(), asyncio.get_running_loop()
        self._n_decoding += 1
        try:
            image, pixels, took_s = await loop.run_in_executor(
                self._decoders, _decoded, ensemble, upload, asked, self.limits.pixels
            )
        except ImageError as error:
            self.measures.refused.labels("unreadable").inc()
            return {"image": name, "error": str(error)}
        finally:
            self._n_decoding -= 1
            self._changed.set()
        self.measures.decoding.observe(took_s)
        told = loop.create_future()
        numbered = replace(image, image_id=str(next(self._numbers)))
        self._ready.append(
            _Waiting(image=numbered, pixels=pixels, top=asked.top, since=start + took_s, told=told)
        )
        self._changed.set()
        return {**await told, "image": name}

    async def _decide_blocks(self) -> None:
        """Go on for ever."""
        assert self._ensemble is not None
        loop = asyncio.get_running_loop()
        while True:
            await self._company()
            block: list[_Waiting] = []
            while self._ready and len(block) < self.limits.block:
                waiting = self._ready.popleft()
                if not waiting.told.done():  # else nobody waits for it any more
                    block.append(waiting)
            if not block:
                continue
            start = time.perf_counter()
            for waiting in block:
                self.measures.waiting.observe(start - waiting.since)
            found = await loop.run_in_executor(self.deciding, _decided, self._ensemble, block)
            self.measures.deciding.observe(time.perf_counter() - start)
            self.measures.blocks.observe(len(block))
            for waiting, told in zip(block, found, strict=True):
                if waiting.told.done():
                    continue
                if isinstance(told, Exception):
                    waiting.told.set_exception(told)
                else:
                    self.measures.images.inc()
                    waiting.told.set_result(told)

    async def _company(self) -> None:
        """Wait for an image, then as long as it is worth it for those that are being decoded."""
        loop = asyncio.get_running_loop()
        while not self._ready:
            self._changed.clear()
            await self._changed.wait()
        until = loop.time() + self.limits.company_s
        while self._n_decoding and len(self._ready) < self.limits.block:
            self._changed.clear()
            try:
                async with asyncio.timeout_at(until):
                    await self._changed.wait()
            except TimeoutError:
                return


def for_small_blocks(ensemble: LoadedEnsemble) -> LoadedEnsemble:
    """The ensemble with networks that run small batches as they are.

    Compiled networks would be compiled again for each size, and keep theirs.
    """
    networks = {
        name: network if network.compute.speed.compiled else replace(network, most=_BATCH)
        for name, network in ensemble.networks.items()
    }
    return replace(ensemble, networks=networks)


def _warm_up(ensemble: LoadedEnsemble) -> None:
    """Decide an image of black, so that functions are compiled before the first request."""
    black = {
        (size, resample): np.zeros((size, size, 3), dtype=np.uint8)
        for size, resample in ensemble.looks
    }
    can_guess = ensemble.guess is None or not ensemble.guess.lacking
    category = UNKNOWN if can_guess else CATEGORIES[0]
    image = NewImage(image_id="black", path=Path("black"), category=category)
    decide_block(ensemble, [image], pixels=[black])


def _decoded(
    ensemble: LoadedEnsemble, upload: Upload, asked: Asked, most_pixels: int
) -> tuple[NewImage, Pixels, float]:
    """An image as `predict` would find and decode it, and the seconds that it took.

    Raises:
        ImageError: it cannot be read, in words without its name.
    """
    start = time.perf_counter()
    named = Path(upload.name)
    try:
        try:
            pixels = _pixels(ensemble, upload.content, named, min(most_pixels, _LARGE))
        except HugeImageError:
            if most_pixels <= _LARGE:
                raise
            with _ONE_LARGE:
                pixels = _pixels(ensemble, upload.content, named, most_pixels)
        said = header_of(upload.content)
    except ImageError as error:
        raise ImageError(str(error).removeprefix(f"{named}: ")) from None
    except Exception as error:  # noqa: BLE001 - a decoder's bug is no reason to fail the others
        print_frames(error)
        raise ImageError("cannot be decoded") from None
    category, told_by = asked.category, "request" if asked.category else ""
    if not category and (category := said.get("category", "")):
        told_by = "DICOM header"
    if not category and ensemble.guess and ensemble.guess.lacking:
        raise ImageError(
            "its category is not told, and this ensemble cannot guess it: name it in the field"
            " `category`"
        )
    image = NewImage(
        image_id="",
        path=named,
        category=category,
        told_by=told_by,
        cells={**said, **asked.cells},
    )
    return image, pixels, time.perf_counter() - start


def _pixels(ensemble: LoadedEnsemble, content: bytes, named: Path, most_pixels: int) -> Pixels:
    """As `inference.stream.decoded`, of what is in memory."""
    return {
        (size, resample): decode_content(
            content,
            named,
            size=size,
            resample=resample,
            decoding=ensemble.decoding,
            most_pixels=most_pixels,
        ).pixels
        for size, resample in ensemble.looks
    }


def print_frames(error: BaseException) -> None:
    """Where a bug is, on stderr; not in its words, which may quote an image or its name."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    print(f"{frames}{type(error).__name__}", file=sys.stderr, flush=True)


def threads_at_work() -> list[threading.Thread]:
    """Threads of blocks that have not ended."""
    return [t for t in threading.enumerate() if t.name.startswith(_THREADS) and t.is_alive()]


def _decided(ensemble: LoadedEnsemble, block: Sequence[_Waiting]) -> list[Told | Exception]:
    """What is said of each; where a block fails, its images are asked one by one."""
    try:
        decided = decide_block(ensemble, [w.image for w in block], pixels=[w.pixels for w in block])
        most = max(waiting.top for waiting in block)
        told = objects(decided, top=most)
        return [_with_top(one, w.top) for one, w in zip(told, block, strict=True)]
    except Exception as error:  # noqa: BLE001 - it belongs to the requests of the block
        if len(block) == 1:
            return [error]
        return [one for waiting in block for one in _decided(ensemble, [waiting])]


def _with_top(told: Told, top: int) -> Told:
    """What is said of an image, with so many of its candidates."""
    decided = [concept for concept in told["concepts"] if concept["decided"]]
    others = [concept for concept in told["concepts"] if not concept["decided"]]
    return {**told, "concepts": [*decided, *others[:top]]}
