"""From which probability on a concept is decided."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from core.errors import ConfigError, first_few
from core.labels import LabelSpace
from ensembles.pairs import Bools, Floats, Pairs

Level = Literal["global", "category", "concept"]


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """From which probability on a concept is decided.

    The concept's own threshold counts, else that of the image's category, else the global one.

    Attributes:
        global_: above 0; `line_search.NEVER` where nothing is to be decided.
        by_category: thresholds of the categories that have their own.
        by_concept: thresholds of the concepts (CUIs) that have their own.
        scores: cross-fitted sample F1 of each level that was tried.

    Raises:
        ConfigError: a threshold is not above 0.
    """

    global_: float
    by_category: Mapping[str, float] = field(default_factory=dict)
    by_concept: Mapping[str, float] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        named = {"global": self.global_, **self.by_category, **self.by_concept}
        if bad := [name for name, value in named.items() if not value > 0]:
            raise ConfigError(f"thresholds must be above 0; not so: {first_few(bad)}")

    @property
    def level(self) -> Level:
        """The finest level that has thresholds of its own."""
        return "concept" if self.by_concept else "category" if self.by_category else "global"

    def of_images(self, categories: Sequence[str]) -> Floats:
        """(N,) threshold of each image for the concepts without one of their own."""
        values = [self.by_category.get(category, self.global_) for category in categories]
        return np.array(values, dtype=np.float32)

    def of_concepts(self, labels: LabelSpace) -> Floats:
        """(L,) threshold of each concept, NaN where it has none of its own.

        Raises:
            LabelSpaceError: a concept with a threshold is not in the label space.
        """
        values = np.full(len(labels), np.nan, dtype=np.float32)
        values[labels.columns(list(self.by_concept))] = list(self.by_concept.values())
        return values

    def decided(self, pairs: Pairs, *, categories: Sequence[str], labels: LabelSpace) -> Bools:
        """(n,) whether each pair reaches its threshold."""
        own = self.of_concepts(labels)[pairs.columns]
        shared = self.of_images(categories)[pairs.rows]
        return np.asarray(pairs.probs >= np.where(np.isnan(own), shared, own))

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` gives the same thresholds back, to the last bit."""
        return {
            "global": self.global_,
            "by_category": dict(self.by_category),
            "by_concept": dict(self.by_concept),
            "scores": dict(self.scores),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Thresholds":
        """The thresholds that `to_json` gave; an entry that is missing is a KeyError."""
        return cls(
            global_=values["global"],
            by_category=values["by_category"],
            by_concept=values["by_concept"],
            scores=values["scores"],
        )
