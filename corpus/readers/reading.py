"""What every reader makes of a corpus' files: one image table and all that was strange about it."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from core.categories import CATEGORIES, UNKNOWN
from core.errors import CorpusError, first_few
from core.images import SPLITS, ImageTable
from core.runs.leakage import CROSSING_FILE, CrossingGroups
from corpus.dicom.headers import read_headers
from corpus.readers.annotations import Annotations, annotation_notes
from corpus.readers.captions import CaptionList, taught_captions
from corpus.readers.concept_lists import ConceptList
from corpus.readers.files import FoundImage, natural_key
from corpus.readers.modality import ManualConcepts, category_notes, taught_categories
from corpus.readers.notes import Note, count, settle
from corpus.readers.tables.ids import by_image

NO_IMAGE: Mapping[str, str] = {split: f"{split}: no image" for split in SPLITS}
"""How a note begins that says that a split has no image, or none of a category."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A corpus as a reader found it, before folds are assigned.

    Attributes:
        layout: the layout it was read as, in words.
        edition: year whose submission format and score apply unless another one is asked for.
        table: all images, in the order of `SPLITS` and then of their ids; every fold is -1.
        names: preferred name of a concept, empty where the corpus gives none.
        notes: what was mended, left out or strange, one counted line each.
        grave: those of the notes that a strict reading refuses.
    """

    layout: str
    edition: int
    table: ImageTable
    names: Mapping[str, str]
    notes: tuple[str, ...]
    grave: tuple[str, ...] = ()


def make_reading(
    found: Iterable[FoundImage],
    lists: Mapping[str, ConceptList],
    *,
    layout: str,
    edition: int,
    names: Mapping[str, str],
    annotations: Sequence[Annotations],
    notes: Iterable[Note],
    strict: bool,
    manual: ManualConcepts | None = None,
    in_folders: bool = False,
    looked_in: Mapping[str, str] | None = None,
    captions: Sequence[CaptionList] = (),
) -> Reading:
    """Join images, concepts, annotations and captions.

    An image is labelled when the list of its split has its id; images of a split without a list
    (test) are not. An image without a group is a group of its own. The headers of DICOM files are
    asked last: what folders and tables say counts before them.

    Args:
        found: every image file.
        lists: split to its concept list.
        layout: as in `Reading`.
        edition: as in `Reading`.
        names: as in `Reading`.
        annotations: what tables say of the images; the first one with a value counts.
        notes: what was noted while the files were read.
        strict: refuse what a note would call grave.
        manual: concepts that people chose, to read the category from; None where there are none.
        in_folders: folders are named after categories, so images without any are noted.
        looked_in: for a split, in words, where its images were looked for; for messages.
        captions: files of captions; those in a column are among the annotations.

    Raises:
        CorpusError: there is no labelled training image, an id stands twice, the files contradict
            each other, or the reading is strict and labels or images are lost or a group has
            images in more than one split.
    """
    images = _in_order(found)
    ids = {image.image_id for image in images}
    lists = {split: _matched_list(concepts, ids) for split, concepts in lists.items()}
    annotations = [_matched(said, ids) for said in annotations]
    manual, _ = by_image(manual or {}, ids, file="")  # the other lists were told to have them
    collected = [*notes, *(note for concepts in lists.values() for note in concepts.notes)]
    collected += _matching_notes(images, lists, looked_in or {})
    for said in annotations:
        collected += annotation_notes(images, said)
    headers = read_headers(images)
    told = [*annotations, *([headers.annotations] if headers else [])]
    table = _table(images, lists, told, manual)
    taught, of_captions = taught_captions(table, captions, said=annotations)
    table = replace(table, taught_captions=taught)
    collected += of_captions
    if in_folders:
        collected += _category_unknown(table)
    if headers:
        collected += headers.notes
        collected += headers.contradictions(zip(table.image_ids, table.categories, strict=True))
    collected += crossing_notes(table, strict=strict)
    collected += category_notes(table, manual)
    collected += table_notes(table, looked_in=looked_in or {})
    return Reading(
        layout=layout,
        edition=edition,
        table=table,
        names=names,
        notes=settle(collected, strict=strict),
        grave=tuple(note.text for note in collected if note.grave),
    )


def regrouped(reading: Reading, column: str, *, strict: bool) -> Reading:
    """The reading with the values of a metadata column as groups (an article's number, say).

    An image without a value is a group of its own; these are counted. `group` are the groups that
    are given.

    Args:
        reading: one that was not strict, for its own groups need not keep to the splits.
        column: name of the column, in any case.
        strict: refuse what a note of the reading, or of its new groups, calls grave.

    Raises:
        CorpusError: no column goes by that name; no image has a value; or labels or images are
            lost, or a group has images in more than one split, and that is to be refused.
    """
    table = reading.table
    given = [Note(text, grave=text in reading.grave) for text in reading.notes]
    if column.lower() == "group":
        return replace(reading, notes=settle(given, strict=strict))
    names = [name for name in table.metadata if name.lower() == column.lower()]
    name = column if column in names else names[0] if names else None
    if name is None:
        raise CorpusError(
            f"--group-by {column}: no such column; the corpus has"
            f" {first_few(table.metadata, n=12) if table.metadata else 'no further columns'}"
        )
    pairs = list(zip(table.image_ids, table.metadata[name], strict=True))
    without = [image_id for image_id, value in pairs if not value]
    if len(without) == len(pairs):
        raise CorpusError(f"--group-by {column}: no image has a value in that column")
    outdated = {note.text for note in crossing_notes(table)}
    table = replace(table, groups=tuple(value or image_id for image_id, value in pairs))
    n_groups = len({value for _, value in pairs if value})
    notes = [Note(f"groups by {name}: {count(n_groups, 'group')}")]
    if without:
        text = f"groups by {name}: {count(len(without), 'image')} without a value"
        notes.append(Note(f"{text}, each a group of its own: {first_few(without)}"))
    notes += crossing_notes(table, strict=strict)
    notes = [*(note for note in given if note.text not in outdated), *notes]
    return replace(
        reading,
        table=table,
        notes=settle(notes, strict=strict),
        grave=tuple(note.text for note in notes if note.grave),
    )


def _in_order(found: Iterable[FoundImage]) -> list[FoundImage]:
    images = sorted(found, key=lambda i: (SPLITS.index(i.split), natural_key(i.image_id)))
    first: dict[str, FoundImage] = {}
    for image in images:
        other = first.setdefault(image.image_id, image)
        if other is not image:
            raise CorpusError(
                f"image {image.image_id!r} stands twice: {other.path} and {image.path}; keep one"
            )
    return images


def _matched_list(concepts: ConceptList, ids: Collection[str]) -> ConceptList:
    said, noted = by_image(concepts.concepts, ids, file=concepts.path.name)
    return replace(concepts, concepts=said, notes=(*concepts.notes, *noted))


def _matched(annotations: Annotations, ids: Collection[str]) -> Annotations:
    rows, noted = by_image(annotations.rows, ids, file=annotations.path.name)
    return replace(annotations, rows=rows, notes=(*annotations.notes, *noted))


def _table(
    images: Sequence[FoundImage],
    lists: Mapping[str, ConceptList],
    said: Sequence[Annotations],
    manual: ManualConcepts,
) -> ImageTable:
    ids = tuple(image.image_id for image in images)
    known = {split: concepts.concepts for split, concepts in lists.items()}

    def values(column: str) -> tuple[str, ...]:
        filled = ([one.value(image_id, column) for one in said] for image_id in ids)
        return tuple(next((value for value in row if value), "") for row in filled)

    named = zip((image.category for image in images), values("category"), strict=True)
    categories = tuple(seen or told for seen, told in named)
    concepts = tuple(known.get(image.split, {}).get(image.image_id) for image in images)
    table = ImageTable(
        image_ids=ids,
        paths=tuple(str(image.path) for image in images),
        categories=categories,
        splits=tuple(image.split for image in images),
        folds=np.full(len(images), -1, dtype=np.int16),
        groups=tuple(group or i for group, i in zip(values("group"), ids, strict=True)),
        concepts=concepts,
        metadata={name: values(name) for one in said for name in one.columns},
        taught_categories=taught_categories(ids, categories, concepts=concepts, manual=manual),
    )
    if not table.of(split="train").labelled.any():
        raise CorpusError(
            f"none of {count(len(table.of(split='train')), 'training image')} has concepts;"
            " check the folders and the concept list of train"
        )
    return table


def _category_unknown(table: ImageTable) -> Iterable[Note]:
    """Images in no category's folder of which nothing else tells the category either."""
    for split in SPLITS:
        part = table.of(split=split)
        outside = [i for i, c in zip(part.image_ids, part.categories, strict=True) if c == UNKNOWN]
        if outside:
            text = f"{split}: {count(len(outside), 'image')} in no category's folder"
            yield Note(f"{text}, category unknown: {first_few(outside)}")


def _matching_notes(
    images: Sequence[FoundImage], lists: Mapping[str, ConceptList], looked_in: Mapping[str, str]
) -> Iterable[Note]:
    """What images and concept lists say of each other."""
    split_of = {image.image_id: image.split for image in images}
    listed: dict[str, ConceptList] = {}
    for split, concepts in lists.items():
        name = concepts.path.name
        for image_id in concepts.concepts:
            other = listed.setdefault(image_id, concepts)
            if other is not concepts:
                raise CorpusError(
                    f"image {image_id!r} stands in {other.path.name} and in {name}; keep one"
                )
        if astray := [i for i in concepts.concepts if split_of.get(i, split) != split]:
            raise CorpusError(
                f"{concepts.path}: {count(len(astray), 'image')} of it in the folder of"
                f" {split_of[astray[0]]}, expected in that of {split}: {first_few(astray)}"
            )
        missing = [i for i in concepts.concepts if i not in split_of]
        if missing and len(missing) == len(concepts.concepts):
            raise CorpusError(
                f"{concepts.path}: no image file for any of its {count(len(missing), 'id')},"
                f" first {missing[0]!r}; check the folder of {split}{_seen_there(images, split)}"
                + (f"; looked for {looked_in[split]}" if split in looked_in else "")
            )
        if missing:
            text = f"{name}: {count(len(missing), 'image')} of {split} without a file, left out"
            yield Note(f"{text}: {first_few(missing)}", grave=True)
        ids = [image.image_id for image in images if image.split == split]
        if bare := [image_id for image_id in ids if image_id not in concepts.concepts]:
            some = f"{len(bare)} of {count(len(ids), 'image')}"
            text = f"{split}: {some} without an entry in {name}, unlabelled"
            yield Note(f"{text}: {first_few(bare)}", grave=True)


def _seen_there(images: Sequence[FoundImage], split: str) -> str:
    """An image of a split, to compare its name with those of the list."""
    names = [image.path.name for image in images if image.split == split]
    return f", where files are named like {names[0]!r}" if names else ""


def table_notes(table: ImageTable, *, looked_in: Mapping[str, str] | None = None) -> Iterable[Note]:
    """What is strange about a table as a whole: gaps, unseen concepts.

    Args:
        table: the images.
        looked_in: for a split, in words, where its images were looked for.
    """
    for split in SPLITS:
        part = table.of(split=split)
        if not len(part):
            where = (looked_in or {}).get(split)
            yield Note(NO_IMAGE[split] + (f"; looked for {where}" if where else ""))
            continue
        absent = [category for category in CATEGORIES if category not in part.categories]
        if absent and set(table.categories) != {UNKNOWN}:
            yield Note(f"{NO_IMAGE[split]} of {', '.join(absent)}")
        empty = [i for i, c in zip(part.image_ids, part.concepts, strict=True) if c == ()]
        if empty:
            text = f"{split}: {count(len(empty), 'image')} known to have no concept, kept"
            yield Note(f"{text}: {first_few(empty)}")
    yield from _unseen_concepts(table)


def _unseen_concepts(table: ImageTable) -> Iterable[Note]:
    train, valid = (
        Counter(cui for concepts in table.of(split=split).concepts for cui in concepts or ())
        for split in ("train", "valid")
    )
    if unseen := [cui for cui in valid if cui not in train]:
        n_pairs = sum(valid[cui] for cui in unseen)
        yield Note(
            f"{count(len(unseen), 'concept')} of {count(n_pairs, 'assignment')} in valid never in"
            " train: learnt under the protocol crossfit; under holdout always missed and counted so"
        )


def crossing_notes(table: ImageTable, *, strict: bool = False) -> Iterable[Note]:
    """What crosses the splits: images of a group resemble each other.

    Args:
        table: the images.
        strict: the note is to refuse them, so it says what to do.
    """
    crossing = CrossingGroups.of(table)
    if not len(crossing):
        return
    text = f"{count(len(crossing), 'group')} with images in more than one split"
    some = f"{first_few(sorted(crossing.images, key=natural_key))}; {crossing.counted()}"
    kept = "the split stays as it is, folds keep groups whole, scores are given without them too"
    listed = f"{kept}; `prepare` lists them in corpus/{CROSSING_FILE}"
    yield Note(f"{text}: {some}; {_REMEDIES if strict else listed}", grave=True)


_REMEDIES = (
    "deal whole groups to one split (`deal` does), take the groups out of the corpus' tables, or"
    " leave --strict away to keep the split"
)
