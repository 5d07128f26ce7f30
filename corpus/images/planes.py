"""Images in memory or mapped from disk: one plane of bytes for a grey one, three for another.

Most radiographs have three equal channels, whatever their files say. Of 5,454 images of a corpus
93 % were grey: their planes take 38 % of what three channels of each would.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from core.storage.arrays import release
from core.storage.caches import machine_code

Pixels = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.intp]

GREY = -1
"""In `places`: the image has no further planes."""


@dataclass(frozen=True, kw_only=True)
class Planes:
    """N images, of which C are not grey.

    Attributes:
        first: (N, S, S) uint8: the one plane of a grey image, the red one of another.
        further: (C or more, 2, S, S) uint8: green and blue of those that are not grey.
        places: (N,) where in `further` an image's are; -1 for a grey image.
    """

    first: Pixels
    further: Pixels
    places: Rows

    def __post_init__(self) -> None:
        """Hold the arrays against each other: what reads them looks at no bounds.

        Raises:
            ValueError: they are not of the same images.
        """
        n, *sides = self.first.shape
        if self.places.shape != (n,) or self.further.shape[1:] != (2, *sides):
            found = f"{self.first.shape}, {self.further.shape} and {self.places.shape}"
            raise ValueError(f"planes and places of other images: {found}")
        if n and not GREY <= self.places.min() <= self.places.max() < max(len(self.further), 1):
            raise ValueError(f"places: expected -1 to {len(self.further) - 1}")

    @classmethod
    def of(cls, pixels: Pixels) -> "Planes":
        """The planes of images (N, S, S, 3)."""
        grey = np.array([bool(is_grey) for _, is_grey in map(split, pixels)], dtype=np.bool_)
        return cls(
            first=np.ascontiguousarray(pixels[..., 0]),
            further=np.ascontiguousarray(pixels[~grey, ..., 1:].transpose(0, 3, 1, 2)),
            places=np.where(grey, GREY, np.cumsum(~grey) - 1),
        )

    def __len__(self) -> int:
        """N."""
        return len(self.first)

    def pixels(self, rows: Rows, *, mirrored: npt.NDArray[np.bool_] | None = None) -> Pixels:
        """(B, S, S, 3) images of these rows, a copy; three equal channels where they are grey.

        Args:
            rows: (B,) which images.
            mirrored: (B,) which of them are turned left to right; None for none.

        Raises:
            IndexError: there is no such row.
        """
        places = self.places[rows]
        n, height, width = self.first.shape
        made = np.empty((len(rows), height, width, 3), np.uint8)  # by numpy: it asks for huge pages
        _read(
            _behind_each_other(self.first, n),
            _behind_each_other(self.further, len(self.further), 2),
            rows,
            places,
            np.zeros(len(rows), np.bool_) if mirrored is None else mirrored,
            width,
            made.reshape(len(rows), height * width * 3),
        )
        return made

    def release(self) -> None:
        """Give back the memory that planes mapped from disk take; what they hold stays there."""
        release(self.first)
        release(self.further)


def split(pixels: Pixels) -> tuple[Pixels, bool]:
    """The planes (3, S, S) of an image (S, S, 3), and whether they are equal: 8 us of 224 x 224."""
    height, width, _ = pixels.shape
    planes = np.empty((3, height, width), np.uint8)
    is_grey = _split(np.ascontiguousarray(pixels).reshape(-1), *planes.reshape(3, -1))
    return planes, bool(is_grey)


def _behind_each_other(planes: Pixels, *n: int) -> Pixels:
    """A view (..., S S), read-only as a map is, so that one kernel serves both."""
    view = np.asarray(planes).reshape(*n, planes.shape[-2] * planes.shape[-1])
    view.flags.writeable = False
    return view


# Rows of pixels lie behind each other here, for the compiler makes vector instructions of such
# loops: 6 us for a grey image of 224 x 224, where copying its three channels takes 11.


@machine_code
def _split(pixels: Pixels, red: Pixels, green: Pixels, blue: Pixels) -> bool:
    differ = np.uint8(0)
    for at in range(len(red)):
        r, g, b = pixels[3 * at], pixels[3 * at + 1], pixels[3 * at + 2]
        red[at], green[at], blue[at] = r, g, b
        differ |= (r ^ g) | (g ^ b)
    is_grey: bool = differ == 0
    return is_grey


@machine_code
def _read(
    first: Pixels,
    further: Pixels,
    rows: Rows,
    places: Rows,
    mirrored: npt.NDArray[np.bool_],
    width: int,
    made: Pixels,
) -> None:
    """Fill made (B, 3 S S) from first (N, S S) and further (C, 2, S S)."""
    lines = np.empty((3, width), np.uint8)
    for number in range(len(rows)):
        place, image = places[number], made[number]
        red = first[rows[number]]
        green = red if place < 0 else further[place, 0]
        blue = red if place < 0 else further[place, 1]
        if not mirrored[number]:
            _join(red, green, blue, image)
            continue
        for start in range(0, len(red), width):
            end = start + width
            _turn(red[start:end], lines[0])
            if place >= 0:
                _turn(green[start:end], lines[1])
                _turn(blue[start:end], lines[2])
            turned_green = lines[0] if place < 0 else lines[1]
            turned_blue = lines[0] if place < 0 else lines[2]
            _join(lines[0], turned_green, turned_blue, image[3 * start : 3 * end])


@machine_code
def _join(red: Pixels, green: Pixels, blue: Pixels, joined: Pixels) -> None:
    for at in range(len(red)):
        joined[3 * at] = red[at]
        joined[3 * at + 1] = green[at]
        joined[3 * at + 2] = blue[at]


@machine_code
def _turn(line: Pixels, turned: Pixels) -> None:
    last = len(line) - 1
    for at in range(len(line)):
        turned[at] = line[np.uintp(last - at)]  # of a signed number it would ask which end is meant
