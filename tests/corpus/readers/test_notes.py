import pytest

from core.errors import CorpusError
from corpus.readers.notes import Note, count, settle

NOTES = [Note("one"), Note("two", grave=True), Note("three", grave=True)]


def test_the_lines_of_notes_keep_their_order() -> None:
    assert settle(NOTES, strict=False) == ("one", "two", "three")


def test_a_strict_reading_names_every_grave_note_in_one_line() -> None:
    with pytest.raises(CorpusError, match=r"^refused by a strict reading: two; three$"):
        settle(NOTES, strict=True)


def test_a_strict_reading_takes_notes_that_are_not_grave() -> None:
    assert settle(NOTES[:1], strict=True) == ("one",)


def test_a_count_agrees_with_its_noun() -> None:
    assert [count(n, "entry") for n in (0, 1, 2)] == ["0 entries", "1 entry", "2 entries"]
