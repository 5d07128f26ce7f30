"""Reader of the ImageCLEFmed Caption corpora of 2019 and 2020.

    <split>/<category>/<id>.jpg     train, valid, test; without the category's folder in 2019
    Training-Concepts.txt           ID<TAB>CUI;CUI, no header
    Validation-Concepts.txt
    string_concepts.csv             CUI<TAB>name, optional
    groups.csv, metadata.csv        optional, see `corpus.readers.annotations`

The archives put the edition before the names of these files, which is accepted.
"""

from pathlib import Path

from core.categories import CATEGORIES
from core.images import SPLITS
from corpus.readers.annotations import read_annotations
from corpus.readers.concept_lists import TAB_LIST, read_concept_list, read_names
from corpus.readers.files import find_file, images_by_category, require_file
from corpus.readers.notes import Note
from corpus.readers.reading import Reading, make_reading

LAYOUT = "ImageCLEF 2019/20"

LOOKED_FOR = "Training-Concepts.txt, train/<DRXX>/"

_LISTS = {"train": "Training-Concepts.txt", "valid": "Validation-Concepts.txt"}
_TRUTH = "Test-Concepts.txt"
_NAMES = ("string_concepts.csv", "string-concepts.csv", "stringconcepts.csv")


def is_imageclef_2020(folder: Path) -> bool:
    """Whether a concept list of these editions, or a split's folder with categories, is there."""
    return any(find_file(folder, name) for name in _LISTS.values()) or any(
        (folder / split / category).is_dir() for split in SPLITS for category in CATEGORIES
    )


def read_imageclef_2020(folder: Path, *, strict: bool = False) -> Reading:
    """A corpus of 2019 or 2020.

    The concepts of the test images, where the folder has them, stay unread: they are the truth
    that a submission is scored against.

    Raises:
        CorpusError: a file is missing or malformed, or files contradict each other.
    """
    lists = {
        split: read_concept_list(require_file(folder, name), TAB_LIST)
        for split, name in _LISTS.items()
    }
    names, notes = read_names(find_file(folder, *_NAMES))
    found = []
    for split in SPLITS:
        images, noted = images_by_category(folder / split, split)
        found += images
        notes += noted
    if truth := find_file(folder, _TRUTH):
        notes.append(Note(f"{truth.name}: not read, the test images stay unlabelled"))
    return make_reading(
        found,
        lists,
        layout=LAYOUT,
        edition=2020,
        names=names,
        annotations=read_annotations(folder),
        notes=notes,
        strict=strict,
    )
