"""Pairs as decision rules are given them."""

import numpy as np

from ensembles.pairs import Floats, Ranked


def ranked(probs: Floats) -> Ranked:
    """All pairs of (N, L) probabilities above 0."""
    rows, columns = np.nonzero(probs > 0)
    return Ranked(
        rows=rows.astype(np.int32),
        columns=columns.astype(np.int32),
        probs=probs[rows, columns],
        shape=probs.shape,
    )
