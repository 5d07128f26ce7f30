"""Pairs and images as decision rules are given them."""

from collections.abc import Sequence

import numpy as np

from core.editions import EmptyTruth
from core.folds import Folds
from core.labels import LabelSpace, Targets
from core.metrics import ScoredImages
from ensembles.pairs import CalibratedPairs, Floats


def ranked(probs: Floats) -> CalibratedPairs:
    """All pairs of (N, L) probabilities above 0."""
    rows, columns = np.nonzero(probs > 0)
    return CalibratedPairs(
        rows=rows.astype(np.int32),
        columns=columns.astype(np.int32),
        probs=probs[rows, columns],
        shape=probs.shape,
    )


def scored(
    targets: Targets,
    labels: LabelSpace,
    *,
    folds: Folds,
    categories: Sequence[str] | None = None,
    empty_truth: EmptyTruth = "left out",
) -> ScoredImages:
    """Images, each a group by itself, of no category unless one is given."""
    return ScoredImages(
        targets=targets,
        labels=labels,
        categories=[""] * len(targets) if categories is None else categories,
        groups=[""] * len(targets),
        folds=folds,
        empty_truth=empty_truth,
    )
