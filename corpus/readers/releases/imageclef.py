"""Readers of the ImageCLEFmed Caption corpora: 2019 and 2020, those since 2022, and ROCOv2.

Of 2019 and 2020:

    <split>/<category>/<id>.jpg     train, valid, test; without the category's folder in 2019
    Training-Concepts.txt           ID<TAB>CUI;CUI, no header
    Validation-Concepts.txt
    string_concepts.csv             CUI<TAB>name, optional
    groups.csv, metadata.csv        optional, see `corpus.readers.annotations`

The archives put the edition before the names of these files, which is accepted.

Those since 2022 have no categories; what the concepts tell of them is learnt by:

    year      images                         concept lists
    2022      train/ valid/ test/            *concept_detection_{train,valid}.csv, TAB
    2023      images/{train,valid,test}/     *concept_detection_{train,valid}_labels.csv, TAB
    2024/25, ROCOv2   train/ valid/ test/    {train,valid}_concepts.csv, comma
    2026      dev_concept/images/ (train and valid), test/images/
                                             dev_concept/concepts.csv, comma

Their lists have a header; names of concepts are optional (`concepts.csv` in 2022, `cui_mapping.csv`
since). For 2022 to 2025 the images may lie in the folders of either year, at any depth, or all
together in `images/` with the split in the id, as in 2026. A split's folder may have another of its
usual names (`train_images/`, `Training-Images/`), and may still be a zip, which is read in place:
see `corpus.readers.releases.places`.

Lists of concepts that people chose, `{train,valid}_concepts_manual.csv` (ROCOv2, 2023 to 2025) or
`concepts_manual.csv` (2026), are read for the category of the images alone. Where the articles are
told, in `license_information.csv` (ROCOv2) or `attribution.csv` (2026), their PMCID is metadata.
Captions are read for training images, see `corpus.readers.captions`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from core.categories import CATEGORIES
from core.errors import CorpusError
from core.images import SPLITS
from core.labels import Concepts
from corpus.readers.annotations import Annotations, annotate, read_annotations
from corpus.readers.captions import read_captions, read_joint_captions
from corpus.readers.concept_lists import (
    COMMA_LIST,
    TAB_LIST,
    ConceptList,
    ListForm,
    read_concept_list,
    read_names,
)
from corpus.readers.files import (
    FoundImage,
    find_file,
    image_files,
    images_by_category,
    images_of_split,
    name_of_image,
    require_file,
)
from corpus.readers.modality import (
    MANUAL_LIST,
    manual_notes,
    manual_of,
    read_manual_lists,
)
from corpus.readers.notes import Note, count
from corpus.readers.reading import Reading, make_reading
from corpus.readers.releases.places import images_in, looked_in, places_of
from corpus.readers.tables.sheet import read_sheet

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
    lists = _lists_of(folder, _LISTS, TAB_LIST)
    names, notes = read_names(find_file(folder, *_NAMES))
    places = places_of(folder)
    notes += places.notes
    found = []
    for split in SPLITS:
        images, noted = images_by_category(places.of_split[split], split)
        found += images
        notes += noted
    if truth := find_file(folder, _TRUTH):
        notes.append(Note(f"{truth.name}: not read, the test images stay unlabelled"))
    captions, of_captions = read_captions(folder)
    return make_reading(
        found,
        lists,
        layout=LAYOUT,
        edition=2020,
        names=names,
        annotations=read_annotations(folder),
        notes=[*notes, *of_captions],
        captions=captions,
        strict=strict,
        in_folders=True,
        looked_in=looked_in(folder),
    )


def _lists_of(folder: Path, endings: Mapping[str, str], form: ListForm) -> dict[str, ConceptList]:
    """The lists of train and, where there is one, of valid.

    Raises:
        CorpusError: that of train is missing, or one is malformed.
    """
    lists = {"train": read_concept_list(require_file(folder, endings["train"]), form)}
    if path := find_file(folder, endings["valid"]):
        lists["valid"] = read_concept_list(path, form)
    return lists


@dataclass(frozen=True, kw_only=True)
class EditionLayout:
    """How one edition names its files.

    Attributes:
        layout: the layout in words.
        year: year of the submission format.
        concepts: ending of the name of a split's concept list.
        form: how its lines are written.
        names: endings of the name of the file with the concepts' names.
    """

    layout: str
    year: int
    concepts: str
    form: ListForm
    names: tuple[str, ...]


EDITION_2022 = EditionLayout(
    layout="ImageCLEF 2022",
    year=2022,
    concepts="concept_detection_{split}.csv",
    form=TAB_LIST,
    names=("concepts.csv",),
)
EDITION_2023 = EditionLayout(
    layout="ImageCLEF 2023",
    year=2023,
    concepts="concept_detection_{split}_labels.csv",
    form=TAB_LIST,
    names=("cui_mapping.csv",),
)
EDITION_2025 = EditionLayout(
    layout="ImageCLEF 2024/25",
    year=2025,
    concepts="{split}_concepts.csv",
    form=COMMA_LIST,
    names=("cui_mapping.csv", "cui_names.csv"),
)
LAYOUT_ROCOV2 = "ROCOv2"
LAYOUT_2026 = "ImageCLEF 2026"
LOOKED_FOR_2026 = "dev_concept/concepts.csv"

_LABELLED = ("train", "valid")
_SPLIT_IN_ID = re.compile(r"_(train|valid|test)_")
_ARTICLES = ("license_information.csv", "attribution.csv")
_OF_ARTICLES = ("pmcid", "license", "licence")  # columns worth keeping; the others are long texts


def is_edition(folder: Path, edition: EditionLayout) -> bool:
    """Whether one of the edition's concept lists is there."""
    return any(find_file(folder, edition.concepts.format(split=split)) for split in _LABELLED)


