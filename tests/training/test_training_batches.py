"""Examples and their mirrors."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest
from scipy.sparse import csr_array

from training.batches import (
    Examples,
    epoch_order,
    prefetched,
    rarity,
    split_batch,
    with_mirrors,
)


def test_what_is_learnt_from_gets_a_mirror_and_what_stops_does_not() -> None:
    targets = csr_array(np.array([[1, 0], [0, 1], [1, 1]], dtype=np.bool_))
    examples = Examples(
        batches=lambda rows: (),
        targets=targets,
        rows=np.array([7, 4, 9]),
        kinds=("DRCT", "DRXR", "DRMR"),
    )
    doubled, stop = with_mirrors(examples, np.array([False, True, False]), n_inputs=20)
    assert doubled.rows.tolist() == [7, 4, 9, 27, 29]  # 20 more is the mirror
    assert stop.tolist() == [False, True, False, False, False]
    assert doubled.kinds == ("DRCT", "DRXR", "DRMR", "DRCT", "DRMR")
    np.testing.assert_array_equal(
        doubled.targets.toarray(), [[1, 0], [0, 1], [1, 1], [1, 0], [1, 1]]
    )


def test_examples_without_categories_stay_without() -> None:
    targets = csr_array(np.ones((2, 1), dtype=np.bool_))
    examples = Examples(batches=lambda rows: (), targets=targets, rows=np.arange(2))
    doubled, _ = with_mirrors(examples, np.array([True, False]), n_inputs=2)
    assert doubled.kinds == ()
    assert doubled.targets.shape == (3, 1)


def test_a_batch_is_parted_evenly() -> None:
    parts = split_batch(10, n_processes=2, micro_batch=3)
    assert [[len(rows) for rows in part] for part in parts] == [[3, 3], [2, 2]]


def test_images_are_drawn_by_their_rarest_concept() -> None:
    # Of eight images concept 0 is on all, 1 on two of them, 2 on one, which also has 1; the
    # rarest shares are 1, 1/4 and 1/8, so weights 1, 2 and the root of 8.
    dense = np.zeros((8, 4), dtype=np.bool_)
    dense[:, 0] = True
    dense[:2, 1] = True
    dense[0, 2] = True
    weights = rarity(csr_array(dense))
    expected = np.array([8**0.5, 2, 1, 1, 1, 1, 1, 1])
    np.testing.assert_allclose(weights, expected / expected.sum())


def test_no_concept_is_rarer_than_one_in_a_thousand_and_no_image_rarer_than_its_concepts() -> None:
    dense = np.zeros((10_000, 3), dtype=np.bool_)
    dense[5:, 0] = True
    dense[7, 1] = True  # one in 10,000 counts as one in 1,000
    weights = rarity(csr_array(dense))
    assert weights.sum() == pytest.approx(1)
    assert weights[7] / weights[0] == pytest.approx(1000**0.5)  # none: as if all had its concepts
    assert weights[8] / weights[0] == pytest.approx((10_000 / 9_995) ** 0.5)


def test_an_epoch_that_is_drawn_depends_on_seed_and_epoch_alone() -> None:
    rows, weights = np.arange(100, 150), np.arange(50) / np.arange(50).sum()

    def order(seed: int, epoch: int) -> list[int]:
        return [int(r) for r in epoch_order(rows, seed=seed, epoch=epoch, weights=weights)]

    assert order(3, 2) == order(3, 2)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (1, 2, 3)}) == 6
    drawn = np.bincount([r for epoch in range(400) for r in order(0, epoch)], minlength=150)[100:]
    assert drawn[0] == 0
    np.testing.assert_allclose(drawn / drawn.sum(), weights, atol=0.003)
    assert len(order(0, 1)) == 50


def n_readers() -> int:
    return sum(thread.name.startswith("prefetch") for thread in threading.enumerate())


class Numbers:
    """Counts from 0 and keeps what it gave, and in which thread."""

    def __init__(self, *, total: int = 1_000, fail_at: int = -1) -> None:
        self.total = total
        self.fail_at = fail_at
        self.given: list[int] = []
        self.threads: set[str] = set()
        self.ended = False

    def __iter__(self) -> Iterator[int]:
        try:
            for number in range(self.total):
                if number == self.fail_at:
                    raise OSError(f"no batch {number}")
                self.given.append(number)
                self.threads.add(threading.current_thread().name)
                yield number
        finally:
            self.ended = True


def wait_for(n: int, numbers: Numbers) -> None:
    limit = time.monotonic() + 10
    while len(numbers.given) < n and time.monotonic() < limit:
        time.sleep(0.001)


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("total", [0, 1, 2, 7])
def test_the_batches_come_all_and_in_order(total: int, depth: int) -> None:
    numbers = Numbers(total=total)
    assert list(prefetched(numbers, depth)) == list(range(total))
    assert numbers.ended
    assert n_readers() == 0


def test_so_many_are_prepared_ahead_and_no_more_by_one_other_thread() -> None:
    numbers = Numbers()
    with closing(prefetched(numbers, depth=3)) as batches:
        assert numbers.given == []  # nothing is read before something is asked for
        next(batches)
        wait_for(4, numbers)
        time.sleep(0.02)
        assert numbers.given == [0, 1, 2, 3]  # the one in use and three more
        next(batches)
        wait_for(5, numbers)
        assert numbers.given == [0, 1, 2, 3, 4]
    assert len(numbers.threads) == 1
    assert threading.current_thread().name not in numbers.threads


def test_who_stops_early_leaves_no_thread_behind() -> None:
    numbers = Numbers()
    with closing(prefetched(numbers)) as batches:
        for number in batches:
            if number == 3:
                break
    assert n_readers() == 0
    assert len(numbers.given) <= 6


def test_who_raises_leaves_no_thread_behind() -> None:
    def consume() -> None:
        with closing(prefetched(Numbers())) as batches:
            for _ in batches:
                raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        consume()
    assert n_readers() == 0


def test_what_a_batch_raises_comes_in_its_turn() -> None:
    batches = prefetched(Numbers(fail_at=3), depth=2)
    assert [next(batches) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="no batch 3") as raised:
        next(batches)
    assert "__iter__" in [entry.name for entry in raised.traceback]  # where it was raised
    assert n_readers() == 0


def test_a_depth_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="depth: expected at least 1, found 0"):
        next(prefetched(Numbers(), depth=0))


def test_what_cannot_be_iterated_is_refused() -> None:
    with pytest.raises(TypeError, match="not iterable"):
        next(prefetched(5))  # type: ignore[arg-type]
