"""What was counted while a corpus was read."""

from collections.abc import Iterable
from dataclasses import dataclass

from core.errors import CorpusError


@dataclass(frozen=True)
class Note:
    """Something that was mended, left out or strange.

    Attributes:
        text: one readable line that says where and how many.
        grave: labels or images are lost, or images of one group stand on both sides of a split; a
            strict reading stops here.
    """

    text: str
    grave: bool = False


def settle(notes: Iterable[Note], *, strict: bool) -> tuple[str, ...]:
    """The lines of the notes, in their order.

    Raises:
        CorpusError: the reading is strict and a note is grave; all grave ones are in its line.
    """
    notes = list(notes)
    if strict and (grave := [note.text for note in notes if note.grave]):
        raise CorpusError(f"refused by a strict reading: {'; '.join(grave)}")
    return tuple(note.text for note in notes)


def count(n: int, noun: str) -> str:
    """A number with its noun.

    Example:
        >>> count(1, "image"), count(1200, "image"), count(2, "category")
        ('1 image', '1200 images', '2 categories')
    """
    if n == 1:
        return f"1 {noun}"
    return f"{n} {noun[:-1]}ies" if noun.endswith("y") else f"{n} {noun}s"
