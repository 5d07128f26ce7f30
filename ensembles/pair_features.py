"""Features of candidate pairs, image by image, as machine code."""

import numpy as np
import numpy.typing as npt

from ensembles.compiled import compiled
from ensembles.pairs import Floats, Ints

Starts = npt.NDArray[np.int64]


@compiled
def fill_log_ranks(starts: Starts, values: Floats, logs: Floats, out: Floats) -> None:
    """Write log of 1 + the number of higher values of the same image, NaN where the value is.

    Args:
        starts: (N + 1,) where the pairs of each image begin.
        values: (n,).
        logs: log of 1, 2, ..., to as many as an image has pairs.
        out: (n,).
    """
    higher = np.zeros(len(logs), dtype=np.int32)
    for i in range(len(starts) - 1):
        own = values[starts[i] : starts[i + 1]]
        n = len(own)
        higher[:n] = 0
        for other in range(n):
            value = own[other]
            for k in range(n):
                higher[k] += value > own[k]  # no comparison with NaN holds
        for k in range(n):
            out[starts[i] + k] = np.nan if np.isnan(own[k]) else logs[higher[k]]


@compiled
def fill_summaries(logits: Floats, out: Floats) -> None:
    """Write mean, maximum, minimum, deviation and number of the log odds of those that cover.

    Args:
        logits: (n, M), NaN where a source does not cover the pair; one does at least.
        out: (n, 5) or wider.
    """
    for k in range(len(logits)):
        total, highest, lowest, n = 0.0, np.float32(-np.inf), np.float32(np.inf), 0
        for m in range(logits.shape[1]):
            value = logits[k, m]
            if not np.isnan(value):
                total += value
                highest, lowest = max(highest, value), min(lowest, value)
                n += 1
        mean, squares = total / n, 0.0
        for m in range(logits.shape[1]):
            if not np.isnan(logits[k, m]):
                squares += (logits[k, m] - mean) ** 2
        out[k, 0], out[k, 1], out[k, 2] = mean, highest, lowest
        out[k, 3], out[k, 4] = np.sqrt(squares / n), n


@compiled
def fill_prior(
    starts: Starts, columns: Ints, category_weights: Floats, prior: Floats, out: Floats
) -> None:
    """Write P(concept) of each pair under the certainty of its image's category.

    Args:
        starts: (N + 1,) where the pairs of each image begin.
        columns: (n,) concept.
        category_weights: (N, C).
        prior: (C, L) P(concept | category).
        out: (n,).
    """
    for i in range(len(starts) - 1):
        for k in range(starts[i], starts[i + 1]):
            total = np.float32(0.0)
            for c in range(len(prior)):
                total += category_weights[i, c] * prior[c, columns[k]]
            out[k] = total


@compiled
def fill_mass_and_support(
    starts: Starts, columns: Ints, probs: Floats, given: Floats, rate: Floats, out: Floats
) -> None:
    """Write the sum of the image's probabilities, and the support of each pair by the others.

    The support is P(concept | other concept), averaged over the image's other candidates in
    proportion to their probability.

    Args:
        starts: (N + 1,) where the pairs of each image begin.
        columns: (n,) concept.
        probs: (n,).
        given: (L, L) P(column's concept | row's concept).
        rate: (L,) what is said of a concept that is alone in its image.
        out: (n, 2).
    """
    longest = 0
    for i in range(len(starts) - 1):
        longest = max(longest, starts[i + 1] - starts[i])
    total, weight = np.empty(longest), np.empty(longest)
    for i in range(len(starts) - 1):
        own, weights = columns[starts[i] : starts[i + 1]], probs[starts[i] : starts[i + 1]]
        n = len(own)
        mass = 0.0
        for k in range(n):
            total[k] = 1e-3 * rate[own[k]]
            weight[k] = 1e-3
            mass += weights[k]
        for other in range(n):  # a row of `given` at a time, which stays in the cache
            row, p = given[own[other]], weights[other]
            for k in range(other):
                total[k] += p * row[own[k]]
                weight[k] += p
            for k in range(other + 1, n):
                total[k] += p * row[own[k]]
                weight[k] += p
        for k in range(n):
            out[starts[i] + k, 0] = mass
            out[starts[i] + k, 1] = total[k] / weight[k]
