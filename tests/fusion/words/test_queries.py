"""Queries by name: the closed form, and the strategy on the made corpus."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.linalg import solve
from scipy.sparse import csr_array
from sklearn.linear_model import Ridge

from core.errors import ConfigError
from core.metrics import column_sums
from core.runs.workspace import Corpus, Workspace
from fusion.config import FuseConfig
from fusion.inputs.gather import FusionInputs, gather_inputs
from fusion.words.calibration import Array
from fusion.words.queries import WordQueries, fit_queries, similar_names, words


def draw(*, n_seen: int = 4, n_concepts: int = 6) -> tuple[Array, csr_array, Array]:
    """Features, targets whose last concepts stand on no image, and similarities of names."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 3)) + 5
    targets = rng.random((40, n_concepts)) < 0.3
    targets[:, n_seen:] = False
    points = rng.normal(size=(n_concepts, 2))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return features, csr_array(targets), similar_names(points)


def by_definition(features: Array, targets: csr_array, similarity: Array, penalty: float) -> Array:
    """The same as one linear system of all entries, and the rest by what its names resemble."""
    seen = np.flatnonzero(column_sums(targets))
    x, y = features - features.mean(axis=0), targets.toarray()[:, seen].astype(float)
    y -= y.mean(axis=0)
    k = similarity[np.ix_(seen, seen)]
    d, n = x.shape[1], len(seen)
    # vec(X^T X W + penalty W K^-1) = vec(X^T Y), vec by columns.
    system = np.kron(np.eye(n), x.T @ x) + penalty * np.kron(np.linalg.inv(k), np.eye(d))
    w = solve(system, (x.T @ y).ravel(order="F")).reshape((d, n), order="F")
    weights: Array = w @ np.linalg.inv(k) @ similarity[seen]
    return weights


@pytest.mark.parametrize("penalty", [0.1, 30.0])
def test_queries_solve_the_whole_system(penalty: float) -> None:
    features, targets, similarity = draw()
    found = fit_queries(features, targets, similarity=similarity, penalty=penalty)
    expected = by_definition(features, targets, similarity, penalty)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert np.abs(found[:, 4:]).max() > 1e-3  # of concepts without an image as well


def test_without_similar_names_it_is_ridge_regression_and_the_rest_unknown() -> None:
    features, targets, _ = draw()
    found = fit_queries(features, targets, similarity=np.eye(6), penalty=2.0)
    seen = targets.toarray()[:, :4].astype(float)
    np.testing.assert_allclose(found[:, :4], Ridge(alpha=2.0).fit(features, seen).coef_.T)
    np.testing.assert_array_equal(found[:, 4:], 0)


def test_a_concept_of_no_image_is_found_by_its_name() -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(200, 4))
    targets = np.zeros((200, 4), dtype=np.bool_)
    targets[:, 0], targets[:, 1] = features[:, 0] > 0.5, features[:, 1] > 0.5
    points = np.array([[1, 0], [0, 1], [0.9, 0.1], [0.1, 0.9]])  # 2 is called like 0, 3 like 1
    weights = fit_queries(
        features, csr_array(targets), similarity=similar_names(points), penalty=1.0
    )
    assert weights[0, 2] > 4 * abs(weights[1, 2])
    assert weights[1, 3] > 4 * abs(weights[0, 3])


@pytest.fixture
def fusion_inputs(corpus: Corpus, trained: Workspace) -> FusionInputs:
    return gather_inputs(corpus, trained, embeddings=(), device="cpu")


def test_the_strategy_tells_categories_apart_out_of_sample(fusion_inputs: FusionInputs) -> None:
    fused = words(fusion_inputs, FuseConfig(), earlier={})
    assert set(fused.predictions) == set(fused.without_category) == {"valid", "test"}
    valid = fused.predictions["valid"]
    assert valid.fitted_on == frozenset(fusion_inputs.training_images().image_ids)
    assert valid.out_of_sample
    is_ct = np.array([1, 1, 1, 1, 0, 0, 0, 0] * 2)
    assert ((valid.probs[:, 0] > valid.probs[:, 1]) == is_ct).mean() >= 0.9  # C1 on CT, C2 on X-ray
    again = words(fusion_inputs, FuseConfig(), earlier={})
    np.testing.assert_array_equal(again.predictions["valid"].probs, valid.probs)


def test_a_single_fold_of_train_is_said(fusion_inputs: FusionInputs) -> None:
    table = fusion_inputs.corpus.table
    single = replace(table, folds=np.where(table.folds > 0, 0, table.folds))
    one = replace(fusion_inputs, corpus=replace(fusion_inputs.corpus, table=single))
    with pytest.raises(ConfigError, match="words: needs two folds of train"):
        words(one, FuseConfig(), earlier={})


def test_a_name_that_all_concepts_share_is_no_help_but_no_harm(
    fusion_inputs: FusionInputs,
) -> None:
    """Without names a concept is called by its CUI; with one name for all they share one score."""
    alike = replace(
        fusion_inputs,
        corpus=replace(
            fusion_inputs.corpus, names=dict.fromkeys(fusion_inputs.corpus.labels.cuis, "same")
        ),
    )
    probs = words(alike, FuseConfig(), earlier={}).predictions["valid"].probs
    assert np.isfinite(probs).all()


def test_weights_read_again_say_the_same(fusion_inputs: FusionInputs) -> None:
    from inference.loaded.answers import read_heads

    fused = words(fusion_inputs, FuseConfig(), earlier={})
    state = {name.removeprefix("0."): value for name, value in fused.weights.items()}
    (model,) = read_heads(
        "words", [state], config=FuseConfig(),
        n_features=fusion_inputs.network_inputs.features.shape[1], n_metadata=0,
        n_concepts=len(fusion_inputs.corpus.labels),
    )  # fmt: skip
    assert isinstance(model, WordQueries)
    rows = fusion_inputs.rows(fusion_inputs.corpus.images("valid"))
    with torch.inference_mode():
        logits = model(*fusion_inputs.network_inputs.batch(rows))
    found = fused.predictions["valid"].probs
    np.testing.assert_allclose(torch.sigmoid(logits).numpy(), found, atol=1e-6)
