"""Late fusion: classifiers on log odds and metadata."""

import os
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from scipy.sparse import csr_array

from core.errors import ConfigError
from core.runs.workspace import Corpus, Workspace
from fusion.config import FuseConfig
from fusion.inputs.gather import FusionInputs, gather_inputs
from fusion.networks.late import LATE, MIN_IMAGES, LateModel, late
from fusion.networks.train import out_of_fold

Floats = npt.NDArray[np.float32]

every_model = pytest.mark.parametrize("model", LATE.values(), ids=LATE)

TINY = FuseConfig(hidden=(16,), epochs=20, patience=20, batch_size=16, n_members=1)


def draw(n: int, seed: int) -> tuple[Floats, csr_array]:
    """Four numbers, the third of which is a category that decides with the first."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4)).astype(np.float32)
    x[:, 2] = rng.random(n) < 0.5
    y = np.zeros((n, 3), dtype=np.bool_)
    y[:, 0] = x[:, 0] > 0
    y[:, 1] = x[:, 2] == 1
    y[: MIN_IMAGES - 1, 2] = True
    return x, csr_array(y)


@every_model
def test_a_classifier_uses_what_the_network_says_and_the_metadata(model: LateModel) -> None:
    x, y = draw(400, seed=0)
    others, truth = draw(200, seed=1)
    probs = model(x, y, asked=others, seed=0)
    for column in (0, 1):
        right = (probs[:, column] > 0.5) == truth.toarray()[:, column]
        assert right.mean() > 0.9
    assert ((probs[:, :2] >= 0) & (probs[:, :2] <= 1)).all()


@every_model
def test_a_concept_of_too_few_images_is_left_to_the_network(model: LateModel) -> None:
    x, y = draw(400, seed=0)
    assert np.isnan(model(x, y, asked=x[:5], seed=0)[:, 2]).all()


@every_model
def test_the_same_seed_gives_the_same_answers(model: LateModel) -> None:
    x, y = draw(100, seed=0)
    np.testing.assert_array_equal(
        model(x, y, asked=x[:9], seed=3), model(x, y, asked=x[:9], seed=3)
    )


@pytest.mark.parametrize("name", ["late-logistic", "late-svm"])
def test_two_runs_are_equal_with_fewer_images_than_numbers_and_many_threads(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There liblinear would solve the dual, in an order drawn from one source for all threads."""
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 300)).astype(np.float32)
    y = csr_array(x[:, :24] + rng.normal(size=(80, 24)) > 0.5)
    first = LATE[name](x, y, asked=x, seed=3)
    assert np.isfinite(first).all()
    for _ in range(3):
        np.testing.assert_array_equal(LATE[name](x, y, asked=x, seed=3), first)


@pytest.fixture
def fusion_inputs(corpus: Corpus, trained: Workspace) -> FusionInputs:
    return gather_inputs(corpus, trained, embeddings=(), device="cpu")


@pytest.mark.parametrize("name", LATE)
def test_late_fusion_answers_for_valid_and_test_with_and_without_category(
    name: str, fusion_inputs: FusionInputs
) -> None:
    fused = late(fusion_inputs, TINY, earlier={}, name=name)
    for made in (fused.predictions, fused.without_category):
        for split in ("valid", "test"):
            assert made[split].source == name
            assert made[split].image_ids == fusion_inputs.corpus.images(split).image_ids
            assert made[split].out_of_sample
    probs, is_ct = fused.predictions["valid"].probs, np.array([1, 1, 1, 1, 0, 0, 0, 0] * 2)
    assert ((probs[:, 0] > probs[:, 1]) == is_ct).all()  # C1 on CT, C2 on X-ray
    rare = fusion_inputs.corpus.labels.columns(["C6"])[0]  # on one training image
    np.testing.assert_array_equal(
        fused.predictions["valid"].probs[:, rare], fused.without_category["valid"].probs[:, rare]
    )


def test_the_answers_held_out_are_made_once_for_all_classifiers(
    fusion_inputs: FusionInputs,
) -> None:
    first, _ = out_of_fold(fusion_inputs, TINY)
    again, _ = out_of_fold(fusion_inputs, replace(TINY, strategies=("late-svm",)))
    assert again is first
    assert first.shape == (40, len(fusion_inputs.corpus.labels))


def test_a_single_fold_of_train_is_too_few(fusion_inputs: FusionInputs) -> None:
    table = fusion_inputs.corpus.table
    lone = replace(fusion_inputs.corpus, table=table.with_folds(0 * table.folds))
    with pytest.raises(ConfigError, match="late fusion needs two folds of train"):
        out_of_fold(replace(fusion_inputs, corpus=lone), TINY)
