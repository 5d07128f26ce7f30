"""Each strategy on detectors trained on the made corpus."""

from dataclasses import replace

import numpy as np
import pytest

from core.config import overlay
from core.errors import ConfigError
from core.labels import LabelSpace
from core.predictions import Predictions
from core.prior import CategoryPrior
from core.workspace import Corpus, Workspace
from fusion.config import FuseConfig
from fusion.given import Given, gather
from fusion.strategies import Fused, one_hot_head, prior, retrieval, routed

TINY = FuseConfig(hidden=(16,), epochs=30, patience=30, batch_size=16, n_members=2, k=5)


@pytest.fixture
def given(corpus: Corpus, trained: Workspace) -> Given:
    return gather(corpus, trained, embeddings=(), device="cpu")


def check(fused: Fused, given: Given, source: str) -> None:
    """Every image of valid and test, the full label space, out of sample."""
    assert set(fused.predictions) == {"valid", "test"}
    for split, predictions in fused.predictions.items():
        assert predictions.source == source
        assert predictions.image_ids == given.corpus.table.of(split=split).image_ids
        assert predictions.labels == given.corpus.labels
        assert predictions.fitted_on == frozenset(given.training_images().image_ids)
        assert predictions.out_of_sample


def test_the_prior_says_what_the_category_says(given: Given) -> None:
    fused = prior(given, TINY, {})
    check(fused, given, "prior")
    counted = CategoryPrior.of(given.training_images(), given.corpus.labels)
    expected = counted.of_category("DRCT")  # the first of valid is a CT
    np.testing.assert_array_equal(fused.predictions["valid"].probs[0], expected)
    assert expected[0] == 1  # C1 stands on every CT


def test_retrieval_knows_the_category_and_looks_at_the_image(given: Given) -> None:
    fused = retrieval(given, TINY, {})
    check(fused, given, "retrieval")
    probs = fused.predictions["valid"].probs
    is_ct = np.array(given.corpus.table.of(split="valid").categories) == "DRCT"
    np.testing.assert_allclose(probs[:, 0], is_ct, atol=1e-6)
    assert len({row.tobytes() for row in probs[is_ct]}) == 8


def test_a_filter_that_no_training_image_excites_does_not_choose_the_neighbours(
    given: Given,
) -> None:
    values = given.embeddings.values
    is_valid = [[image_id.startswith("valid")] for image_id in given.embeddings.image_ids]
    dead = np.where(is_valid, 1e-3, 0.0).astype(np.float32)
    wider = replace(given.embeddings, values=np.concatenate([values, dead], axis=1))
    with_it = retrieval(replace(given, embeddings=wider), TINY, {}).predictions["valid"]
    without = retrieval(given, TINY, {}).predictions["valid"]
    np.testing.assert_allclose(with_it.probs, without.probs, atol=0.02)


def test_no_image_is_its_own_neighbour(given: Given) -> None:
    memory = set(given.training_images().image_ids)
    assert memory.isdisjoint(retrieval(given, TINY, {}).predictions["valid"].image_ids)


def test_the_head_learns_from_features_and_category(given: Given) -> None:
    fused = one_hot_head(given, TINY, {})
    check(fused, given, "one-hot")
    probs, is_ct = fused.predictions["valid"].probs, np.array([1, 1, 1, 1, 0, 0, 0, 0] * 2)
    assert ((probs[:, 0] > probs[:, 1]) == is_ct).all()  # C1 on CT, C2 on X-ray


def test_the_head_is_told_the_category(given: Given) -> None:
    table = given.corpus.table
    hidden = tuple(
        "" if split == "valid" else category
        for split, category in zip(table.splits, table.categories, strict=True)
    )
    corpus = replace(given.corpus, table=replace(table, categories=hidden))
    config = overlay(TINY, {"epochs": 2})
    known = one_hot_head(given, config, {}).predictions
    unknown = one_hot_head(replace(given, corpus=corpus), config, {}).predictions
    np.testing.assert_array_equal(known["test"].probs, unknown["test"].probs)
    assert (known["valid"].probs != unknown["valid"].probs).any(axis=1).all()


def test_routed_takes_the_specialists_say_and_the_global_detectors_elsewhere(
    given: Given,
) -> None:
    fused = routed(given, TINY, {})
    check(fused, given, "routed")
    runs = {run.category: run.predictions("valid") for run in given.detectors}
    table, found = given.corpus.table, fused.predictions["valid"]
    row = found.image_ids.index("valid_05")
    assert table.categories[table.image_ids.index("valid_05")] == "DRXR"
    for column, cui in enumerate(given.corpus.labels.cuis):
        own = runs["DRXR"] if cui in runs["DRXR"].labels else runs["global"]
        expected = own.rows(["valid_05"]).probs[0, own.labels.columns([cui])[0]]
        assert found.probs[row, column] == expected
    assert "C1" not in runs["DRXR"].labels  # so C1 of an X-ray is the global detector's say


def test_routed_says_which_detectors_it_contains(given: Given) -> None:
    contained = routed(given, TINY, {}).contains
    assert contained == tuple(r.name for r in given.detectors if r.category != "global")
    assert [name.split("/")[0] for name in contained] == ["DRCT", "DRXR"]
    assert prior(given, TINY, {}).contains == ()


def test_without_a_global_detector_the_fused_head_is_the_general_source(given: Given) -> None:
    specialists = tuple(run for run in given.detectors if run.category != "global")
    without = replace(given, detectors=specialists)
    made = {"one-hot": one_hot_head(given, overlay(TINY, {"epochs": 1}), {})}
    found = routed(without, TINY, made).predictions["test"]
    base = made["one-hot"].predictions["test"]
    row = found.image_ids.index("test_05")
    assert found.probs[row, 0] == base.probs[row, 0]  # C1, unknown to the X-ray specialist
    assert not np.array_equal(found.probs, base.probs)


@pytest.mark.parametrize("made", [{}, {"retrieval": Fused(predictions={})}])
def test_routed_without_anything_general_says_what_to_name_before_it(
    given: Given, made: dict[str, Fused]
) -> None:
    with pytest.raises(ConfigError, match="`routed` needs the global detector, or `one-hot` named"):
        routed(replace(given, detectors=()), TINY, made)


def test_predictions_of_strategies_can_be_lined_up(given: Given) -> None:
    sources: list[Predictions] = [
        strategy(given, overlay(TINY, {"epochs": 1}), {}).predictions["valid"]
        for strategy in (prior, retrieval, one_hot_head, routed)
    ]
    assert len({source.image_ids for source in sources}) == 1
    assert {source.labels for source in sources} == {LabelSpace(given.corpus.labels.cuis)}
