"""Would more labelled images help? The second stage fitted on shares of those that there are."""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np

from core.folds import Folds, Mask, cross_fitted, in_order
from core.images import ImageTable
from core.metrics import (
    ScoredImages,
    Scores,
    best_threshold,
    bootstrap,
    f1_of_pairs_by_threshold,
    group_numbers,
)
from core.progress import progress
from core.runs.learning import LearningPoint
from core.runs.workspace import Corpus
from ensembles.config import EnsembleConfig
from ensembles.members import Member
from ensembles.pairs import Bools
from ensembles.second_stage import SecondStage, candidates_of, quick_stacker
from ensembles.stacking.candidates import Candidates
from ensembles.stacking.crossfit import cross_fit
from ensembles.stacking.registry import STACKERS

SHARES = (0.1, 0.25, 0.5)
"""Of the groups of each fold; all of them are the stacker's own score, which is known."""

N_DRAWS = 3
"""Draws of each share, whose scores are averaged: ten of a hundred groups may be lucky ones."""

LEAST = 20
"""Drawn images under which nothing is fitted: a share of so few says nothing."""


def learning_curve(
    corpus: Corpus,
    members: Sequence[Member],
    *,
    scored: ImageTable,
    config: EnsembleConfig,
    fitted: SecondStage,
    seed: int = 0,
) -> list[LearningPoint]:
    """Cross-fitted sample F1 of a stacker fitted on shares of the labelled images, at all of them.

    Whole groups are drawn in each fold, those of a smaller share among those of a larger one. The
    stacker that is judged is that of `leave_one_out`, and it always judges the same images: those
    of a fold by what drawn images of the other folds taught, its one threshold as well. Members
    are what they are: they have learnt from all images.

    Returns:
        A point a share, rising, the last one of all images. None without a quick stacker or where
        half of the images are too few to be parted.
    """
    name = quick_stacker(fitted)
    if name is None or not config.learning_curve:
        return []
    images = fitted.images
    pairs = candidates_of(
        corpus,
        members,
        table=scored,
        split=corpus.scored,
        config=config,
        statistics=fitted.statistics,
    )
    true = pairs.are_true(images.targets)
    curve: list[tuple[float, float, Scores]] = []
    with progress("learning curve", total=len(SHARES) * N_DRAWS, unit="fits") as advance:
        for share in SHARES:
            found, sizes = [], []
            for draw in range(N_DRAWS):
                drawn = drawn_images(images.folds, images.groups, share=share, seed=(seed, draw))
                if _can_learn(pairs, true, images, drawn=drawn):
                    found.append(_scores(name, pairs, true, images, drawn))
                    sizes.append(int(drawn.sum()))
                advance(1)
            if len(found) == N_DRAWS:
                curve.append((share, float(np.mean(sizes)), np.mean(found, axis=0)))
    if not curve:
        return []
    whole = next(rung.image_f1 for rung in fitted.tried if rung.name == name)
    return _points([*curve, (1.0, float(len(images)), whole)], groups=images.groups)


def _points(
    curve: Sequence[tuple[float, float, Scores]], *, groups: Sequence[str]
) -> list[LearningPoint]:
    points: list[LearningPoint] = []
    before: Scores | None = None
    for share, n_images, scores in curve:
        points.append(
            LearningPoint(
                share=share,
                n_images=n_images,
                f1=bootstrap(scores, groups=groups),
                gain=None if before is None else bootstrap(scores - before, groups=groups),
            )
        )
        before = scores
    return points


def drawn_images(
    folds: Folds, groups: Sequence[str], *, share: float, seed: int | Sequence[int] = 0
) -> Mask:
    """(N,) mask of the images of a share of the groups of each fold, rounded up.

    Of the same seed a smaller share is part of a larger one.

    Args:
        folds: (N,) fold of each image.
        groups: N groups; an image of group "" is one by itself.
        share: in (0, 1].
        seed: what decides the order of the groups.
    """
    numbers = group_numbers(groups)
    places = np.random.default_rng(seed).permutation(int(numbers.max(initial=-1)) + 1)
    drawn = np.zeros(len(numbers), dtype=np.bool_)
    for fold in np.unique(folds):
        here = np.flatnonzero(folds == fold)
        ordered = np.unique(places[numbers[here]])
        drawn[here] = np.isin(places[numbers[here]], ordered[: math.ceil(share * len(ordered))])
    return drawn


def _can_learn(pairs: Candidates, true: Bools, images: ScoredImages, *, drawn: Mask) -> bool:
    """Whether there are images enough, and true and other pairs without each of the folds."""
    if drawn.sum() < LEAST or drawn.all():
        return False
    known, folds = drawn[pairs.rows], images.folds[pairs.rows]
    parts = [true[known & (folds != fold)] for fold in np.unique(images.folds)]
    return all(part.any() and not part.all() for part in parts)


def _scores(name: str, pairs: Candidates, true: Bools, images: ScoredImages, drawn: Mask) -> Scores:
    """(N,) F1 of every image by what drawn images of other folds taught."""
    probs = cross_fit(STACKERS[name], pairs, targets=true, folds=images.folds, among=drawn)
    scores = f1_of_pairs_by_threshold(
        pairs.rows, probs, true=true, targets=images.targets, empty_truth=images.empty_truth
    )
    best = partial(_best_of, scores, drawn)
    at_best = cross_fitted(best, lambda row, held_out: scores[row, held_out], folds=images.folds)
    return in_order(at_best)


def _best_of(scores: Scores, drawn: Mask, others: Mask) -> int:
    return best_threshold(scores[:, others & drawn])
