"""Reader of the corpus of 2021, whose three archives are unpacked together or side by side.

    ImageCLEF2021_ConceptDetection_Training-Set/Training_Set_Concepts.csv    ID,CUI;CUI, no header
    ImageCLEF2021_ConceptDetection_Training-Set/Training-Images/<id>.jpg
    ImageCLEF2021_ConceptDetection_Validation-Set/...                        the same of valid
    Test-Images/<id>.jpg

Lists and folders of images may lie at the top as well. No evaluator of 2021 is public; submissions
had the form of 2020.
"""

from dataclasses import replace
from pathlib import Path

from core.errors import CorpusError, first_few
from core.images import SPLITS
from corpus.readers.annotations import read_annotations
from corpus.readers.captions import read_captions
from corpus.readers.concept_lists import COMMA_LIST, ConceptList, read_concept_list
from corpus.readers.files import FoundImage, find_file, is_leftover, natural_key
from corpus.readers.notes import Note, count
from corpus.readers.reading import Reading, make_reading
from corpus.readers.releases.places import Places, images_in, places_of, split_of_name

LAYOUT = "ImageCLEF 2021"

LOOKED_FOR = "Training_Set_Concepts.csv"

_SCORED_AS = 2020

_WORDS = {"train": "Training", "valid": "Validation"}


def is_imageclef_2021(folder: Path) -> bool:
    """Whether a concept list of this edition is there, or in a folder of it."""
    return any(_list_of(split, _homes(folder)) for split in _WORDS)


def read_imageclef_2021(folder: Path, *, strict: bool = False) -> Reading:
    """The corpus of 2021, without categories or names of concepts.

    Raises:
        CorpusError: a file is missing or malformed, or files contradict each other.
    """
    homes = _homes(folder)
    paths = {split: _list_of(split, homes) for split in _WORDS}
    if paths["train"] is None:
        raise CorpusError(f"{folder}: no file {LOOKED_FOR}; put it there")
    lists = {s: read_concept_list(path, COMMA_LIST) for s, path in paths.items() if path}
    places = _innermost(places_of(*homes))
    found, notes = images_in(places)
    found, lists, noted = _told_apart(found, lists)
    notes += noted
    if truth := _list_of("test", homes):
        notes.append(Note(f"{truth.name}: not read, the test images stay unlabelled"))
    captions, of_captions = read_captions(*homes)
    return make_reading(
        found,
        lists,
        layout=LAYOUT,
        edition=_SCORED_AS,
        names={},
        annotations=read_annotations(*homes),
        notes=[*notes, *of_captions],
        captions=captions,
        strict=strict,
        looked_in={
            split: f"{_WORDS.get(split, 'Test')}-Images/ in {folder} and the folders of 2021 in it"
            for split in SPLITS
        },
    )


def _homes(folder: Path) -> list[Path]:
    """The folder, and those in it, one below the other, that are named after it or a split."""
    if not folder.is_dir():
        return []
    homes = [folder]
    for home in homes:  # grows while it is walked
        homes += sorted(
            path
            for path in home.iterdir()
            if ("imageclef" in path.name.lower() or split_of_name(path.name))
            and not is_leftover(path.name)
            and path.is_dir()
        )
    return homes


def _list_of(split: str, homes: list[Path]) -> Path | None:
    """The concept list of a split in the first folder that has one."""
    word = _WORDS.get(split, "Test")
    endings = [f"{word}{dash}Set{dash}Concepts.csv" for dash in "_-"]
    found = (find_file(home, *endings) for home in homes)
    return next((path for path in found if path is not None), None)


def _told_apart(
    found: list[FoundImage], lists: dict[str, ConceptList]
) -> tuple[list[FoundImage], dict[str, ConceptList], list[Note]]:
    """Ids that stand in several splits made distinct by the split, but for those of test.

    The archives were numbered apart. Each has a list of its own, so it is clear what is meant.
    """
    splits_of: dict[str, set[str]] = {}
    for image in found:
        splits_of.setdefault(image.image_id, set()).add(image.split)
    twice = {image_id for image_id, splits in splits_of.items() if len(splits) > 1}
    if not twice:
        return found, lists, []

    def named(image_id: str, split: str) -> str:
        return f"{split}/{image_id}" if image_id in twice and split in lists else image_id

    text = f"{count(len(twice), 'id')} in more than one split, told apart as"
    return (
        [replace(image, image_id=named(image.image_id, image.split)) for image in found],
        {
            split: replace(one, concepts={named(i, split): c for i, c in one.concepts.items()})
            for split, one in lists.items()
        },
        [Note(f"{text} train/<id> and valid/<id>: {first_few(sorted(twice, key=natural_key))}")],
    )


def _innermost(places: Places) -> Places:
    """The places without those that another one of the same split lies in."""
    of_split = {
        split: tuple(p for p in of if not any(p in other.parents for other in of))
        for split, of in places.of_split.items()
    }
    return Places(of_split, places.notes)
