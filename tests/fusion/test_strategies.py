"""Each strategy on detectors trained on the made corpus."""

from dataclasses import replace

import numpy as np
import pytest

from core.config import overlay
from core.errors import ConfigError
from core.labels import LabelSpace
from core.predictions import Predictions
from core.prior import CategoryPrior
from core.runs.workspace import Corpus, Workspace
from fusion.combine import blend
from fusion.config import FuseConfig
from fusion.inputs.gather import FusionInputs, gather_inputs
from fusion.networks.train import HEADS, network
from fusion.result import FusedResult
from fusion.strategies import NEEDS, STRATEGIES, constrained, in_order, prior, routed, voted

TINY = FuseConfig(
    hidden=(16,), epochs=30, patience=30, batch_size=16, n_members=2, k=(5,),
    temperature=(0.05,), support=(0,),
)  # fmt: skip


@pytest.fixture
def fusion_inputs(corpus: Corpus, trained: Workspace) -> FusionInputs:
    return gather_inputs(corpus, trained, embeddings=(), device="cpu")


def check(fused: FusedResult, fusion_inputs: FusionInputs, source: str) -> None:
    """Every image of valid and test, the full label space, out of sample."""
    assert set(fused.predictions) == {"valid", "test"}
    for split, predictions in fused.predictions.items():
        assert predictions.source == source
        assert predictions.image_ids == fusion_inputs.corpus.table.of(split=split).image_ids
        assert predictions.labels == fusion_inputs.corpus.labels
        assert predictions.fitted_on == frozenset(fusion_inputs.training_images().image_ids)
        assert predictions.out_of_sample


def test_the_prior_says_what_the_category_says(fusion_inputs: FusionInputs) -> None:
    fused = prior(fusion_inputs, TINY, earlier={})
    check(fused, fusion_inputs, "prior")
    counted = CategoryPrior.of(fusion_inputs.training_images(), fusion_inputs.corpus.labels)
    expected = counted.of_category("DRCT")  # the first of valid is a CT
    np.testing.assert_array_equal(fused.predictions["valid"].probs[0], expected)
    assert expected[0] == 1  # C1 stands on every CT


