"""The finest level of thresholds that pays: one for all, one a category, one a concept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from core.folds import Folds, held_out_images
from core.labels import LabelSpace, Targets
from core.metrics import Scores, mean_in_order, wins
from core.storage.folders import write_json
from ensembles.decisions.thresholds import Level, Thresholds
from ensembles.pairs import Bools, Floats, Pairs, to_csr
from ensembles.tuning import WHEN_EMPTY, Tuning, tune


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


def choose_thresholds(
    probs: Floats,
    targets: Targets,
    *,
    labels: LabelSpace,
    categories: Sequence[str],
    folds: Folds,
    tuning: Tuning,
) -> LevelChoice:
    """Thresholds of the finest level that pays on images it was not tuned on.

    Each level is tuned on all folds but one and scored on that one. A finer level replaces a
    coarser one where it wins by the margin; what is kept is tuned once more, on all images.

    Args:
        probs: (N, L) out-of-fold probabilities; the 100 highest of an image count.
        categories: N categories.
        folds: (N,) fold of each image.

    Raises:
        AlignmentError: an image has no fold, or all share one.
        ValueError: shapes differ, or no image has a true concept.
    """
    pairs = Pairs.of(probs, targets)
    names = np.array(categories, dtype=np.str_)

    def cross_fitted(levels: tuple[Level, ...]) -> tuple[Scores, Bools]:
        image_f1 = np.empty(len(targets))
        all_decided = np.empty(len(pairs), dtype=np.bool_)
        for held_out in held_out_images(folds):
            fitted = tune(
                pairs.of_images(~held_out),
                names[~held_out].tolist(),
                labels,
                levels=levels,
                tuning=tuning,
            )
            here = pairs.of_images(held_out)
            decided = fitted.decided(here, categories=names[held_out].tolist(), labels=labels)
            if tuning.nomissing:
                decided = here.completed(decided)
            image_f1[held_out] = here.image_f1(decided, when_empty=WHEN_EMPTY[tuning.empty_truth])
            all_decided[held_out[pairs.rows]] = decided
        if tuning.empty_truth == "left out":
            image_f1[targets.n_true == 0] = np.nan
        return image_f1, all_decided

    kept: tuple[Level, ...] = ("global",)
    best, decided = cross_fitted(kept)
    image_f1: dict[str, Scores] = {"global": best}
    tried = {"global": tune(pairs, categories, labels, levels=kept, tuning=tuning)}
    thresholds = tried["global"]
    finer: tuple[Level, ...] = ("category", "concept")
    for level in finer:
        image_f1[level], its_decided = cross_fitted((*kept, level))
        tried[level] = tune(pairs, categories, labels, levels=(*kept, level), tuning=tuning)
        if wins(image_f1[level] - best, margin=tuning.margin):
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


def write_levels(path: Path, choice: LevelChoice) -> None:
    """Write the thresholds of every level that was tried, and which of them pays."""
    levels = {
        level: {
            "global": thresholds.global_,
            "by_category": dict(thresholds.by_category),
            "by_concept": dict(thresholds.by_concept),
        }
        for level, thresholds in choice.tried.items()
    }
    write_json(path, {"level": choice.level, "levels": levels})
