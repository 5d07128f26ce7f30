"""The order of images, and how far a training got."""

import io

import numpy as np
import pytest
import torch

from backbones.course import Course, Fitted, epoch_batches, n_batches
from training.config import FitConfig


@pytest.mark.parametrize(("n", "size"), [(10, 4), (8, 4), (3, 8), (1, 1), (9, 4), (1, 4), (5, 1)])
def test_batches_hold_every_row_exactly_once(n: int, size: int) -> None:
    rows = np.arange(100, 100 + n)
    drawn = list(epoch_batches(rows, size=size, seed=0, epoch=1))
    assert sorted(np.concatenate(drawn)) == rows.tolist()
    assert len(drawn) == n_batches(n, size=size)


def test_a_single_image_left_over_joins_the_batch_before() -> None:
    def lengths(n: int, size: int) -> list[int]:
        return [len(b) for b in epoch_batches(np.arange(n), size=size, seed=0, epoch=1)]

    assert lengths(10, 4) == [4, 4, 2]
    assert lengths(9, 4) == [4, 5]
    assert lengths(5, 4) == [5]
    assert lengths(1, 4) == [1]  # there is none before
    assert lengths(3, 1) == [1, 1, 1]  # as asked for


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        (batch,) = epoch_batches(np.arange(50), size=50, seed=seed, epoch=epoch)
        return [int(row) for row in batch]

    assert order(3, 2) == order(3, 2)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (1, 2, 3)}) == 6


def test_a_course_goes_through_a_file_unchanged() -> None:
    course = Course(
        total=torch.tensor(0.1) * 3, epoch=4, step=7, seconds=1.5, best=Fitted(epoch=2, f1=0.5),
        best_state={"weight": torch.tensor([1.0, 2.0])}, entries=[{"epoch": 1, "f1": None}],
    )  # fmt: skip
    file = io.BytesIO()
    torch.save(course.state(), file)
    file.seek(0)
    other = Course(total=torch.zeros(()))
    other.restore(torch.load(file, weights_only=True))
    assert other.best == course.best
    assert (other.epoch, other.step, other.seconds) == (4, 7, 1.5)
    assert other.entries == course.entries
    assert torch.equal(other.total, course.total)
    assert torch.equal(other.best_state["weight"], course.best_state["weight"])


def test_training_ends_with_the_epochs_or_with_patience() -> None:
    config = FitConfig(epochs=9, patience=3)

    def over(*, done: int, best: int) -> bool:
        course = Course(total=torch.zeros(()), epoch=done + 1, best=Fitted(epoch=best, f1=0.5))
        return course.is_over(config)

    assert not over(done=0, best=0)
    assert not over(done=8, best=6)
    assert over(done=9, best=9)
    assert over(done=5, best=2)
    assert not over(done=4, best=2)


def test_a_new_epoch_starts_at_nothing() -> None:
    course = Course(total=torch.ones(()), epoch=2, step=5, seconds=3.0)
    course.begin_epoch()
    assert (float(course.total), course.epoch, course.step, course.seconds) == (0.0, 3, 0, 0.0)
