"""What keeps a corpus from being prepared, each in a line that names it and what to do."""

import re
from collections.abc import Mapping
from pathlib import Path

from core.errors import CorpusError, first_few
from core.images import ImageTable
from core.runs.leakage import CrossingGroups
from core.storage.text import brief, unwritable
from corpus.readers.notes import count

_UNWRITABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")  # the last: bytes that are not UTF-8


def refuse_unwritable(table: ImageTable, names: Mapping[str, str], *, source: Path) -> None:
    """Refuse what plain UTF-8 files could not hold so that it is read again, before any work.

    Ids, paths and concepts stand in lists, an entry a line, and have no control characters; any
    other cell may have them.
    """
    named = zip(table.image_ids, table.paths, strict=True)
    bad = [
        i if _UNWRITABLE.search(i) else path for i, path in named if _UNWRITABLE.search(i + path)
    ]
    if bad:
        raise CorpusError(
            f"{count(len(bad), 'image')} whose id or path is not UTF-8 or has control characters in"
            f" it: {first_few(bad)}; rename them"
        )
    concepts = {cui for own in table.concepts for cui in own or ()}
    if strange := sorted(cui for cui in concepts if _UNWRITABLE.search(cui)):
        raise CorpusError(
            f"{source}: {count(len(strange), 'concept')} with control characters:"
            f" {first_few(strange)}; remove them"
        )
    columns = {
        "group": table.groups,
        "concepts": [";".join(own or ()) for own in table.concepts],
        **({"caption": table.taught_captions} if table.taught_captions else {}),
        **table.metadata,
    }
    for column, cells in columns.items():
        for image_id, cell in zip(("", *table.image_ids), (column, *cells), strict=True):
            if reason := unwritable(cell):
                where = f"image {image_id!r}, column {brief(column)!r}" if image_id else "a column"
                raise CorpusError(f"{source}: {where}: {reason}; shorten or remove it")
    for cui, name in names.items():
        if reason := unwritable(cui) or unwritable(name):
            raise CorpusError(f"{source}: name of the concept {brief(cui)!r}: {reason}; shorten it")


def refuse_crossing_valid(table: ImageTable) -> None:
    """Refuse groups with images in train and valid where valid judges what learnt from train."""
    if shared := CrossingGroups.of(table).between("train", "valid"):
        raise CorpusError(
            f"{count(len(shared), 'group')} with images in train and in valid: {first_few(shared)};"
            " under the protocol holdout valid would be scored by what has seen the same patients:"
            " use --protocol crossfit, whose folds keep groups whole, or `deal` whole groups"
        )


def refuse_unreadable(table: ImageTable, errors: dict[str, str]) -> None:
    """Refuse a corpus of which no training image can be decoded: there is nothing to learn from."""
    train = table.of(split="train").image_ids
    if all(image_id in errors for image_id in train):
        raise CorpusError(
            f"none of {count(len(train), 'training image')} can be decoded, so there is nothing"
            f" to learn from; for example {errors[train[0]]}"
        )
