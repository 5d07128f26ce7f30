"""Several networks on different parts of train."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from torch import nn

from core.errors import ConfigError
from training.batches import Examples
from training.config import FitConfig
from training.devices.compute import Compute
from training.members import (
    cross_fitted_members,
    fit_members,
    plan_members,
    predict_members,
    stopping_images,
)
from training.predict import Rows, predict

N, D, L = 30, 5, 3

FEATURES = torch.from_numpy(np.random.default_rng(0).normal(size=(N, D)).astype(np.float32))
TARGETS = csr_array(FEATURES.numpy()[:, :L] > 0.3)

HERE = Compute()


def batches(rows: Rows) -> tuple[torch.Tensor]:
    return (FEATURES[torch.from_numpy(rows)],)


EXAMPLES = Examples(batches=batches, targets=TARGETS, rows=np.arange(N))


def folds_of(*numbers: int) -> np.ndarray[Any, np.dtype[np.int16]]:
    return np.array(numbers, dtype=np.int16)


def test_each_member_is_stopped_on_another_fold() -> None:
    folds = folds_of(0, 0, 1, 2, 2)
    assert stopping_images(folds, 0).tolist() == [True, True, False, False, False]
    assert stopping_images(folds, 1).tolist() == [False, False, True, False, False]
    assert stopping_images(folds, 2).tolist() == [False, False, False, True, True]


def test_more_members_than_folds_go_round() -> None:
    folds = folds_of(0, 1, 1)
    assert stopping_images(folds, 2).tolist() == stopping_images(folds, 0).tolist()


def test_folds_that_a_small_category_lacks_are_passed_over() -> None:
    folds = folds_of(3, 7, 7)
    assert stopping_images(folds, 0).tolist() == [True, False, False]
    assert stopping_images(folds, 1).tolist() == [False, True, True]


@pytest.mark.parametrize("folds", [folds_of(4, 4, 4), folds_of(2)])
def test_images_of_a_single_fold_are_all_learnt_from(folds: Any) -> None:
    assert not stopping_images(folds, 0).any()
    assert not stopping_images(folds, 1).any()


def fitted(n_members: int) -> tuple[list[nn.Module], Any, Any]:
    seen: list[Rows] = []
    log: list[dict[str, Any]] = []

    def new_model(train_rows: Rows) -> nn.Module:
        seen.append(train_rows)
        return nn.Linear(D, L)

    members = fit_members(
        new_model,
        EXAMPLES,
        folds=(np.arange(N) % 3).astype(np.int16),
        config=FitConfig(n_members=n_members, epochs=2, patience=2, batch_size=8, loss="bce"),
        compute=HERE,
        log=log.append,
    )
    return [model for model, _ in members], seen, log


def test_a_member_is_built_for_the_images_it_learns_from() -> None:
    _, seen, log = fitted(2)
    assert seen[0].tolist() == [row for row in range(N) if row % 3 != 0]
    assert seen[1].tolist() == [row for row in range(N) if row % 3 != 1]
    assert [(entry["member"], entry["epoch"]) for entry in log] == [(0, 1), (0, 2), (1, 1), (1, 2)]


def test_together_the_members_have_seen_every_image() -> None:
    _, seen, _ = fitted(2)
    assert set(seen[0]) | set(seen[1]) == set(range(N))


def test_members_differ_and_do_not_depend_on_how_many_there_are() -> None:
    one, two = fitted(1)[0], fitted(2)[0]
    weights = [dict(model.named_parameters())["weight"] for model in (*one, *two)]
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)
    assert not torch.equal(weights[1], weights[2])


def test_each_member_starts_from_weights_of_its_own() -> None:
    started: list[torch.Tensor] = []

    def new_model(train_rows: Rows) -> nn.Module:
        model = nn.Linear(D, L)
        started.append(model.weight.detach().clone())
        return model

    fit_members(
        new_model,
        EXAMPLES,
        folds=np.zeros(N, dtype=np.int16),  # nothing else could make them differ
        config=FitConfig(n_members=2, epochs=1, patience=1),
        compute=HERE,
        log=lambda entry: None,
    )
    assert not torch.equal(started[0], started[1])


def test_with_folds_every_image_is_held_out_by_one_network_and_never_met_by_it() -> None:
    folds = folds_of(0, 1, 2, 3, 4, 0, 1)
    members = plan_members(folds, FitConfig(), n_folds=2)
    # Folds 0, 2, 4 are the first part, 1 and 3 the second; each is stopped on the other's first.
    assert [m.held_out.tolist() for m in members] == [
        [True, False, True, False, True, True, False],
        [False, True, False, True, False, False, True],
    ]
    assert folds[members[0].stop].tolist() == [1, 1]
    assert folds[members[1].stop].tolist() == [0, 0]
    for member in members:
        assert not (member.stop & member.held_out).any()
        assert not (member.learnt & (member.stop | member.held_out)).any()
        assert (member.learnt | member.stop | member.held_out).all()


def test_seeds_repeat_all_networks_with_other_seeds() -> None:
    folds = folds_of(0, 1, 2)
    config = FitConfig(n_members=2, seeds=3, seed=10)
    members = plan_members(folds, config)
    assert [m.number for m in members] == [0, 1, 2, 3, 4, 5]
    assert [m.seed for m in members] == [10, 11, 12, 13, 14, 15]
    assert [folds[m.stop].tolist() for m in members] == [[0], [1]] * 3
    assert len(plan_members(folds, config, n_folds=3)) == 9


def test_two_folds_that_are_both_needed_leave_none_to_stop_on() -> None:
    first, second = plan_members(folds_of(4, 9, 9), FitConfig(), n_folds=2)
    assert first.held_out.tolist() == [True, False, False]
    assert second.held_out.tolist() == [False, True, True]
    assert not first.stop.any()
    assert not second.stop.any()


def test_without_stopping_images_a_network_learns_from_all_it_does_not_hold_out() -> None:
    folds = folds_of(0, 1, 2, 3)
    for n_folds in (0, 2):
        for member in plan_members(folds, FitConfig(n_members=2), n_folds=n_folds, stops=False):
            assert not member.stop.any()
            np.testing.assert_array_equal(member.learnt, ~member.held_out)


def test_left_out_one_by_one_each_fold_has_a_network_that_never_meets_it() -> None:
    folds = folds_of(0, 2, 2, 0)
    members = cross_fitted_members(folds, FitConfig(n_members=7, seeds=2, seed=3), n_folds=3)
    assert [(m.number, m.seed) for m in members] == [(k, 3 + k) for k in range(6)]
    for member in members:
        np.testing.assert_array_equal(member.held_out, folds == member.number % 3)
        assert not member.stop.any()
    assert members[1].learnt.all()  # no image is in fold 1


def test_more_parts_than_folds_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"folds: expected at most the 2 folds .* found 3"):
        plan_members(folds_of(1, 1, 5), FitConfig(), n_folds=3)


def test_the_members_say_is_their_mean() -> None:
    models, rows = fitted(2)[0], np.array([4, 0, 17])
    probs = predict_members(models, batches, rows=rows, n_concepts=L, compute=HERE)
    single = [predict(model, batches, rows=rows, compute=HERE) for model in models]
    np.testing.assert_allclose(probs, (single[0] + single[1]) / 2, rtol=0, atol=1e-7)
    assert probs.dtype == np.float32


def test_predictions_of_a_batch_are_those_of_its_images_one_by_one() -> None:
    models, rows = fitted(2)[0], np.array([4, 0, 17, 29])
    whole = predict_members(models, batches, rows=rows, n_concepts=L, compute=HERE)
    for row, expected in zip(rows, whole, strict=True):
        single = predict_members(models, batches, rows=np.array([row]), n_concepts=L, compute=HERE)
        np.testing.assert_allclose(single[0], expected, rtol=0, atol=1e-6)


def test_no_images_have_no_predictions() -> None:
    probs = predict_members(fitted(1)[0], batches, rows=np.arange(0), n_concepts=L, compute=HERE)
    assert probs.shape == (0, L)


def test_certain_members_stay_within_0_and_1() -> None:
    sure = nn.Linear(D, L)
    nn.init.zeros_(sure.weight)
    nn.init.constant_(sure.bias, 100.0)
    probs = predict_members([sure] * 3, batches, rows=np.arange(N), n_concepts=L, compute=HERE)
    assert probs.max() == 1.0
