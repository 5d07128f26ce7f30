"""Ids as two tables write them: with an ending or a folder, in other capitals, as numbers."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import PurePosixPath
from typing import TypeVar

from core.errors import first_few
from corpus.readers.files import EXTENSIONS, name_of_image
from corpus.readers.notes import Note, count

Said = TypeVar("Said")

ENDING = re.compile(f"({'|'.join(map(re.escape, EXTENSIONS))})$", re.IGNORECASE)
"""Endings of image files."""

_FLOAT = re.compile(r"(\d+)\.0+")


def bare(image_id: str) -> str:
    """An id without the folder before it and the ending of an image file.

    Example:
        >>> bare("train/a.b.JPG"), bare("1.2.840")
        ('a.b', '1.2.840')
    """
    return name_of_image(PurePosixPath(image_id.replace("\\", "/")).name)


def _lettered(image_id: str) -> str:
    return unicodedata.normalize("NFC", bare(image_id)).casefold()


def _numbered(image_id: str) -> str:
    """Digits alone without zeros before them; spreadsheets lose those, and pandas adds a `.0`."""
    digits = _FLOAT.sub(r"\1", bare(image_id))
    return digits.lstrip("0") or "0" if digits.isascii() and digits.isdecimal() else ""


_FORMS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("with a folder or an ending", bare),
    ("in other letters", _lettered),
    ("as numbers without their zeros", _numbered),
)


def by_image(
    said: Mapping[str, Said], known: Collection[str], *, file: str
) -> tuple[Mapping[str, Said], list[Note]]:
    """What a table says, by the ids of the images where it has one in another form.

    Args:
        said: id of the table to what it says.
        known: ids of the images.
        file: name of the table, for the notes.
    """
    renamed, texts = match_ids(said, known)
    if not renamed:
        return said, []
    rows = {renamed.get(image_id, image_id): row for image_id, row in said.items()}
    return rows, [Note(f"{file}: {text}") for text in texts]


def match_ids(said: Iterable[str], known: Collection[str]) -> tuple[dict[str, str], list[str]]:
    """Ids of a table that are an image's in another form.

    An id that is an image's as it stands is that image's, and an image has one id of the table at
    most: what could be two images, or is a second id of one, is matched to none.

    Args:
        said: ids of the table.
        known: ids of the images.

    Returns:
        id of the table to that of its image, for those that differ; and, for a note, in which forms
        how many of them are written, with an example.
    """
    known = set(known)
    said = list(said)
    open_ids = [image_id for image_id in said if image_id not in known]
    free = known.difference(said)
    matched: dict[str, str] = {}
    texts = []
    for how, form in _FORMS:
        if not open_ids or not free:
            break
        images = _by_form(free, form)
        asking = Counter(form(image_id) for image_id in open_ids)
        found = {
            image_id: images[form(image_id)]
            for image_id in open_ids
            if asking[form(image_id)] == 1 and form(image_id) in images
        }
        if found:
            first, image = next(iter(found.items()))
            texts.append(f"{count(len(found), 'id')} {how}: {first!r} is {image!r}")
        matched |= found
        free -= set(found.values())
        open_ids = [image_id for image_id in open_ids if image_id not in found]
    return matched, texts


def _by_form(ids: Iterable[str], form: Callable[[str], str]) -> dict[str, str]:
    """The ids that no other equals in a form, by it."""
    forms: dict[str, list[str]] = {}
    for image_id in ids:
        forms.setdefault(form(image_id), []).append(image_id)
    return {key: alike[0] for key, alike in forms.items() if key and len(alike) == 1}


def alike_note(ids: Iterable[str], *, file: str) -> list[Note]:
    """A note on ids that differ in capitals or in the way accents are written alone."""
    forms: dict[str, list[str]] = {}
    for image_id in ids:
        key = unicodedata.normalize("NFC", image_id).casefold()
        forms.setdefault(key, []).append(image_id)
    pairs = [", ".join(alike) for alike in forms.values() if len(alike) > 1]
    if not pairs:
        return []
    text = f"{count(len(pairs), 'id')} with others that differ in capitals or accents only, kept"
    return [Note(f"{file}: {text} as different images: {first_few(pairs)}")]
