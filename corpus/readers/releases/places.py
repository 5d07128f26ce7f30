"""Where the images of a split lie: folders and archives by their many names."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from core.images import SPLITS
from core.storage.packed import ARCHIVE
from corpus.readers.files import SPLIT_WORDS, FoundImage, images_of_split, is_leftover
from corpus.readers.notes import Note

_IMAGES = ("", "images", "image", "imgs", "set", "setimages")

_ROLES = {
    name: split
    for split, words in SPLIT_WORDS.items()
    for word in words
    for name in (*(f"{word}{images}" for images in _IMAGES), f"images{word}")
}
"""A folder's or archive's name in plain small letters, to its split."""

_OF_AN_EDITION = re.compile(r"(imageclef|clef|roco)|\d")
"""What a word before those may have in it: `ROCOv2_train_images.zip`, not `synthetic_train.zip`."""


def split_of_name(name: str) -> str | None:
    """The split that the name of a folder or archive of images tells; None where it tells none.

    Example:
        >>> split_of_name("train_images"), split_of_name("Validation-Images"), split_of_name("x")
        ('train', 'valid', None)
        >>> split_of_name("ImageCLEF2020_test"), split_of_name("synthetic_test")
        ('test', None)
    """
    words = [word for word in re.split("[^a-z0-9]", name.lower()) if word]
    for k in range(len(words)):
        if k and not _OF_AN_EDITION.search("".join(words[:k])):
            continue
        if split := _ROLES.get("".join(words[k:])):
            return split
    return None


@dataclass(frozen=True)
class Places:
    """Where images of each split lie.

    Attributes:
        of_split: folders and zips by split, each split with those that are there.
        notes: archives that are passed over because they are unpacked beside; links.
    """

    of_split: Mapping[str, tuple[Path, ...]]
    notes: tuple[Note, ...]


def places_of(*folders: Path) -> Places:
    """Folders and archives in some folders whose names tell a split.

    `train/`, `train_images/`, `Training-Images/` and `train_images.zip` are all of train. An
    archive counts where no folder of its split holds anything.
    """
    unpacked: dict[str, list[Path]] = {split: [] for split in SPLITS}
    zipped: dict[str, list[Path]] = {split: [] for split in SPLITS}
    notes = []
    real: dict[str, Path] = {}
    for entry in _entries(folders):
        if entry.is_dir():
            if split := split_of_name(entry.name):
                other = real.setdefault(os.path.realpath(entry), entry)
                if other is entry:
                    unpacked[split].append(entry)
                else:
                    notes.append(Note(f"{entry.name}/: the same folder as {other}, read once"))
        elif entry.suffix.lower() == ARCHIVE and (split := split_of_name(entry.stem)):
            zipped[split].append(entry)
    found: dict[str, tuple[Path, ...]] = {}
    for split in SPLITS:
        full = [place for place in unpacked[split] if _holds_something(place)]
        found[split] = tuple(full or [*unpacked[split], *zipped[split]])
        notes += [
            Note(f"{archive.name}: not read, {full[0].name}/ lies beside it")
            for archive in (zipped[split] if full else [])
        ]
    return Places(found, tuple(notes))


def images_in(places: Places) -> tuple[list[FoundImage], list[Note]]:
    """The images of the places of all splits, and what is noted of both."""
    found: list[FoundImage] = []
    notes = list(places.notes)
    for split in SPLITS:
        images, noted = images_of_split(places.of_split[split], split)
        found += images
        notes += noted
    return found, notes


def _entries(folders: Iterable[Path]) -> list[Path]:
    there = [folder for folder in dict.fromkeys(folders) if folder.is_dir()]
    inside = [path for folder in there for path in sorted(folder.iterdir())]
    return [path for path in inside if not is_leftover(path.name)]


def _holds_something(folder: Path) -> bool:
    return any(not is_leftover(path.name) for path in folder.iterdir())


def looked_in(folder: Path, *, further: str = "") -> dict[str, str]:
    """For each split, in words, where its images were looked for."""
    return {
        split: f"{split}/, {split}_images/ and {split}_images.zip{further} in {folder}"
        for split in SPLITS
    }
