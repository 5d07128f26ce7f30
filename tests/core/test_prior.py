"""How often each concept stands on the training images of a category."""

import numpy as np
import pytest

from core.errors import AlignmentError
from core.images import ImageTable
from core.labels import Concepts, LabelSpace
from core.prior import CategoryPrior

LABELS = LabelSpace(("C1", "C2", "C3"))


def table(*images: tuple[str, Concepts | None]) -> ImageTable:
    ids = tuple(f"i{row}" for row in range(len(images)))
    return ImageTable(
        image_ids=ids,
        paths=ids,
        categories=tuple(category for category, _ in images),
        splits=("train",) * len(images),
        folds=np.zeros(len(images), dtype=np.int16),
        groups=ids,
        concepts=tuple(concepts for _, concepts in images),
    )


TRAIN = table(
    ("DRCT", ("C1", "C2")),
    ("DRCT", ("C1",)),
    ("DRCT", ("C1", "C2")),
    ("DRUS", ("C3", "C9")),
    ("", ()),
)


def test_shares_are_counted_by_category() -> None:
    prior = CategoryPrior.of(TRAIN, LABELS)
    np.testing.assert_allclose(prior.of_category("DRCT"), [3 / 3, 2 / 3, 0])
    np.testing.assert_allclose(prior.of_category("DRUS"), [0, 0, 1])  # C9 is outside the labels
    assert prior.n_images["DRCT"] == 3
    assert prior.n_images["DRPE"] == 0
    assert prior.fitted_on == frozenset(TRAIN.image_ids)


def test_an_unknown_or_untrained_category_gets_the_shares_of_all_images() -> None:
    prior = CategoryPrior.of(TRAIN, LABELS)
    for category in ("", "DRPE"):
        np.testing.assert_allclose(prior.of_category(category), [3 / 5, 2 / 5, 1 / 5])


def test_predictions_repeat_the_shares_for_every_image_and_say_what_they_were_counted_on() -> None:
    prior = CategoryPrior.of(TRAIN, LABELS)
    asked = table(("DRUS", None), ("DRCT", None), ("", None))
    predictions = prior.predict(asked)
    expected = [prior.of_category(category) for category in asked.categories]
    np.testing.assert_array_equal(predictions.probs, np.stack(expected))
    assert predictions.source == "prior"
    assert not predictions.out_of_sample  # the ids are those of the training images


def test_no_images_have_no_predictions() -> None:
    assert CategoryPrior.of(TRAIN, LABELS).predict(table()).probs.shape == (0, 3)


def test_images_without_known_concepts_cannot_be_counted() -> None:
    with pytest.raises(AlignmentError, match="the concepts of 1 of 2 images are not known"):
        CategoryPrior.of(table(("DRCT", None), ("DRCT", ())), LABELS)


def test_constant_concepts_stand_on_every_image_of_a_category_that_is_large_enough() -> None:
    prior = CategoryPrior.of(TRAIN, LABELS)
    assert prior.constant("DRCT", at_least=3) == ("C1",)
    assert prior.constant("DRCT", at_least=4) == ()
    assert prior.constant("DRUS", at_least=1) == ("C3",)
    assert prior.constant("", at_least=1) == ()  # all images of unknown category are no category
    assert prior.constant("DRPE", at_least=0) == ()  # no image, nothing constant


def test_a_concept_missing_on_one_of_many_images_is_not_constant() -> None:
    many = [("DRXR", ("C1", "C2"))] * 2999
    prior = CategoryPrior.of(table(*many, ("DRXR", ("C1",))), LABELS)
    assert prior.constant("DRXR") == ("C1",)
