"""How a second stage does when fitted on fewer labelled images: its learning curve, on disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.metrics import Interval
from core.storage.tables import meant_as_written, read_rows, write_rows


@dataclass(frozen=True, kw_only=True)
class LearningPoint:
    """A second stage fitted on a share of the labelled images, judged on all of them.

    Attributes:
        share: of the groups that were drawn, in (0, 1].
        n_images: labelled images in them, the mean over draws.
        f1: sample F1, cross-fitted: each image is judged by what was fitted on drawn images of
            other folds.
        gain: paired difference to the point before; None for the first.
    """

    share: float
    n_images: float
    f1: Interval
    gain: Interval | None


_COLUMNS = ("share", "images", "f1", "f1_low", "f1_high", "gain", "gain_low", "gain_high", "n")


def write_points(path: Path, points: Sequence[LearningPoint]) -> None:
    """Write points, a line each; cells of a gain that is not there are empty."""
    rows: list[Sequence[object]] = [_COLUMNS]
    for point in points:
        gain = point.gain
        rows.append(
            [
                *map(repr, (point.share, point.n_images)),
                *map(repr, (point.f1.value, point.f1.low, point.f1.high)),
                *(map(repr, (gain.value, gain.low, gain.high)) if gain else ("", "", "")),
                point.f1.n,
            ]
        )
    write_rows(path, rows)


def read_points(path: Path) -> list[LearningPoint]:
    """The points that `write_points` wrote, to the last bit."""
    points = []
    with meant_as_written(path):
        for *cells, last in read_rows(path, n_columns=len(_COLUMNS))[1:]:
            share, n_images, f1, low, high = map(float, cells[:5])
            gain = [float(cell) for cell in cells[5:] if cell]
            points.append(
                LearningPoint(
                    share=share,
                    n_images=n_images,
                    f1=Interval(f1, low, high, int(last)),
                    gain=Interval(gain[0], gain[1], gain[2], int(last)) if gain else None,
                )
            )
    return points
