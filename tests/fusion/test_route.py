"""Specialists where they know, the general source elsewhere."""

import numpy as np
import pytest

from core.errors import AlignmentError, LabelSpaceError
from core.labels import LabelSpace
from core.predictions import Predictions
from fusion.route import route


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
