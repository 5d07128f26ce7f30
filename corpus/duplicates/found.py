"""`stats --duplicates`: near-duplicates across a corpus' splits, counted, listed and shown."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from core.errors import CorpusError
from core.images import SPLITS, ImageTable
from core.progress import progress
from core.runs.leakage import (
    DUPLICATES_FILE,
    NearDuplicate,
    counted_duplicates,
    save_duplicates,
)
from core.runs.workspace import Corpus
from core.storage.folders import new_folder
from corpus.duplicates.features import SIDE, Pixels
from corpus.duplicates.search import FLAT, Copies, find_copies, n_searched
from corpus.images.cache import ImageCache, cache_of
from corpus.images.contact_sheet import draw_image, font_of, shortened
from corpus.images.planes import GREY

SHEET = "duplicates.png"
"""The first pairs, side by side."""

_SHOWN, _ACROSS, _WIDTH = 48, 4, 160  # pairs on the sheet, in a row; pixels of an image

_AT_ONCE = 4096


def write_duplicates(corpus: Corpus, folder: Path, *, cache: Path) -> list[str]:
    """Look for near-duplicates across the splits and write them down.

    `duplicates.csv` has a line a pair, those of different groups first, then by similarity;
    `duplicates.png` shows the first of them.

    Args:
        corpus: prepared or not; its images are opened.
        folder: replaced; where both files go.
        cache: where thumbnails are kept, so that a second search decodes nothing.

    Returns:
        What was found, in lines for a person.

    Raises:
        CorpusError: the corpus has no image files, or only one split.
    """
    table = corpus.table
    if not any(table.paths):
        raise CorpusError(f"{corpus.name}: a list alone, without images to compare")
    if len(set(table.splits)) < 2:
        raise CorpusError(f"{corpus.name}: images of one split only; nothing can cross")
    made = cache_of(corpus, cache, size=SIDE)
    parts = np.array([SPLITS.index(split) for split in table.splits])
    parts[[i in made.errors for i in table.image_ids]] = -1
    thumbnails = grey(made)
    with progress("comparing", total=n_searched(parts), unit="images") as advance:
        copies = find_copies(thumbnails, parts, advance=advance)
    pairs = as_pairs(copies, table)
    with new_folder(folder, {"corpus": corpus.fingerprint, "n_pairs": len(pairs)}) as draft:
        save_duplicates(pairs, draft / DUPLICATES_FILE)
        if pairs:
            _draw(pairs[:_SHOWN], corpus, draft / SHEET)
    return _lines(pairs, table, folder=folder, n_errors=len(made.errors), n_flat=copies.n_flat)


def grey(cache: ImageCache) -> Pixels:
    """(N, S, S) the brightness of cached images, as Pillow weighs colours."""
    planes = cache.planes
    made = np.array(planes.first)  # the weights sum to 1: a grey image is as bright as its plane
    weights = np.array([19595, 38470, 7471], dtype=np.uint32)
    colour = np.flatnonzero(planes.places != GREY)
    for start in range(0, len(colour), _AT_ONCE):
        rows = colour[start : start + _AT_ONCE]
        made[rows] = (planes.pixels(rows).astype(np.uint32) @ weights + 32768) >> 16
    return made


def as_pairs(copies: Copies, table: ImageTable) -> list[NearDuplicate]:
    """The pairs by name, those of different groups first, the likeliest first among each."""
    pairs = [
        NearDuplicate(
            image_id=table.image_ids[one],
            split=table.splits[one],
            other_id=table.image_ids[other],
            other_split=table.splits[other],
            similarity=float(similarity),
            mirrored=bool(mirrored),
            same_group=table.groups[one] == table.groups[other],
        )
        for one, other, similarity, mirrored in zip(
            copies.first.tolist(),
            copies.second.tolist(),
            copies.similarity.tolist(),
            copies.mirrored.tolist(),
            strict=True,
        )
    ]
    return sorted(pairs, key=lambda pair: pair.same_group)


def _lines(
    pairs: Sequence[NearDuplicate], table: ImageTable, *, folder: Path, n_errors: int, n_flat: int
) -> list[str]:
    left_out = [
        *([f"{n_errors:,} not readable"] if n_errors else []),
        *([f"{n_flat:,} of one grey (spread below {FLAT:g} of 255)"] if n_flat else []),
    ]
    joined, n = ", ".join(left_out), len(table) - n_errors - n_flat
    lines = [
        f"near-duplicates across splits, {n:,} images compared"
        f"{f' ({joined} left out)' if joined else ''}: {counted_duplicates(pairs)}"
    ]
    across = [pair for pair in pairs if not pair.same_group]
    if across:
        group_of = dict(zip(table.image_ids, table.groups, strict=True))
        groups = {group_of[i] for pair in across for i in (pair.image_id, pair.other_id)}
        n_mirrored = sum(pair.mirrored for pair in across)
        lines.append(f"  {len(groups):,} groups concerned; {n_mirrored:,} pairs mirrored")
    shown = f"; the first {min(len(pairs), _SHOWN)} side by side: {folder / SHEET}" if pairs else ""
    return [*lines, f"  listed in {folder / DUPLICATES_FILE}{shown}"]


def _draw(pairs: Sequence[NearDuplicate], corpus: Corpus, path: Path) -> None:
    """The pairs side by side, as they were read, with ids, splits and similarity below."""
    file_of = dict(zip(corpus.table.image_ids, corpus.table.paths, strict=True))
    font = font_of(11)
    wide, high = 2 * _WIDTH + 12, _WIDTH + 46
    n_rows = -(-len(pairs) // _ACROSS)
    sheet = Image.new("RGB", (_ACROSS * wide, n_rows * high), "white")
    pen = ImageDraw.Draw(sheet)
    for number, pair in enumerate(pairs):
        left, top = number % _ACROSS * wide + 4, number // _ACROSS * high + 4
        for side, image_id in enumerate((pair.image_id, pair.other_id)):
            place = left + side * (_WIDTH + 2), top
            image = Path(file_of[image_id])
            draw_image(sheet, image, place=place, side=_WIDTH, decoding=corpus.decoding)
        said = ["same group"] * pair.same_group + ["mirrored"] * pair.mirrored
        texts = (
            f"{shortened(pair.image_id)}, {pair.split}",
            f"{shortened(pair.other_id)}, {pair.other_split}",
            ", ".join([f"{pair.similarity:.3f}", *said]),
        )
        for row, text in enumerate(texts):
            pen.text((left, top + _WIDTH + 2 + 12 * row), text, fill="black", font=font)
    sheet.save(path)
