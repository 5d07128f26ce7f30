"""What every reader makes of a corpus' files: one image table and all that was strange about it."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from core.categories import CATEGORIES, UNKNOWN
from core.errors import CorpusError, first_few
from core.images import SPLITS, ImageTable
from corpus.readers.annotations import Annotations, annotation_notes, matched
from corpus.readers.concept_lists import ConceptList, matched_list
from corpus.readers.files import FoundImage, natural_key
from corpus.readers.modality import ManualConcepts, category_notes, taught_categories
from corpus.readers.notes import Note, count, settle


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A corpus as a reader found it, before folds are assigned.

    Attributes:
        layout: the layout it was read as, in words.
        edition: year whose submission format and score apply unless another one is asked for.
        table: all images, in the order of `SPLITS` and then of their ids; every fold is -1.
        names: preferred name of a concept, empty where the corpus gives none.
        notes: what was mended, left out or strange, one counted line each.
    """

    layout: str
    edition: int
    table: ImageTable
    names: Mapping[str, str]
    notes: tuple[str, ...]


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
) -> Reading:
    """Join images, concepts and annotations.

    An image is labelled when the list of its split has its id; images of a split without a list
    (test) are not. An image without a group is a group of its own.

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

    Raises:
        CorpusError: there is no labelled training image, an id stands twice, the files contradict
            each other, a group of test has images in train or valid, or the reading is strict
            and labels or images are lost.
    """
    images = _in_order(found)
    lists = {split: matched_list(concepts, images) for split, concepts in lists.items()}
    annotations = [matched(said, images) for said in annotations]
    collected = [*notes, *(note for concepts in lists.values() for note in concepts.notes)]
    collected += _matching_notes(images, lists)
    for said in annotations:
        collected += annotation_notes(images, said)
    table = _table(images, lists, annotations, manual or {})
    refuse_crossing_groups(table, together=("train", "valid"))
    collected += category_notes(table, manual or {})
    collected += table_notes(table)
    return Reading(
        layout=layout,
        edition=edition,
        table=table,
        names=names,
        notes=settle(collected, strict=strict),
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


def _matching_notes(
    images: Sequence[FoundImage], lists: Mapping[str, ConceptList]
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
                f" first {missing[0]!r}; check the folder of {split}"
            )
        if missing:
            text = f"{name}: {count(len(missing), 'image')} of {split} without a file, left out"
            yield Note(f"{text}: {first_few(missing)}", grave=True)
        ids = [image.image_id for image in images if image.split == split]
        if bare := [image_id for image_id in ids if image_id not in concepts.concepts]:
            some = f"{len(bare)} of {count(len(ids), 'image')}"
            text = f"{split}: {some} without an entry in {name}, unlabelled"
            yield Note(f"{text}: {first_few(bare)}", grave=True)


def table_notes(table: ImageTable) -> Iterable[Note]:
    """What is strange about a table as a whole: gaps, unseen concepts."""
    for split in SPLITS:
        part = table.of(split=split)
        if not len(part):
            yield Note(f"{split}: no image")
            continue
        absent = [category for category in CATEGORIES if category not in part.categories]
        if absent and set(table.categories) != {UNKNOWN}:
            yield Note(f"{split}: no image of {', '.join(absent)}")
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
            " train: under the protocol holdout always missed, counted as misses by every score"
        )


def refuse_crossing_groups(table: ImageTable, *, together: Sequence[str] = ()) -> None:
    """Images of a group resemble each other: no later score would mean anything.

    Args:
        table: the images.
        together: splits that count as one, for they are dealt into folds together.

    Raises:
        CorpusError: a group has images in more than one split.
    """
    splits_of: dict[str, set[str]] = defaultdict(set)
    for group, split in zip(table.groups, table.splits, strict=True):
        splits_of[group].add(together[0] if split in together else split)
    if crossing := sorted((g for g, s in splits_of.items() if len(s) > 1), key=natural_key):
        raise CorpusError(
            f"{count(len(crossing), 'group')} with images in more than one split:"
            f" {first_few(crossing)}; deal whole groups to one split, or leave the groups out"
        )
