"""Votes of neighbours against a plain loop; the choice of k and temperature on train."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.sparse import csr_array

from core.config import overlay
from core.labels import LabelSpace, Targets
from core.runs.workspace import Corpus, Workspace
from fusion.config import FuseConfig
from fusion.inputs.gather import FusionInputs, gather_inputs
from fusion.retrieval.nearest import Neighbours, find_nearest
from fusion.retrieval.votes import (
    Archive,
    as_references,
    choose_votes,
    draw_queries,
    find_by_category,
    for_neighbours,
    retrieval,
    vote,
)
from training.heads import Standardise

Floats = npt.NDArray[np.float32]

NAN = float("nan")
INF = float("inf")


def retrieve(
    queries: Floats, memory: Floats, targets: csr_array, *, k: int, temperature: float
) -> Floats:
    return vote(find_nearest(queries, memory, k=k), targets, k=k, temperature=temperature)


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


@pytest.mark.parametrize("n_queries", [0, 1023, 1024, 1025, 2049])
def test_blocks_do_not_show(n_queries: int) -> None:
    queries, memory, targets = drawn(n_queries)
    found = retrieve(queries, memory, targets, k=9, temperature=0.1)
    assert found.shape == (n_queries, 5)
    for row in {0, 1022, 1023, 1024, 2048} & set(range(n_queries)):
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
    with pytest.raises(ValueError, match="the memory is empty: nothing to search"):
        retrieve(queries, memory[:0], targets[:0], k=1, temperature=0.1)


def by_category(asked: Sequence[str]) -> tuple[Floats, Floats]:
    queries, memory, targets = drawn(len(asked))
    stored = ["DRCT"] * 25 + ["DRUS"] * 30 + [""] * 5
    neighbours = find_by_category(
        queries, memory, query_categories=asked, memory_categories=stored, k=9
    )
    found = vote(neighbours, targets, k=9, temperature=0.1)
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


def test_the_neighbours_of_a_category_are_rows_of_the_whole_memory_in_other_folds() -> None:
    queries, memory, _ = drawn(6)
    stored = ["DRCT", "DRUS", "DRXR"] * 20
    asked = ["DRUS", "DRCT", "", "DRUS", "DRPE", "DRXR"]
    folds, own = np.arange(60) // 20, np.array([0, 1, 2, 2, 0, 1])
    found = find_by_category(
        queries,
        memory,
        query_categories=asked,
        memory_categories=stored,
        k=30,
        apart=(own, folds),
    )
    for row, category in enumerate(asked):
        among = [
            j
            for j in range(60)
            if folds[j] != own[row] and (stored[j] == category or category in {"", "DRPE"})
        ]
        cosine = memory[among] @ queries[row] / np.linalg.norm(memory[among], axis=1)
        expected = np.array(among)[np.argsort(-cosine)][:30]
        assert found.rows[row, : len(expected)].tolist() == expected.tolist()
        assert (found.rows[row, len(expected) :] == -1).all()


def by_hand() -> tuple[Neighbours, csr_array]:
    """Three neighbours, one, and none at all."""
    neighbours = Neighbours(
        rows=np.array([[2, 0, 1], [1, -1, -1], [-1, -1, -1]], dtype=np.int32),
        similarity=np.array([[1, 0, 0], [0.3, -INF, -INF], [-INF] * 3], dtype=np.float32),
    )
    return neighbours, csr_array(np.array([[1, 1], [1, 0], [0, 1]], dtype=np.bool_))


def test_votes_worked_by_hand() -> None:
    neighbours, targets = by_hand()
    # At temperature 1 the three weigh e, 1 and 1 over e + 2 = 4.718: 0.5761, 0.2119, 0.2119.
    # Rows 2 and 0 have the second concept, rows 0 and 1 the first. A single one has all the say.
    found = vote(neighbours, targets, k=3, temperature=1.0)
    expected = np.array([[0.42388, 0.78806], [1, 0], [0, 0]])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_one_search_serves_every_smaller_k() -> None:
    queries, memory, targets = drawn(20)
    found = find_nearest(queries, memory, k=40)
    for k in (1, 5, 40):
        expected = retrieve(queries, memory, targets, k=k, temperature=0.2)
        assert np.array_equal(vote(found, targets, k=k, temperature=0.2), expected)


def test_a_tiny_temperature_does_not_overflow() -> None:
    neighbours, targets = by_hand()
    found = vote(neighbours, targets, k=3, temperature=1e-30)
    assert found.tolist() == [[0, 1], [1, 0], [0, 0]]


@pytest.mark.parametrize(("k", "found"), [(0, 3), (-1, 3), (2, 1)])
def test_a_k_beyond_the_search_is_refused(k: int, found: int) -> None:
    neighbours, targets = by_hand()
    with pytest.raises(ValueError, match=rf"k: expected 1 to the {found} neighbours found, got"):
        vote(neighbours.first(found), targets, k=k, temperature=1.0)


@pytest.mark.parametrize("temperature", [0.0, -1.0, NAN])
def test_a_temperature_that_is_not_above_0_is_refused(temperature: float) -> None:
    neighbours, targets = by_hand()
    with pytest.raises(ValueError, match="temperature: expected above 0, found"):
        vote(neighbours, targets, k=1, temperature=temperature)


def clusters(right: int) -> tuple[Floats, Targets, npt.NDArray[np.int64]]:
    """Images in clusters of `right` a fold, in three folds.

    Each image shows the concept of its cluster with a chance of 0.8, else one drawn at random.
    """
    rng = np.random.default_rng(0)
    n_clusters = 40
    cluster = np.repeat(np.arange(n_clusters), 3 * right)
    centres = rng.normal(size=(n_clusters, 64))
    features = centres[cluster] + 0.05 * rng.normal(size=(len(cluster), 64))
    other = rng.integers(n_clusters, size=len(cluster))
    shown = np.where(rng.random(len(cluster)) < 0.8, cluster, other)
    labels = LabelSpace(tuple(f"C{number:02d}" for number in range(n_clusters)))
    targets = labels.encode([(f"C{number:02d}",) for number in shown])
    return features.astype(np.float32), targets, np.arange(len(cluster)) % 3


def left_out(
    features: Floats, folds: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], *, k: int
) -> Neighbours:
    return find_nearest(features[rows], features, k=k, apart=(folds[rows], folds))


def test_the_right_k_is_chosen_on_train() -> None:
    features, targets, folds = clusters(right=5)
    rows = np.arange(len(features))
    chosen = choose_votes(
        left_out(features, folds, rows, k=300),
        targets,
        rows=rows,
        folds=folds,
        ks=(300, 10, 1),
        temperatures=(1.0, 10.0),
        empty_truth="left out",
    )
    # One neighbour is right with 0.8 * 0.8, ten outvote the foreign ones, 300 are of 30 clusters.
    assert chosen.k == 10
    assert set(chosen.scores) == {(k, t) for k in (1, 10, 300) for t in (1.0, 10.0)}
    assert max(chosen.scores, key=lambda tried: chosen.scores[tried])[0] == 10
    best_of_10 = max((1.0, 10.0), key=lambda t: chosen.scores[10, t])
    assert chosen.temperature == best_of_10


def test_a_gain_below_noise_goes_to_the_smaller_k() -> None:
    features, targets, folds = clusters(right=5)
    rows = np.arange(len(features))
    found = left_out(features, folds, rows, k=10)
    chosen = choose_votes(
        found,
        targets,
        rows=rows,
        folds=folds,
        ks=(9, 10),
        temperatures=(1.0,),
        empty_truth="left out",
    )
    assert chosen.k == 9


def test_of_equal_temperatures_the_first_is_chosen() -> None:
    features, targets, folds = clusters(right=2)
    rows = draw_queries(len(features), n_queries=50)
    chosen = choose_votes(
        left_out(features, folds, rows, k=1),
        targets,
        rows=rows,
        folds=folds,
        ks=(1,),
        temperatures=(0.3, 0.1),
        empty_truth="left out",
    )
    assert chosen.temperature == 0.3


def test_queries_are_drawn_once_each_and_the_same_every_time() -> None:
    assert draw_queries(5).tolist() == [0, 1, 2, 3, 4]
    drawn_rows = draw_queries(1000, n_queries=100, seed=1)
    assert len(set(drawn_rows.tolist())) == 100
    assert np.array_equal(drawn_rows, np.sort(drawn_rows))
    assert np.array_equal(drawn_rows, draw_queries(1000, n_queries=100, seed=1))
    assert not np.array_equal(drawn_rows, draw_queries(1000, n_queries=100, seed=2))


def test_neighbours_of_the_own_fold_are_refused() -> None:
    features, targets, folds = clusters(right=2)
    rows = np.arange(len(features))
    with pytest.raises(ValueError, match="240 of 240 images have neighbours in their own fold"):
        choose_votes(
            find_nearest(features, features, k=3),
            targets,
            rows=rows,
            folds=folds,
            ks=(3,),
            temperatures=(1.0,),
            empty_truth="left out",
        )


@pytest.mark.parametrize(("ks", "temperatures"), [((), (1.0,)), ((1,), ())])
def test_nothing_to_choose_from_is_refused(
    ks: tuple[int, ...], temperatures: tuple[float, ...]
) -> None:
    features, targets, folds = clusters(right=2)
    rows = np.arange(len(features))
    with pytest.raises(ValueError, match="at least one k and one temperature"):
        choose_votes(
            left_out(features, folds, rows, k=1),
            targets,
            rows=rows,
            folds=folds,
            ks=ks,
            temperatures=temperatures,
            empty_truth="left out",
        )


TINY = FuseConfig(k=(3, 5), temperature=(0.05,))


@pytest.fixture
def fusion_inputs(corpus: Corpus, trained: Workspace) -> FusionInputs:
    return gather_inputs(corpus, trained, embeddings=(), device="cpu")


def test_neighbours_of_the_category_know_what_is_constant_in_it(
    fusion_inputs: FusionInputs,
) -> None:
    fused = retrieval(fusion_inputs, TINY, earlier={}, by_category=True)
    assert fused.predictions["valid"].source == "retrieval"
    is_ct = np.array(fusion_inputs.corpus.images("valid").categories) == "DRCT"
    np.testing.assert_allclose(fused.predictions["valid"].probs[:, 0], is_ct, atol=1e-6)
    everywhere = retrieval(fusion_inputs, TINY, earlier={}, by_category=False)
    assert everywhere.predictions["valid"].source == "retrieval-global"
    assert everywhere.without_category == {}


def test_settings_are_chosen_on_train_and_told(fusion_inputs: FusionInputs) -> None:
    chosen = retrieval(fusion_inputs, TINY, earlier={}, by_category=True).chosen
    assert chosen["k"] in (3, 5)
    assert chosen["temperature"] == 0.05
    # Other concepts in valid change nothing that is chosen.
    table = fusion_inputs.corpus.table
    concepts = tuple(
        ("C5",) if split == "valid" else known
        for split, known in zip(table.splits, table.concepts, strict=True)
    )
    others = replace(
        fusion_inputs, corpus=replace(fusion_inputs.corpus, table=replace(table, concepts=concepts))
    )
    assert retrieval(others, TINY, earlier={}, by_category=True).chosen == chosen


def test_references_are_kept_in_16_bits(fusion_inputs: FusionInputs) -> None:
    kept = as_references(np.array([[1.0, 1.0004, -3.0, 1e6, -1e6]], dtype=np.float32))
    assert kept.dtype == np.float16  # 1.0004 lies nearer to 1 than to 1 + 2**-10
    assert kept.astype(float).tolist() == [[1.0, 1.0, -3.0, 65504.0, -65504.0]]
    archive = Archive(fusion_inputs, TINY)
    own = archive.features[fusion_inputs.rows(archive.train)]
    apart = np.abs(archive.memory.features - own).max()
    assert 0 < apart < 0.01  # standardised


def test_votes_of_likely_categories_are_weighed(fusion_inputs: FusionInputs) -> None:
    archive, images = Archive(fusion_inputs, TINY), fusion_inputs.corpus.images("valid")
    kinds = np.eye(7, dtype=np.float32)
    of_ct, of_xr, both = (
        archive.votes(images, np.tile(likely, (16, 1)), k=3, temperature=0.05)
        for likely in (kinds[2], kinds[6], 0.75 * kinds[2] + 0.25 * kinds[6])
    )
    np.testing.assert_allclose(both, 0.75 * of_ct + 0.25 * of_xr, atol=1e-6)


def test_an_image_of_which_nothing_is_known_is_compared_with_all(
    fusion_inputs: FusionInputs,
) -> None:
    archive, images = Archive(fusion_inputs, TINY), fusion_inputs.corpus.images("valid")
    unknown = archive.votes(images, np.zeros((16, 7), np.float32), k=3, temperature=0.05)
    np.testing.assert_array_equal(unknown, archive.votes(images, None, k=3, temperature=0.05))
    ultrasound = np.eye(7, dtype=np.float32)[[5] * 16]  # no training image has it
    found = archive.votes(images, ultrasound, k=3, temperature=0.05)
    np.testing.assert_array_equal(found, unknown)


def test_withheld_categories_are_guessed(fusion_inputs: FusionInputs) -> None:
    fused = retrieval(fusion_inputs, TINY, earlier={}, by_category=True)
    assert fusion_inputs.without_category is not None
    sure = fusion_inputs.without_category.category[
        torch.from_numpy(fusion_inputs.rows(fusion_inputs.corpus.images("valid")))
    ]
    agree = np.abs(fused.without_category["valid"].probs - fused.predictions["valid"].probs).max(
        axis=1
    )
    assert (agree[sure.max(dim=1).values.numpy() > 0.99] < 0.05).all()


def test_a_filter_that_no_training_image_excites_does_not_choose_the_neighbours(
    fusion_inputs: FusionInputs,
) -> None:
    is_valid = [[image_id.startswith("valid")] for image_id in fusion_inputs.embeddings.image_ids]
    dead = torch.tensor(np.where(is_valid, 1e-3, 0.0), dtype=torch.float32)
    features = torch.cat([fusion_inputs.network_inputs.features, dead], dim=1)
    wider = replace(
        fusion_inputs,
        network_inputs=replace(fusion_inputs.network_inputs, features=features, widths=()),
    )
    with_it, without = (
        retrieval(g, TINY, earlier={}, by_category=True).predictions["valid"].probs
        for g in (wider, fusion_inputs)
    )
    np.testing.assert_allclose(with_it, without, atol=0.02)


def test_no_image_is_its_own_neighbour(fusion_inputs: FusionInputs) -> None:
    fused = retrieval(fusion_inputs, TINY, earlier={}, by_category=True).predictions
    assert all(predictions.out_of_sample for predictions in fused.values())


def test_a_large_archive_is_searched_approximately(
    fusion_inputs: FusionInputs, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("faiss")
    exact = retrieval(fusion_inputs, TINY, earlier={}, by_category=True)
    few = overlay(TINY, {"approximate_from": 10})
    found = retrieval(
        fusion_inputs, few, earlier={}, by_category=True
    )  # one list, so nothing is missed
    np.testing.assert_allclose(
        found.predictions["valid"].probs, exact.predictions["valid"].probs, atol=1e-5
    )
    assert "20 training images of DRCT: approximate search" in capsys.readouterr().err


def test_each_encoder_weighs_the_same_in_who_is_near() -> None:
    rng = np.random.default_rng(0)
    wide, narrow = rng.normal(5, 100, (400, 30)), rng.normal(0, 0.1, (400, 6))
    features = torch.tensor(np.concatenate([wide, narrow], axis=1), dtype=torch.float32)
    standardised = for_neighbours(features, (30, 6))(features)
    lengths = [part.square().sum(dim=1).mean() for part in standardised.split([30, 6], dim=1)]
    assert [float(length) for length in lengths] == pytest.approx([18, 18], rel=1e-4)
    # Of one encoder, or of two of a width, nothing is scaled.
    plain = Standardise.fitted(features, widths=(18, 18))
    assert torch.equal(for_neighbours(features, (18, 18)).std, plain.std)
    assert torch.equal(for_neighbours(features, (36,)).std, Standardise.fitted(features).std)
