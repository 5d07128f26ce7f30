"""Votes: every member decides by a threshold of its own, and a pair counts those that decided it.

As the second place of 2026 did (github.com/dboutzounis/imageclef2026, `dual_threshold`): there 18
networks, and a concept of five or more. How many it takes is found here by the rule that decides.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from core.storage.folders import write_json
from ensembles.compiled import in_blocks
from ensembles.pairs import Bools, Floats
from ensembles.stacking.candidates import Candidates
from ensembles.stacking.greedy import LOWEST, N_THRESHOLDS, STEP
from ensembles.stacking.stacker import FILE, check_features, check_targets, read_header

_PREFIX = "logit "


class VotesStacker:
    """Share of the members that decide a pair, each at its own best single threshold.

    A member's threshold is the one of 49 (0.8 to 99.2 %) at which it alone reaches the highest
    sample F1. Of M members that cover a pair, v of which decide it, with p the probability of their
    mean log odds:

        (v + p) / (M + 1)

    so that votes come first, and pairs of as many votes stand in the order of the mean. A threshold
    of n / (M + 1) on it decides what n or more members do. True concepts that are no candidates are
    unknown here, as are images without a true candidate.
    """

    def fit(self, candidates: Candidates, targets: Bools) -> "VotesStacker":
        """Find each member's threshold.

        Raises:
            PredictionsError: none of the pairs is true, or all are.
        """
        check_targets(candidates, targets)
        self.feature_names_ = candidates.feature_names
        names = self._members()
        thresholds = np.zeros(len(names), dtype=np.float32)

        def work(first: int, last: int) -> None:
            for place in range(first, last):
                logits = candidates.feature(names[place])
                thresholds[place] = best_threshold_of(logits, candidates, targets=targets)

        in_blocks(len(names), work, worth_it=2)
        self.thresholds_ = thresholds
        return self

    def predict(self, candidates: Candidates) -> Floats:
        """(n,) share of votes, those of the mean as a further one.

        Raises:
            AlignmentError: the features are not those of the fit.
        """
        check_features(candidates, self.feature_names_)
        votes, n_members = np.zeros((2, len(candidates)), dtype=np.float32)
        for name, threshold in zip(self._members(), self.thresholds_, strict=True):
            logits = candidates.feature(name)
            votes += logits >= threshold  # not where it is NaN
            n_members += ~np.isnan(logits)
        mean = expit(candidates.feature("mean logit"))
        return np.asarray((votes + mean) / (n_members + 1), dtype=np.float32)

    def save(self, folder: Path) -> None:
        """Write the thresholds, in log odds."""
        header = {"stacker": "votes", "feature_names": self.feature_names_}
        write_json(folder / FILE, {**header, "thresholds": self.thresholds_.tolist()})

    @classmethod
    def load(cls, folder: Path) -> "VotesStacker":
        """The stacker that `save` wrote."""
        values = read_header(folder)
        stacker = cls()
        stacker.feature_names_ = tuple(values["feature_names"])
        stacker.thresholds_ = np.array(values["thresholds"], dtype=np.float32)
        if len(stacker.thresholds_) != len(stacker._members()):
            raise ValueError("not a threshold a member")
        return stacker

    def _members(self) -> list[str]:
        return [name for name in self.feature_names_ if name.startswith(_PREFIX)]


def best_threshold_of(logits: Floats, candidates: Candidates, *, targets: Bools) -> float:
    """The log odds from which on deciding gives the highest sample F1; the lowest of equals.

    Args:
        logits: (n,) of the pairs, NaN where the member does not cover one, which it leaves out.
        candidates: the pairs.
        targets: (n,) their truth.
    """
    n_true = np.bincount(candidates.rows, targets, minlength=candidates.n_images)
    bins = np.floor((np.nan_to_num(logits, nan=-np.inf) - LOWEST) / STEP + _ROUNDING)
    reached = np.clip(bins + 1, 0, N_THRESHOLDS).astype(np.int64)  # thresholds at or below it
    decided = _at_thresholds(reached, candidates)
    hit = _at_thresholds(reached[targets], candidates, rows=candidates.rows[targets])
    known = n_true > 0
    f1 = 2 * hit[known] / (decided[known] + n_true[known, None])
    return LOWEST + STEP * int(f1.mean(axis=0).argmax())


_ROUNDING = 1e-5  # of float32 log odds that lie on a threshold


def _at_thresholds(
    reached: npt.NDArray[np.int64],
    candidates: Candidates,
    *,
    rows: npt.NDArray[np.integer] | None = None,
) -> npt.NDArray[np.float64]:
    """(N, 49) pairs of each image that reach each threshold."""
    own = (candidates.rows if rows is None else rows).astype(np.int64)
    width = N_THRESHOLDS + 1
    counts = np.bincount(own * width + reached, minlength=candidates.n_images * width)
    by_image = counts.reshape(candidates.n_images, width)[:, :0:-1]
    return np.cumsum(by_image, axis=1)[:, ::-1].astype(np.float64)
