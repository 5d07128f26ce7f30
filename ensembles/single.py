"""One member alone, in the form of a stacker: the rung that stacking has to beat."""

from pathlib import Path

import numpy as np
from scipy.special import expit

from core.storage.folders import write_json
from ensembles.pairs import Bools, Floats
from ensembles.stacking.candidates import Candidates
from ensembles.stacking.stacker import FILE, Weights, read_header


class MemberStacker:
    """The probabilities of one member; where it covers nothing, those of the members that do.

    Args:
        member: its name.
    """

    def __init__(self, member: str) -> None:
        self.member = member

    def fit(
        self, candidates: Candidates, targets: Bools, *, weights: Weights | None = None
    ) -> "MemberStacker":
        """Nothing to learn."""
        return self

    def predict(self, candidates: Candidates) -> Floats:
        """(n,) probability of each pair."""
        own, others = candidates.feature(f"logit {self.member}"), candidates.feature("mean logit")
        return np.asarray(expit(np.where(np.isnan(own), others, own)), dtype=np.float32)

    def save(self, folder: Path) -> None:
        """Write the member's name."""
        write_json(folder / FILE, {"stacker": "member", "member": self.member})

    @classmethod
    def load(cls, folder: Path) -> "MemberStacker":
        """The stacker that `save` wrote."""
        return cls(str(read_header(folder)["member"]))
