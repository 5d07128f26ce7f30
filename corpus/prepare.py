"""`prepare`: reads a corpus, assigns its folds, decodes its images and writes it down, once."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np

from core.categories import UNKNOWN
from core.config import Range, Seed, check_ranges, fingerprint
from core.errors import ConfigError, CorpusError, first_few
from core.images import LABELLED, SPLITS, ImageTable
from core.labels import LabelSpace
from core.progress import progress, say
from core.runs.decoding import REMARKS_FILE, UNREADABLE_FILE, Background, Decoding, parse_frame
from core.runs.leakage import CROSSING_FILE, CrossingGroups
from core.runs.workspace import HALF, Corpus, Protocol, Workspace
from core.storage.claims import claimed
from core.storage.folders import META, new_folder
from core.storage.packed import file_state
from core.storage.tables import write_rows
from corpus.deal import deal_valid
from corpus.dicom.datasets import NEEDS
from corpus.dicom.headers import COLUMNS
from corpus.folds import assign_folds
from corpus.images.cache import ImageCache, build_cache
from corpus.images.decode import MISNAMED_DICOM, changes_pixels, remark_kind
from corpus.phantom.write import draw_corpus
from corpus.readers.layouts import read_corpus
from corpus.readers.notes import count
from corpus.readers.reading import NO_IMAGE, Reading
from corpus.refusals import refuse_crossing_valid, refuse_unreadable, refuse_unwritable

PHANTOM = "phantom corpus"
"""The name of the drawn corpus."""

_FILES = {
    *("images.csv", "labels.txt", "names.csv", META),
    *(CROSSING_FILE, UNREADABLE_FILE, REMARKS_FILE),
}


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """How a corpus is prepared.

    Attributes:
        protocol: `holdout`, detectors and fusion learn from train, the second stage from valid; or
            `crossfit`, both learn from train and valid, along folds of them together.
        train_folds: of `holdout`, folds of train; the first is held out for early stopping: 10
            means a tenth.
        valid_folds: of `holdout`, folds of valid, along which the second stage is cross-fitted.
        folds: of `crossfit`, folds of train and valid together: every network leaves one out and
            predicts it, and the second stage is cross-fitted along the same.
        seed: decides which groups share a fold, and what the phantom corpus shows.
        image_size: pixels of the cache that is built at once; others follow when they are needed.
        phantom_images: size of the phantom corpus, drawn where no other is given.
        group_by: metadata column whose values are the groups; "" for the groups that are given.
        background: what transparent pixels are put on, black or white.
        frames: which page of a TIFF, frame of an animation or of a DICOM series is read: first,
            middle, last, or a number from 1 on; `usual` is the middle of a series, else the first.
    """

    protocol: Protocol = "crossfit"
    train_folds: Annotated[int, Range(least=2, most=1_000)] = 10
    valid_folds: Annotated[int, Range(least=2, most=1_000)] = 5
    # Where one of three is left out, two are left along which choices are cross-fitted.
    folds: Annotated[int, Range(least=3, most=1_000)] = 5
    seed: Seed = 0
    image_size: Annotated[int, Range(least=32, most=4096)] = 224
    phantom_images: Annotated[int, Range(least=1, most=1_000_000)] = 600
    group_by: str = ""
    background: Background = "black"
    frames: str = "usual"

    def __post_init__(self) -> None:
        check_ranges(self)
        _ = self.decoding  # checks the rest

    @property
    def decoding(self) -> Decoding:
        """How files are read that leave a choice."""
        return Decoding(background=self.background, frame=parse_frame(self.frames))


def prepare(
    source: Path | None,
    workspace: Workspace,
    *,
    config: PrepareConfig | None = None,
    layout: str | None = None,
    strict: bool = False,
) -> Corpus:
    """Read a corpus into the workspace; without a source, draw the phantom corpus and read that.

    An image that cannot be decoded stays in the table, marked `readable = 0`: it is left out of
    training, and in the test split it gets what its category alone says.

    Args:
        source: a folder in one of the task's layouts, or a manifest file.
        workspace: where the prepared corpus goes; one prepared before is replaced.
        config: None for the defaults.
        layout: the layout's name, where recognising it is not wanted.
        strict: stop at the first image that cannot be decoded and at contradictions that are
            otherwise counted and reported.

    Raises:
        CorpusError: the source cannot be read as a corpus, a file's name cannot be written down, or
            the workspace's folder for the corpus holds something else.
    """
    config = config or PrepareConfig()
    read = partial(read_corpus, layout=layout, strict=strict, group_by=config.group_by)
    _refuse_foreign(workspace.corpus)
    if source is None:
        with _preparing(workspace):
            return _prepare_phantom(workspace, read, config=config, strict=strict)
    reading = read(source)  # before anything is written: what cannot be read leaves no workspace
    with _preparing(workspace):
        return _prepare(reading, workspace, source=source, config=config, strict=strict)


def _preparing(workspace: Workspace) -> AbstractContextManager[None]:
    """For a block no other process prepares a corpus here."""
    workspace.root.mkdir(parents=True, exist_ok=True)
    return claimed(
        workspace.root / ".prepare.lock",
        waiting=lambda: say(f"{workspace.root}: another process prepares a corpus here; waiting"),
    )


def _prepare_phantom(
    workspace: Workspace,
    read: Callable[[Path], Reading] = read_corpus,
    *,
    config: PrepareConfig,
    strict: bool = False,
) -> Corpus:
    n = config.phantom_images
    with progress("drawing", total=n, unit="images") as advance:
        source = draw_corpus(workspace.phantom, n_images=n, seed=config.seed, advance=advance)
    return _prepare(
        read(source), workspace, source=source, config=config, strict=strict, drawn=True
    )


def _prepare(
    reading: Reading,
    workspace: Workspace,
    *,
    source: Path,
    config: PrepareConfig,
    strict: bool = False,
    drawn: bool = False,
) -> Corpus:
    table, dealt = deal_valid(
        reading.table,
        seed=config.seed,
        at_least=config.valid_folds if config.protocol == "holdout" else 2,
    )
    refuse_unwritable(table, reading.names, source=source)
    labels = _label_space(table, config.protocol, source)
    table = _halve_valid(_with_folds(table, config), seed=config.seed)
    outdated = NO_IMAGE["valid"] if dealt else None
    notes = [n for n in reading.notes if outdated is None or not n.startswith(outdated)]
    size, decoding = config.image_size, config.decoding
    cache = build_cache(table, workspace.cache, size=size, decoding=decoding, strict=strict)
    table = _mark_readable(table, set(cache.errors))
    refuse_unreadable(table, cache.errors)
    corpus = Corpus(
        name=PHANTOM if drawn else f"{source.stem} ({reading.layout})",
        table=table,
        labels=labels,
        names=reading.names,
        edition=reading.edition,
        fingerprint=_fingerprint(table, config.protocol, cache, decoding),
        notes=(
            *notes,
            *dealt,
            *_constant_notes(table),
            *_notes(cache, workspace.corpus, table=table, said=notes),
        ),
        protocol=config.protocol,
        decoding=decoding,
    )
    if not drawn:
        workspace.note_source(str(source.resolve()))
    _save(corpus, workspace.corpus, source=source, cache=cache)
    if drawn:
        workspace.note_source("")
    return corpus


def _label_space(table: ImageTable, protocol: Protocol, source: Path) -> LabelSpace:
    """The concepts that are learnt: those of train; under `crossfit` those of valid too.

    Raises:
        CorpusError: no image of train has concepts.
    """
    of_train = _concepts(table.of(split="train"))
    if not len(of_train):
        raise CorpusError(f"{source}: no image of the training split has concepts")
    return of_train if protocol == "holdout" else _concepts(table.of(split=LABELLED))


def _with_folds(table: ImageTable, config: PrepareConfig) -> ImageTable:
    """The table with its folds, along which the protocol learns and judges."""
    n_folds = {LABELLED: config.folds}
    if config.protocol == "holdout":
        refuse_crossing_valid(table)
        splits = {"train": config.train_folds, "valid": config.valid_folds}
        n_folds = {split: k for split, k in splits.items() if split in _labelled_splits(table)}
    return table.with_folds(assign_folds(table, n_folds=n_folds, seed=config.seed))


def corpus_or_phantom(workspace: Workspace, *, draws: bool = True) -> Corpus:
    """The prepared corpus; where there is none, the phantom corpus, prepared now and said so.

    It never takes the place of a corpus that was prepared from a source and is lost.

    Args:
        workspace: where it lies.
        draws: whether the phantom corpus may take its place.

    Raises:
        MissingStageError: there is none, and none may be drawn; or as `Workspace.open_corpus`.
    """
    if draws and not (workspace.has_corpus() or workspace.had_corpus):
        with _preparing(workspace):
            if not workspace.has_corpus():  # another process may have prepared one meanwhile
                say(
                    "no corpus is prepared: using the built-in phantom corpus"
                    f" (your own: {workspace.command('prepare SOURCE')})"
                )
                return _prepare_phantom(workspace, config=PrepareConfig())
    return workspace.open_corpus()


def refuse_other_corpus(workspace: Workspace) -> None:
    """Keep the demo from replacing a corpus that somebody prepared.

    Raises:
        ConfigError: a corpus other than the phantom one is prepared in the workspace, or was and is
            lost.
    """
    if not workspace.has_corpus() and (source := workspace.prepared_from):
        raise ConfigError(f"{workspace.root} was prepared from {source}; give the demo another -w")
    if workspace.has_corpus() and (name := workspace.open_corpus().name) != PHANTOM:
        raise ConfigError(f"{workspace.root} holds the corpus {name}; give the demo another -w")


def overview(corpus: Corpus) -> list[str]:
    """What was prepared, in lines for a person: counts by split and category, then the notes."""
    table = corpus.table
    where = f"train and valid, {corpus.n_folds} folds of both" if corpus.crossfit else "train"
    lines = [f"{corpus.name}: {len(table):,} images, {len(corpus.labels):,} concepts in {where}"]
    for split in SPLITS:
        part = table.of(split=split)
        known = [concepts for concepts in part.concepts if concepts is not None]
        cardinality = f", {np.mean([len(c) for c in known]):.2f} concepts an image" if known else ""
        counts = Counter(part.categories)
        categories = ", ".join(f"{c or 'no category'} {n:,}" for c, n in sorted(counts.items()))
        taught = Counter(category for category in part.taught_categories if category)
        told = ", ".join(f"{c} {n:,}" for c, n in sorted(taught.items()))
        learnt = f", to learn by: {told}" if told and split == "train" else ""
        of_each = f" ({categories}{learnt})" if len(part) else ""
        n_told = sum(map(bool, part.taught_captions))
        captions = f", captions of {n_told:,}" if n_told else ""
        lines.append(f"  {split}: {len(part):,} images{of_each}{cardinality}{captions}")
    return [*lines, *(f"  note: {note}" for note in corpus.notes)]


def _concepts(table: ImageTable) -> LabelSpace:
    return LabelSpace.of(concepts or () for concepts in table.concepts)


def _refuse_foreign(folder: Path) -> None:
    """Refuse to replace a folder that is no prepared corpus: someone's images may lie there."""
    try:
        inside = {path.name for path in folder.iterdir()}
    except FileNotFoundError:
        return
    if foreign := sorted(inside - _FILES):
        raise CorpusError(
            f"{folder}: would be replaced, but holds what `prepare` did not write:"
            f" {first_few(foreign)}; name another workspace"
        )


