"""Stackers whose log odds are a sum: one member alone, the plain mean, logistic regression.

Estimators as in scikit-learn: settings in `__init__`, data in `fit`, what was learned ends in `_`.
"""

from pathlib import Path

import numpy as np
from scipy.special import expit

from core.storage.folders import write_json
from ensembles.pairs import Bools, Floats
from ensembles.solvers.features import Standard
from ensembles.solvers.logistic import fit_logistic, fit_offsets, logits_of
from ensembles.stacking.candidates import Candidates
from ensembles.stacking.stacker import FILE, check_features, check_targets, read_header


class MeanStacker:
    """Mean of the log odds of the sources that cover a pair; learns nothing."""

    def fit(self, candidates: Candidates, targets: Bools) -> "MeanStacker":
        """Nothing to learn."""
        return self

    def predict(self, candidates: Candidates) -> Floats:
        """(n,) probability of each pair."""
        return np.asarray(expit(candidates.feature("mean logit")), dtype=np.float32)

    def save(self, folder: Path) -> None:
        """Write its name."""
        write_json(folder / FILE, {"stacker": "mean"})

    @classmethod
    def load(cls, folder: Path) -> "MeanStacker":
        """Nothing to load: the mean has no state."""
        return cls()


class LogisticStacker:
    """Logistic regression on the standardised features, one weight for all concepts.

    A feature that is missing because the source does not cover the pair takes the mean of the
    sources that do: it has no say. Then each concept gets an offset of its log odds, shrunk
    towards 0: what the features say too much or too little of it.

    Args:
        ridge: of the weights of the standardised features, against the sum of the log losses: 100
            matters at 40,000 pairs of few images and is nothing at a million.
        offset_ridge: of the offsets; a concept has to miss by as many true pairs to be moved by
            one unit. None gives no offsets.
    """

    def __init__(self, *, ridge: float = 100.0, offset_ridge: float | None = None) -> None:
        self.ridge = ridge
        self.offset_ridge = offset_ridge

    def fit(self, candidates: Candidates, targets: Bools) -> "LogisticStacker":
        """Learn weights, intercept and offsets.

        Raises:
            PredictionsError: none of the pairs is true, or all are.
        """
        check_targets(candidates, targets)
        features = candidates.features
        self.feature_names_ = candidates.feature_names
        self.standard_ = Standard.of(features, candidates.feature_names)
        self.coef_ = fit_logistic(features, targets, ridge=self.ridge, standard=self.standard_)
        self.offsets_ = np.zeros(candidates.n_concepts)
        if self.offset_ridge is not None:
            self.offsets_ = fit_offsets(
                candidates.columns,
                logits_of(features, self.standard_, coef=self.coef_),
                targets=targets,
                ridge=self.offset_ridge,
                n_groups=candidates.n_concepts,
            )
        return self

    def predict(self, candidates: Candidates) -> Floats:
        """(n,) probability of each pair.

        Raises:
            AlignmentError: the features are not those of the fit.
        """
        check_features(candidates, self.feature_names_)
        logits = logits_of(candidates.features, self.standard_, coef=self.coef_)
        return np.asarray(expit(logits + self.offsets_[candidates.columns]), dtype=np.float32)

    def standardised(self, candidates: Candidates) -> Floats:
        """(n, F) the features as the weights take them: nothing missing, scaled as in the fit.

        Raises:
            AlignmentError: the features are not those of the fit.
        """
        check_features(candidates, self.feature_names_)
        return self.standard_.of_rows(candidates.features)

    def save(self, folder: Path) -> None:
        """Write every number that was learned."""
        learned = {
            "mean_": self.standard_.mean,
            "scale_": self.standard_.scale,
            "coef_": self.coef_,
            "offsets_": self.offsets_,
        }
        values = {name: np.asarray(array).tolist() for name, array in learned.items()}
        settings = {"ridge": self.ridge, "offset_ridge": self.offset_ridge}
        header = {"stacker": "logistic", "feature_names": self.feature_names_}
        write_json(folder / FILE, {**header, "settings": settings, "learned": values})

    @classmethod
    def with_offsets(cls) -> "LogisticStacker":
        """With an offset a concept; twenty true pairs too many or too few move it by one."""
        return cls(offset_ridge=20.0)

    @classmethod
    def load(cls, folder: Path) -> "LogisticStacker":
        """The stacker that `save` wrote."""
        values = read_header(folder)
        stacker = cls(**values["settings"])
        stacker.feature_names_ = tuple(values["feature_names"])
        learned = values["learned"]
        mean, scale = (np.array(learned[name], np.float32) for name in ("mean_", "scale_"))
        stacker.standard_ = Standard.of_names(stacker.feature_names_, mean=mean, scale=scale)
        stacker.coef_ = np.array(learned["coef_"])
        stacker.offsets_ = np.array(learned["offsets_"])
        return stacker


class MemberStacker:
    """The probabilities of one member; where it covers nothing, those of the members that do.

    Args:
        member: its name.
    """

    def __init__(self, member: str) -> None:
        self.member = member

    def fit(self, candidates: Candidates, targets: Bools) -> "MemberStacker":
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
