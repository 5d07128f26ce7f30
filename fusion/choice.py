"""One of several variants of a source, chosen on valid by cross-fitting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from core.editions import empty_truth_rule
from core.labels import Targets
from core.metrics import EmptyTruth, best_threshold, f1_by_threshold
from core.predictions import Probs
from fusion.inputs.gather import Given

Variants = Mapping[str, Sequence[Probs]]
"""By split, (N, L) probabilities of each variant."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The best of some variants.

    Attributes:
        best: number of the variant that is best on all images.
        by_fold: the one that is best on all other folds, by fold.
    """

    best: int
    by_fold: Mapping[int, int]


def choose_variant(
    variants: Sequence[Probs],
    targets: Targets,
    folds: npt.NDArray[np.integer],
    *,
    empty_truth: EmptyTruth,
) -> Choice:
    """Choose a variant by sample F1 at its best single threshold, the first of equals.

    Args:
        variants: (N, L) each, the one to fall back on first.
        targets: of the N images.
        folds: (N,); of a single one the first variant is taken.
        empty_truth: what an image without true concepts scores.
    """
    scores = [f1_by_threshold(probs, targets, empty_truth=empty_truth) for probs in variants]

    def best_on(chosen: npt.NDArray[np.bool_]) -> int:
        if np.isnan(scores[0][0, chosen]).all():  # none at all, or none with concepts
            return 0
        on_chosen = [by_threshold[:, chosen] for by_threshold in scores]
        return int(np.argmax([np.nanmean(s[best_threshold(s)]) for s in on_chosen]))

    return Choice(
        best=best_on(np.ones(len(folds), dtype=np.bool_)),
        by_fold={int(fold): best_on(folds != fold) for fold in np.unique(folds)},
    )


def choose_on_valid(given: Given, variants: Sequence[Probs]) -> Choice:
    """Choose on the labelled images of valid.

    Args:
        given: whose valid images.
        variants: (N, L) each, of all readable images of valid.
    """
    images, labelled = given.corpus.images("valid"), given.corpus.labelled_images("valid")
    if not len(labelled):
        return Choice(best=0, by_fold={})
    return choose_variant(
        [probs[images.labelled] for probs in variants],
        labelled.targets(given.corpus.labels),
        labelled.folds,
        empty_truth=empty_truth_rule(given.corpus.edition),
    )


def settled(given: Given, variants: Variants, choice: Choice) -> dict[str, Probs]:
    """Valid by the variants chosen without its folds, whatever else by the best one.

    So no image of valid is predicted by a choice that its own concepts took part in.
    """
    found = {split: of_split[choice.best] for split, of_split in variants.items()}
    if "valid" in found:
        folds = given.corpus.images("valid").folds
        found["valid"] = found["valid"].copy()
        for fold, number in choice.by_fold.items():
            found["valid"][folds == fold] = variants["valid"][number][folds == fold]
    return found
