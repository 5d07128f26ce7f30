"""Section of the report on review: which images to look at first, and what that brings."""

from collections.abc import Mapping, Sequence

import numpy as np

from core.metrics import Scores
from core.runs.ensemble import EnsembleRun
from reports.ensemble.figures import draw_review
from reports.pages.figures import percent
from reports.pages.markdown import Section, picture, table
from reports.review_order import ReviewOrder, area_gain

SHARES = (0.05, 0.1, 0.2)

_LEAST = 20  # images of a curve

_ORDERS: Mapping[str, str] = {
    "forecast": "expected F1",
    "highest": "highest probability",
    "entropy": "entropy",
}
"""Values of the record that images are ordered by, in words."""


def review_sections(run: EnsembleRun) -> Sequence[Section]:
    """What reviewing the least sure images brings; nothing for runs without a forecast."""
    found = orders_of(run.record.forecast, groups=run.scored.groups)
    if "forecast" not in found or len(found["forecast"].scores) < _LEAST:
        return []
    order = found["forecast"]
    rows = []
    for share in SHARES:
        own = order.reviewed(share)
        rows.append(
            [
                percent(share),
                f"{own.n:,}",
                f"{own.found:.3f}",
                f"{own.rest:.3f}",
                f"{own.after:.3f}",
            ]
        )
    areas = [
        [
            _ORDERS[name],
            f"{own.area:.4f}",
            "" if name == "forecast" else area_gain(order, own).signed(),
        ]
        for name, own in found.items()
    ]
    return [
        Section(
            heading="What to review first",
            paragraphs=[
                "Images are worth a look in the order of their expected F1, the lowest first: it"
                " stands beside every image in `decided.csv`, `decided-test.csv` and what `predict`"
                f" writes. On the {len(order.scores):,} scored images, each decided without its"
                " fold:",
                table(
                    ["reviewed", "images", "their F1", "F1 of the rest", "of all, these put right"],
                    rows,
                ),
                picture("report_review", "F1 of the images that are not reviewed, by order"),
                "The area under such a curve is the mean F1 of the rest over all shares; the gain"
                " of expected F1 over another order is paired, resampled by groups.",
                table(["order", "area", "gain of expected F1"], areas),
            ],
            figures={"report_review": draw_review({_ORDERS[n]: own for n, own in found.items()})},
        )
    ]


def orders_of(values: Mapping[str, Scores], *, groups: Sequence[str]) -> dict[str, ReviewOrder]:
    """Orders of review by name, as far as the values are known.

    Args:
        values: (N,) `forecast`, `truth`, `highest` and `entropy` of images.
        groups: N of them.
    """
    found = {}
    for name in _ORDERS:
        if name in values and not np.isnan(values[name]).all():
            sureness = -values[name] if name == "entropy" else values[name]
            kept = np.where(np.isnan(values["forecast"]), np.nan, sureness)  # of the same images
            found[name] = ReviewOrder.of(kept, values["truth"], groups=groups)
    return {name: own for name, own in found.items() if len(own.scores)}
