"""Nearest neighbours in blocks against the whole matrix of similarities."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from fusion.retrieval import nearest
from fusion.retrieval.nearest import Neighbours, find_nearest, unit_vectors

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


def plain(
    queries: Floats, memory: Floats, *, k: int, apart: tuple[Ints, Ints] | None = None
) -> tuple[Ints, npt.NDArray[np.float64]]:
    """Rows and cosines from the whole matrix, sorted; equal ones by row."""

    def unit(vectors: Floats) -> npt.NDArray[np.float64]:
        length = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
        return vectors / np.where(length > 0, length, 1)

    cosine = unit(queries) @ unit(memory).T
    if apart is not None:
        cosine[apart[0][:, None] == apart[1]] = -np.inf
    rows = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
    similarity = np.take_along_axis(cosine, rows, axis=1)
    return np.where(np.isinf(similarity), -1, rows), similarity


def drawn(n_queries: int, n_memory: int, *, seed: int = 0) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(n_queries, 12)).astype(np.float32),
        rng.normal(size=(n_memory, 12)).astype(np.float32),
    )


def assert_same(found: Neighbours, expected: tuple[Ints, npt.NDArray[np.float64]]) -> None:
    assert np.array_equal(found.rows, expected[0])
    np.testing.assert_allclose(found.similarity, expected[1], rtol=0, atol=1e-6)
    assert found.rows.dtype == np.int32
    assert found.similarity.dtype == np.float32


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """16 rows of memory and 8 queries at once."""
    monkeypatch.setattr(nearest, "_ROWS", 16)
    monkeypatch.setattr(nearest, "_CELLS", 128)


def test_what_a_query_finds_does_not_depend_on_those_asked_with_it() -> None:
    rng = np.random.default_rng(0)
    queries = rng.normal(size=(20, 640)).astype(np.float32)
    memory = rng.normal(size=(300, 640)).astype(np.float32)
    whole = find_nearest(queries, memory, k=9)
    for rows in ([0], [1, 2], [3, 4, 5], list(range(6, 13)), list(range(19, -1, -1))):
        some = find_nearest(queries[rows], memory, k=9)
        np.testing.assert_array_equal(some.rows, whole.rows[rows])
        np.testing.assert_array_equal(some.similarity, whole.similarity[rows])


@pytest.mark.parametrize("n_memory", [1, 15, 16, 17, 32, 33, 100])
@pytest.mark.parametrize("n_queries", [1, 7, 8, 9, 20])
@pytest.mark.usefixtures("small_blocks")
def test_blocks_do_not_show(n_queries: int, n_memory: int) -> None:
    queries, memory = drawn(n_queries, n_memory)
    for k in (1, 5, 16, 17, 40):
        found = find_nearest(queries, memory, k=k)
        assert_same(found, plain(queries, memory, k=k))
        assert found.k == min(k, n_memory)
        assert len(found) == n_queries


def test_blocks_of_full_size_do_not_show() -> None:
    queries, memory = drawn(2050, 4100)
    found = find_nearest(queries, memory, k=30)
    for row in (0, 2047, 2048, 2049):
        alone = Neighbours(found.rows[[row]], found.similarity[[row]])
        assert_same(alone, plain(queries[[row]], memory, k=30))


def test_no_queries_have_no_neighbours() -> None:
    queries, memory = drawn(0, 10)
    assert find_nearest(queries, memory, k=3).rows.shape == (0, 3)


@pytest.mark.usefixtures("small_blocks")
def test_a_memory_in_the_worst_order_gives_the_same() -> None:
    queries, memory = drawn(1, 100)
    order = plain(queries, memory, k=100)[0][0][::-1]  # ever more similar
    found = find_nearest(queries, memory[order], k=7)
    assert_same(found, plain(queries, memory[order], k=7))


@pytest.mark.usefixtures("small_blocks")
def test_the_order_of_the_memory_does_not_matter() -> None:
    queries, memory = drawn(20, 100)
    order = np.random.default_rng(1).permutation(100)
    found = find_nearest(queries, memory, k=9)
    shuffled = find_nearest(queries, memory[order], k=9)
    assert np.array_equal(found.rows, order[shuffled.rows])
    np.testing.assert_allclose(found.similarity, shuffled.similarity, rtol=0, atol=1e-6)


@pytest.mark.parametrize("k", [3, 20, 70])
@pytest.mark.usefixtures("small_blocks")
def test_equal_similarities_come_in_the_order_of_their_rows(k: int) -> None:
    # Axes and their opposites: every cosine is exactly -1, 0 or 1.
    axes = np.concatenate((np.eye(4), -np.eye(4))).astype(np.float32)
    memory = axes[np.random.default_rng(0).integers(8, size=70)]
    assert_same(find_nearest(axes, memory, k=k), plain(axes, memory, k=k))


@pytest.mark.usefixtures("small_blocks")
def test_two_runs_are_bit_equal() -> None:
    queries, memory = drawn(20, 100)
    one, other = (find_nearest(queries, memory, k=9) for _ in range(2))
    assert np.array_equal(one.rows, other.rows)
    assert np.array_equal(one.similarity, other.similarity)


@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.usefixtures("small_blocks")
def test_rows_of_the_querys_own_label_are_left_out(in_order: bool) -> None:
    queries, memory = drawn(20, 100)
    rng = np.random.default_rng(2)
    labels = rng.integers(3, size=20), rng.integers(3, size=100)
    if in_order:  # whole blocks are left out
        labels[1].sort()
    found = find_nearest(queries, memory, k=12, apart=labels)
    assert_same(found, plain(queries, memory, k=12, apart=labels))
    assert (labels[1][found.rows] != labels[0][:, None]).all()


@pytest.mark.usefixtures("small_blocks")
def test_where_fewer_than_k_are_left_there_is_no_row() -> None:
    queries, memory = drawn(3, 40)
    labels = np.array([0, 1, 2]), np.array([0] * 38 + [1, 1])
    found = find_nearest(queries, memory, k=5, apart=labels)
    assert_same(found, plain(queries, memory, k=5, apart=labels))
    assert found.rows[0, 2:].tolist() == [-1, -1, -1]  # two are left for the first query
    assert np.isneginf(found.similarity[0, 2:]).all()
    alone = find_nearest(queries[:1], memory[:38], k=5, apart=(labels[0][:1], labels[1][:38]))
    assert (alone.rows == -1).all()


@pytest.mark.parametrize("n_among", [0, 3, 16, 50])
@pytest.mark.usefixtures("small_blocks")
def test_only_the_rows_asked_for_are_searched(n_among: int) -> None:
    queries, memory = drawn(9, 100)
    among = np.sort(np.random.default_rng(3).permutation(100)[:n_among])
    folds = np.arange(9) % 2, np.arange(100) % 2
    found = find_nearest(queries, memory, k=10, among=among, apart=folds)
    shown = np.where(np.isin(np.arange(100), among), folds[1], -1)
    for row in range(9):
        hidden = np.where(shown == -1, folds[0][row], shown)
        expected = plain(queries[row : row + 1], memory, k=10, apart=(folds[0][row, None], hidden))
        assert found.rows[row].tolist() == expected[0][0].tolist()


def test_a_vector_of_zeros_is_similar_to_nothing() -> None:
    queries = np.array([[0, 0], [1, 0]], dtype=np.float32)
    memory = np.array([[0, 0], [-3, 0], [5, 0]], dtype=np.float32)
    found = find_nearest(queries, memory, k=3)
    assert found.rows.tolist() == [[0, 1, 2], [2, 0, 1]]
    assert found.similarity.tolist() == [[0, 0, 0], [1, 0, -1]]


def test_a_short_vector_keeps_its_direction() -> None:
    np.testing.assert_allclose(unit_vectors(np.array([[3e-15, 4e-15]], np.float32)), [[0.6, 0.8]])


@pytest.mark.usefixtures("small_blocks")
def test_a_memory_on_disk_is_searched_as_it_lies(tmp_path: Path) -> None:
    queries, memory = drawn(20, 100)
    np.save(tmp_path / "memory.npy", memory)
    mapped = np.load(tmp_path / "memory.npy", mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    assert_same(find_nearest(queries, mapped, k=9), plain(queries, memory, k=9))
    some = np.arange(0, 100, 3)
    found = find_nearest(queries, mapped, k=9, among=some)
    assert np.array_equal(found.rows, some[plain(queries, memory[some], k=9)[0]])


def test_the_first_neighbours_are_those_of_a_smaller_search() -> None:
    queries, memory = drawn(20, 100)
    first = find_nearest(queries, memory, k=30).first(4)
    assert_same(first, plain(queries, memory, k=4))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_finds_the_same() -> None:
    queries, memory = drawn(2050, 9000)
    folds = np.arange(2050) % 3, np.arange(9000) % 3
    found = find_nearest(queries, memory, k=30, device="cuda", apart=folds)
    rows, similarity = plain(queries, memory, k=30, apart=folds)
    np.testing.assert_allclose(found.similarity, similarity, rtol=0, atol=1e-5)
    assert (found.rows == rows).mean() > 0.999  # but for neighbours of almost equal similarity


def test_an_empty_memory_is_refused() -> None:
    queries, memory = drawn(2, 0)
    with pytest.raises(ValueError, match="the memory is empty: nothing to search"):
        find_nearest(queries, memory, k=1)


def test_a_k_below_1_is_refused() -> None:
    with pytest.raises(ValueError, match="k: expected at least 1, found 0"):
        find_nearest(*drawn(2, 3), k=0)


def test_other_features_than_the_memorys_are_refused() -> None:
    queries, memory = drawn(2, 3)
    with pytest.raises(ValueError, match=r"queries are \(2, 11\), the memory \(3, 12\)"):
        find_nearest(queries[:, :-1], memory, k=1)


def test_labels_that_do_not_fit_are_refused() -> None:
    labels = np.zeros(2, np.int64), np.zeros(2, np.int64)
    with pytest.raises(ValueError, match="apart: 2 and 2 labels for 2 queries and 3 rows"):
        find_nearest(*drawn(2, 3), k=1, apart=labels)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize("where", [0, 1])
def test_vectors_without_a_finite_length_are_refused(where: int, value: float) -> None:
    arrays = drawn(2, 3)
    arrays[where][0, 0] = value
    with pytest.raises(ValueError, match="vectors to compare must be finite"):
        find_nearest(*arrays, k=1)


def test_neighbours_of_another_shape_than_their_similarity_are_refused() -> None:
    with pytest.raises(ValueError, match=r"rows are \(2, 3\), similarities \(2, 2\)"):
        Neighbours(rows=np.zeros((2, 3), np.int32), similarity=np.zeros((2, 2), np.float32))
