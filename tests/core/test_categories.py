"""The seven imaging categories."""

import pytest

from core.categories import (
    CATEGORIES,
    KNOWN_NAMES,
    MODALITY_CONCEPTS,
    UNKNOWN,
    Category,
    category_of_concepts,
    category_of_name,
)


def test_there_are_the_seven_categories_of_2019_and_2020_in_alphabetical_order() -> None:
    assert CATEGORIES == ("DRAN", "DRCO", "DRCT", "DRMR", "DRPE", "DRUS", "DRXR")


def test_a_category_is_the_text_of_its_folder() -> None:
    assert Category("DRCT") == "DRCT"
    assert f"{Category.DRCT}" == "DRCT"


@pytest.mark.parametrize("category", list(Category))
def test_every_category_has_a_meaning_of_its_own(category: Category) -> None:
    others = {other.meaning for other in Category if other is not category}
    assert category.meaning
    assert category.meaning not in others


def test_an_unknown_category_is_none_of_the_seven() -> None:
    assert UNKNOWN not in CATEGORIES
    assert not UNKNOWN


@pytest.mark.parametrize(
    ("names", "category"),
    [
        (("DRCT", "drct", " CT ", "Computed Tomography", "ct-scan", "computed tomograhpy"), "DRCT"),
        (("MRI", "MR", "mr", "Magnetic resonance", "magnetic  resonance imaging"), "DRMR"),
        (("US", "ultrasound", "Ultra-Sound", "ultrasonography", "ultrasuond"), "DRUS"),
        (("X-ray", "Xray", "x ray", "XR", "CR", "DX", "radiograph", "Radiography"), "DRXR"),
        (("PET", "PT", "Positron Emission Tomography"), "DRPE"),
        (("XA", "angiography", "Angiogram", "angiografy"), "DRAN"),
        (("PET/CT", "PET-CT", "pet ct", "CT/PET", "combined"), "DRCO"),
    ],
)
def test_plain_names_and_codes_stand_for_a_category(names: tuple[str, ...], category: str) -> None:
    assert {category_of_name(name) for name in names} == {category}


@pytest.mark.parametrize(
    "name", ["", "MET", "C", "cat photo", "photograph", "NM", "DRXX", "tomography"]
)
def test_what_is_no_name_of_a_category_stands_for_none(name: str) -> None:
    assert category_of_name(name) is None


def test_messages_name_each_category_with_names_that_are_taken() -> None:
    for category in CATEGORIES:
        assert category in KNOWN_NAMES
    assert "DRCT (CT, " in KNOWN_NAMES


@pytest.mark.parametrize(
    ("concepts", "category"),
    [
        (("C0817096", "C0040405"), "DRCT"),
        (("C0032743", "C0040405"), "DRCO"),
        (("C1699633",), "DRCO"),
        (("C1699633", "C0040405", "C0032743"), "DRCO"),
        (("C0002978",), "DRAN"),
        (("C0002978", "C1306645"), "DRAN"),  # taken by X-rays
        (("C0002978", "C0040405"), "DRCT"),  # CT angiography
        (("C0002978", "C0024485"), "DRMR"),
        (("C0002978", "C0040405", "C0032743"), "DRCO"),
        (("C1306645", "C0043299", "C0024671"), "DRXR"),
        (("C0040405", "C1306645"), "DRCO"),
        (("C0817096",), UNKNOWN),
        ((), UNKNOWN),
    ],
)
def test_modality_concepts_tell_the_category(concepts: tuple[str, ...], category: str) -> None:
    assert category_of_concepts(concepts) == category
    assert category_of_concepts(reversed(concepts)) == category


def test_every_category_has_a_modality_concept() -> None:
    assert set(MODALITY_CONCEPTS.values()) == set(Category)
