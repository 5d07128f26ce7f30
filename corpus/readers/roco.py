"""Reader of ROCO v1 (Radiology Objects in COntext, Pelka et al., LABELS at MICCAI 2018).

    data/<split>/radiology/images/<id>.jpg     train, validation, test
    data/<split>/radiology/cuis.txt            ID<TAB><TAB>CUI<TAB>CUI

Images are downloaded one by one by the corpus' own script and some are always gone: the notes count
them. The non-radiology images are no part of the task and are not looked at.
"""

from pathlib import Path

from core.errors import CorpusError
from corpus.readers.annotations import read_annotations
from corpus.readers.concept_lists import ROCO_LIST, read_concept_list
from corpus.readers.files import images_of_split
from corpus.readers.notes import Note
from corpus.readers.reading import Reading, make_reading

LAYOUT = "ROCO v1"

LOOKED_FOR = "data/train/radiology/cuis.txt"

_FOLDERS = {"train": "train", "valid": "validation", "test": "test"}
_LIST = "cuis.txt"


def is_roco(folder: Path) -> bool:
    """Whether a split of ROCO is there, in the folder or in its `data/`."""
    return any((_home(folder) / name / "radiology").is_dir() for name in _FOLDERS.values())


def _home(folder: Path) -> Path:
    return folder / "data" if (folder / "data").is_dir() else folder


def read_roco(folder: Path, *, strict: bool = False) -> Reading:
    """The radiology images of ROCO v1, without categories or names of concepts.

    The test split has concepts too; they stay unread, as the truth that a submission is scored
    against. The submission format is that of 2020, whose corpus was drawn from ROCO.

    Raises:
        CorpusError: a file is missing or malformed, or files contradict each other.
    """
    homes = {split: _home(folder) / name / "radiology" for split, name in _FOLDERS.items()}
    lists = {
        split: read_concept_list(homes[split] / _LIST, ROCO_LIST) for split in ("train", "valid")
    }
    found, notes = [], []
    for split, home in homes.items():
        images, noted = images_of_split(home / "images", split)
        if not images and split in lists:
            raise CorpusError(
                f"{home / 'images'}: no image; download them with ROCO's scripts/fetch.py"
            )
        found += images
        notes += noted
    if (homes["test"] / _LIST).is_file():
        notes.append(Note(f"test/radiology/{_LIST}: not read, the test images stay unlabelled"))
    return make_reading(
        found,
        lists,
        layout=LAYOUT,
        edition=2020,
        names={},
        annotations=read_annotations(folder, _home(folder)),
        notes=notes,
        strict=strict,
    )
