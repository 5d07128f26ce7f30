"""Answers made of answers, worked by hand."""

from dataclasses import replace

import numpy as np
import pytest

from core.errors import AlignmentError, LabelSpaceError
from core.labels import LabelSpace, Targets
from core.predictions import Predictions
from core.runs.workspace import Corpus, Workspace
from fusion.combine import (
    VariantChoice,
    blend,
    choose_on_valid,
    choose_variant,
    cross_fitted_variants,
    route,
    with_constants,
)
from fusion.inputs.gather import FusionInputs, gather_inputs


def test_the_mean_of_log_odds_lies_between() -> None:
    first, second = np.array([[0.5, 0.9]], np.float32), np.array([[0.9, 0.9]], np.float32)
    # odds 1 and 9: their geometric mean is 3, so 3 / 4
    np.testing.assert_allclose(blend(first, second, share=0.5), [[0.75, 0.9]], atol=1e-6)
    np.testing.assert_allclose(blend(first, second, share=0.0), first, atol=1e-6)
    np.testing.assert_allclose(blend(first, second, share=1.0), second, atol=1e-6)


def test_what_no_neighbour_has_is_not_impossible() -> None:
    sure, none = np.array([[0.999]], np.float32), np.array([[0.0]], np.float32)
    assert blend(sure, none, share=0.5)[0, 0] == pytest.approx(0.5, abs=1e-3)


def test_a_constant_concept_is_as_sure_as_the_category(generated: Corpus) -> None:
    probs = np.full((3, len(generated.labels)), 0.2, np.float32)
    likely = np.zeros((3, 7), np.float32)
    likely[0, 2], likely[1, 2], likely[1, 6] = 1, 0.6, 0.4  # DRCT; perhaps DRXR
    found = with_constants(probs, likely, prior=generated.prior, at_least=20)
    columns = generated.labels.columns(["C00", "C01"])  # on every CT, on every X-ray
    np.testing.assert_allclose(found[:, columns], [[1, 0.2], [0.6, 0.4], [0.2, 0.2]])
    untouched = np.setdiff1d(np.arange(probs.shape[1]), columns)
    assert (found[:, untouched] == np.float32(0.2)).all()


def test_a_category_of_few_images_makes_nothing_sure(generated: Corpus) -> None:
    probs = np.full((1, len(generated.labels)), 0.2, np.float32)
    likely = np.eye(7, dtype=np.float32)[[2]]
    np.testing.assert_array_equal(
        with_constants(probs, likely, prior=generated.prior, at_least=999), probs
    )


TRUTH = [("A",), ("A", "B"), ("B",), ("A",)]
FOLDS = np.array([0, 0, 1, 1])


@pytest.fixture
def fusion_inputs(corpus: Corpus, trained: Workspace) -> FusionInputs:
    return gather_inputs(corpus, trained, embeddings=(), device="cpu")


def targets() -> Targets:
    return LabelSpace(("A", "B")).encode(TRUTH)


def test_the_variant_of_the_highest_score_is_chosen_on_the_other_folds() -> None:
    truth = targets().matrix.toarray().astype(np.float32)
    upside_down = 1 - truth
    mixed = np.where(np.arange(4)[:, None] < 2, truth, upside_down)  # right in fold 0 alone
    choice = choose_variant(
        [upside_down, mixed, truth], targets(), folds=FOLDS, empty_truth="left out"
    )
    assert choice.best == 2
    # Without fold 1, on the images of fold 0, `mixed` is as good as the truth and comes first.
    assert choice.by_fold == {0: 2, 1: 1}


def test_the_first_of_equals_and_of_what_cannot_be_scored_is_taken() -> None:
    truth = targets().matrix.toarray().astype(np.float32)
    same = choose_variant([truth, truth], targets(), folds=FOLDS, empty_truth="left out")
    assert (same.best, same.by_fold) == (0, {0: 0, 1: 0})
    lone = choose_variant([1 - truth, truth], targets(), folds=0 * FOLDS, empty_truth="left out")
    assert (lone.best, lone.by_fold) == (1, {0: 0})  # no other fold: the first


