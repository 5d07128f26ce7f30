"""A corpus as it lies on disk: read to be counted, with no folds and no image decoded.

A bare concept list, in any edition's form or in that of ROCO's `cuis.txt`, is one too: images
without files or categories.
"""

import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from core.categories import UNKNOWN
from core.config import fingerprint
from core.errors import CorpusError
from core.images import ImageTable
from core.labels import LabelSpace
from core.runs.workspace import Corpus
from corpus.readers.concept_lists import (
    COMMA_LIST,
    ROCO_LIST,
    TAB_LIST,
    ListForm,
    read_concept_list,
    read_names,
)
from corpus.readers.files import SPLIT_WORDS
from corpus.readers.layouts import read_corpus
from corpus.readers.manifest import names_images
from corpus.readers.notes import Note, settle
from corpus.readers.reading import Reading
from corpus.readers.tables.text import read_text

LAYOUT = "concept list"


def read_unprepared(
    source: Path, *, layout: str | None = None, names: Path | None = None
) -> Corpus:
    """A folder, a manifest or a bare concept list as a corpus.

    Args:
        source: what to read.
        layout: as in `corpus.readers.layouts.read_corpus`; None recognises it.
        names: a file with names of concepts, for those that the corpus does not name.

    Raises:
        CorpusError: a file is missing or is not what it should be.
    """
    bare = layout is None and is_bare_list(source)
    reading = read_bare_list(source) if bare else read_corpus(source, layout=layout)
    table = reading.table
    return named(
        Corpus(
            name=f"{source.resolve().stem} ({reading.layout})",
            table=table,
            labels=LabelSpace.of(c or () for c in table.of(split="train").concepts),
            names=reading.names,
            edition=reading.edition,
            fingerprint=fingerprint(
                table.image_ids, table.categories, table.splits, table.groups, table.concepts
            ),
            notes=reading.notes,
        ),
        names,
    )


def named(corpus: Corpus, path: Path | None) -> Corpus:
    """The corpus with the names of a file for concepts that have none.

    Raises:
        CorpusError: the file is missing or not UTF-8.
    """
    further, notes = read_names(path)
    lines = settle(notes, strict=False)
    return replace(corpus, names={**further, **corpus.names}, notes=(*corpus.notes, *lines))


def is_bare_list(source: Path) -> bool:
    """Whether a path is a file, but no manifest: parquet, or a table that names images or splits.

    Raises:
        CorpusError: the file is no text.
    """
    if not source.is_file() or source.suffix.lower() == ".parquet":
        return False
    _lines(source)  # a file that is no text is refused by name
    return not names_images(source)


def read_bare_list(path: Path) -> Reading:
    """The images of a concept list, of the split that the file's name tells, else of train.

    Raises:
        CorpusError: the file is not a concept list, or has no image.
    """
    listed = read_concept_list(path, list_form(path))
    words = re.findall("[a-z]+", path.stem.lower())
    told = [s for s, known in SPLIT_WORDS.items() if any(word in known for word in words)]
    split = told[0] if len(told) == 1 else "train"
    taken = f"taken for {split}{'' if len(told) == 1 else ', since its name tells no split'}"
    ids, n_images = tuple(listed.concepts), len(listed.concepts)
    table = ImageTable(
        image_ids=ids,
        paths=("",) * n_images,
        categories=(UNKNOWN,) * n_images,
        splits=(split,) * n_images,
        folds=np.full(n_images, -1, dtype=np.int16),
        groups=ids,
        concepts=tuple(listed.concepts.values()),
    )
    text = f"{path.name}: a list alone, without images, categories or groups; {taken}"
    return Reading(
        layout=LAYOUT,
        edition=2020,
        table=table,
        names={},
        notes=settle([*listed.notes, Note(text)], strict=False),
    )


def list_form(path: Path) -> ListForm:
    """How the lines of a list are written, by what separates them.

    An image without concepts may have one separator where the others have two, so all are looked
    at.
    """
    lines = _lines(path)
    if not lines:
        raise CorpusError(f"{path}: empty; expected a concept list")
    if any(line.count("\t") > 1 for line in lines):
        return ROCO_LIST
    if any("\t" in line for line in lines):
        return TAB_LIST
    if any("," in line for line in lines):
        return COMMA_LIST
    shown = ", ".join(form.shown for form in (TAB_LIST, COMMA_LIST, ROCO_LIST))
    raise CorpusError(f"{path}: not a concept list; expected lines like one of {shown}")


def _lines(path: Path) -> list[str]:
    """The lines that are not blank."""
    text, _ = read_text(path)
    return [line for line in io.StringIO(text, newline=None) if line.strip()]
