"""Calibration by rising functions: one of all pairs, and of a concept only what its pairs support.

    logit of concept j = w_j f_j(x) + (1 - w_j) f(x),    w_j = true pairs / (true pairs + 50)

f and f_j are isotonic regressions on bins of pairs, joined by straight lines between the centres of
their blocks and going on with slope 1 beyond the outermost. They rise everywhere, so the order of
pairs with one function stays what it was; plain isotonic regression would tie many of them.

Source: Zadrozny and Elkan, "Transforming classifier scores into accurate multiclass probability
estimates", KDD 2002.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from core.errors import PredictionsError
from core.labels import LabelSpace
from ensembles.compiled import compiled, in_blocks
from ensembles.pairs import Bools, Counts, Floats, Floats64, Ints
from ensembles.solvers.logistic import logit

Knots = tuple[tuple[float, ...], tuple[float, ...]]
"""Logits before and after, both rising strictly; at least one of each."""


@dataclass(frozen=True, kw_only=True)
class IsotonicCalibration:
    """p becomes the sigmoid of a rising function of its logit; 0 and 1 stay what they are.

    Attributes:
        shared: knots of the function of all pairs.
        by_concept: weight w_j and knots of the concepts (CUIs) that have their own.
    """

    shared: Knots
    by_concept: Mapping[str, tuple[float, Knots]] = field(default_factory=dict)

    def of_pairs(self, probs: Floats, columns: Ints, *, labels: LabelSpace) -> Floats:
        """(n,) calibrated probabilities.

        Raises:
            LabelSpaceError: a concept with a function of its own is not in the label space.
        """
        logits = self._logits(logit(probs).astype(np.float64), columns, labels)
        calibrated = 1.0 / (1.0 + np.exp(-logits))
        return np.where((probs == 0.0) | (probs == 1.0), probs, calibrated).astype(np.float32)

    def inverse(self, prob: float, *, labels: LabelSpace) -> Floats:
        """(L,) probability of each concept whose calibrated value this is, by bisection."""
        wanted = np.log(prob) - np.log1p(-prob)
        low, high = np.full(len(labels), -80.0), np.full(len(labels), 80.0)
        columns = np.arange(len(labels), dtype=np.int32)
        for _ in range(60):
            middle = 0.5 * (low + high)
            above = self._logits(middle, columns, labels) > wanted
            low, high = np.where(above, low, middle), np.where(above, middle, high)
        probs = 1.0 / (1.0 + np.exp(-low))
        return np.asarray(np.maximum(probs, np.finfo(np.float32).tiny), dtype=np.float32)

    def _logits(self, x: Floats64, columns: Ints, labels: LabelSpace) -> Floats64:
        """(n,) logits after calibration; row 0 of the knots is the shared function."""
        functions = [self.shared, *(knots for _, knots in self.by_concept.values())]
        sizes = np.array([len(before) for before, _ in functions])
        before, after = np.zeros((2, len(functions), sizes.max()))
        filled = np.arange(before.shape[1]) < sizes[:, None]
        before[filled] = np.concatenate([knots[0] for knots in functions])
        after[filled] = np.concatenate([knots[1] for knots in functions])
        number = np.zeros(len(labels), dtype=np.int64)
        number[labels.columns(list(self.by_concept))] = np.arange(1, len(functions))
        weights = np.array([0.0, *(weight for weight, _ in self.by_concept.values())])
        out = np.empty(len(x))
        in_blocks(
            len(x),
            lambda a, b: _mix(
                x[a:b], number[columns[a:b]], weights, before, after, sizes, out[a:b]
            ),
        )
        return out

    def to_json(self) -> dict[str, Any]:
        """See `Calibrator`."""
        own = {
            cui: {"weight": weight, "before": list(before), "after": list(after)}
            for cui, (weight, (before, after)) in self.by_concept.items()
        }
        shared = {"before": list(self.shared[0]), "after": list(self.shared[1])}
        return {"kind": "isotonic", "shared": shared, "by_concept": own}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "IsotonicCalibration":
        """The calibration that `to_json` gave; an entry that is missing is a KeyError."""
        shared = values["shared"]
        own = {
            cui: (float(v["weight"]), (tuple(v["before"]), tuple(v["after"])))
            for cui, v in values["by_concept"].items()
        }
        return cls(shared=(tuple(shared["before"]), tuple(shared["after"])), by_concept=own)


def fit_isotonic(
    probs: Floats, true: Bools, *, columns: Ints, labels: LabelSpace
) -> IsotonicCalibration:
    """The rising functions with the least log loss on bins of pairs.

    Concepts with fewer than 20 true or false pairs have no function of their own.

    Args:
        probs: (n,) probabilities of candidate pairs, below 1.
        true: (n,) whether each pair is true.
        columns: (n,) concept of each pair.
        labels: the L concepts.

    Raises:
        PredictionsError: all pairs are true or none is.
    """
    if true.all() or not true.any():
        raise PredictionsError(
            f"cannot calibrate: {int(true.sum())} of {len(true)} candidate pairs are true"
        )
    x = logit(probs).astype(np.float64)
    rising = np.argsort(x, kind="stable")
    whole = np.array([0, len(x)], dtype=np.int64)
    shared = _knots(whole, x[rising], true[rising], np.ones(1, dtype=np.bool_), most=100)[0]
    order = rising[np.argsort(columns[rising], kind="stable")]
    starts = np.searchsorted(columns[order], np.arange(len(labels) + 1)).astype(np.int64)
    n_true = np.bincount(columns, weights=true, minlength=len(labels))
    rich = (n_true >= _FEWEST) & (np.diff(starts) - n_true >= _FEWEST)
    own = _knots(starts, x[order], true[order], rich, most=20)
    by_concept = {
        labels.cuis[j]: (float(n_true[j] / (n_true[j] + _HALF)), knots)
        for j, knots in zip(np.flatnonzero(rich), own, strict=True)
    }
    return IsotonicCalibration(shared=shared, by_concept=by_concept)


_FEWEST = 20
_HALF = 50.0
"""True pairs from which on a concept's own function has half of the say."""


