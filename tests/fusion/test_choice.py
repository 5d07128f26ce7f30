"""Variants of a source, chosen by cross-fitting."""

from dataclasses import replace

import numpy as np
import pytest

from core.labels import LabelSpace, Targets
from core.runs.workspace import Corpus, Workspace
from fusion.choice import Choice, choose_on_valid, choose_variant, settled
from fusion.inputs.gather import Given, gather

TRUTH = [("A",), ("A", "B"), ("B",), ("A",)]
FOLDS = np.array([0, 0, 1, 1])


@pytest.fixture
def given(corpus: Corpus, trained: Workspace) -> Given:
    return gather(corpus, trained, embeddings=(), device="cpu")


def targets() -> Targets:
    return LabelSpace(("A", "B")).encode(TRUTH)


def test_the_variant_of_the_highest_score_is_chosen_on_the_other_folds() -> None:
    truth = targets().matrix.toarray().astype(np.float32)
    upside_down = 1 - truth
    mixed = np.where(np.arange(4)[:, None] < 2, truth, upside_down)  # right in fold 0 alone
    choice = choose_variant([upside_down, mixed, truth], targets(), FOLDS, empty_truth="left out")
    assert choice.best == 2
    # Without fold 1, on the images of fold 0, `mixed` is as good as the truth and comes first.
    assert choice.by_fold == {0: 2, 1: 1}


def test_the_first_of_equals_and_of_what_cannot_be_scored_is_taken() -> None:
    truth = targets().matrix.toarray().astype(np.float32)
    same = choose_variant([truth, truth], targets(), FOLDS, empty_truth="left out")
    assert (same.best, same.by_fold) == (0, {0: 0, 1: 0})
    lone = choose_variant([1 - truth, truth], targets(), 0 * FOLDS, empty_truth="left out")
    assert (lone.best, lone.by_fold) == (1, {0: 0})  # no other fold: the first


def test_valid_gets_what_was_chosen_without_its_fold_and_test_the_best(given: Given) -> None:
    n = {split: len(given.corpus.images(split)) for split in ("valid", "test")}
    shape = len(given.corpus.labels)
    variants = {s: [np.full((n[s], shape), v, np.float32) for v in (0.1, 0.2, 0.3)] for s in n}
    choice = Choice(best=2, by_fold={0: 0, 1: 1, 2: 0, 3: 2})
    found = settled(given, variants, choice)
    assert (found["test"] == np.float32(0.3)).all()
    expected = np.array([0.1, 0.2, 0.1, 0.3], np.float32)[given.corpus.images("valid").folds]
    np.testing.assert_array_equal(found["valid"][:, 0], expected)
    assert (variants["valid"][2] == np.float32(0.3)).all()  # left as it was


def test_without_labels_in_valid_the_first_variant_is_taken(given: Given) -> None:
    table = given.corpus.table
    concepts = tuple(
        None if split == "valid" else known
        for split, known in zip(table.splits, table.concepts, strict=True)
    )
    blind = replace(given, corpus=replace(given.corpus, table=replace(table, concepts=concepts)))
    variants = [np.zeros((16, len(given.corpus.labels)), np.float32)] * 2
    assert choose_on_valid(blind, variants) == Choice(best=0, by_fold={})
