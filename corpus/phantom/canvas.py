"""What the drawing modules draw with: shapes with soft edges, noise, blur and letters.

A `Canvas` is a grid of coordinates: half the shorter side of the image is 1, x runs to the right
and y downwards. Shapes are masks in [0, 1] on it; images are arrays that masks
are blended into.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage

from corpus.phantom.scenes import Look

Grey = npt.NDArray[np.floating[Any]]
"""(H, W) brightness, attenuation or a mask; (H, W, 3) where it is coloured. float32 as a rule."""


def blend(image: Grey, value: float | Grey, *, mask: Grey) -> Grey:
    """The image, with the value where the mask is 1."""
    blended: Grey = image + (value - image) * mask
    return blended


def union(*shapes: Grey) -> Grey:
    """The largest value at each pixel: shapes, given as masks or depths, taken together."""
    largest: Grey = reduce(np.maximum, shapes)
    return largest


def cloud(rng: np.random.Generator, shape: tuple[int, int], *, cells: float) -> Grey:
    """Smooth noise of about unit spread; images of one aspect and other sizes get the same bumps.

    Args:
        rng: where the noise comes from.
        shape: height and width in pixels.
        cells: bumps along the longer side.
    """
    height, width = shape
    n = int(cells) + 3
    small = rng.standard_normal((n, n), dtype=np.float32)
    step = max(shape) / cells
    large = Image.fromarray(small).resize(
        (width, height), Image.Resampling.BICUBIC, box=(1, 1, 1 + width / step, 1 + height / step)
    )
    # Bicubic weights average neighbours: 1.4 gives the spread back.
    return np.float32(1.4) * np.asarray(large, dtype=np.float32)


def grain(rng: np.random.Generator, shape: tuple[int, int], *, size: float) -> Grey:
    """Noise of unit spread whose grains are about `size` pixels wide; 0 for independent pixels."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    if size > 0:
        noise = blur(noise, size)
        noise /= max(float(noise.std()), 1e-6)
    return noise


def blur(image: Grey, sigma: float) -> Grey:
    """The image through a Gaussian of that many pixels."""
    blurred: Grey = ndimage.gaussian_filter(image, sigma, truncate=3.0)
    return blurred


def letters(
    image: Grey, text: str, *, place: tuple[float, float], value: float = 1.0, size: int = 14
) -> Grey:
    """The image with text written at a place given in parts of its width and height."""
    height, width = image.shape
    sheet = Image.new("L", (width, height))
    ImageDraw.Draw(sheet).text(
        (place[0] * width, place[1] * height), text, fill=255, font_size=size
    )
    return blend(image, value, mask=np.asarray(sheet, dtype=np.float32) / np.float32(255))


Point = tuple[float, float]

Piece = tuple[Point, Point, float]
"""A straight piece of a line: from, to, and its width."""

_SCALE = 2
"""Lines are drawn at twice the size and scaled down, which makes their edges soft."""


