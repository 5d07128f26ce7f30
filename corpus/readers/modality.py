"""What an image's own labels tell of its category, where neither a folder nor a table names it.

Such a category is good to learn by and never to predict by: it comes from what is to be predicted.
It is kept apart in the image table, see `ImageTable.taught_categories`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from core.categories import UNKNOWN, category_of_concepts
from core.errors import first_few
from core.images import ImageTable
from core.labels import Concepts
from corpus.readers.concept_lists import COMMA_LIST, ConceptList, read_concept_list
from corpus.readers.files import find_file
from corpus.readers.notes import Note, count

MANUAL_LIST = "concepts_manual.csv"
"""Ending of the name of a list of concepts that people chose, modality among them (since 2023)."""

ManualConcepts = Mapping[str, Concepts]
"""Image id to the concepts that people chose for it."""


def read_manual_lists(
    folder: Path, splits: Sequence[str]
) -> tuple[dict[str, Concepts], list[Note]]:
    """What the manual lists of some splits say, and what was odd; nothing of a split without one.

    Raises:
        CorpusError: a list is malformed.
    """
    paths = [find_file(folder, f"{split}_{MANUAL_LIST}") for split in splits]
    lists = [read_concept_list(path, COMMA_LIST) for path in paths if path is not None]
    concepts = {i: concepts for one in lists for i, concepts in one.concepts.items()}
    return concepts, [note for one in lists for note in manual_notes(one)]


def manual_notes(manual: ConceptList) -> list[Note]:
    """What was odd in a manual list: nothing grave, for no label is read from it."""
    return [Note(note.text) for note in manual.notes]


def taught_categories(
    image_ids: Sequence[str],
    categories: Sequence[str],
    *,
    concepts: Sequence[Concepts | None],
    manual: ManualConcepts,
) -> tuple[str, ...]:
    """N categories that the labels of images tell, `UNKNOWN` where one is given or none is told.

    Those of a manual list count before the others, which a program read from the caption. () where
    no image has one.

    Args:
        image_ids: N of them.
        categories: as folders and tables name them.
        concepts: None of an image without labels, of which nothing is told.
        manual: concepts that people chose.
    """
    rows = zip(image_ids, categories, concepts, strict=True)
    told = tuple(
        UNKNOWN if given != UNKNOWN or own is None else _told(manual.get(image_id, ()), own)
        for image_id, given, own in rows
    )
    return told if any(told) else ()


def _told(manual: Concepts, own: Concepts) -> str:
    return category_of_concepts(manual) or category_of_concepts(own)


def category_notes(table: ImageTable, manual: ManualConcepts) -> Iterator[Note]:
    """Images whose labels contradict their category, and what training images have theirs from."""
    labelled = table.take(table.labelled)
    rows = zip(labelled.image_ids, labelled.categories, labelled.concepts, strict=True)
    told = {i: (given, _told(manual.get(i, ()), own or ())) for i, given, own in rows}
    if odd := [i for i, (given, own) in told.items() if given and own and given != own]:
        pairs = [f"{i}: {told[i][0]}, not {told[i][1]}" for i in odd]
        text = f"{count(len(odd), 'image')} whose concepts tell another category than is named"
        yield Note(f"{text}; the named one counts: {first_few(pairs)}")
    train = table.of(split="train")
    train = train.take(train.labelled)
    unnamed = [i for i, c in zip(train.image_ids, train.categories, strict=True) if c == UNKNOWN]
    by_hand = [i for i in unnamed if category_of_concepts(manual.get(i, ()))]
    silent = [i for i in unnamed if not told[i][1]]
    if not unnamed or len(silent) == len(train):
        return  # all are named; or nothing is known of any, as the overview shows
    n_read = len(unnamed) - len(by_hand) - len(silent)
    kinds = Counter(told[i][1] for i in unnamed if told[i][1])
    of_kinds = ", ".join(f"{category} {n}" for category, n in sorted(kinds.items()))
    parts = [
        f"{len(train) - len(unnamed)} named",
        *([f"{len(by_hand)} read from the manual list"] if by_hand else []),
        f"{n_read} read from the concepts" + (f" ({of_kinds})" if of_kinds else ""),
        f"{count(len(silent), 'image')} without a modality concept",
    ]
    shown = f": {first_few(silent)}" if silent else ""
    yield Note(f"train: categories to learn by: {', '.join(parts)}{shown}")


def manual_of(lists: Mapping[str, ConceptList]) -> dict[str, Concepts]:
    """The concepts of lists by split as those of one."""
    return {i: concepts for one in lists.values() for i, concepts in one.concepts.items()}
