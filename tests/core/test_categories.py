"""The seven imaging categories."""

import pytest

from core.categories import CATEGORIES, UNKNOWN, Category


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
