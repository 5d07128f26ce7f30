"""Answers made of answers.

Constant concepts made sure, a network's with its neighbours' votes, specialists where they know,
and one of several variants, chosen on valid by cross-fitting.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from core.categories import CATEGORIES
from core.editions import EmptyTruth, empty_truth_rule
from core.folds import Folds, fitted_without
from core.labels import Targets
from core.metrics import best_threshold, f1_by_threshold
from core.predictions import Predictions, Probs, row_numbers
from core.prior import CategoryPrior
from fusion.inputs.gather import FusionInputs

_CLIP = 1e-3
"""No probability counts as surer: a concept that no neighbour has is not impossible."""


def with_constants(
    probs: Probs, likely: npt.NDArray[np.float32], *, prior: CategoryPrior, at_least: int
) -> Probs:
    """The probabilities with constant concepts at least as sure as the category.

    A concept that stands on all training images of a category is one of every image of it, whatever
    a network sees.

    Args:
        probs: (N, L).
        likely: (N, 7) certainty of each category: 1 where it is known.
        prior: says what is constant.
        at_least: training images that a category needs.
    """
    sure = np.zeros_like(probs)
    for column, category in enumerate(CATEGORIES):
        constant = prior.labels.columns(prior.constant(category, at_least=at_least))
        sure[:, constant] += likely[:, [column]]
    return np.maximum(probs, np.minimum(sure, 1))


def blend(first: Probs, second: Probs, *, share: float) -> Probs:
    """(N, L) weighted mean of log odds, `share` of them the second's."""
    odds = (1 - share) * _log_odds(first) + share * _log_odds(second)
    blended: Probs = expit(odds).astype(np.float32)
    return blended


def _log_odds(probs: Probs) -> Probs:
    return logit(np.clip(probs, _CLIP, 1 - _CLIP)).astype(np.float32)


Variants = Mapping[str, Sequence[Probs]]
"""By split, (N, L) probabilities of each variant."""


@dataclass(frozen=True, kw_only=True)
class VariantChoice:
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
    *,
    folds: Folds,
    empty_truth: EmptyTruth,
) -> VariantChoice:
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

    best = best_on(np.ones(len(folds), dtype=np.bool_))
    if len(np.unique(folds)) == 1:
        return VariantChoice(best=best, by_fold={int(folds[0]): 0})
    by_fold = {
        int(folds[held_out][0]): number for held_out, number in fitted_without(best_on, folds=folds)
    }
    return VariantChoice(best=best, by_fold=by_fold)


def choose_on_valid(fusion_inputs: FusionInputs, variants: Sequence[Probs]) -> VariantChoice:
    """Choose on the labelled images of valid; of a cross-fitted corpus, on all labelled ones.

    Args:
        fusion_inputs: whose images.
        variants: (N, L) each, of all readable images of valid, or of the labelled ones.
    """
    scored = fusion_inputs.corpus.scored
    images, labelled = (
        fusion_inputs.corpus.images(scored),
        fusion_inputs.corpus.labelled_images(scored),
    )
    if not len(labelled):
        return VariantChoice(best=0, by_fold={})
    return choose_variant(
        [probs[images.labelled] for probs in variants],
        labelled.targets(fusion_inputs.corpus.labels),
        folds=labelled.folds,
        empty_truth=empty_truth_rule(fusion_inputs.corpus.edition),
    )


def cross_fitted_variants(
    fusion_inputs: FusionInputs, variants: Variants, *, choice: VariantChoice
) -> dict[str, Probs]:
    """What was chosen on by the variants chosen without its folds, whatever else by the best one.

    So no image of it is predicted by a choice that its own concepts took part in.
    """
    found = {split: of_split[choice.best] for split, of_split in variants.items()}
    scored = fusion_inputs.corpus.scored
    if scored in found:
        folds = fusion_inputs.corpus.images(scored).folds
        found[scored] = found[scored].copy()
        for fold, number in choice.by_fold.items():
            found[scored][folds == fold] = variants[scored][number][folds == fold]
    return found


Support = Mapping[str, npt.NDArray[np.integer]]
"""(L,) training images of each concept of the full space, by specialist."""


def route(
    general: Predictions,
    specialists: Sequence[Predictions],
    *,
    support: Support | None = None,
    at_least: int = 0,
) -> Predictions:
    """The general predictions, with each specialist's own in its rows and concepts.

    A concept that a specialist does not cover is unknown to it, not absent: the general source
    keeps its say there. So it does for concepts that the specialist learnt from too few images.

    Args:
        general: every image, the full label space.
        specialists: some of these images each, no image twice; concepts of the full space.
        support: images that each specialist, named by its source, learnt a concept from.
        at_least: how many of them a specialist's say takes.

    Raises:
        AlignmentError: a specialist has an image that the general source lacks.
        LabelSpaceError: a specialist has a concept that the full space lacks.
    """
    probs = general.probs.copy()
    fitted_on = general.fitted_on
    for specialist in specialists:
        rows = row_numbers(general.source, general.image_ids, wanted=specialist.image_ids)
        columns = general.labels.columns(specialist.labels.cuis)
        known = np.ones(len(columns), dtype=np.bool_)
        if support is not None:
            known = support[specialist.source][columns] >= at_least
        probs[rows[:, None], columns[known][None, :]] = specialist.probs[:, known]
        fitted_on |= specialist.fitted_on
    return Predictions(
        source="routed",
        image_ids=general.image_ids,
        labels=general.labels,
        probs=probs,
        fitted_on=fitted_on,
    )
