"""Reader of ROCO v1 (Radiology Objects in COntext, Pelka et al., LABELS at MICCAI 2018).

    data/<split>/radiology/images/<id>.jpg     train, validation, test
    data/<split>/radiology/cuis.txt            ID<TAB><TAB>CUI<TAB>CUI
    data/<split>/radiology/captions.txt        ID<TAB>caption, optional

On Kaggle `data/` is `all_data/`; later revisions of the lists go by `cuis_<revision>.txt`.

Images are downloaded one by one by the corpus' own script and some are always gone: the notes count
them. The non-radiology images are no part of the task and are not looked at.
"""

from pathlib import Path

from core.errors import CorpusError, first_few
from corpus.readers.annotations import read_annotations
from corpus.readers.captions import read_caption_list
from corpus.readers.concept_lists import ROCO_LIST, read_concept_list
from corpus.readers.files import images_of_split
from corpus.readers.notes import Note
from corpus.readers.reading import Reading, make_reading

LAYOUT = "ROCO v1"

LOOKED_FOR = "data/train/radiology/cuis.txt"

_FOLDERS = {"train": "train", "valid": "validation", "test": "test"}
_LIST = "cuis.txt"
_CAPTIONS = "captions.txt"


def is_roco(folder: Path) -> bool:
    """Whether a split of ROCO is there, in the folder, in its `data/` or in its `all_data/`."""
    return any((_home(folder) / name / "radiology").is_dir() for name in _FOLDERS.values())


def _home(folder: Path) -> Path:
    inner = [folder / name for name in ("data", "all_data")]
    return next((home for home in inner if home.is_dir()), folder)


def _list_in(home: Path) -> Path:
    """The list of a split: `cuis.txt`, or the one revision of it that is there.

    Raises:
        CorpusError: there are several revisions.
    """
    revised = sorted(home.glob("cuis*.txt"))
    if (home / _LIST) in revised or not revised:
        return home / _LIST
    if len(revised) > 1:
        names = first_few(path.name for path in revised)
        raise CorpusError(f"{home}: several revisions of {_LIST}: {names}; keep one")
    return revised[0]


def read_roco(folder: Path, *, strict: bool = False) -> Reading:
    """The radiology images of ROCO v1, without categories or names of concepts.

    The test split has concepts too; they stay unread, as the truth that a submission is scored
    against. The submission format is that of 2020, whose corpus was drawn from ROCO.

    Raises:
        CorpusError: a file is missing or malformed, or files contradict each other.
    """
    homes = {split: _home(folder) / name / "radiology" for split, name in _FOLDERS.items()}
    lists = {"train": read_concept_list(_list_in(homes["train"]), ROCO_LIST)}
    if homes["valid"].is_dir():
        lists["valid"] = read_concept_list(_list_in(homes["valid"]), ROCO_LIST)
    found, notes = [], []
    for split, home in homes.items():
        images, noted = images_of_split(home / "images", split)
        if not images and split in lists:
            raise CorpusError(
                f"{home / 'images'}: no image; download them with ROCO's scripts/fetch.py"
            )
        found += images
        notes += noted
    if (truth := _list_in(homes["test"])).is_file():
        notes.append(
            Note(f"test/radiology/{truth.name}: not read, the test images stay unlabelled")
        )
    captions, of_captions = [], []
    for split in lists:
        if (path := homes[split] / _CAPTIONS).is_file():
            read, noted = read_caption_list(path, split=split)
            captions += read
            of_captions += noted
    return make_reading(
        found,
        lists,
        layout=LAYOUT,
        edition=2020,
        names={},
        annotations=read_annotations(folder, _home(folder)),
        notes=[*notes, *of_captions],
        captions=captions,
        strict=strict,
    )
