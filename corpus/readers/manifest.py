"""Reader of a manifest: any images at any place, one row each in a csv or parquet file.

    path            relative to the manifest, or absolute; or a column `image` of bytes in parquet
    split           train, valid or test
    image_id        optional; the name of the file without its ending
    category        optional; one of the seven by its code or a plain name (CT, MRI, X-ray)
    concepts        optional; CUIs with `;` between them
    group           optional; images of one group never part
    concept_names   optional; names of the concepts, in their order, with `;` between them
    caption         optional; what is written of the image, see `corpus.readers.captions`
    ...             any further column becomes metadata, a list in parquet joined by `;`

Concepts are known and none where the cell is empty; they are unknown where the column is missing
and in every row of test. In parquet a null is unknown too; in a further column it is a missing
value, as an empty cell is. Names of concepts may lie beside it in `concept_names.csv`.

What else is taken for these columns and their values, `corpus.readers.tables` knows: other
separators, names, lists, columns of 0 and 1. All of it is said.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from core.errors import CorpusError, first_few
from core.images import SPLITS
from core.labels import Concepts
from core.runs.workspace import Workspace
from core.storage.folders import read_meta
from corpus.readers.annotations import annotate, read_groups
from corpus.readers.concept_lists import ConceptList, clean_concepts, mended_notes, read_names
from corpus.readers.notes import Note, count
from corpus.readers.reading import Reading, make_reading
from corpus.readers.tables.columns import MANIFEST, known_names, plain
from corpus.readers.tables.concept_cells import (
    Seen,
    concept_notes,
    concepts_in,
    names_beside,
    names_of_tags,
    writing_of,
)
from corpus.readers.tables.images import ImageRow, ImageRows, read_images
from corpus.readers.tables.parquet import is_parquet
from corpus.readers.tables.sheet import read_header

LAYOUT = "manifest"

ENDINGS = (".csv", ".tsv", ".txt", ".parquet")

LOOKED_FOR = "manifest.csv, manifest.tsv, manifest.parquet"

NAMES_FILE = "concept_names.csv"

# A manifest belongs to no edition. That of 2025 is the newest format that takes any concept ids and
# any order of rows, and its score counts images known to have no concept.
EDITION = 2025

_OTHER_FILES = (".zip", ".gz", ".tar", ".tgz", ".7z", ".xlsx", ".xls", ".ods", ".json", ".jsonl")


def find_manifest(source: Path) -> Path | None:
    """The manifest that a path names, or the one in a folder; None where there is none.

    A file is one by its content: a table with a column that names image files or splits. In a
    folder it is called manifest, in any capitals, with one of `ENDINGS`.

    Raises:
        CorpusError: the folder has several.
    """
    if source.is_file():
        return source if _is_table(source) else None
    if not source.is_dir():
        return None
    inside = sorted(
        path
        for path in source.iterdir()
        if path.stem.lower() == "manifest" and path.suffix.lower() in ENDINGS and path.is_file()
    )
    # A list of checksums is called manifest.txt as often.
    inside = [p for p in inside if p.suffix.lower() in (".csv", ".parquet") or names_images(p)]
    if len(inside) > 1:
        raise CorpusError(f"{source}: {first_few(path.name for path in inside)}; name one of them")
    return inside[0] if inside else None


def _is_table(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix in ENDINGS or is_parquet(path):
        return True
    return suffix not in _OTHER_FILES and names_images(path)


def names_images(path: Path) -> bool:
    """Whether a file is a table whose header names image files or splits; False of any other."""
    if is_parquet(path):
        return True
    try:
        header = read_header(path, known=known_names(MANIFEST))
    except CorpusError:
        return False
    columns = {plain(name) for name in header}
    paths = {plain(name) for name in ("path", "split", *MANIFEST["path"], *MANIFEST["split"])}
    return len(header) > 1 and bool(columns & (paths - {"image"}))


def _require_manifest(source: Path) -> Path:
    path = find_manifest(source)
    if path is None:
        raise CorpusError(f"{source}: no manifest; expected a .csv or .parquet file")
    return path


def is_manifest(source: Path) -> bool:
    """Whether the path is a manifest or a folder with one."""
    return find_manifest(source) is not None


def read_manifest(source: Path, *, strict: bool = False) -> Reading:
    """The images of a manifest, given by the file or by the folder with it.

    Rows of test stay unlabelled even where they have concepts. Images whose file is missing are
    left out and counted.

    Raises:
        CorpusError: the manifest is missing or malformed, a value is out of its range, no file is
            there, or parquet is not installed.
    """
    return _reading(read_images(_require_manifest(source)), strict=strict)


def read_unsplit(source: Path, *, strict: bool = False) -> Reading:
    """The images of a manifest without a column `split`, every one of them in train: to be dealt.

    Where the manifest has that column after all, it is not read, which is noted.

    Raises:
        CorpusError: as `read_manifest`, but for the column.
    """
    return _reading(read_images(_require_manifest(source), split="train"), strict=strict)


def manifest_meant(truth: Path, workspace: Workspace) -> Path | None:
    """The manifest that a truth names; None where it is a file in an evaluator's format.

    Args:
        truth: a path, or the word `manifest` for the one that was prepared.
        workspace: where it was prepared.

    Raises:
        CorpusError: there is no such file, or the manifest is not where it was any more.
        MissingStageError: nothing is prepared in the workspace.
    """
    if truth == Path("manifest") and not truth.exists():
        workspace.require_corpus()
        source = Path(read_meta(workspace.corpus, "source")["source"])
        if not source.exists():
            raise CorpusError(f"{source}: not there any more; give its new place with --truth")
        return source
    if not truth.exists():
        raise CorpusError(f"{truth}: no such file")
    return truth if truth.is_dir() or names_images(truth) else None


def manifest_truth(source: Path) -> dict[str, Concepts]:
    """The concepts of the test images of a manifest, which nothing but a score may read.

    Returns:
        Image id, as `read_manifest` gives it, to concepts; images whose concepts are unknown (no
        column, or a null in parquet) are left out.

    Raises:
        CorpusError: as `read_manifest`, or no test image has concepts.
    """
    manifest = read_images(_require_manifest(source))
    rows = [row for row in manifest.rows if row.image.split == "test" and row.concepts is not None]
    if not any(row.concepts for row in rows):
        raise CorpusError(
            f"{manifest.path}: no test image has concepts; fill the column 'concepts' of its rows"
        )
    truth, _, _ = _concepts_of(manifest.path, manifest.rows, rows, where=manifest.path.name)
    return truth


def _reading(manifest: ImageRows, *, strict: bool) -> Reading:
    cells = {row.place: _cells(row) for row in manifest.rows}
    said = annotate(
        manifest.path,
        header=manifest.header,
        rows=cells,
        ignored=("path", "concepts", "concept_names"),
    )
    lists, notes, tags = _lists(manifest)
    beside, noted = read_names(names_file(manifest.path.parent))
    return make_reading(
        [row.image for row in manifest.rows],
        lists,
        layout=LAYOUT,
        edition=EDITION,
        names={**tags, **manifest.names, **beside},
        annotations=[said, *read_groups(manifest.path.parent)],
        notes=[*manifest.notes, *noted, *notes],
        strict=strict,
    )


def names_file(folder: Path) -> Path | None:
    """The file with names of concepts in a folder; None where there is none."""
    path = folder / NAMES_FILE
    return path if path.is_file() else None


def _cells(row: ImageRow) -> dict[str, str]:
    cells = {column: value or "" for column, value in row.cells.items()}
    if "split" in cells:
        cells["split"] = row.image.split
    return {**cells, "image_id": row.image.image_id}


def _lists(manifest: ImageRows) -> tuple[dict[str, ConceptList], list[Note], dict[str, str]]:
    """The concepts of train and of valid; an image whose concepts are unknown is in no list.

    Further, what there is to note, and names of concepts that the cells tell.
    """
    path = manifest.path
    of_split = {s: [r for r in manifest.rows if r.image.split == s] for s in SPLITS}
    _require_concepts(manifest, of_split)
    told = [row.image.image_id for row in of_split["test"] if row.concepts]
    notes = []
    if told:
        text = f"{path.name}: concepts of {count(len(told), 'test image')} not read, but by"
        text += " `score --truth manifest`"
        notes.append(Note(f"{text}: {first_few(told)}"))
    lists = {}
    names: dict[str, str] = {}
    labelled = [row for split in ("train", "valid") for row in of_split[split]]
    for split in ("train", "valid"):
        rows = [row for row in of_split[split] if row.concepts is not None]
        concepts, noted, tags = _concepts_of(path, labelled, rows, where=f"{path.name}, {split}")
        lists[split] = ConceptList(path=path, concepts=concepts, notes=tuple(noted))
        names |= tags
    pairs = [
        ((row.concepts or "").split(";"), row.cells.get("concept_names") or "") for row in labelled
    ]
    beside, noted = names_beside(pairs, where=path.name)
    return lists, [*notes, *noted], {**names, **beside}


def _require_concepts(manifest: ImageRows, of_split: Mapping[str, Sequence[ImageRow]]) -> None:
    """Refuse a manifest that has nothing to learn from."""
    train = of_split["train"]
    if not train:
        found = Counter(row.image.split for row in manifest.rows)
        shown = ", ".join(f"{split} ({n})" for split, n in found.items())
        raise CorpusError(f"{manifest.path}: no image with split 'train'; found {shown}")
    if "concepts" not in manifest.header:
        others = ", ".join(MANIFEST["concepts"][:6])
        raise CorpusError(
            f"{manifest.path}: none of {count(len(train), 'training image')} has concepts: no"
            f" column 'concepts' (nor {others}, nor two columns of 0 and 1); found"
            f" {first_few(manifest.header, n=12)}"
        )


def _concepts_of(
    path: Path, column: Sequence[ImageRow], rows: Sequence[ImageRow], *, where: str
) -> tuple[dict[str, Concepts], list[Note], dict[str, str]]:
    """The concepts of rows, what was odd, and names of tags.

    `column` are the rows that tell how the cells are written.
    """
    writing = writing_of(row.concepts or "" for row in column)
    seen, mended, concepts = Seen(), [], {}
    for row in rows:
        text = row.concepts or ""
        try:
            found, repairs = clean_concepts(concepts_in(text, writing=writing, seen=seen))
        except ValueError:
            raise CorpusError(
                f"{path}: {row.place}: expected concepts as CUI;CUI, found {text!r}"
            ) from None
        mended.append(repairs)
        concepts[row.image.image_id] = found
    notes = [*concept_notes(where, seen, writing=writing), *mended_notes(where, mended)]
    return concepts, notes, dict(names_of_tags([seen]))
