"""Retrieval as a strategy: neighbours of the category, of likely ones, of all."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from core.config import overlay
from core.runs.workspace import Corpus, Workspace
from fusion.archive import Archive, retrieval
from fusion.config import FuseConfig
from fusion.inputs.gather import Given, gather

TINY = FuseConfig(k=(3, 5), temperature=(0.05,))


@pytest.fixture
def given(corpus: Corpus, trained: Workspace) -> Given:
    return gather(corpus, trained, embeddings=(), device="cpu")


def test_neighbours_of_the_category_know_what_is_constant_in_it(given: Given) -> None:
    fused = retrieval(given, TINY, {}, by_category=True)
    assert fused.predictions["valid"].source == "retrieval"
    is_ct = np.array(given.corpus.images("valid").categories) == "DRCT"
    np.testing.assert_allclose(fused.predictions["valid"].probs[:, 0], is_ct, atol=1e-6)
    everywhere = retrieval(given, TINY, {}, by_category=False)
    assert everywhere.predictions["valid"].source == "retrieval-global"
    assert everywhere.withheld == {}


def test_settings_are_chosen_on_train_and_told(given: Given) -> None:
    chosen = retrieval(given, TINY, {}, by_category=True).chosen
    assert chosen["k"] in (3, 5)
    assert chosen["temperature"] == 0.05
    # Other concepts in valid change nothing that is chosen.
    table = given.corpus.table
    concepts = tuple(
        ("C5",) if split == "valid" else known
        for split, known in zip(table.splits, table.concepts, strict=True)
    )
    others = replace(given, corpus=replace(given.corpus, table=replace(table, concepts=concepts)))
    assert retrieval(others, TINY, {}, by_category=True).chosen == chosen


def test_votes_of_likely_categories_are_weighed(given: Given) -> None:
    archive, images = Archive(given, TINY), given.corpus.images("valid")
    kinds = np.eye(7, dtype=np.float32)
    of_ct, of_xr, both = (
        archive.votes(images, np.tile(likely, (16, 1)), k=3, temperature=0.05)
        for likely in (kinds[2], kinds[6], 0.75 * kinds[2] + 0.25 * kinds[6])
    )
    np.testing.assert_allclose(both, 0.75 * of_ct + 0.25 * of_xr, atol=1e-6)


def test_an_image_of_which_nothing_is_known_is_compared_with_all(given: Given) -> None:
    archive, images = Archive(given, TINY), given.corpus.images("valid")
    unknown = archive.votes(images, np.zeros((16, 7), np.float32), k=3, temperature=0.05)
    np.testing.assert_array_equal(unknown, archive.votes(images, None, k=3, temperature=0.05))
    ultrasound = np.eye(7, dtype=np.float32)[[5] * 16]  # no training image has it
    found = archive.votes(images, ultrasound, k=3, temperature=0.05)
    np.testing.assert_array_equal(found, unknown)


def test_withheld_categories_are_guessed(given: Given) -> None:
    fused = retrieval(given, TINY, {}, by_category=True)
    assert given.withheld is not None
    sure = given.withheld.category[torch.from_numpy(given.rows(given.corpus.images("valid")))]
    agree = np.abs(fused.withheld["valid"].probs - fused.predictions["valid"].probs).max(axis=1)
    assert (agree[sure.max(dim=1).values.numpy() > 0.99] < 0.05).all()


def test_a_filter_that_no_training_image_excites_does_not_choose_the_neighbours(
    given: Given,
) -> None:
    is_valid = [[image_id.startswith("valid")] for image_id in given.embeddings.image_ids]
    dead = torch.tensor(np.where(is_valid, 1e-3, 0.0), dtype=torch.float32)
    features = torch.cat([given.evidence.features, dead], dim=1)
    wider = replace(given, evidence=replace(given.evidence, features=features))
    with_it, without = (
        retrieval(g, TINY, {}, by_category=True).predictions["valid"].probs for g in (wider, given)
    )
    np.testing.assert_allclose(with_it, without, atol=0.02)


def test_no_image_is_its_own_neighbour(given: Given) -> None:
    fused = retrieval(given, TINY, {}, by_category=True).predictions
    assert all(predictions.out_of_sample for predictions in fused.values())


def test_a_large_archive_is_searched_approximately(
    given: Given, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("faiss")
    exact = retrieval(given, TINY, {}, by_category=True)
    few = overlay(TINY, {"approximate_from": 10})
    found = retrieval(given, few, {}, by_category=True)  # one list, so nothing is missed
    np.testing.assert_allclose(
        found.predictions["valid"].probs, exact.predictions["valid"].probs, atol=1e-5
    )
    assert "20 training images of DRCT: approximate search" in capsys.readouterr().err
