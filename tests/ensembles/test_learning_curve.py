"""The second stage on fewer labelled images: who is drawn, and who is judged by whom."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from core.images import ImageTable
from core.metrics import bootstrap, cross_fitted_f1
from core.runs.workspace import Corpus, Workspace
from ensembles.config import EnsembleConfig
from ensembles.learning_curve import N_DRAWS, SHARES, drawn_images, learning_curve
from ensembles.members import Member, gather_members
from ensembles.second_stage import (
    SecondStage,
    candidates_of,
    fit_second_stage,
    quick_stacker,
)
from ensembles.stacking.registry import STACKERS

SaveRun = Callable[..., Path]

CONFIG = EnsembleConfig(stackers=("mean", "logistic"))

Stage = tuple[list[Member], ImageTable, SecondStage]


@pytest.fixture
def stage(generated: Corpus, workspace: Workspace, fused: SaveRun) -> Stage:
    fused("one-hot", noise=0.8)
    fused("retrieval", noise=3.0)
    valid, members = generated.table.of(split="valid"), list(gather_members(generated, workspace))
    fitted = fit_second_stage(
        generated, members, scored=valid, config=CONFIG, empty_truth="left out"
    )
    return members, valid, replace(fitted, stacker_name="logistic")


def test_whole_groups_are_drawn_in_every_fold_and_small_draws_are_part_of_large_ones() -> None:
    groups = [f"p{row // 2}" for row in range(80)]
    folds = np.array([row // 2 % 4 for row in range(80)])
    before = np.zeros(80, dtype=np.bool_)
    for share, n_groups in ((0.1, 1), (0.25, 3), (0.5, 5), (1.0, 10)):  # of ten a fold, rounded up
        drawn = drawn_images(folds, groups, share=share, seed=3)
        np.testing.assert_array_equal(drawn[::2], drawn[1::2])
        assert np.bincount(folds[drawn]).tolist() == [2 * n_groups] * 4
        assert not (before & ~drawn).any()
        before = drawn
    other = drawn_images(folds, groups, share=0.25, seed=4)
    assert (other != drawn_images(folds, groups, share=0.25, seed=3)).any()


def test_images_without_a_group_are_drawn_one_by_one() -> None:
    drawn = drawn_images(np.zeros(10, dtype=np.int64), [""] * 10, share=0.5)
    assert drawn.sum() == 5


def test_the_curve_ends_at_the_stackers_own_score_and_its_points_are_paired(
    generated: Corpus, stage: Stage
) -> None:
    members, valid, fitted = stage
    points = learning_curve(generated, members, scored=valid, config=CONFIG, fitted=fitted)
    assert [point.share for point in points] == [0.25, 0.5, 1.0]  # a tenth are 8 images: too few
    whole = next(rung.image_f1 for rung in fitted.tried if rung.name == "logistic")
    assert points[-1].f1 == bootstrap(whole, groups=fitted.images.groups)
    assert points[-1].n_images == len(valid)
    assert points[0].gain is None
    for before, point in pairwise(points):
        assert point.gain is not None
        assert point.n_images > before.n_images
        assert point.gain.value == pytest.approx(point.f1.value - before.f1.value)
    again = learning_curve(generated, members, scored=valid, config=CONFIG, fitted=fitted)
    assert again == points


def test_a_point_is_what_a_fit_on_the_drawn_images_of_other_folds_says(
    generated: Corpus, stage: Stage
) -> None:
    """Worked once more in plain lines, for half of the groups."""
    members, valid, fitted = stage
    points = learning_curve(generated, members, scored=valid, config=CONFIG, fitted=fitted)
    images = fitted.images
    pairs = candidates_of(generated, members, table=valid, split="valid", config=CONFIG)
    true = pairs.are_true(images.targets)
    found = []
    for draw in range(N_DRAWS):
        drawn = drawn_images(images.folds, images.groups, share=0.5, seed=(0, draw))
        probs = np.zeros(len(true), dtype=np.float32)
        for fold in np.unique(images.folds):
            held_out = images.folds[pairs.rows] == fold
            taught = ~held_out & drawn[pairs.rows]
            model = STACKERS["logistic"]().fit(pairs.take(taught), true[taught])
            probs[held_out] = model.predict(pairs.take(held_out))
        dense = pairs.to_sparse(probs).toarray()
        scores = np.empty(len(images))
        for fold in np.unique(images.folds):  # the threshold by drawn images of the others
            rows = np.flatnonzero((images.folds == fold) | drawn)
            part = images.take(rows)
            own = cross_fitted_f1(
                dense[rows],
                part.targets,
                folds=np.where(part.folds == fold, 0, 1),
                empty_truth="left out",
            )
            scores[images.folds == fold] = own[part.folds == fold]
        found.append(scores)
    assert points[1].f1.value == pytest.approx(float(np.nanmean(np.mean(found, axis=0))))


def test_it_can_be_left_out_and_needs_a_quick_stacker(generated: Corpus, stage: Stage) -> None:
    members, valid, fitted = stage
    quiet = replace(CONFIG, learning_curve=False)
    assert not learning_curve(generated, members, scored=valid, config=quiet, fitted=fitted)
    slow = replace(fitted, stacker_name="lightgbm", tried=fitted.tried[:1])
    assert quick_stacker(slow) is None
    assert not learning_curve(generated, members, scored=valid, config=CONFIG, fitted=slow)
    assert len(SHARES) == 3