def _halve_valid(table: ImageTable, *, seed: int) -> ImageTable:
    """The table with the halves of valid that the paper trained its pairs of models along.

    The paper drew images at random; here whole groups are dealt, like folds, for the images of a
    patient in the other half would flatter the score.
    """
    n_folds = {"valid": 2} if "valid" in _labelled_splits(table) else {}
    halves = assign_folds(table, n_folds=n_folds, seed=seed)
    names = tuple("" if half < 0 else f"val{half + 1}" for half in halves)
    return replace(table, metadata={**table.metadata, HALF: names})


def _labelled_splits(table: ImageTable) -> set[str]:
    return set(table.take(table.labelled).splits)


def _mark_readable(table: ImageTable, unreadable: set[str]) -> ImageTable:
    marks = tuple("0" if image_id in unreadable else "1" for image_id in table.image_ids)
    return replace(table, metadata={**table.metadata, "readable": marks})


def _constant_notes(table: ImageTable) -> list[str]:
    """A note where all labelled images have the same concepts, which leaves nothing to decide."""
    known = {concepts for concepts in table.concepts if concepts is not None}
    if len(known) != 1:
        return []
    return [
        f"all labelled images have the same concepts, {first_few(sorted(*known))}: there is nothing"
        " to tell apart, and `ensemble` will refuse it"
    ]


