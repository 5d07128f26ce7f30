"""The plain traversal beside which k-centre is measured, and choices in processes of their own."""

import numpy as np
import pytest

from benchmarks.algorithms.bench_sampling import (
    choose_apart,
    graph_of,
    plain_row,
    plain_traversal,
    units,
    value,
)
from corpus.sampling.facility_location import K, most_similar_to_all
from corpus.sampling.k_centre import farthest_first


def test_the_plain_traversal_takes_the_farthest_row_each_time() -> None:
    # At 0, 10, 90, 100 and 180 degrees: the farthest of 0 is 180; of both 90; then 10 and 100
    # are 10 degrees from one that is kept, and the first is taken.
    angles = np.deg2rad([0, 10, 90, 100, 180])
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = plain_traversal(points.astype(np.float32), 3, start=np.array([0]))
    assert found.tolist() == [4, 2, 1]


def test_k_centre_takes_the_rows_of_the_plain_traversal() -> None:
    vectors, start = units(3_000, 24), np.array([0])
    plain = plain_traversal(vectors, 1_500, start=start)
    np.testing.assert_array_equal(farthest_first(vectors, 1_500, start=start), plain)


def test_a_choice_in_a_process_of_its_own_is_that_of_this_one() -> None:
    ours = choose_apart("k-centre", 300, 8, n_kept=40)
    expected = plain_traversal(units(300, 8), 39, start=np.array([0]))
    assert ours.rows == expected.tolist()
    assert ours.processor_s > 0
    row = plain_row(300, 8, n_kept=40, ours=ours, steps=11)
    assert row.startswith("| 300 | 11 of 40 |")
    assert row.endswith("| 100.00% |")


@pytest.mark.parametrize("everything", [True, False])
def test_the_value_of_a_choice_is_what_the_greedy_choice_makes_large(everything: bool) -> None:
    vectors = units(4 * K, 12)
    graph = graph_of(vectors, everything=everything)
    dense = len(vectors) if everything else 0
    none = np.zeros(0, dtype=np.intp)
    ours = most_similar_to_all(vectors, 20, start=none, dense=dense).tolist()
    # Plain greedy, on the graph that rivals are given.
    full, kept = graph.toarray(), list[int]()
    for _ in range(20):
        reached = full[kept].max(axis=0) if kept else np.zeros(len(full))
        gains = np.maximum(full - reached, 0).sum(axis=1)
        gains[kept] = -1
        kept.append(int(gains.argmax()))
    assert value(graph, ours) == pytest.approx(value(graph, kept), rel=1e-5)
    assert len({*ours} & {*kept}) >= 19
