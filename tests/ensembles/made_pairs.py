"""Pairs as decision rules are given them."""

import numpy as np

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
