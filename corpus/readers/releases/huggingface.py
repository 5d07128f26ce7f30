"""Reader of corpora as the `datasets` library of Hugging Face keeps them: parquet shards.

    data/train-00000-of-00002.parquet       train, validation, test; in `data/` or at the top,
    default/train/0000.parquet              or in folders named after the splits

    image       bytes of the file, or a pair of bytes and path, or the path of a file
    image_id    optional (or `id`, `ID`); else the file name beside the bytes, else shard and row
    cui         a list of CUIs, or one text; or `cuis`, `concepts`, `labels`, ...; or numbers of
                classes whose names the shard tells
    caption     what is written of the image, see `corpus.readers.captions`; or `captions`, `text`
    ...         any further column becomes metadata

Images are read in place. A null cell of concepts is not known; `[]`, `[None]` and `["nan"]` are an
image without concepts.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import CorpusError, first_few
from core.images import SPLITS
from core.storage.documents import parse_json
from core.storage.packed import SHARD
from core.storage.shards import image_column, image_names, open_parquet, rows_without_image
from corpus.readers.annotations import annotate, read_annotations
from corpus.readers.concept_lists import ConceptList, clean_concepts, mended_notes
from corpus.readers.files import FoundImage, is_leftover, name_of_image, natural_key
from corpus.readers.notes import Note, count
from corpus.readers.reading import Reading, make_reading
from corpus.readers.releases.places import split_of_name
from corpus.readers.tables.concept_cells import (
    Seen,
    Writing,
    concept_notes,
    concepts_in,
    names_of_tags,
    writing_of,
)

LAYOUT = "Hugging Face parquet"

LOOKED_FOR = "data/train-00000-of-00001.parquet"

_EDITION = 2025  # ROCOv2's form; the newest that takes any ids

_IDS = ("image_id", "id", "imageid", "image_name", "filename", "file_name")
_CONCEPTS = ("cui", "cuis", "concepts", "concept", "concept_ids", "labels", "label", "tags")
_FILES = ("image", "img", "image_path", "img_path", "file_name", "filename", "file_path", "path")
_CAPTIONS = ("caption", "captions", "text")


def shards_of(folder: Path) -> dict[str, list[Path]]:
    """Split to its shards in their order; nothing of a folder without any.

    Raises:
        CorpusError: several folders hold shards of the same split.
    """
    if not folder.is_dir():
        return {}
    data = [home for home in (folder / "data", folder / "default") if home.is_dir()]
    for home in (folder, *data):
        found: dict[str, list[Path]] = {}
        for path in sorted(_parquet_below(home), key=lambda path: natural_key(path.name)):
            if split := _split_of(path, home):
                found.setdefault(split, []).append(path)
        if found:
            return found
    return {}


def _parquet_below(home: Path) -> Iterator[Path]:
    for path in home.iterdir():
        if path.suffix.lower() == SHARD and path.is_file() and not is_leftover(path.name):
            yield path
        elif path.is_dir() and split_of_name(path.name):
            yield from (p for p in path.iterdir() if p.suffix.lower() == SHARD and p.is_file())


def _split_of(path: Path, home: Path) -> str | None:
    """The split that a shard's folder or the start of its name tells."""
    if path.parent != home:
        return split_of_name(path.parent.name)
    stem = path.stem.lower()
    first = stem.replace("_", "-").replace(".", "-").split("-")[0]
    return split_of_name(first)


def is_huggingface(folder: Path) -> bool:
    """Whether shards named after a split are there."""
    return bool(shards_of(folder))


@dataclass
class _Found:
    """What was read of the shards.

    Attributes:
        images: those that have bytes, or a file beside the shard.
        cells: of each split, image id to the place and the text of its cell of concepts; those
            with a null cell are left out.
        rows: place to further columns.
        header: names of further columns.
        without_image: ids of rows that have no image.
        place_of: image id to its place.
    """

    images: list[FoundImage] = field(default_factory=list)
    cells: dict[str, dict[str, tuple[str, str]]] = field(
        default_factory=lambda: {split: {} for split in SPLITS}
    )
    rows: dict[str, dict[str, str]] = field(default_factory=dict)
    header: dict[str, None] = field(default_factory=dict)
    without_image: list[str] = field(default_factory=list)
    place_of: dict[str, str] = field(default_factory=dict)


def read_huggingface(folder: Path, *, strict: bool = False) -> Reading:
    """A corpus in parquet shards, given by the folder with them or the one above.

    The concepts of the test images stay unread.

    Raises:
        CorpusError: pyarrow is not installed, a shard is damaged or has no column of images, or
            files contradict each other.
    """
    shards = shards_of(folder)
    found = _Found()
    notes = []
    for split, paths in shards.items():
        for path in paths:
            told = _read_shard(path, split, found)
            if split == "test" and told:
                notes.append(
                    Note(f"{path.name}: column {told} not read, the test images stay unlabelled")
                )
    if found.without_image:
        text = f"{count(len(found.without_image), 'row')} without an image, left out"
        notes.append(Note(f"{text}: {first_few(found.without_image)}", grave=True))
    first = shards["train"][0] if "train" in shards else folder
    if not any(found.cells.values()):
        raise CorpusError(
            f"{first}: no column of concepts; looked for {', '.join(_CONCEPTS[:5])}; found"
            f" {first_few(found.header, n=12)}"
        )
    seen = Seen()
    writing = writing_of(text for of in found.cells.values() for _, text in of.values())
    lists: dict[str, ConceptList] = {
        split: _list_of(split, shards[split][0], found.cells[split], writing=writing, seen=seen)
        for split in ("train", "valid")
        if split in shards
    }
    notes += concept_notes("concepts", seen, writing=writing)
    said = annotate(first, header=list(found.header), rows=found.rows, ignored=())
    return make_reading(
        found.images,
        lists,
        layout=LAYOUT,
        edition=_EDITION,
        names=dict(names_of_tags([seen])),
        annotations=[said, *read_annotations(folder)],
        notes=notes,
        strict=strict,
        looked_in={split: f"{split}-*.parquet in {folder}" for split in SPLITS},
    )


