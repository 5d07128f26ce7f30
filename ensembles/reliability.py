"""Whether probabilities mean what they say: predicted beside observed, bin by bin."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ensembles.pairs import Bools, Floats

EDGES = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Bounds of the bins; finer where most pairs of 3,047 concepts lie."""


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Pairs whose probability lies within low <= p < high (the last bin holds 1 too).

    Attributes:
        mean: their mean probability.
        share: the share of them that is true.
        n: how many they are, 1 or more.
    """

    low: float
    high: float
    mean: float
    share: float
    n: int


def reliability(probs: Floats, true: Bools, *, edges: tuple[float, ...] = EDGES) -> tuple[Bin, ...]:
    """The bins that hold any pair, from the lowest up.

    Args:
        probs: (n,) probabilities.
        true: (n,) whether each pair is true.
        edges: bounds of the bins, rising from 0 to 1.
    """
    number = np.clip(np.searchsorted(edges, probs, side="right") - 1, 0, len(edges) - 2)
    n = np.bincount(number, minlength=len(edges) - 1)
    predicted = np.bincount(number, weights=probs, minlength=len(edges) - 1)
    n_true = np.bincount(number, weights=true, minlength=len(edges) - 1)
    return tuple(
        Bin(
            low=edges[b],
            high=edges[b + 1],
            mean=float(predicted[b] / n[b]),
            share=float(n_true[b] / n[b]),
            n=int(n[b]),
        )
        for b in np.flatnonzero(n)
    )


def write_reliability(path: Path, bins: Mapping[str, tuple[Bin, ...]]) -> None:
    """Write a row a bin: what the probabilities are (`before`, `after`), bounds, mean, share, n."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["calibration", "low", "high", "mean_predicted", "share_true", "n"])
        for name, its_bins in bins.items():
            for b in its_bins:
                writer.writerow([name, b.low, b.high, f"{b.mean:.6f}", f"{b.share:.6f}", b.n])
