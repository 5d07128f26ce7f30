"""Whether one thumbnail is a copy of another: laid over each other, and compared in detail.

A copy that was cropped differs by a scale and a shift along each side. These four numbers are found
by Gauss-Newton steps (Lucas and Kanade, 1981) on smoothed pixels, from where the search of
candidates saw the two; then the correlation of what is finer than anatomy decides: two chests lie
over each other as a whole, but not in their ribs.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from core.storage.caches import machine_code as compiled
from corpus.duplicates.features import SIDE, Box, Floats, Pixels

STEPS = 8  # Gauss-Newton steps at most, on each of two smoothnesses

FAINT = np.float32(2.0)  # grey levels of detail that count half as much

HOPELESS = 0.7  # similarity after the first smoothness below which the second is not tried

FARTHEST = 0.25  # of a side, beyond which a step went astray


def start_of(box: Box, *, inverse: bool) -> npt.NDArray[np.float64]:
    """(4,) scale and shift across, scale and shift down, that lay a box over the whole side.

    Args:
        box: what of the moving image is the whole of the fixed one.
        inverse: it is the other way round.
    """
    left, right, top, bottom = box
    found = np.array([1 - left - right, left - right, 1 - top - bottom, top - bottom])
    if inverse:
        found[[0, 2]] = 1 / found[[0, 2]]
        found[[1, 3]] *= -found[[0, 2]]
    return found


def align(
    fixed: Pixels, moving: Pixels, *, starts: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """(n,) similarity of n pairs of thumbnails in [-1, 1], each pair laid over as well as it goes.

    Args:
        fixed, moving: (n, 64, 64).
        starts: (n, 4) of `start_of`.
    """
    found = np.empty(len(fixed), dtype=np.float32)
    _align_all(fixed, moving, starts, found)
    return found


@compiled
def _align_all(fixed: Pixels, moving: Pixels, starts: Any, found: Floats) -> None:
    for row in range(len(fixed)):
        still, other = fixed[row].astype(np.float32), moving[row].astype(np.float32)
        place = starts[row].copy()
        _lay_over(_smooth(still, 3), _smooth(other, 3), place, 2)
        found[row] = _likeness(still, other, place)
        if found[row] > HOPELESS:
            finer = place.copy()
            _lay_over(_smooth(still, 1), _smooth(other, 1), finer, 1)
            found[row] = max(found[row], _likeness(still, other, finer))


@compiled
def _smooth(image: Floats, radius: int) -> Floats:
    """Means of squares of 2 radius + 1 pixels, those outside left out, twice."""
    source = image
    for _ in range(2):
        for _axis in range(2):
            made = np.empty((SIDE, SIDE), np.float32)
            for row in range(SIDE):
                total, n = np.float32(0), 0
                for column in range(min(radius, SIDE)):
                    total += source[row, column]
                    n += 1
                for column in range(SIDE):
                    if column + radius < SIDE:
                        total += source[row, column + radius]
                        n += 1
                    if column - radius - 1 >= 0:
                        total -= source[row, column - radius - 1]
                        n -= 1
                    made[column, row] = (
                        total / n
                    )  # turned: the second round is along the other axis
            source = made
    return source


@compiled
def _lay_over(fixed: Floats, moving: Floats, place: Any, stride: int) -> None:
    """Move `place` (4,) to where the moving image, gain and offset aside, is nearest."""
    half = SIDE / 2
    values = np.empty(SIDE * SIDE)
    truth = np.empty(SIDE * SIDE)
    slopes = np.empty((SIDE * SIDE, 4))
    for _ in range(STEPS):
        n = 0
        for row in range(stride // 2, SIDE, stride):
            v = (row + 0.5) / half - 1
            y = (place[2] * v + place[3] + 1) * half - 0.5
            if y < 0 or y > SIDE - 1:
                continue
            y0 = min(int(y), SIDE - 2)
            fy = y - y0
            for column in range(stride // 2, SIDE, stride):
                u = (column + 0.5) / half - 1
                x = (place[0] * u + place[1] + 1) * half - 0.5
                if x < 0 or x > SIDE - 1:
                    continue
                x0 = min(int(x), SIDE - 2)
                fx = x - x0
                a, b = moving[y0, x0], moving[y0, x0 + 1]
                c, d = moving[y0 + 1, x0], moving[y0 + 1, x0 + 1]
                across = ((b - a) * (1 - fy) + (d - c) * fy) * half
                down = ((c - a) * (1 - fx) + (d - b) * fx) * half
                values[n] = (a * (1 - fx) + b * fx) * (1 - fy) + (c * (1 - fx) + d * fx) * fy
                truth[n] = fixed[row, column]
                slopes[n, 0], slopes[n, 1] = across * u, across
                slopes[n, 2], slopes[n, 3] = down * v, down
                n += 1
        if n < SIDE * SIDE // (2 * stride * stride):
            return
        mean, true_mean = values[:n].mean(), truth[:n].mean()
        spread = values[:n].std()
        true_spread = truth[:n].std()
        if spread < 1e-3 or true_spread < 1e-3:
            return
        matrix, right = np.zeros((4, 4)), np.zeros(4)
        middle, along = np.zeros(4), np.zeros(4)
        for i in range(n):
            w = (values[i] - mean) / spread
            for k in range(4):
                middle[k] += slopes[i, k] / n
                along[k] += slopes[i, k] * w / n
        for i in range(n):
            w = (values[i] - mean) / spread
            miss = (truth[i] - true_mean) / true_spread - w
            for k in range(4):
                slope = (slopes[i, k] - middle[k] - along[k] * w) / spread
                slopes[i, k] = slope
                right[k] += slope * miss
            for k in range(4):
                for m in range(k + 1):
                    matrix[k, m] += slopes[i, k] * slopes[i, m]
        trace = 0.0
        for k in range(4):
            trace += matrix[k, k]
            for m in range(k):
                matrix[m, k] = matrix[k, m]
        for k in range(4):
            matrix[k, k] += 1e-4 * trace + 1e-9
        step = np.linalg.solve(matrix, right)
        largest = np.abs(step).max()
        if largest > 0.1:
            step *= 0.1 / largest
        place += step
        if (
            abs(place[0] - 1) > FARTHEST
            or abs(place[1]) > FARTHEST
            or abs(place[2] - 1) > FARTHEST
            or abs(place[3]) > FARTHEST
        ):
            return
        if largest < 1e-3:
            return


@compiled
def _likeness(fixed: Floats, moving: Floats, place: Any) -> float:
    """Correlation of the images' detail, or of the images where that is lower."""
    laid = np.zeros((SIDE, SIDE), np.float32)
    seen = np.zeros((SIDE, SIDE), np.float32)
    half = SIDE / 2
    for row in range(SIDE):
        y = (place[2] * ((row + 0.5) / half - 1) + place[3] + 1) * half - 0.5
        if y < -0.5 or y > SIDE - 0.5:
            continue
        y = min(max(y, 0.0), SIDE - 1.0)
        y0 = min(int(y), SIDE - 2)
        fy = y - y0
        for column in range(SIDE):
            x = (place[0] * ((column + 0.5) / half - 1) + place[1] + 1) * half - 0.5
            if x < -0.5 or x > SIDE - 0.5:
                continue
            x = min(max(x, 0.0), SIDE - 1.0)
            x0 = min(int(x), SIDE - 2)
            fx = x - x0
            above = moving[y0, x0] * (1 - fx) + moving[y0, x0 + 1] * fx
            below = moving[y0 + 1, x0] * (1 - fx) + moving[y0 + 1, x0 + 1] * fx
            laid[row, column] = above * (1 - fy) + below * fy
            seen[row, column] = 1
    whole = _correlation(fixed, laid, seen)
    fine = _correlation(_detail(fixed * seen), _detail(laid), seen)
    return min(whole, fine)


@compiled
def _detail(image: Floats) -> Floats:
    """What is finer than anatomy, its strength made even: a skull's rim is not all there is."""
    fine = _smooth(image, 1) - _smooth(image, 4)
    strength = np.sqrt(np.maximum(_smooth(fine * fine, 4), 0))
    return fine / (strength + FAINT)


@compiled
def _correlation(one: Floats, other: Floats, seen: Floats) -> float:
    n = seen.sum()
    if n < 0.7 * SIDE * SIDE:
        return 0.0
    a = (one - (one * seen).sum() / n) * seen
    b = (other - (other * seen).sum() / n) * seen
    size = (a * a).sum() * (b * b).sum()
    if size < 1e-6 * n * n:
        return 0.0
    return float((a * b).sum() / np.sqrt(size))