def read_edition(folder: Path, edition: EditionLayout, *, strict: bool = False) -> Reading:
    """A corpus of 2022 to 2025, or ROCOv2.

    Raises:
        CorpusError: a file is missing or malformed, files contradict each other, or the split of
            an image cannot be told.
    """
    endings = {split: edition.concepts.format(split=split) for split in SPLITS}
    lists = _lists_of(folder, endings, edition.form)
    names, notes = read_names(find_file(folder, *edition.names))
    found, noted = _images_of(folder, lists)
    notes += noted
    if truth := find_file(folder, endings["test"]):
        notes.append(Note(f"{truth.name}: not read, the test images stay unlabelled"))
    if second := find_file(folder, f"test_{MANUAL_LIST}"):
        notes.append(Note(f"{second.name}: not read; score takes it by --secondary-truth"))
    articles, unread = _articles(folder)
    manual, of_manual = read_manual_lists(folder, _LABELLED)
    captions, of_captions = read_captions(folder)
    return make_reading(
        found,
        lists,
        layout=LAYOUT_ROCOV2 if _is_rocov2(lists, articles) else edition.layout,
        edition=edition.year,
        names=names,
        annotations=[*read_annotations(folder), *articles],
        notes=[*notes, *of_manual, *unread, *of_captions],
        captions=captions,
        strict=strict,
        manual=manual,
        looked_in=looked_in(folder, further=f", in images/ with {_SHOWN}"),
    )


_SHOWN = "_<split>_ in the id"


def _is_rocov2(lists: Mapping[str, ConceptList], articles: Iterable[Annotations]) -> bool:
    """Whether ids say so, or say nothing and a file on licences is there, as ROCOv2 has one."""
    first = next(iter(lists["train"].concepts)).lower()
    return first.startswith("rocov2") or (bool(list(articles)) and "imageclef" not in first)


def _articles(*folders: Path) -> tuple[list[Annotations], list[Note]]:
    """The article that each image is taken from, by what its release says of licences."""
    found: list[Annotations] = []
    notes: list[Note] = []
    for path in (find_file(folder, *_ARTICLES) for folder in dict.fromkeys(folders)):
        if path is None:
            continue
        sheet = read_sheet(path, known={"id", "imageid", *_OF_ARTICLES})
        key = next((name for name in sheet.header if name.lower() in ("id", "image_id")), None)
        kept = [name for name in sheet.header if name.lower() in _OF_ARTICLES]
        if key is None or not kept:
            notes.append(Note(f"{path.name}: no columns ID and PMCID, not read"))
            continue
        rows = {
            place: {"image_id": row[key] or "", **{name: row[name] or "" for name in kept}}
            for place, row in sheet.dicts().items()
        }
        found.append(annotate(path, header=["image_id", *kept], rows=rows, ignored=()))
        notes += sheet.notes
    return found, notes


def _images_of(
    folder: Path, lists: Mapping[str, ConceptList]
) -> tuple[list[FoundImage], list[Note]]:
    """Images of each split's own places, and of `images/`, whose folders or ids name the split."""
    holders = _holders(folder)
    together = next((place for place in holders if place.is_dir()), folder / "images")
    places = places_of(folder, together)
    found, notes = images_in(places)
    apart = {place.name for of_split in places.of_split.values() for place in of_split}
    for place in holders:
        paths, noted = image_files(place)
        n_above = len(place.absolute().parts)
        inner = [path for path in paths if path.parts[n_above] not in apart or place != together]
        found += [_told(path, lists) for path in inner]
        notes += noted if inner or not apart else []
    return found, notes


