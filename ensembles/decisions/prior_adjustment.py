"""Log odds less a part of the log of the concept's prior: rare concepts are decided more often.

    logit of concept j = logit(p) - strength log(share_j) - shift

A threshold for all concepts that scores best on images passes over rare concepts: their
probabilities hardly reach it. Of the strength 0 nothing changes; at 1 log odds are compared with
those that the concept has before an image is looked at. What is adjusted is an order to decide in
and no probability any more: everything that people are told goes by the calibrated probabilities
as they were.

Thresholds are chosen on adjusted values, and take up whatever is the same for all concepts: `shift`
is 0. Rules on calibrated probabilities have nothing that is chosen anew; the shift holds the
expected number of concepts where it was.

Source: Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, post-hoc, with log odds
in place of logits of classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.special import expit

from core.errors import ConfigError, LabelSpaceError, first_few
from core.labels import LabelSpace
from ensembles.pairs import CalibratedPairs, Floats, Floats64, Ints, Probs, as_csr


@dataclass(frozen=True, kw_only=True)
class PriorAdjustment:
    """How much of the prior is taken from log odds.

    Attributes:
        strength: above 0.
        shares: by concept (CUI), its share of the images learnt from, smoothed, in (0, 1).
        shift: taken from all log odds.

    Raises:
        ConfigError: a number is not as said above.
    """

    strength: float
    shares: Mapping[str, float]
    shift: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.strength < np.inf and np.isfinite(self.shift)):
            raise ConfigError(
                "prior adjustment: expected a strength above 0 and a finite shift; found"
                f" {self.strength} and {self.shift}"
            )
        if bad := [cui for cui, share in self.shares.items() if not 0 < share < 1]:
            raise ConfigError(
                f"prior adjustment: expected shares between 0 and 1; not so: {first_few(bad)}"
            )

    @classmethod
    def of(
        cls, rate: npt.NDArray[np.floating], *, labels: LabelSpace, strength: float
    ) -> "PriorAdjustment":
        """By the rates of L concepts.

        Args:
            rate: (L,) smoothed share of the images learnt from with each concept.
            labels: the L concepts.
            strength: above 0.
        """
        return cls(strength=strength, shares=dict(zip(labels.cuis, rate.tolist(), strict=True)))

    def taken(self, labels: LabelSpace) -> Floats64:
        """(L,) what is taken from the log odds of each concept; below 0 for what is added.

        Raises:
            LabelSpaceError: a concept has no share, or one that has is not in the label space.
        """
        if lacking := [cui for cui in labels.cuis if cui not in self.shares]:
            raise LabelSpaceError(
                f"prior adjustment: {len(lacking)} of {len(labels)} concepts have no share:"
                f" {first_few(lacking)}"
            )
        logs = np.empty(len(labels))
        logs[labels.columns(list(self.shares))] = np.log(list(self.shares.values()))
        return np.asarray(self.strength * logs + self.shift)

    def of_pairs(self, probs: Floats, columns: Ints, *, labels: LabelSpace) -> Floats:
        """(n,) adjusted probabilities of pairs; 0 and 1 stay what they are, all others between."""
        return _moved(probs, -self.taken(labels)[columns])

    def inverse(self, probs: Floats, columns: Ints, *, labels: LabelSpace) -> Floats:
        """(n,) probabilities whose adjusted values these are; what is above 1 stays what it is."""
        return _moved(probs, self.taken(labels)[columns])

    def limit(self, cui: str, threshold: float) -> float:
        """The probability of a concept whose adjusted value a threshold is; above 1 for never."""
        taken = np.array([self.strength * np.log(self.shares[cui]) + self.shift])
        return float(_moved(np.array([threshold], dtype=np.float32), taken)[0])

    def of_matrix(self, probs: Probs, *, labels: LabelSpace) -> csr_array:
        """(N, L) adjusted probabilities."""
        given = as_csr(probs)
        values = self.of_pairs(given.data, given.indices, labels=labels)
        return csr_array((values, given.indices, given.indptr), shape=given.shape)

    def of_ranked(self, ranked: CalibratedPairs, *, labels: LabelSpace) -> CalibratedPairs:
        """The same pairs with adjusted probabilities."""
        return replace(ranked, probs=self.of_pairs(ranked.probs, ranked.columns, labels=labels))

    def balanced(self, ranked: CalibratedPairs, *, labels: LabelSpace) -> "PriorAdjustment":
        """With the shift under which as many concepts are expected of these pairs as before.

        Args:
            ranked: pairs with calibrated probabilities; certain ones have no part in it.
        """
        free = (ranked.probs > 0.0) & (ranked.probs < 1.0)
        taken = replace(self, shift=0.0).taken(labels)[ranked.columns[free]]
        if not len(taken):
            return replace(self, shift=0.0)
        logits = _logit(ranked.probs[free]) - taken
        wanted = ranked.probs[free].sum(dtype=np.float64)
        low, high = float(-taken.max()), float(-taken.min())
        for _ in range(60):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if expit(logits - middle).sum() > wanted else (low, middle)
        return replace(self, shift=0.5 * (low + high))

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` gives the same adjustment back, to the last bit."""
        return {"strength": self.strength, "shares": dict(self.shares), "shift": self.shift}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "PriorAdjustment":
        """The adjustment that `to_json` gave; an entry that is missing is a KeyError."""
        return cls(
            strength=values["strength"], shares=dict(values["shares"]), shift=values["shift"]
        )


_LOWEST, _HIGHEST = np.finfo(np.float32).tiny, np.nextafter(np.float32(1), np.float32(0))


def _logit(probs: Floats) -> Floats64:
    exact = probs.astype(np.float64)
    return np.asarray(np.log(exact) - np.log1p(-exact))


def _moved(probs: Floats, by: Floats64) -> Floats:
    """(n,) probabilities with so much added to their log odds; what is no log odds stays."""
    probs = np.asarray(probs, dtype=np.float32)
    moved, free = probs.copy(), (probs > 0.0) & (probs < 1.0)
    moved[free] = np.clip(expit(_logit(probs[free]) + by[free]), _LOWEST, _HIGHEST)
    return moved
