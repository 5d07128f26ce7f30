"""Boosted trees of their own for the most frequent concepts, on top of the forest for all."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from core.storage.folders import write_json
from ensembles.calibration.temperature import logit
from ensembles.pairs import Bools, Floats
from ensembles.stacking.candidates import Candidates
from ensembles.stacking.forest import LightGBMStacker, grow, load_forest, raw_scores
from ensembles.stacking.stacker import FILE, Weights, read_header


class ConceptLightGBMStacker:
    """The forest for all concepts, corrected by a small one for each of the most frequent.

    A forest a concept takes 37 to 46 minutes a fold at 3,047 concepts, and most have a handful of
    true pairs. So the most frequent ones get a forest, never more than `max_concepts`, and the
    others keep what the forest for all says. On 1,015 images and 252 concepts nothing was gained:
    sample F1 0.8012 against 0.8036 of the forest for all, log loss 0.1259 against 0.1260.

    Args:
        max_concepts: concepts with a forest of their own, the most frequent in true pairs.
        min_true: true pairs that such a concept needs.
        n_rounds, learning_rate, num_leaves, min_data_in_leaf, lambda_l2: LightGBM's settings of
            these names.
    """

    def __init__(
        self,
        *,
        max_concepts: int = 100,
        min_true: int = 50,
        n_rounds: int = 20,
        learning_rate: float = 0.05,
        num_leaves: int = 4,
        min_data_in_leaf: int = 50,
        lambda_l2: float = 20.0,
    ) -> None:
        self.max_concepts = max_concepts
        self.min_true = min_true
        self.n_rounds = n_rounds
        self.learning_rate = learning_rate
        self.num_leaves = num_leaves
        self.min_data_in_leaf = min_data_in_leaf
        self.lambda_l2 = lambda_l2

    def fit(
        self, candidates: Candidates, targets: Bools, *, weights: Weights | None = None
    ) -> "ConceptLightGBMStacker":
        """Grow the forest for all, then those of the concepts from where it ends.

        Raises:
            PredictionsError: none of the pairs is true, or all are.
        """
        self.shared_ = LightGBMStacker().fit(candidates, targets, weights=weights)
        start = logit(self.shared_.predict(candidates)).astype(np.float64)
        n_true = np.bincount(candidates.columns, targets, minlength=candidates.n_concepts)
        ordered = np.argsort(-n_true, kind="stable")[: self.max_concepts]
        self.boosters_: dict[int, Any] = {}
        for concept in sorted(int(c) for c in ordered if n_true[c] >= self.min_true):
            here = np.flatnonzero(candidates.columns == concept)
            if targets[here].all():
                continue  # nothing to tell apart
            self.boosters_[concept] = grow(
                candidates,
                targets,
                weights=weights,
                start=start,
                chosen=here,
                n_rounds=self.n_rounds,
                learning_rate=self.learning_rate,
                num_leaves=self.num_leaves,
                min_data_in_leaf=self.min_data_in_leaf,
                lambda_l2=self.lambda_l2,
                seed=0,
            )
        return self

    def predict(self, candidates: Candidates) -> Floats:
        """(n,) probability of each pair.

        Raises:
            AlignmentError: the features are not those of the fit.
        """
        probs = self.shared_.predict(candidates)
        for concept, booster in self.boosters_.items():
            here = candidates.columns == concept
            if here.any():
                added = raw_scores(booster, candidates.features[here])
                probs[here] = expit(logit(probs[here]) + added)
        return probs

    def save(self, folder: Path) -> None:
        """Write the forests as LightGBM's text, those of concepts by their column."""
        self.shared_.save(folder)
        for concept, booster in self.boosters_.items():
            path = folder / f"lightgbm-{concept}.txt"
            path.write_text(booster.model_to_string(), encoding="utf-8")
        header = {"stacker": "lightgbm-concepts", "concepts": list(self.boosters_)}
        write_json(folder / FILE, {**read_header(folder), **header})

    @classmethod
    def load(cls, folder: Path) -> "ConceptLightGBMStacker":
        """The stacker that `save` wrote, to predict with.

        Raises:
            PredictionsError: a forest is missing or broken.
        """
        stacker = cls()
        stacker.shared_ = LightGBMStacker.load(folder)
        stacker.boosters_ = {}
        for concept in read_header(folder)["concepts"]:
            stacker.boosters_[concept] = load_forest(folder / f"lightgbm-{concept}.txt")
        return stacker
