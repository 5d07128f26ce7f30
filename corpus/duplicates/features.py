"""What a copy keeps of an image: its coarse structure, as a short vector.

A thumbnail of 64 x 64 grey pixels, whatever the image's sides were, gives 63 coefficients of the
discrete cosine transform: the lowest 8 x 8 but the mean. Each is divided by its spread over the
corpus, so that what all radiographs share weighs little and what tells them apart weighs much, and
the vector is brought to length 1. Brightness and contrast do not matter.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.fft import dct

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

SIDE = 64
"""Pixels of a thumbnail's side."""

_KEPT = 8  # coefficients a side; of 5, 6, 8, 12 and 16 the one that parts copies from others best

_AT_ONCE = 1024  # thumbnails; 16 MB as floats

_MEASURED = 16384  # thumbnails that tell the spread of all

Box = tuple[float, float, float, float]
"""Shares of an image that are cut off at the left, the right, the top and the bottom."""

WHOLE: Box = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Scale:
    """How much each coefficient varies over a corpus.

    Attributes:
        mean, spread: (63,) over its images.
    """

    mean: Floats
    spread: Floats

    @classmethod
    def of(cls, thumbnails: Pixels) -> "Scale":
        """Measured on the thumbnails (N, 64, 64), at most 16,384 of them, evenly spaced."""
        rows = np.linspace(0, len(thumbnails) - 1, min(len(thumbnails), _MEASURED)).astype(int)
        found = [
            coefficients(thumbnails[rows[start : start + _AT_ONCE]], WHOLE)
            for start in range(0, len(rows), _AT_ONCE)
        ]
        measured = np.concatenate(found)
        # A mirrored copy counts as much as the image: the odd columns have no side.
        mean, spread = measured.mean(axis=0), np.sqrt((measured**2).mean(axis=0))
        even = (np.arange(1, _KEPT**2) % _KEPT) % 2 == 0
        deviation = np.where(even, measured.std(axis=0), spread)
        return cls(np.where(even, mean, 0).astype(np.float32), np.maximum(deviation, 1e-2))

    def features(self, thumbnails: Pixels, box: Box = WHOLE) -> Floats:
        """(N, 64) unit vectors of what lies within a box of each thumbnail; the last entry is 0."""
        made = np.zeros((len(thumbnails), _KEPT**2), dtype=np.float32)
        for start in range(0, len(thumbnails), _AT_ONCE):
            block = coefficients(thumbnails[start : start + _AT_ONCE], box)
            made[start : start + len(block), :-1] = (block - self.mean) / self.spread
        made /= np.maximum(np.linalg.norm(made, axis=1, keepdims=True), 1e-6)
        return made


def coefficients(thumbnails: Pixels, box: Box) -> Floats:
    """(N, 63) lowest cosine coefficients of what lies within a box of thumbnails (N, 64, 64)."""
    left, right, top, bottom = box
    down, across = _cosines(top, bottom), _cosines(left, right)
    found = down @ thumbnails.astype(np.float32) @ across.T
    return np.asarray(found.reshape(len(thumbnails), -1)[:, 1:])


@lru_cache(maxsize=64)
def _cosines(before: float, behind: float) -> Floats:
    """(8, 64) the lowest cosines over the pixels of a side that is cut at both ends."""
    places = np.clip(
        (np.arange(SIDE) + 0.5) * (1 - before - behind) + before * SIDE - 0.5, 0, SIDE - 1
    )
    low = np.minimum(places.astype(int), SIDE - 2)
    share = places - low
    between = np.zeros((SIDE, SIDE))
    between[np.arange(SIDE), low] = 1 - share
    between[np.arange(SIDE), low + 1] = share
    return (dct(np.eye(SIDE), axis=0, norm="ortho")[:_KEPT] @ between).astype(np.float32)
