"""Thresholds found on the sample F1 itself, and the finest level of them that pays.

A level is one threshold for all, one a category or one a concept. Thresholds tuned concept by
concept on each concept's own F1 ruin the mean over images. A threshold moves only its own bits,
though, so the sample F1 at all of its values is one pass over the images sorted by probability
(`ensembles.solvers.line_search`): every search here is exact.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from scipy.sparse import csr_array

from core.editions import EmptyTruth
from core.errors import ConfigError, first_few
from core.folds import cross_fitted, in_order
from core.labels import LabelSpace
from core.metrics import ScoredImages, Scores, beats_by_margin, mean_in_order
from ensembles.pairs import Bools, Floats, LabelledPairs, Probs, to_csr
from ensembles.solvers.line_search import TIE, best_concept_thresholds, search_threshold

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

    def decided(
        self, pairs: LabelledPairs, *, categories: Sequence[str], labels: LabelSpace
    ) -> Bools:
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


_WHEN_EMPTY: dict[EmptyTruth, float] = {"left out": 0.0, "counted": 1.0}
"""What searches take for the F1 of an image with nothing true and nothing decided. Where such
images are left out they score 0 whatever is decided, and so add nothing to a gain."""


def tune_global(pairs: LabelledPairs, *, empty_truth: EmptyTruth) -> float:
    """The one threshold with the highest sample F1, exact over all distinct probabilities."""
    nothing = np.zeros(len(pairs.n_true))
    return _search(pairs, reference=nothing, caution=0.0, empty_truth=empty_truth)[0]


def tune_by_category(
    pairs: LabelledPairs,
    categories: Sequence[str],
    *,
    start: float,
    empty_truth: EmptyTruth,
    caution: float,
) -> dict[str, float]:
    """Thresholds of the categories that gain by one of their own.

    Args:
        categories: N categories.
        start: the global threshold, which a category keeps unless another one pays.
        caution: standard errors taken off a gain over `start`; what is left must be above 0.
    """
    names = np.array(categories, dtype=np.str_)
    own = {}
    for name in np.unique(names):
        here = pairs.of_images(names == name)
        start_f1 = here.image_f1(here.probs >= np.float32(start), empty_truth=empty_truth)
        start_f1 = np.nan_to_num(start_f1)  # what is left out adds nothing to a gain
        threshold, gain = _search(
            here, reference=start_f1, caution=caution, empty_truth=empty_truth
        )
        if gain > TIE:
            own[str(name)] = threshold
    return own


def tune_by_concept(
    pairs: LabelledPairs,
    *,
    start: Floats,
    empty_truth: EmptyTruth,
    caution: float,
    min_true: int,
    max_sweeps: int = 20,
) -> Floats:
    """Thresholds of the concepts that gain by one of their own, by coordinate ascent.

    Args:
        start: (N,) threshold of each image, which a concept keeps unless another one pays.
        caution: standard errors taken off a gain over `start`; what is left must be above 0. No
            caution climbs to a maximum of the sample F1 that does not carry over to other images.
        min_true: concepts with fewer true pairs keep `start`.
        max_sweeps: the most passes over all concepts; the first that moves none is the last.

    Returns:
        (L,) thresholds, NaN where a concept keeps `start`.
    """
    order = pairs.by_concept
    thresholds, _ = best_concept_thresholds(
        pairs.concept_starts,
        pairs.rows[order],
        pairs.probs[order],
        pairs.true[order],
        pairs.n_true,
        start,
        caution,
        min_true,
        max_sweeps,
        _WHEN_EMPTY[empty_truth],
    )
    return thresholds


def _search(
    pairs: LabelledPairs, *, reference: Scores, caution: float, empty_truth: EmptyTruth
) -> tuple[float, float]:
    order = pairs.by_prob
    return search_threshold(
        pairs.rows[order],
        pairs.probs[order],
        pairs.true[order],
        pairs.n_true,
        reference,
        caution,
        _WHEN_EMPTY[empty_truth],
    )


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """How thresholds are tuned and which are kept.

    Attributes:
        caution: see `tune_by_concept`; for categories as well.
        min_true: see `tune_by_concept`.
        margin: standard errors of the paired difference by which a finer level must win.
        nomissing: whether an image left without a concept gets its most probable one. Where images
            without true concepts are left out of the mean this can only help.
    """

    caution: float = 2.0
    min_true: int = 5
    margin: float = 0.5
    nomissing: bool = False


def tune(
    pairs: LabelledPairs,
    images: ScoredImages,
    *,
    levels: tuple[Level, ...],
    tuning: Tuning,
) -> Thresholds:
    """Thresholds of these levels on these images and their pairs."""
    categories, empty_truth = images.categories, images.empty_truth
    fitted = Thresholds(global_=tune_global(pairs, empty_truth=empty_truth))
    if "category" in levels:
        own = tune_by_category(
            pairs,
            categories,
            start=fitted.global_,
            empty_truth=empty_truth,
            caution=tuning.caution,
        )
        fitted = replace(fitted, by_category=own)
    if "concept" in levels:
        thresholds = tune_by_concept(
            pairs,
            start=fitted.of_images(categories),
            empty_truth=empty_truth,
            caution=tuning.caution,
            min_true=tuning.min_true,
        )
        columns = np.flatnonzero(~np.isnan(thresholds))
        own = {images.labels.cuis[column]: float(thresholds[column]) for column in columns}
        fitted = replace(fitted, by_concept=own)
    return fitted


@dataclass(frozen=True, kw_only=True)
class LevelChoice:
    """Thresholds of the finest level that pays, and of those that do not.

    Attributes:
        level: the one that was kept.
        thresholds: of the level that was kept, fitted on all images.
        decided: (N, L) the cross-fitted decisions of that level.
        image_f1: (N,) cross-fitted F1 of the images at each level that was tried, NaN for an image
            that is left out of the mean.
        tried: thresholds of each level, over the coarser ones that were kept, on all images.
    """

    level: Level
    thresholds: Thresholds
    decided: csr_array
    image_f1: Mapping[str, Scores]
    tried: Mapping[str, Thresholds]

    def to_json(self) -> dict[str, Any]:
        """Plain values: the level that pays, and the thresholds of every level that was tried."""
        levels = {
            level: {
                "global": thresholds.global_,
                "by_category": dict(thresholds.by_category),
                "by_concept": dict(thresholds.by_concept),
            }
            for level, thresholds in self.tried.items()
        }
        return {"level": self.level, "levels": levels}


def choose_thresholds(
    probs: Probs,
    images: ScoredImages,
    *,
    tuning: Tuning,
    finer: tuple[Level, ...] = ("category", "concept"),
) -> LevelChoice:
    """Thresholds of the finest level that pays on images it was not tuned on.

    Each level is tuned on all folds but one and scored on that one. A finer level replaces a
    coarser one where it wins by the margin; what is kept is tuned once more, on all images.

    Args:
        probs: (N, L) out-of-fold probabilities; the 100 highest of an image count.
        images: N of them.
        finer: levels that are tried beside one threshold for all, the coarser first.

    Raises:
        AlignmentError: an image has no fold, or all share one.
        ValueError: shapes differ, or no image has a true concept.
    """
    pairs = LabelledPairs.of(probs, images.targets)
    names = np.array(images.categories, dtype=np.str_)

    def tuned(levels: tuple[Level, ...], others: Bools) -> Thresholds:
        return tune(pairs.of_images(others), images.take(others), levels=levels, tuning=tuning)

    def decide(thresholds: Thresholds, held_out: Bools) -> Bools:
        here, categories = pairs.of_images(held_out), names[held_out].tolist()
        decided = thresholds.decided(here, categories=categories, labels=images.labels)
        return here.completed(decided) if tuning.nomissing else decided

    def judged(levels: tuple[Level, ...]) -> tuple[Scores, Bools]:
        found = cross_fitted(lambda others: tuned(levels, others), decide, folds=images.folds)
        decided: Bools = in_order([(held_out[pairs.rows], its) for held_out, its in found])
        return pairs.image_f1(decided, empty_truth=images.empty_truth), decided

    kept: tuple[Level, ...] = ("global",)
    best, decided = judged(kept)
    image_f1: dict[str, Scores] = {"global": best}
    tried = {"global": tune(pairs, images, levels=kept, tuning=tuning)}
    thresholds = tried["global"]
    for level in finer:
        image_f1[level], its_decided = judged((*kept, level))
        tried[level] = tune(pairs, images, levels=(*kept, level), tuning=tuning)
        if beats_by_margin(image_f1[level] - best, margin=tuning.margin):
            kept, best, decided = (*kept, level), image_f1[level], its_decided
            thresholds = tried[level]
    scores = {level: mean_in_order(f1) for level, f1 in image_f1.items()}
    return LevelChoice(
        level=kept[-1],
        thresholds=replace(thresholds, scores=scores),
        decided=to_csr(pairs.rows[decided], pairs.columns[decided], shape=probs.shape),
        image_f1=image_f1,
        tried=tried,
    )