@dataclass(frozen=True)
class Canvas:
    """Coordinates of each pixel.

    Attributes:
        x, y: (H, W) after shift, zoom, tilt and warp.
        px: the size of a pixel in these units.
        look: where the shift, zoom and tilt came from.
    """

    x: Grey
    y: Grey
    px: float
    look: Look

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.look.shape

    @property
    def half(self) -> Point:
        """Half the width and half the height."""
        height, width = self.shape
        return width / min(height, width), height / min(height, width)

    def empty(self, value: float = 0.0) -> Grey:
        """An image of one brightness."""
        return np.full(self.shape, value, dtype=np.float32)

    def ellipse(self, center: Point, radii: Point, *, tilt: float = 0.0, soft: float = 1.5) -> Grey:
        """An ellipse.

        Args:
            center: of the ellipse.
            radii: half axes before the tilt.
            tilt: in radians, clockwise.
            soft: width of the edge in pixels.
        """
        return edge(self.depth(center, radii, tilt=tilt), soft * self.px)

    def depth(self, center: Point, radii: Point, *, tilt: float = 0.0) -> Grey:
        """How deep within an ellipse a pixel lies, roughly as a length; below 0 outside."""
        dx, dy = self.x - np.float32(center[0]), self.y - np.float32(center[1])
        if tilt:
            cos, sin = np.float32(np.cos(tilt)), np.float32(np.sin(tilt))
            dx, dy = dx * cos + dy * sin, dy * cos - dx * sin
        dx *= np.float32(1 / radii[0])
        dy *= np.float32(1 / radii[1])
        dx *= dx
        dy *= dy
        dx += dy
        depth: Grey = np.float32(min(radii)) * (1 - np.sqrt(dx))
        return depth

    def bone(self, start: Point, end: Point, *, radii: Point) -> Grey:
        """How deep within a thick line a pixel lies; its radius runs from one value to another."""
        ax, ay = start
        bx, by = end[0] - ax, end[1] - ay
        dx, dy = self.x - np.float32(ax), self.y - np.float32(ay)
        t = np.clip((dx * bx + dy * by) / np.float32(bx * bx + by * by), 0, 1)
        radius = radii[0] + t * (radii[1] - radii[0])
        depth: Grey = radius - np.hypot(dx - t * bx, dy - t * by)
        return depth

    def capsule(self, start: Point, end: Point, *, radii: Point, soft: float = 1.5) -> Grey:
        """A thick line with round ends."""
        return edge(self.bone(start, end, radii=radii), soft * self.px)

    def around(self, points: Sequence[Point], margin: float) -> tuple[slice, slice]:
        """Rows and columns of a box that holds all points of the canvas within a margin of these.

        A small shape costs little when it is drawn on `part(box)` instead of the whole canvas.
        """
        pixels = np.array([self._pixel(point) for point in points]) / _SCALE
        # The warp shifts shapes by less than twice its amplitude; 0.06 covers it.
        reach = (margin + 0.06) * self.look.zoom / self.px
        low, high = pixels.min(axis=0) - reach, pixels.max(axis=0) + reach
        height, width = self.shape
        top, bottom = int(np.clip(low[1], 0, height)), int(np.clip(high[1] + 1, 0, height))
        left, right = int(np.clip(low[0], 0, width)), int(np.clip(high[0] + 1, 0, width))
        return slice(top, bottom), slice(left, right)

    def part(self, box: tuple[slice, slice]) -> "Canvas":
        """The canvas of a box only, for shapes that are given by depth."""
        return replace(self, x=self.x[box], y=self.y[box])

    def ball(self, center: Point, radius: float) -> Grey:
        """Thickness of a ball as X-rays see it: 1 in the middle, 0 at the rim."""
        depth = self.depth(center, (radius, radius)) / np.float32(radius)
        ball: Grey = np.sqrt(np.clip(1 - (1 - np.maximum(depth, 0)) ** 2, 0, 1))
        return ball

    def strokes(self, pieces: Iterable[Piece]) -> Grey:
        """Straight pieces with round ends, as one mask; they are not bent by the warp."""
        sheet, pen = self._sheet()
        for start, end, width in pieces:
            a, b = self._pixel(start), self._pixel(end)
            radius = max(width * self.look.zoom / self.px * _SCALE / 2, 0.5)
            pen.line((a, b), fill=255, width=max(1, round(2 * radius)))
            if radius > 1.5:
                pen.ellipse((b[0] - radius, b[1] - radius, b[0] + radius, b[1] + radius), fill=255)
        return self._shrunk(sheet)

    def polygon(self, points: Sequence[Point]) -> Grey:
        """The area within points; it is not bent by the warp."""
        sheet, pen = self._sheet()
        pen.polygon([self._pixel(point) for point in points], fill=255)
        return self._shrunk(sheet)

    def _sheet(self) -> tuple[Image.Image, ImageDraw.ImageDraw]:
        height, width = self.shape
        sheet = Image.new("L", (width * _SCALE, height * _SCALE))
        return sheet, ImageDraw.Draw(sheet)

    def _shrunk(self, sheet: Image.Image) -> Grey:
        height, width = self.shape
        small = sheet.resize((width, height), Image.Resampling.BOX)
        return np.asarray(small, dtype=np.float32) / np.float32(255)

    def _pixel(self, point: Point) -> Point:
        look = self.look
        cos, sin = np.cos(look.tilt), np.sin(look.tilt)
        x = (point[0] * cos - point[1] * sin) * look.zoom + look.dx
        y = (point[0] * sin + point[1] * cos) * look.zoom + look.dy
        height, width = self.shape
        half = min(height, width) / 2
        return ((x * half + width / 2) * _SCALE, (y * half + height / 2) * _SCALE)


def canvas(look: Look, *, warp: float = 0.0, seed: int = 0) -> Canvas:
    """A canvas for an image.

    Args:
        look: size, shift, zoom and tilt.
        warp: how far smooth bends shift a point: no outline of a body is an ellipse.
        seed: of the bends; the same for all images of a patient.
    """
    height, width = look.shape
    half = min(height, width) / 2
    column = ((np.arange(width, dtype=np.float32) + 0.5 - width / 2) / half - look.dx) / look.zoom
    row = ((np.arange(height, dtype=np.float32) + 0.5 - height / 2) / half - look.dy) / look.zoom
    cos, sin = np.float32(np.cos(look.tilt)), np.float32(np.sin(look.tilt))
    x = column[None, :] * cos + row[:, None] * sin
    y = row[:, None] * cos - column[None, :] * sin
    if warp:
        rng = np.random.default_rng(seed)
        x = x + np.float32(warp) * cloud(rng, look.shape, cells=3.5)
        y = y + np.float32(warp) * cloud(rng, look.shape, cells=3.5)
    return Canvas(x=x.astype(np.float32), y=y.astype(np.float32), px=1 / half, look=look)


def path(points: Sequence[Point], *widths: float) -> list[Piece]:
    """The pieces of a line through points; the last width given goes for all further pieces."""
    return [
        (start, end, widths[min(i, len(widths) - 1)])
        for i, (start, end) in enumerate(pairwise(points))
    ]


def edge(depth: Grey, width: float) -> Grey:
    """1 where the depth is above 0, 0 where it is below, with a ramp of that width between."""
    ramp = depth * np.float32(1 / width)
    ramp += np.float32(0.5)
    return np.clip(ramp, 0, 1, out=ramp)


def spread(depth: Grey, *, bone: float) -> Grey:
    """A long bone as X-rays see it: bright at its rims, where they pass through more cortex.

    Args:
        depth: from `Canvas.bone` or `Canvas.depth`.
        bone: thickness of the cortex.
    """
    inside = edge(depth, bone)
    rim = np.exp(-np.square((depth - bone) * np.float32(1 / bone)))
    bright: Grey = inside * (np.float32(0.62) + np.float32(0.38) * rim)
    return bright
