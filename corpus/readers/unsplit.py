"""An archive that is to be dealt into splits: a manifest, a folder with one list, or any layout."""

from pathlib import Path

from core.errors import CorpusError, first_few
from core.storage.documents import plain_file
from corpus.readers.annotations import (
    GROUPS_FILE,
    METADATA_FILE,
    read_annotations,
    without_split,
)
from corpus.readers.concept_lists import read_concept_list, read_names
from corpus.readers.files import images_by_category
from corpus.readers.layouts import LAYOUTS, read_corpus
from corpus.readers.manifest import EDITION, NAMES_FILE, is_manifest, names_file, read_unsplit
from corpus.readers.notes import Note, settle
from corpus.readers.reading import Reading, crossing_notes, make_reading
from corpus.readers.unprepared import is_bare_list, list_form

LAYOUT = "archive"

_ENDINGS = (".csv", ".txt", ".tsv")

_BESIDE = (GROUPS_FILE, METADATA_FILE, NAMES_FILE)


def read_archive(source: Path, *, concepts: Path | None = None, strict: bool = False) -> Reading:
    """An archive, its images all in train.

    A split that it has is left aside: a manifest's column is not read. Of a layout of the task the
    labelled images are taken from their splits by whoever deals them.

    Args:
        source: a manifest, a folder with images and one concept list, or a corpus in any layout.
        concepts: the concept list, where it lies elsewhere or is not the only one.
        strict: refuse an archive in which labels or images are lost.

    Raises:
        CorpusError: there is no such file, not one concept list, or a file is not what it should
            be.
    """
    if not plain_file(source).exists():
        raise CorpusError(f"{source}: no such file or folder")
    if concepts is None and is_manifest(source):
        return read_unsplit(source, strict=strict)
    if source.is_file():
        raise CorpusError(f"{source}: expected a manifest (.csv or .parquet) or a folder of images")
    if concepts is None and any(known.fits(source) for known in LAYOUTS.values()):
        return _whole(read_corpus(source), strict=strict)
    path = concepts or _the_list(source)
    listed = read_concept_list(path, list_form(path))
    found, notes = images_by_category(source, "train")
    ours = [n for n in notes if path.name not in n.text]  # the list itself is no strange file
    said = [without_split(one) for one in read_annotations(source, path.parent)]
    names, noted = read_names(names_file(source))
    return make_reading(
        found,
        {"train": listed},
        layout=LAYOUT,
        edition=EDITION,
        names=names,
        annotations=said,
        notes=[Note(f"concepts from {path.name}"), *ours, *noted],
        strict=strict,
        in_folders=True,
    )


def _whole(reading: Reading, *, strict: bool) -> Reading:
    """A reading that lost nothing where that is asked for; groups may cross what is dealt anew.

    Raises:
        CorpusError: it is asked for, and labels or images are lost.
    """
    crossing = {note.text for note in crossing_notes(reading.table)}
    lost = [Note(text, grave=True) for text in reading.grave if text not in crossing]
    settle(lost, strict=strict)
    return reading


def _the_list(folder: Path) -> Path:
    """The one concept list of a folder.

    Raises:
        CorpusError: there is none, or more than one.
    """
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in _ENDINGS)
    lists = [p for p in files if p.name not in _BESIDE and is_bare_list(p)]
    if len(lists) != 1:
        found = f"found {first_few(p.name for p in lists)}" if lists else "found none"
        raise CorpusError(
            f"{folder}: expected one concept list ({', '.join(_ENDINGS)}) beside the images,"
            f" {found}; name it with --concepts, or bring a manifest"
        )
    return lists[0]
