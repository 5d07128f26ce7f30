"""The approximate index against the exact search."""

import ast
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from core.errors import ConfigError
from fusion.retrieval import approximate
from fusion.retrieval.approximate import Codes, build_index, recall_at_k
from fusion.retrieval.nearest import Neighbours, find_nearest

Floats = npt.NDArray[np.float32]


def clustered(n: int, *, seed: int) -> Floats:
    """Vectors around 50 centres in 16 dimensions, of lengths that differ."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(50, 16))
    vectors = centres[rng.integers(50, size=n)] + 0.4 * rng.normal(size=(n, 16))
    return (vectors * rng.uniform(0.5, 3, size=(n, 1))).astype(np.float32)


@pytest.fixture
def faiss() -> None:
    pytest.importorskip("faiss", reason="faiss is not installed: pip install 'radfuse[retrieval]'")


MEMORY, QUERIES = clustered(3000, seed=1), clustered(100, seed=2)


@pytest.mark.usefixtures("faiss")
def test_all_lists_together_hold_the_exact_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approximate, "_ROWS", 64)
    index = build_index(MEMORY)
    found = index.find_nearest(QUERIES, k=25, n_probe=10_000)
    exact = find_nearest(QUERIES, MEMORY, k=25)
    assert recall_at_k(found, exact) > 0.999  # but for neighbours of equal similarity
    np.testing.assert_allclose(found.similarity, exact.similarity, rtol=0, atol=1e-5)
    assert found.rows.dtype == np.int32
    assert found.similarity.dtype == np.float32


@pytest.mark.usefixtures("faiss")
def test_more_lists_find_more() -> None:
    index = build_index(MEMORY)
    exact = find_nearest(QUERIES, MEMORY, k=25)
    recalls = [
        recall_at_k(index.find_nearest(QUERIES, k=25, n_probe=n), exact) for n in (1, 4, 16, 64)
    ]
    assert recalls == sorted(recalls)
    assert recalls[0] < 0.9 < recalls[-1]


@pytest.mark.parametrize(("codes", "least"), [("float16", 0.99), ("uint8", 0.9)])
@pytest.mark.usefixtures("faiss")
def test_shorter_codes_lose_little(codes: Codes, least: float) -> None:
    index = build_index(MEMORY, codes=codes)
    found = index.find_nearest(QUERIES, k=25, n_probe=index.n_lists)
    assert recall_at_k(found, find_nearest(QUERIES, MEMORY, k=25)) > least


@pytest.mark.usefixtures("faiss")
def test_lists_grow_with_the_root_of_the_rows_and_never_starve() -> None:
    assert build_index(MEMORY).n_lists == 75  # 3,000 / 40, below 4 sqrt(3,000) = 219
    assert build_index(MEMORY[:30]).n_lists == 1
    assert build_index(MEMORY, n_lists=5).n_lists == 5


@pytest.mark.usefixtures("faiss")
def test_rows_that_the_lists_do_not_hold_are_missing() -> None:
    index = build_index(MEMORY[:80], n_lists=2)
    found = index.find_nearest(QUERIES, k=1000, n_probe=1)
    assert found.rows.shape == (100, 80)
    n_found = (found.rows >= 0).sum(axis=1)
    assert n_found.max() < 80
    assert np.isneginf(found.similarity[found.rows < 0]).all()
    assert (found.rows[:, 0] >= 0).all()


@pytest.mark.usefixtures("faiss")
def test_only_the_rows_asked_for_are_put_in(tmp_path: Path) -> None:
    np.save(tmp_path / "memory.npy", MEMORY)
    mapped = np.load(tmp_path / "memory.npy", mmap_mode="r")
    among = np.arange(1, 3000, 2)
    found = build_index(mapped, among=among).find_nearest(QUERIES, k=5, n_probe=1000)
    assert recall_at_k(found, find_nearest(QUERIES, MEMORY, k=5, among=among)) > 0.999


@pytest.mark.usefixtures("faiss")
def test_the_same_seed_gives_the_same_neighbours() -> None:
    one, other = (build_index(MEMORY, seed=3).find_nearest(QUERIES, k=9) for _ in range(2))
    assert np.array_equal(one.rows, other.rows)
    assert np.array_equal(one.similarity, other.similarity)


@pytest.mark.usefixtures("faiss")
def test_faiss_and_torch_work_in_turn_at_torchs_number_of_threads() -> None:
    import faiss as module

    index = build_index(MEMORY)
    for _ in range(3):
        torch.mm(torch.tensor(QUERIES), torch.tensor(MEMORY).T).topk(5)
        index.find_nearest(QUERIES, k=5)
    assert module.omp_get_max_threads() == torch.get_num_threads()


def test_faiss_is_not_imported_before_it_is_needed() -> None:
    module = ast.parse(Path(approximate.__file__).read_text(encoding="utf-8"))
    first = [node for node in module.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not [line for line in map(ast.unparse, first) if "faiss" in line]


def test_without_faiss_the_package_to_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ConfigError, match=r"run `pip install 'radfuse\[retrieval\]'` first$"):
        build_index(MEMORY)


@pytest.mark.parametrize("n_lists", [0, 76])
@pytest.mark.usefixtures("faiss")
def test_too_few_or_too_many_lists_are_refused(n_lists: int) -> None:
    with pytest.raises(ValueError, match=r"n_lists: expected 1 to 75 for 3000 rows, found"):
        build_index(MEMORY, n_lists=n_lists)


@pytest.mark.usefixtures("faiss")
def test_an_empty_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="the memory is empty: nothing to search"):
        build_index(MEMORY[:0])


@pytest.mark.parametrize(("k", "n_probe"), [(0, 1), (1, 0)])
@pytest.mark.usefixtures("faiss")
def test_a_search_for_nothing_is_refused(k: int, n_probe: int) -> None:
    index = build_index(MEMORY[:100])
    with pytest.raises(ValueError, match="expected k and n_probe of at least 1, found"):
        index.find_nearest(QUERIES, k=k, n_probe=n_probe)


@pytest.mark.usefixtures("faiss")
def test_other_features_than_the_indexs_are_refused() -> None:
    index = build_index(MEMORY[:100])
    with pytest.raises(ValueError, match=r"queries are \(100, 15\), the index has 16 features"):
        index.find_nearest(QUERIES[:, 1:], k=1)


def neighbours(rows: list[list[int]]) -> Neighbours:
    return Neighbours(
        rows=np.array(rows, dtype=np.int32), similarity=np.zeros((len(rows), len(rows[0])), "f4")
    )


def test_recall_worked_by_hand() -> None:
    exact = neighbours([[1, 2, 3], [4, 5, -1]])
    # Of five neighbours that exist, 3 and 1 of the first query and 5 of the second were found.
    assert recall_at_k(neighbours([[3, 1, 9], [1, 5, -1]]), exact) == 3 / 5
    assert recall_at_k(exact, exact) == 1


def test_recall_of_other_shapes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"neighbours are \(1, 2\), exact ones \(1, 1\)"):
        recall_at_k(neighbours([[1, 2]]), neighbours([[1]]))


def test_recall_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no exact neighbours: recall is not defined"):
        recall_at_k(neighbours([[1]]), neighbours([[-1]]))