def _holders(home: Path) -> list[Path]:
    """Where the images of several splits lie together: `images/`, else `images.zip`."""
    inside = sorted(home.iterdir()) if home.is_dir() else []
    folders = [path for path in inside if path.name.lower() == "images" and path.is_dir()]
    return folders or [path for path in inside if path.name.lower() == "images.zip"]


def _told(path: Path, lists: Mapping[str, ConceptList]) -> FoundImage:
    """An image with the split that a folder, its id or a list tells.

    Raises:
        CorpusError: none of them tells it.
    """
    image_id = name_of_image(path.name)
    above = [name for name in path.parts[:-1] if name in SPLITS]
    listed = [split for split, one in lists.items() if image_id in one.concepts]
    in_id = _SPLIT_IN_ID.findall(image_id)
    split = in_id[-1] if in_id else listed[0] if listed else above[-1] if above else _split_in(path)
    return FoundImage(image_id=image_id, path=path, split=split)


def _split_in(path: Path) -> str:
    splits = _SPLIT_IN_ID.findall(path.stem)
    if not splits:
        raise CorpusError(
            f"{path}: the id does not say _train_, _valid_ or _test_; move the image into a folder"
            " train, valid or test"
        )
    return str(splits[-1])


def is_imageclef_2026(folder: Path) -> bool:
    """Whether `dev_concept/` is there, or the folder is it."""
    home = _home_2026(folder)
    listed = home / "concepts.csv"
    if not listed.is_file() or not _holders(home):
        return False
    with listed.open("rb") as file:  # a list of any archive may be called so
        return home != folder or bool(_SPLIT_IN_ID.search(file.read(1 << 16).decode("latin-1")))


def _home_2026(folder: Path) -> Path:
    return folder / "dev_concept" if (folder / "dev_concept").is_dir() else folder


def read_imageclef_2026(folder: Path, *, strict: bool = False) -> Reading:
    """The corpus of 2026, given by the folder above `dev_concept/` or by that folder itself.

    Test images lie beside `dev_concept/`, so only the folder above has them. Captions lie in
    `dev_caption/`, whose images and the synthetic ones are other tasks and are not looked at.

    Raises:
        CorpusError: a file is missing or malformed, files contradict each other, or the split of
            an image cannot be told.
    """
    home = _home_2026(folder)
    both = read_concept_list(home / "concepts.csv", COMMA_LIST)
    lists, notes = _divide(both)
    names, noted = read_names(find_file(home, "cui_mapping.csv"))
    found, test_places = [], places_of(folder, home)
    notes = [*notes, *noted, *test_places.notes]
    for place in _holders(home):
        paths, ignored = image_files(place)
        found += [
            FoundImage(image_id=name_of_image(p.name), path=p, split=_split_in(p)) for p in paths
        ]
        notes += ignored
    test, noted_in_test = images_of_split(test_places.of_split["test"], "test")
    articles, unread = _articles(folder, home)
    manual, of_manual = _manual_2026(home)
    captions, of_captions = read_joint_captions(folder / "dev_caption", home)
    return make_reading(
        [*found, *test],
        lists,
        layout=LAYOUT_2026,
        edition=2026,
        names=names,
        annotations=[*read_annotations(folder, home), *articles],
        notes=[*notes, *noted_in_test, *of_manual, *unread, *of_captions],
        captions=captions,
        strict=strict,
        manual=manual,
        looked_in={"test": f"test/images/, {looked_in(folder)['test']}"},
    )


def _manual_2026(home: Path) -> tuple[dict[str, Concepts], list[Note]]:
    """What `concepts_manual.csv` says of train and valid, and what was odd in it."""
    path = home / MANUAL_LIST
    if not path.is_file():
        return {}, []
    manual = read_concept_list(path, COMMA_LIST)
    return manual_of(_divide(manual)[0]), manual_notes(manual)


def _divide(both: ConceptList) -> tuple[dict[str, ConceptList], Iterable[Note]]:
    """The list of each labelled split, told by the ids, and what there is to note."""
    of_split: dict[str, dict[str, tuple[str, ...]]] = {split: {} for split in SPLITS}
    for image_id, concepts in both.concepts.items():
        splits = _SPLIT_IN_ID.findall(image_id)
        if not splits:
            raise CorpusError(
                f"{both.path}: id {image_id!r} does not say _train_, _valid_ or _test_"
            )
        of_split[splits[-1]][image_id] = concepts
    notes = list(both.notes)
    if test := of_split["test"]:
        text = f"{both.path.name}: {count(len(test), 'test image')}, left unlabelled"
        notes.append(Note(text))
    lists = {s: replace(both, concepts=of_split[s], notes=()) for s in _LABELLED}
    return lists, notes
