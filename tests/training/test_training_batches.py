"""Examples and their mirrors."""

import numpy as np
from scipy.sparse import csr_array

from training.batches import Examples, split_batch, with_mirrors


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
    parts = split_batch(10, 2, 3)
    assert [[len(rows) for rows in part] for part in parts] == [[3, 3], [2, 2]]
