"""Ids in lists and tables that mean an image and are written otherwise: `a.jpg`, `train/a`, `A`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar

from core.errors import CorpusError, first_few
from corpus.readers.annotations import Annotations
from corpus.readers.concept_lists import ConceptList
from corpus.readers.files import FoundImage, name_of_image
from corpus.readers.modality import ManualConcepts
from corpus.readers.notes import Note, count

_T = TypeVar("_T")


class Matched(NamedTuple):
    """What lists and tables say, by the ids of the images.

    Attributes:
        lists: split to its concept list.
        annotations: tables of images.
        manual: concepts that people chose.
        notes: a line for each file in which ids were written otherwise.
    """

    lists: Mapping[str, ConceptList]
    annotations: Sequence[Annotations]
    manual: ManualConcepts
    notes: tuple[Note, ...]


def match_ids(
    found: Sequence[FoundImage],
    lists: Mapping[str, ConceptList],
    *,
    annotations: Sequence[Annotations],
    manual: ManualConcepts,
) -> Matched:
    """Lists and tables with the ids of the images that they mean.

    An id that is no image's is taken for the one image of the same name without ending, folder and
    case, where there is one and it has no entry under its own.

    Raises:
        CorpusError: a file names an image twice, each time in another way.
    """
    ids = _Ids(image.image_id for image in found)
    notes: list[Note] = []

    def renamed(where: str, rows: Mapping[str, _T]) -> Mapping[str, _T]:
        other = ids.otherwise(rows)
        if not other:
            return rows
        named: dict[str, str] = {}
        for name in rows:
            image_id = other.get(name, name)
            if image_id in named:
                raise CorpusError(
                    f"{where}: image {image_id!r} stands twice, as {named[image_id]!r} and as"
                    f" {name!r}; keep one"
                )
            named[image_id] = name
        if where:
            shown = first_few((f"{name} for {image}" for name, image in other.items()), n=3)
            text = f"{where}: {count(len(other), 'id')} with an ending, a folder or in another case"
            notes.append(Note(f"{text}, taken for the image meant: {shown}"))
        return {image_id: rows[name] for image_id, name in named.items()}

    matched = {
        split: replace(one, concepts=renamed(one.path.name, one.concepts))
        for split, one in lists.items()
    }
    said = [replace(one, rows=renamed(one.path.name, one.rows)) for one in annotations]
    return Matched(matched, said, renamed("", manual), tuple(notes))


class _Ids:
    """Ids of images, found by how others write them."""

    def __init__(self, ids: Iterable[str]) -> None:
        self._ids = frozenset(ids)
        self._by_plain: dict[str, str | None] | None = None

    def otherwise(self, names: Mapping[str, object]) -> dict[str, str]:
        """Name to id, of the names that are no id and mean one."""
        strange = [name for name in names if name not in self._ids]
        if not strange:
            return {}
        if self._by_plain is None:
            self._by_plain = {}
            for image_id in self._ids:
                plain = _plain(image_id)
                self._by_plain[plain] = None if plain in self._by_plain else image_id
        meant = {name: self._by_plain.get(_plain(name)) for name in strange}
        return {name: i for name, i in meant.items() if i is not None and i not in names}


def _plain(name: str) -> str:
    bare = name.replace("\\", "/").rsplit("/", 1)[-1]
    while (shorter := name_of_image(bare)) != bare:
        bare = shorter
    return bare.casefold()