def _knots(starts: Counts, x: Floats64, true: Bools, rich: Bools, *, most: int) -> list[Knots]:
    """Knots of each rich group of pairs; x rises within a group."""
    before, after = np.zeros((2, len(rich), most))
    sizes = np.zeros(len(rich), dtype=np.int64)

    def work(first: int, last: int) -> None:
        here = slice(first, last)
        _fit_blocks(
            starts[first : last + 1], x, true, rich[here], before[here], after[here], sizes[here]
        )

    in_blocks(len(rich), work)
    return [
        (tuple(before[j, : sizes[j]].tolist()), tuple(after[j, : sizes[j]].tolist()))
        for j in np.flatnonzero(rich)
    ]


@compiled
def _fit_blocks(
    starts: Counts,
    x: Floats64,
    true: Bools,
    rich: Bools,
    before: Floats64,
    after: Floats64,
    sizes: Counts,
) -> None:
    """Pool adjacent violators on bins of equally many pairs; shares are (true + 1/2) / (n + 1)."""
    most = before.shape[1]
    total, n_true, n_pairs = np.zeros(most), np.zeros(most), np.zeros(most)
    for j in range(len(rich)):
        if not rich[j]:
            continue
        n = starts[j + 1] - starts[j]
        n_bins = max(1, min(most, n // 10))
        top = 0  # blocks so far
        for b in range(n_bins):
            first, last = starts[j] + b * n // n_bins, starts[j] + (b + 1) * n // n_bins
            total[top] = x[first:last].sum()
            n_true[top] = true[first:last].sum()
            n_pairs[top] = last - first
            top += 1
            while top > 1 and (
                (n_true[top - 1] + 0.5) / (n_pairs[top - 1] + 1.0)
                <= (n_true[top - 2] + 0.5) / (n_pairs[top - 2] + 1.0) + 1e-9
                or total[top - 1] / n_pairs[top - 1] <= total[top - 2] / n_pairs[top - 2] + 1e-6
            ):
                total[top - 2] += total[top - 1]
                n_true[top - 2] += n_true[top - 1]
                n_pairs[top - 2] += n_pairs[top - 1]
                top -= 1
        sizes[j] = top
        for b in range(top):
            before[j, b] = total[b] / n_pairs[b]
            after[j, b] = np.log((n_true[b] + 0.5) / (n_pairs[b] - n_true[b] + 0.5))


@compiled
def _mix(
    x: Floats64,
    number: Counts,
    weights: Floats64,
    before: Floats64,
    after: Floats64,
    sizes: Counts,
    out: Floats64,
) -> None:
    for k in range(len(x)):
        own = number[k]
        out[k] = _at(x[k], before[0, : sizes[0]], after[0, : sizes[0]])
        if own > 0:
            mine = _at(x[k], before[own, : sizes[own]], after[own, : sizes[own]])
            out[k] += weights[own] * (mine - out[k])


@compiled
def _at(x: float, before: Floats64, after: Floats64) -> float:
    """The function at x: straight lines between the knots, slope 1 beyond them."""
    if x <= before[0]:
        return float(after[0] + x - before[0])
    if x >= before[-1]:
        return float(after[-1] + x - before[-1])
    k = np.searchsorted(before, x)
    share = (x - before[k - 1]) / (before[k] - before[k - 1])
    return float(after[k - 1] + share * (after[k] - after[k - 1]))