def test_the_prior_of_a_guess_is_the_mean_of_what_it_may_be(fusion_inputs: FusionInputs) -> None:
    assert fusion_inputs.guess is not None
    row = fusion_inputs.rows(fusion_inputs.corpus.images("valid").take(np.array([0])))[0]
    sure = fusion_inputs.guess.posterior[row]
    counted = CategoryPrior.of(fusion_inputs.training_images(), fusion_inputs.corpus.labels)
    expected = sure[2] * counted.of_category("DRCT") + sure[6] * counted.of_category("DRXR")
    found = prior(fusion_inputs, TINY, earlier={}).without_category["valid"].probs[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_a_network_learns_from_features_and_category(
    name: str, fusion_inputs: FusionInputs
) -> None:
    fused = network(
        fusion_inputs, overlay(TINY, {"epochs": 60, "patience": 60}), earlier={}, name=name
    )
    check(fused, fusion_inputs, name)
    probs, is_ct = fused.predictions["valid"].probs, np.array([1, 1, 1, 1, 0, 0, 0, 0] * 2)
    right = (probs[:, 0] > probs[:, 1]) == is_ct  # C1 on CT, C2 on X-ray
    assert right.mean() >= 0.9
    assert set(fused.without_category) == (set() if name == "blind" else {"valid", "test"})
    assert {key.partition(".")[0] for key in fused.weights} == {"0", "1"}


def test_a_network_is_told_the_category_or_the_guess(fusion_inputs: FusionInputs) -> None:
    config = overlay(TINY, {"epochs": 2})
    fused = network(fusion_inputs, config, earlier={}, name="one-hot")
    known, guessed = fused.predictions["valid"].probs, fused.without_category["valid"].probs
    assert (known != guessed).any()
    assert fusion_inputs.without_category is not None
    as_guessed = network(
        replace(fusion_inputs, network_inputs=fusion_inputs.without_category),
        config,
        earlier={},
        name="one-hot",
    )
    assert as_guessed.predictions["valid"].probs.shape == known.shape


def test_constrained_decides_what_is_constant_in_the_category(fusion_inputs: FusionInputs) -> None:
    earlier = {
        "one-hot": network(fusion_inputs, overlay(TINY, {"epochs": 1}), earlier={}, name="one-hot")
    }
    fused = constrained(fusion_inputs, overlay(TINY, {"constant_from": 10}), earlier=earlier)
    check(fused, fusion_inputs, "constrained")
    for split in ("valid", "test"):
        is_ct = np.array(fusion_inputs.corpus.images(split).categories) == "DRCT"
        probs = fused.predictions[split].probs
        assert (probs[is_ct, 0] == 1).all()  # C1
        assert (probs[~is_ct, 1] == 1).all()  # C2
        base = earlier["one-hot"].predictions[split].probs
        np.testing.assert_array_equal(probs[:, 2:], base[:, 2:])
    assert fused.without_category["valid"].probs[:, 0].max() < 1


def test_voted_lies_between_its_parts_by_the_share_that_was_chosen(
    fusion_inputs: FusionInputs,
) -> None:
    config = overlay(TINY, {"epochs": 2})
    earlier = {
        "prior-offset": network(fusion_inputs, config, earlier={}, name="prior-offset"),
        "retrieval": STRATEGIES["retrieval"](fusion_inputs, config, earlier={}),
    }
    fused = voted(fusion_inputs, config, earlier=earlier, name="voted")
    check(fused, fusion_inputs, "voted")
    share = fused.chosen["share of the votes"]
    assert share in (0, 0.25, 0.5, 0.75)
    seen, votes = (earlier[name].predictions["test"].probs for name in NEEDS["voted"])
    np.testing.assert_array_equal(fused.predictions["test"].probs, blend(seen, votes, share=share))
    assert set(fused.without_category) == {"valid", "test"}


def test_routed_takes_the_specialists_say_and_the_global_detectors_elsewhere(
    fusion_inputs: FusionInputs,
) -> None:
    fused = routed(fusion_inputs, TINY, earlier={})
    check(fused, fusion_inputs, "routed")
    runs = {run.category: run.predictions("valid") for run in fusion_inputs.detectors}
    table, found = fusion_inputs.corpus.table, fused.predictions["valid"]
    row = found.image_ids.index("valid_05")
    assert table.categories[table.image_ids.index("valid_05")] == "DRXR"
    for column, cui in enumerate(fusion_inputs.corpus.labels.cuis):
        own = runs["DRXR"] if cui in runs["DRXR"].labels else runs["global"]
        expected = own.rows(["valid_05"]).probs[0, own.labels.columns([cui])[0]]
        assert found.probs[row, column] == expected
    assert "C1" not in runs["DRXR"].labels  # so C1 of an X-ray is the global detector's say


def test_routed_says_which_detectors_it_contains(fusion_inputs: FusionInputs) -> None:
    contained = routed(fusion_inputs, TINY, earlier={}).contains
    assert contained == tuple(r.name for r in fusion_inputs.detectors if r.category != "global")
    assert [name.split("/")[0] for name in contained] == ["DRCT", "DRXR"]
    assert prior(fusion_inputs, TINY, earlier={}).contains == ()


def test_without_a_global_detector_the_fused_head_is_the_general_source(
    fusion_inputs: FusionInputs,
) -> None:
    specialists = tuple(run for run in fusion_inputs.detectors if run.category != "global")
    without = replace(fusion_inputs, detectors=specialists)
    earlier = {
        "one-hot": network(fusion_inputs, overlay(TINY, {"epochs": 1}), earlier={}, name="one-hot")
    }
    found = routed(without, TINY, earlier=earlier).predictions["test"]
    base = earlier["one-hot"].predictions["test"]
    row = found.image_ids.index("test_05")
    assert found.probs[row, 0] == base.probs[row, 0]  # C1, unknown to the X-ray specialist
    assert not np.array_equal(found.probs, base.probs)


@pytest.mark.parametrize("earlier", [{}, {"retrieval": FusedResult(predictions={})}])
def test_routed_without_anything_general_says_what_to_name_before_it(
    fusion_inputs: FusionInputs, earlier: dict[str, FusedResult]
) -> None:
    with pytest.raises(ConfigError, match="`routed` needs the global detector, or `one-hot` named"):
        routed(replace(fusion_inputs, detectors=()), TINY, earlier=earlier)


def test_routing_asks_for_training_images_of_a_concept(fusion_inputs: FusionInputs) -> None:
    always = routed(fusion_inputs, overlay(TINY, {"support": "0"}), earlier={})
    never = routed(fusion_inputs, overlay(TINY, {"support": "999"}), earlier={})
    general = next(run for run in fusion_inputs.detectors if run.category == "global")
    np.testing.assert_array_equal(
        never.predictions["test"].probs, general.predictions("test").probs
    )
    assert (always.predictions["test"].probs != never.predictions["test"].probs).any()
    chosen = routed(fusion_inputs, overlay(TINY, {"support": "0,999"}), earlier={})
    assert chosen.chosen["support"] in (0, 999)


ON_ANY_FEATURES = {name: own for name, own in STRATEGIES.items() if name != "zero-shot"}


def test_predictions_of_strategies_can_be_lined_up(fusion_inputs: FusionInputs) -> None:
    earlier: dict[str, FusedResult] = {}
    for name, strategy in ON_ANY_FEATURES.items():
        earlier[name] = strategy(fusion_inputs, overlay(TINY, {"epochs": 1}), earlier=earlier)
    sources: list[Predictions] = [fused.predictions["valid"] for fused in earlier.values()]
    assert len({source.image_ids for source in sources}) == 1
    assert {source.labels for source in sources} == {LabelSpace(fusion_inputs.corpus.labels.cuis)}
    assert [source.source for source in sources] == list(ON_ANY_FEATURES)


def test_strategies_come_after_those_that_they_are_made_of() -> None:
    order = list(STRATEGIES)
    for name, parts in NEEDS.items():
        assert all(order.index(part) < order.index(name) for part in parts)
    assert in_order(("voted", "blind")) == ("blind", "prior-offset", "retrieval", "voted")
    assert in_order(("all",)) == tuple(ON_ANY_FEATURES)
    assert in_order(("all", "film-e2e")) == (*ON_ANY_FEATURES, "film-e2e")


def test_a_strategy_that_is_not_known_is_told_with_one_like_it() -> None:
    with pytest.raises(ConfigError, match="unknown 'expert'; did you mean 'experts'"):
        in_order(("prior", "expert"))