def _notes(cache: ImageCache, folder: Path, *, table: ImageTable, said: Sequence[str]) -> list[str]:
    """What decoding met, a line a kind; of unreadable images an example of each reason."""
    notes = []
    if errors := cache.errors:
        paths = dict(zip(table.image_ids, table.paths, strict=True))
        reasons = {text.removeprefix(paths[i]): text for i, text in reversed(errors.items())}
        if any(NEEDS in note for note in said):
            reasons = {reason: text for reason, text in reasons.items() if NEEDS not in reason}
        examples = f": {first_few(reversed(reasons.values()), n=3)}" if reasons else ""
        notes.append(
            f"{len(errors)} images cannot be decoded and are left out of training; in the test"
            f" split they get what their category alone says{examples}; all are listed in"
            f" {folder / UNREADABLE_FILE}"
        )
    by_kind: dict[str, list[str]] = defaultdict(list)
    for image_id in cache.image_ids:
        for remark in cache.remarks.get(image_id, ()):
            by_kind[remark_kind(remark)].append(image_id)
    for kind, ids in sorted(by_kind.items(), key=lambda found: -len(found[1])):
        notes.append(f"{count(len(ids), 'image')}: {kind}: {first_few(ids, n=3)}")
    told = zip(*(table.metadata[c] for c in COLUMNS if c in table.metadata), strict=True)
    known = {i for i, values in zip(table.image_ids, told, strict=False) if any(values)}
    if unknown := [i for i in by_kind.get(MISNAMED_DICOM, ()) if i not in known]:
        notes.append(
            f"{count(len(unknown), 'image')}: DICOM among pictures, of whose headers nothing is"
            f" known: name the files .dcm to have them read: {first_few(unknown, n=3)}"
        )
    return notes


