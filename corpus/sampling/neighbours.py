"""The nearest rows of each row, in blocks: exact, and nothing of N times N is ever made."""

import numpy as np
import numpy.typing as npt

from core.storage.caches import machine_code
from corpus.sampling.candidates import Floats, Rows

_ROWS = 2048  # of a block of the product, and its columns: 16 MB


def nearest_rows(
    units: Floats, *, k: int, rows: Rows | None = None
) -> tuple[npt.NDArray[np.int32], Floats]:
    """The k most similar of some rows to each of them, itself left out, the nearest first.

    Of equally similar ones the first row comes first.

    Args:
        units: (N, D) vectors of length 1.
        k: neighbours; all others where there are fewer.
        rows: (n,) ascending: which rows take part; None for all.

    Returns:
        (n, k) rows of `units`, and their similarity.
    """
    chosen = np.arange(len(units)) if rows is None else rows
    k = min(k, max(len(chosen) - 1, 0))
    found = np.full((len(chosen), k), -1, dtype=np.int32)
    similarity = np.full((len(chosen), k), -np.inf, dtype=np.float32)
    if not k:
        return found, similarity
    # Each block of the product serves its rows and its columns; both meet the others in ascending
    # order, so that the first of equals is met first.
    for first in range(0, len(chosen), _ROWS):
        here = slice(first, first + _ROWS)
        own = units[chosen[here]]
        for start in range(first, len(chosen), _ROWS):
            there = slice(start, start + _ROWS)
            block = own @ units[chosen[there]].T
            _keep_best(block, chosen[here], chosen[there], found[here], similarity[here])
            if start > first:
                turned = np.ascontiguousarray(block.T)
                _keep_best(turned, chosen[there], chosen[here], found[there], similarity[there])
    return found, similarity


@machine_code
def _keep_best(
    block: Floats, rows: Rows, columns: Rows, found: npt.NDArray[np.int32], similarity: Floats
) -> None:
    """Put what is more similar than the last into its place; columns come in ascending order."""
    k = found.shape[1]
    for row in range(block.shape[0]):
        last = similarity[row, k - 1]
        for column in range(block.shape[1]):
            value = block[row, column]
            if value > last and columns[column] != rows[row]:
                place = k - 1
                while place > 0 and similarity[row, place - 1] < value:
                    similarity[row, place] = similarity[row, place - 1]
                    found[row, place] = found[row, place - 1]
                    place -= 1
                similarity[row, place] = value
                found[row, place] = columns[column]
                last = similarity[row, k - 1]