def test_valid_gets_what_was_chosen_without_its_fold_and_test_the_best(
    fusion_inputs: FusionInputs,
) -> None:
    n = {split: len(fusion_inputs.corpus.images(split)) for split in ("valid", "test")}
    shape = len(fusion_inputs.corpus.labels)
    variants = {s: [np.full((n[s], shape), v, np.float32) for v in (0.1, 0.2, 0.3)] for s in n}
    choice = VariantChoice(best=2, by_fold={0: 0, 1: 1, 2: 0, 3: 2})
    found = cross_fitted_variants(fusion_inputs, variants, choice=choice)
    assert (found["test"] == np.float32(0.3)).all()
    expected = np.array([0.1, 0.2, 0.1, 0.3], np.float32)[
        fusion_inputs.corpus.images("valid").folds
    ]
    np.testing.assert_array_equal(found["valid"][:, 0], expected)
    assert (variants["valid"][2] == np.float32(0.3)).all()  # left as it was


def test_without_labels_in_valid_the_first_variant_is_taken(fusion_inputs: FusionInputs) -> None:
    table = fusion_inputs.corpus.table
    concepts = tuple(
        None if split == "valid" else known
        for split, known in zip(table.splits, table.concepts, strict=True)
    )
    blind = replace(
        fusion_inputs, corpus=replace(fusion_inputs.corpus, table=replace(table, concepts=concepts))
    )
    variants = [np.zeros((16, len(fusion_inputs.corpus.labels)), np.float32)] * 2
    assert choose_on_valid(blind, variants) == VariantChoice(best=0, by_fold={})


def predictions(
    source: str, ids: str, cuis: str, probs: list[list[float]], *, fitted_on: str = ""
) -> Predictions:
    return Predictions(
        source=source,
        image_ids=tuple(ids),
        labels=LabelSpace(tuple(cuis.split())),
        probs=np.array(probs, dtype=np.float32).reshape(len(ids), -1),
        fitted_on=frozenset(fitted_on),
    )


GENERAL = predictions(
    "global", "abc", "C1 C2 C3", [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6], [0.7, 0.8, 0.9]],
    fitted_on="st",
)  # fmt: skip


def test_a_specialist_speaks_for_its_images_and_concepts_only() -> None:
    # Its images and concepts stand in another order; C2 is unknown to it, not absent.
    special = predictions("DRCT", "ca", "C3 C1", [[0.01, 0.02], [0.03, 0.04]], fitted_on="su")
    routed = route(GENERAL, [special])
    expected = np.array([[0.04, 0.2, 0.03], [0.4, 0.5, 0.6], [0.02, 0.8, 0.01]], dtype=np.float32)
    np.testing.assert_array_equal(routed.probs, expected)
    assert routed.image_ids == GENERAL.image_ids
    assert routed.labels == GENERAL.labels
    assert routed.source == "routed"


def test_what_was_fitted_on_by_any_of_them_is_remembered() -> None:
    special = predictions("DRCT", "a", "C1", [[0.5]], fitted_on="su")
    assert route(GENERAL, [special]).fitted_on == frozenset("stu")


def test_the_general_predictions_stay_as_they_are() -> None:
    before = GENERAL.probs.copy()
    route(GENERAL, [predictions("DRCT", "a", "C1", [[0.99]])])
    np.testing.assert_array_equal(GENERAL.probs, before)


def test_several_specialists_each_have_their_say() -> None:
    routed = route(
        GENERAL,
        [predictions("DRCT", "a", "C1", [[0.91]]), predictions("DRUS", "b", "C1", [[0.92]])],
    )
    np.testing.assert_allclose(routed.probs[:, 0], [0.91, 0.92, 0.7])


def test_without_specialists_the_general_source_speaks() -> None:
    np.testing.assert_array_equal(route(GENERAL, []).probs, GENERAL.probs)


def test_a_specialist_without_images_changes_nothing() -> None:
    empty = Predictions(
        source="DRPE",
        image_ids=(),
        labels=LabelSpace(("C1",)),
        probs=np.empty((0, 1), dtype=np.float32),
        fitted_on=frozenset(),
    )
    np.testing.assert_array_equal(route(GENERAL, [empty]).probs, GENERAL.probs)


def test_an_image_that_the_general_source_lacks_is_refused() -> None:
    with pytest.raises(AlignmentError, match=r"global: 1 of 1 images have no row: \['z'\]"):
        route(GENERAL, [predictions("DRCT", "z", "C1", [[0.5]])])


def test_a_concept_outside_the_full_space_is_refused() -> None:
    with pytest.raises(LabelSpaceError, match=r"C7"):
        route(GENERAL, [predictions("DRCT", "a", "C7", [[0.5]])])
