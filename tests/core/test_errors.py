"""The tree of mistakes a user can mend."""

import re

import core.errors
from core.errors import ConceptError, first_few


def _drawn_tree() -> dict[str, int]:
    """Class name to depth, as the module's docstring draws it."""
    lines = (core.errors.__doc__ or "").splitlines()
    found = (re.match(r"    ([│ ├└─]*)(\w+Error)\b", line) for line in lines)
    return {match[2]: len(match[1]) // 4 for match in found if match}


def _classes(base: type[ConceptError], depth: int) -> dict[str, int]:
    tree = {base.__name__: depth}
    for child in base.__subclasses__():
        tree |= _classes(child, depth + 1)
    return tree


def test_the_drawn_tree_is_the_tree_of_classes() -> None:
    assert _drawn_tree() == _classes(ConceptError, 0)


def test_every_class_says_what_it_means() -> None:
    names = _classes(ConceptError, 0)
    assert all(getattr(core.errors, name).__doc__ for name in names)


def test_five_names_are_shown_whole() -> None:
    assert first_few("abcde") == "['a', 'b', 'c', 'd', 'e']"


def test_of_six_names_five_are_shown() -> None:
    assert first_few("abcdef") == "['a', 'b', 'c', 'd', 'e', ...]"


def test_no_names_are_an_empty_list() -> None:
    assert first_few([]) == "[]"


def test_a_name_with_a_line_break_stays_on_one_line() -> None:
    assert first_few(["a\nb"]) == r"['a\nb']"


def test_names_are_read_only_once() -> None:
    assert first_few((name for name in "ab"), n=1) == "['a', ...]"