def _list_of(
    split: str, path: Path, cells: Mapping[str, tuple[str, str]], *, writing: Writing, seen: Seen
) -> ConceptList:
    """The concepts of a split, read as those of a manifest are."""
    concepts, mended = {}, []
    for image_id, (place, text) in cells.items():
        try:
            found, repairs = clean_concepts(concepts_in(text, writing=writing, seen=seen))
        except ValueError:
            raise CorpusError(f"{place}: expected a list of CUIs, found {text!r}") from None
        concepts[image_id] = found
        mended.append(repairs)
    return ConceptList(
        path=path, concepts=concepts, notes=tuple(mended_notes(f"{split} shards", mended))
    )


def _read_shard(path: Path, split: str, found: _Found) -> str | None:
    """Read a shard; the name of its column of concepts, where it has one."""
    file = open_parquet(path)
    image = image_column(path)
    files = None if image else _named(file.schema_arrow.names, _FILES)
    if image is None and files is None:
        raise CorpusError(
            f"{path}: no column holds images or names files of images; found"
            f" {file.schema_arrow.names}"
        )
    image = image or files
    names = [name for name in file.schema_arrow.names if name != image]
    id_column, concept_column = _named(names, _IDS), _named(names, _CONCEPTS)
    captions = [name for name in names if name.lower() in _CAPTIONS]
    kept = [name for name in names if name not in (id_column, *captions)]
    if split == "test":
        kept = [name for name in kept if name != concept_column]
    caption = _named(captions, _CAPTIONS) if split != "test" else None
    read = [*kept, *(name for name in (id_column, caption) if name)]
    cells = file.read(columns=read).to_pylist() if read else [{}] * file.metadata.num_rows
    beside, without = image_names(path), rows_without_image(path)
    if files:
        beside = [_text(cell) for cell in file.read(columns=[files]).column(0).to_pylist()]
    classes = _class_names(file.schema_arrow.metadata or {}, concept_column)
    shard = path.stem if split_of_name(path.parent.name) is None else f"{split}-{path.stem}"
    for number, row in enumerate(cells):
        image_id = _id_of(row, id_column, beside[number]) or f"{shard}-{number}"
        place = f"{path}: row {number}"
        if other := found.place_of.get(image_id):
            raise CorpusError(
                f"{place}: image {image_id!r} stands twice, first in {other}; keep one"
            )
        found.place_of[image_id] = place
        at = path.absolute() / str(number)
        if number in without:
            outside = _file_beside(path, beside[number] or "")
            if outside is None:
                found.without_image.append(image_id)
                continue
            at = outside
        found.images.append(FoundImage(image_id=image_id, path=at, split=split))
        if concept_column in kept and (cell := row[concept_column]) is not None:
            found.cells[split][image_id] = place, _text(_by_name(cell, classes))
        further = [name for name in kept if name != concept_column]
        found.rows[place] = {"image_id": image_id, **{n: _text(row[n]) for n in further}}
        if caption:
            found.rows[place] |= {"caption": _text(row[caption])}
        found.header |= dict.fromkeys(further)
    return concept_column


def _file_beside(shard: Path, name: str) -> Path | None:
    """The file of a name beside a shard or in the two folders above it."""
    tried = [home / name for home in list(shard.absolute().parents)[:3]] if name else []
    return next((path for path in tried if path.is_file()), None)


def _class_names(metadata: Mapping[bytes, bytes], column: str | None) -> Sequence[str]:
    """Names of the classes of a column of numbers, as `datasets` keeps them; () without any."""
    try:
        feature = parse_json(metadata[b"huggingface"])["info"]["features"][column]
    except (KeyError, TypeError, ValueError):
        return ()
    while isinstance(feature, (list, dict)) and "names" not in feature:  # a list of classes
        if isinstance(feature, dict):
            feature = feature.get("feature")
        else:
            feature = feature[0] if feature else None
    names = feature.get("names") if isinstance(feature, dict) else None
    return [str(name) for name in names] if isinstance(names, list) else ()


def _by_name(cell: Any, classes: Sequence[str]) -> Any:
    """A cell with the names of its classes; of -1, which `datasets` writes for none, nothing."""
    if not classes:
        return cell
    if isinstance(cell, (list, tuple)):
        return [_by_name(one, classes) for one in cell]
    if not isinstance(cell, int):
        return cell
    return classes[cell] if 0 <= cell < len(classes) else "nan"


def _named(names: Sequence[str], known: Iterable[str]) -> str | None:
    by_lower = {name.lower(): name for name in reversed(names)}
    return next((by_lower[name] for name in known if name in by_lower), None)


def _id_of(row: Mapping[str, Any], column: str | None, beside: str | None) -> str:
    told = _text(row[column]) if column else ""
    if not told and beside:
        told = beside.replace("\\", "/").rsplit("/", 1)[-1]
    return name_of_image(told)


def _text(value: Any) -> str:
    """A cell as text, "" where there is none; a list joined by `;`."""
    if value is None or value != value:
        return ""
    if isinstance(value, (list, tuple)):
        return ";".join(_text(part) for part in value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return str(value).strip()