def _fingerprint(
    table: ImageTable, protocol: Protocol, cache: ImageCache, decoding: Decoding
) -> str:
    """What later stages recognise the corpus by, wherever it lies.

    The sizes of the files stand for what the images show. Further columns are no part of it: most
    detectors never see them, and what does, names them in its own fingerprint. The protocol is a
    part of it only where it is not `holdout`, the only one that earlier versions knew. So are how
    files are read that leave a choice, and which images are shown otherwise than by their bare
    bytes: only where there are such.
    """
    folds = [int(fold) for fold in table.folds]
    marks, halves = table.metadata["readable"], table.metadata[HALF]
    taught = [table.taught_categories] if table.taught_categories else []
    sizes = [_size(path) for path in map(Path, table.paths)]
    parts = (table.image_ids, table.categories, table.splits, folds, table.concepts)
    other = [*taught, *([] if protocol == "holdout" else [protocol])]
    shown = [i for i, met in sorted(cache.remarks.items()) if any(map(changes_pixels, met))]
    read = [*([decoding.changes] if decoding.changes else []), *([shown] if shown else [])]
    return fingerprint(*parts, marks, halves, sizes, *other, *read)


def _size(path: Path) -> int:
    try:
        return file_state(path).st_size
    except FileNotFoundError:
        return -1


def _save(corpus: Corpus, folder: Path, *, source: Path, cache: ImageCache) -> None:
    changes = corpus.decoding.changes
    meta = {
        "name": corpus.name,
        "edition": corpus.edition,
        "fingerprint": corpus.fingerprint,
        "protocol": corpus.protocol,
        **({"decoding": changes} if changes else {}),
        "n_images": len(corpus.table),
        "n_concepts": len(corpus.labels),
        "has_categories": any(c != UNKNOWN for c in corpus.table.categories),
        "source": str(source.resolve()),
        "notes": list(corpus.notes),
    }
    with new_folder(folder, meta) as draft:
        corpus.table.save(draft / "images.csv")
        corpus.labels.save(draft / "labels.txt")
        if len(crossing := CrossingGroups.of(corpus.table)):
            crossing.save(draft / CROSSING_FILE)
        write_rows(draft / "names.csv", sorted(corpus.names.items()))
        if cache.errors:
            write_rows(draft / UNREADABLE_FILE, cache.errors.items())
        if cache.remarks:
            write_rows(draft / REMARKS_FILE, cache.remark_rows())
