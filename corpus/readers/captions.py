"""Captions: what is written of an image, good to learn by and never to predict by.

Releases keep them beside the concept lists, an image a line:

    {train,valid}_captions.csv                     ID,Caption     ROCOv2, 2024 and 2025
    *caption_prediction_{train,valid}[_labels].csv ID<TAB>caption 2022 and 2023
    dev_caption/captions.csv                       ID,Caption     2026, of train and valid
    data/<split>/radiology/captions.txt            ID<TAB>caption ROCO v1

A manifest, `metadata.csv` and parquet shards have them as a column. Captions of test images are
not read, nor those of images without concepts; both are counted. See
`core.images.ImageTable.taught_captions`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.errors import CorpusError, first_few
from core.images import SPLITS, ImageTable
from corpus.readers.annotations import Annotations
from corpus.readers.files import find_file
from corpus.readers.notes import Note, count
from corpus.readers.tables.cells import is_gap
from corpus.readers.tables.ids import by_image
from corpus.readers.tables.sheet import records
from corpus.readers.tables.text import read_text

_ENDINGS = (
    "{split}_captions.csv",
    "{split}_captions.tsv",
    "caption_prediction_{split}_labels.csv",
    "caption_prediction_{split}.csv",
)

_OF_BOTH = ("captions.csv", "caption.csv", "caption_prediction_labels.csv")

_HEADERS = ("id", "image_id", "image", "name")


@dataclass(frozen=True, kw_only=True)
class CaptionList:
    """The captions of images, as one file gives them.

    Attributes:
        path: the file.
        captions: image id to its caption, on one line.
        split: whose images they are; "" where the file is of several splits.
        notes: what was left out.
    """

    path: Path
    captions: Mapping[str, str]
    split: str = ""
    notes: tuple[Note, ...] = ()


def read_captions(*folders: Path) -> tuple[list[CaptionList], list[Note]]:
    """The captions of train and valid in some folders, and what there is to note.

    A file that cannot be read is noted and left: concepts are learnt without it as well.
    """
    lists, notes = [], []
    for split in SPLITS:
        endings = [ending.format(split=split) for ending in _ENDINGS]
        path, noted = _found(folders, endings)
        notes += noted
        if path is not None and split == "test":
            notes.append(Note(f"{path.name}: not read, captions of test images are no input"))
        elif path is not None:
            found, noted = read_caption_list(path, split=split)
            lists += found
            notes += noted
    return lists, notes


def read_joint_captions(*folders: Path) -> tuple[list[CaptionList], list[Note]]:
    """The same of a file that holds the captions of all splits together."""
    path, notes = _found(folders, _OF_BOTH)
    if path is None:
        return [], notes
    found, noted = read_caption_list(path)
    return found, [*notes, *noted]


def _found(folders: Iterable[Path], endings: Sequence[str]) -> tuple[Path | None, list[Note]]:
    """The one file whose name ends so, in the first folder that has one."""
    try:
        paths = [find_file(folder, *endings) for folder in dict.fromkeys(folders)]
    except CorpusError as error:
        return None, [Note(f"captions not read: {error}")]
    return next((path for path in paths if path is not None), None), []


def read_caption_list(path: Path, *, split: str = "") -> tuple[list[CaptionList], list[Note]]:
    """The captions of a file; none of a file that cannot be read, which is noted.

    Columns are separated by TABs where the first line has one, by semicolons where it is a header
    with one, else by commas; a caption without quotes may have more of them. A header is passed
    over, and so is an index before the ids; lines without an id or a caption are
    counted, and of two captions of an image the first is kept.
    """
    try:
        text, notes = read_text(path)
        separator = _separator(text.partition("\n")[0])
        rows = list(records(path, text, separator=separator, quoted=separator != "\t"))
    except CorpusError as error:
        return [], [Note(f"captions not read: {error}")]
    captions: dict[str, str] = {}
    n_left_out = 0
    first = int(bool(rows) and _is_indexed(rows[0][1]))
    for row, (_, whole) in enumerate(rows):
        cells = whole[first:]
        image_id, caption = cells[0].strip() if cells else "", one_line(separator.join(cells[1:]))
        if not any(cell.strip() for cell in cells) or (row == 0 and image_id.lower() in _HEADERS):
            continue
        if not image_id or not caption or captions.setdefault(image_id, caption) != caption:
            n_left_out += 1
    if n_left_out:
        said = f"{count(n_left_out, 'line')} without an id, without a caption or with a second one"
        notes = [*notes, Note(f"{path.name}: {said}, left out")]
    if not captions:
        notes = [*notes, Note(f"{path.name}: no caption in it")]
    return [CaptionList(path=path, captions=captions, split=split, notes=tuple(notes))], []


def _separator(header: str) -> str:
    """What parts the columns of a file that begins so."""
    if "\t" in header:
        return "\t"
    parts = [cell.strip().lower() for cell in header.split(";")]
    return ";" if len(parts) > 1 and parts[0] in ("", *_HEADERS) else ","


def _is_indexed(header: Sequence[str]) -> bool:
    """Whether a column without a name, as pandas writes its index, stands before the ids."""
    names = [cell.strip().lower() for cell in header[:2]]
    return len(names) > 1 and not names[0] and names[1] in _HEADERS


def one_line(caption: str) -> str:
    """A caption with single blanks between its words; "" for a word that means that there is none.

    Example:
        >>> one_line(" CT of the   chest."), one_line("nan")
        ('CT of the chest.', '')
    """
    text = " ".join(caption.split())
    return "" if is_gap(text) else text


def taught_captions(
    table: ImageTable, lists: Sequence[CaptionList], *, said: Iterable[Annotations]
) -> tuple[tuple[str, ...], list[Note]]:
    """N captions to learn by, "" where there is none, and what there is to note.

    () where no labelled image has one. What files of captions say counts before a column.

    Args:
        table: N images.
        lists: files of captions.
        said: tables that may have a column of captions.
    """
    columns = [
        CaptionList(path=one.path, captions={i: one_line(text) for i, text in one.captions.items()})
        for one in said
        if one.captions
    ]
    learnt = table.take(table.labelled & (np.array(table.splits, dtype=np.str_) != "test"))
    of_learnt, of_any = set(learnt.image_ids), set(table.image_ids)
    captions: dict[str, str] = {}
    notes: list[Note] = []
    for one in (*lists, *columns):
        ids = table.of(split=one.split).image_ids if one.split else table.image_ids
        told, noted = by_image(one.captions, ids, file=one.path.name)
        told = {image_id: caption for image_id, caption in told.items() if caption}
        notes += [*one.notes, *noted, *_notes_on(one.path.name, told, of_learnt, of_any)]
        captions = {**{i: c for i, c in told.items() if i in of_learnt}, **captions}
    if not captions:
        return (), notes
    for split in ("train", "valid"):
        images = learnt.of(split=split).image_ids
        if bare := [image_id for image_id in images if image_id not in captions]:
            some = f"{len(bare)} of {count(len(images), 'labelled image')}"
            notes.append(Note(f"{split}: {some} without a caption: {first_few(bare)}"))
    return tuple(captions.get(image_id, "") for image_id in table.image_ids), notes


def _notes_on(
    name: str, told: Mapping[str, str], of_learnt: set[str], of_any: set[str]
) -> Iterable[Note]:
    """Captions that no image is taught by, counted."""
    if strangers := [image_id for image_id in told if image_id not in of_any]:
        text = f"{count(len(strangers), 'caption')} without an image, left out"
        yield Note(f"{name}: {text}: {first_few(strangers)}")
    if other := [i for i in told if i in of_any and i not in of_learnt]:
        text = f"{count(len(other), 'caption')} of images of test or without concepts, not read"
        yield Note(f"{name}: {text}: {first_few(other)}")
