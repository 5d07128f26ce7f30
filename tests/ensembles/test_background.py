import numpy as np
import pytest

from core.categories import CATEGORIES
from core.labels import LabelSpace
from ensembles.background import Background

LABELS = LabelSpace(("C1", "C2", "C3"))
BACKGROUND = Background.of(
    LABELS.encode([("C1", "C2"), ("C1",), ("C2",), ()]), ["DRCT", "DRCT", "DRXR", ""]
)


def test_rates_are_smoothed_shares() -> None:
    # (2 + .5)/5, (2 + .5)/5, (0 + .5)/5
    assert BACKGROUND.n_train.tolist() == [2, 2, 0]
    assert BACKGROUND.rate.tolist() == pytest.approx([0.5, 0.5, 0.1])


def test_the_prior_of_a_category_is_drawn_to_the_rate_by_three_images() -> None:
    prior = BACKGROUND.prior
    # CT, two images: C1 in both (2 + 3*.5)/(2 + 3), C2 in one (1 + 1.5)/5, C3 (0 + .3)/5
    assert prior[CATEGORIES.index("DRCT")].tolist() == pytest.approx([0.7, 0.5, 0.06])
    # X-ray, one image with C2: 1.5/4, 2.5/4, .3/4
    assert prior[CATEGORIES.index("DRXR")].tolist() == pytest.approx([0.375, 0.625, 0.075])
    # no image: the rates
    assert prior[CATEGORIES.index("DRUS")].tolist() == pytest.approx([0.5, 0.5, 0.1])


def test_a_concept_given_another_one_is_drawn_to_its_rate_as_well() -> None:
    # C1 occurs in two images, one of them with C2: (1 + 3*.5)/(2 + 3); C3 never: .3/5
    assert BACKGROUND.given[0].tolist() == pytest.approx([0.7, 0.5, 0.06])
    # C3 occurs nowhere: the rates
    assert BACKGROUND.given[2].tolist() == pytest.approx([0.5, 0.5, 0.1])


def test_a_known_category_has_all_the_weight_and_an_unknown_one_the_shares() -> None:
    weights = BACKGROUND.category_weights(["DRXR", ""])
    assert weights[0].tolist() == [float(c == "DRXR") for c in CATEGORIES]
    # (2 + 1)/(3 + 7) for CT, (1 + 1)/10 for X-ray, 1/10 for the others
    expected = [{"DRCT": 0.3, "DRXR": 0.2}.get(c, 0.1) for c in CATEGORIES]
    assert weights[1].tolist() == pytest.approx(expected)
    assert weights.dtype == np.float32
