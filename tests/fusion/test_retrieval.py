"""Retrieval against a plain loop."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from scipy.sparse import csr_array

from fusion.retrieval import retrieve, retrieve_by_category

Floats = npt.NDArray[np.float32]


def plain(
    queries: Floats, memory: Floats, targets: csr_array, *, k: int, temperature: float
) -> list[list[float]]:
    truth, answers = targets.toarray(), []
    for query in queries.astype(np.float64):
        cosine = [
            float(query @ m / (np.linalg.norm(query) * np.linalg.norm(m)))
            for m in memory.astype(np.float64)
        ]
        nearest = sorted(range(len(memory)), key=lambda j: -cosine[j])[:k]
        weights = [math.exp(cosine[j] / temperature) for j in nearest]
        answers.append(
            [
                sum(w for w, j in zip(weights, nearest, strict=True) if truth[j, c]) / sum(weights)
                for c in range(truth.shape[1])
            ]
        )
    return answers


def drawn(n_queries: int, n_memory: int = 60) -> tuple[Floats, Floats, csr_array]:
    rng = np.random.default_rng(n_queries)
    queries = rng.normal(size=(n_queries, 8)).astype(np.float32)
    memory = rng.normal(size=(n_memory, 8)).astype(np.float32)
    return queries, memory, csr_array(rng.random((n_memory, 5)) < 0.3)


@pytest.mark.parametrize("temperature", [0.1, 2.0])
@pytest.mark.parametrize("k", [1, 7, 60, 1000])
def test_the_votes_are_those_of_a_plain_loop(k: int, temperature: float) -> None:
    queries, memory, targets = drawn(20)
    found = retrieve(queries, memory, targets, k=k, temperature=temperature)
    expected = plain(queries, memory, targets, k=k, temperature=temperature)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert found.max() <= 1


def test_two_neighbours_worked_by_hand() -> None:
    queries = np.array([[2, 0]], dtype=np.float32)
    memory = np.array([[5, 0], [0, 1], [-1, 0]], dtype=np.float32)
    targets = csr_array(np.array([[1, 0, 1], [1, 1, 0], [0, 0, 1]], dtype=np.bool_))
    # Cosines 1, 0, -1; the two nearest weigh e^1 / (e^1 + e^0) = 0.7311 and 0.2689.
    found = retrieve(queries, memory, targets, k=2, temperature=1.0)
    np.testing.assert_allclose(found, [[1.0, 0.26894, 0.73106]], atol=1e-4)


def test_neighbours_of_equal_similarity_have_equal_say() -> None:
    queries = np.array([[1, 0]], dtype=np.float32)
    memory = np.array([[1, 1], [2, 2], [1, -1], [-1, 0]], dtype=np.float32)
    targets = csr_array(np.eye(4, dtype=np.bool_))
    found = retrieve(queries, memory, targets, k=3, temperature=0.05)
    np.testing.assert_allclose(found, [[1 / 3, 1 / 3, 1 / 3, 0]], atol=1e-5)


def test_an_image_of_the_memory_finds_itself_at_a_low_temperature() -> None:
    _, memory, targets = drawn(5)
    found = retrieve(memory, memory, targets, k=10, temperature=0.001)
    np.testing.assert_allclose(found, targets.toarray(), atol=1e-6)


@pytest.mark.parametrize("n_queries", [0, 511, 512, 513, 1025])
def test_blocks_do_not_show(n_queries: int) -> None:
    queries, memory, targets = drawn(n_queries)
    found = retrieve(queries, memory, targets, k=9, temperature=0.1)
    assert found.shape == (n_queries, 5)
    for row in {0, 510, 511, 512, 1024} & set(range(n_queries)):
        alone = retrieve(queries[row : row + 1], memory, targets, k=9, temperature=0.1)
        np.testing.assert_allclose(found[row], alone[0], rtol=0, atol=1e-5)


def test_the_length_of_the_features_does_not_matter() -> None:
    queries, memory, targets = drawn(6)
    found = retrieve(queries, memory, targets, k=5, temperature=0.1)
    longer = retrieve(7 * queries, 0.01 * memory, targets, k=5, temperature=0.1)
    np.testing.assert_allclose(found, longer, rtol=0, atol=1e-5)


def test_the_order_of_the_memory_does_not_matter() -> None:
    queries, memory, targets = drawn(6)
    order = np.random.default_rng(0).permutation(60)
    found = retrieve(queries, memory, targets, k=5, temperature=0.1)
    shuffled = retrieve(queries, memory[order], targets[order], k=5, temperature=0.1)
    np.testing.assert_allclose(found, shuffled, rtol=0, atol=1e-6)


def test_an_empty_memory_is_refused() -> None:
    queries, memory, targets = drawn(2)
    with pytest.raises(ValueError, match="retrieval needs at least one labelled image"):
        retrieve(queries, memory[:0], targets[:0], k=1, temperature=0.1)


def by_category(asked: Sequence[str]) -> tuple[Floats, Floats]:
    queries, memory, targets = drawn(len(asked))
    stored = ["DRCT"] * 25 + ["DRUS"] * 30 + [""] * 5
    found = retrieve_by_category(
        queries,
        memory,
        targets,
        query_categories=asked,
        memory_categories=stored,
        k=9,
        temperature=0.1,
    )
    expected = np.empty((len(asked), 5), dtype=np.float32)
    for row, category in enumerate(asked):
        among = [j for j, own in enumerate(stored) if own == category and category]
        among = among or list(range(60))
        expected[row] = plain(
            queries[row : row + 1], memory[among], targets[among], k=9, temperature=0.1
        )[0]
    return found, expected


def test_neighbours_are_looked_for_in_the_images_own_category() -> None:
    found, expected = by_category(["DRUS", "DRCT", "DRUS", "DRCT"])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_an_unknown_or_untrained_category_is_compared_with_all_images() -> None:
    found, expected = by_category(["", "DRPE", "DRUS", ""])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
