"""`stats --sheet`: a picture of what was read, a strip for every kind of file in the corpus.

A person sees in it what no count tells: pictures that lie on their side, are black, or are turned
inside out.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from core.errors import CorpusError, ImageError
from core.progress import progress
from core.runs.decoding import REMARKS_FILE, UNREADABLE_FILE, Decoding
from core.runs.workspace import Corpus
from core.storage.drafts import draft_file
from corpus.images.cache import read_remarks
from corpus.images.decode import decode, kind_of, remark_kind

SIDE = 224
"""Pixels of an example's side."""

_EXAMPLES = 6  # of a kind, evenly spread over its images
_LOOKED_AT = 24  # images of a kind that are decoded where nobody has prepared them
_MOST_KINDS = 60  # strips; the rarest beyond are only counted
_GAP, _LINE, _CAPTION = 8, 20, 18
_WIDTH = _EXAMPLES * (SIDE + _GAP) + _GAP
_SHOWN = 32  # letters of an id
_PAPER, _INK, _FAINT, _ALARM = "white", "black", "#555555", "#b00020"

_UNREADABLE = "cannot be decoded"

_Font = ImageFont.FreeTypeFont


@dataclass(frozen=True)
class _Strip:
    """Images of one kind.

    Attributes:
        kind: what they have in common.
        rows: where they stand in the table.
        n_images: how many the corpus has, in words: of some only a part was looked at.
        n_likely: how many that may be of all.
    """

    kind: str
    rows: tuple[int, ...]
    n_images: str
    n_likely: float


def write_sheet(corpus: Corpus, path: Path, *, prepared: Path | None = None) -> list[str]:
    """Draw the sheet of a corpus.

    Args:
        corpus: prepared or not; its images are opened.
        path: the PNG file that is made.
        prepared: the folder of the prepared corpus, which tells what was met in every image; None
            where there is none: then some images of each kind are looked at.

    Returns:
        What was drawn in lines: the path, and how many images of each kind there are.

    Raises:
        CorpusError: the corpus has no image files.
    """
    if not any(corpus.table.paths):
        raise CorpusError(f"{corpus.name}: no image files, so there is no sheet to draw")
    strips = _strips(corpus, None if prepared is None else _read_met(prepared))
    sheet = _drawn(corpus, strips[:_MOST_KINDS])
    path.parent.mkdir(parents=True, exist_ok=True)
    with draft_file(path) as draft:
        sheet.save(draft, "PNG")
    lines = [str(path), *(f"  {strip.n_images}: {strip.kind}" for strip in strips[:_MOST_KINDS])]
    n_more = len(strips) - _MOST_KINDS
    return [*lines, f"  {n_more} rarer kinds are not drawn"] if n_more > 0 else lines


def _read_met(folder: Path) -> dict[str, tuple[str, ...]]:
    """What `prepare` met in the images of a corpus, by id: remarks, or that one is unreadable."""
    unreadable = read_remarks(folder / UNREADABLE_FILE)
    return {**read_remarks(folder / REMARKS_FILE), **dict.fromkeys(unreadable, (_UNREADABLE,))}


def _strips(corpus: Corpus, remarks: Mapping[str, Sequence[str]] | None) -> list[_Strip]:
    """The kinds of a corpus, those with most images first."""
    table = corpus.table
    of_kind: dict[str, list[int]] = defaultdict(list)
    with (
        ThreadPoolExecutor() as pool,
        progress("looking at files", total=len(table), unit="images") as advance,
    ):
        for row, kind in enumerate(pool.map(kind_of, map(Path, table.paths), chunksize=64)):
            of_kind[_with_header(corpus, row, kind)].append(row)
            advance(1)
    strips = []
    for kind, rows in _by_category(corpus, of_kind).items():
        some = rows if remarks is not None else _spread(rows, _LOOKED_AT)
        parts: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for row in some:
            image_id = table.image_ids[row]
            met = _met(corpus, row) if remarks is None else remarks.get(image_id, ())
            parts[tuple(map(remark_kind, met))].append(row)
        for met, part in parts.items():
            n = f"{len(part):,} of {len(some):,} looked at, {len(rows):,} in all"
            n_images = f"{len(part):,}" if len(some) == len(rows) else n
            n_likely = len(part) / len(some) * len(rows)
            strips.append(_Strip("; ".join((kind, *met)), tuple(part), n_images, n_likely))
    return sorted(strips, key=lambda strip: (-strip.n_likely, strip.kind))


def _by_category(
    corpus: Corpus, of_kind: Mapping[str, Sequence[int]]
) -> Mapping[str, Sequence[int]]:
    """Kinds with many images by category, so that examples of each are seen.

    Where a header tells the modality, the kind has it already.
    """
    table = corpus.table
    modality = table.metadata.get("modality", [""] * len(table))
    parted: dict[str, list[int]] = defaultdict(list)
    for kind, rows in of_kind.items():
        for row in rows:
            category = "" if len(rows) <= _LOOKED_AT or modality[row] else table.categories[row]
            parted[f"{kind}, {category}" if category else kind].append(row)
    return parted


def _with_header(corpus: Corpus, row: int, kind: str) -> str:
    """The kind with the modality that a header told, where one did."""
    modality = corpus.table.metadata.get("modality")
    return f"{kind} {modality[row]}" if modality and modality[row] else kind


def _met(corpus: Corpus, row: int) -> tuple[str, ...]:
    path = Path(corpus.table.paths[row])
    try:
        return decode(path, size=32, resample="bilinear", decoding=corpus.decoding).remarks
    except ImageError:
        return (_UNREADABLE,)


def _spread(rows: Sequence[int], n: int) -> list[int]:
    """At most n of the rows, evenly spaced."""
    if len(rows) <= n:
        return list(rows)
    return [rows[k * (len(rows) - 1) // (n - 1)] for k in range(n)]


def _drawn(corpus: Corpus, strips: Sequence[_Strip]) -> Image.Image:
    fonts = {size: font_of(size) for size in (13, 15, 20)}
    bands: list[list[_Strip]] = [[]]
    for strip in strips:  # kinds with few images share a band
        if bands[-1] and sum(map(_n_drawn, (*bands[-1], strip))) > _EXAMPLES:
            bands.append([])
        bands[-1].append(strip)
    titles = [[_title(strip, fonts[15]) for strip in band] for band in bands]
    head = 2 * _LINE + _GAP
    heights = [max(map(len, band)) * _LINE + SIDE + _CAPTION + 2 * _GAP for band in titles]
    sheet = Image.new("RGB", (_WIDTH, head + sum(heights)), _PAPER)
    pen = ImageDraw.Draw(sheet)
    heading = f"{corpus.name}: {len(corpus.table):,} images as they are read"
    pen.text((_GAP, _GAP), heading, fill=_INK, font=fonts[20])
    top = head
    for band, lines, height in zip(bands, titles, heights, strict=True):
        left = _GAP
        pictures = top + max(map(len, lines)) * _LINE + _GAP
        for strip, title in zip(band, lines, strict=True):
            pen.line((left, top, left + _breadth(strip), top), fill=_INK)
            ink = _ALARM if _UNREADABLE in strip.kind else _INK
            for number, line in enumerate(title):
                pen.text((left, top + 3 + number * _LINE), line, fill=ink, font=fonts[15])
            for row in _spread(strip.rows, _EXAMPLES):
                image = Path(corpus.table.paths[row])
                draw_image(
                    sheet, image, place=(left, pictures), side=SIDE, decoding=corpus.decoding
                )
                shown = shortened(corpus.table.image_ids[row])
                pen.text((left, pictures + SIDE + 2), shown, fill=_FAINT, font=fonts[13])
                left += SIDE + _GAP
        top += height
    return sheet


def _n_drawn(strip: _Strip) -> int:
    return min(len(strip.rows), _EXAMPLES)


def _breadth(strip: _Strip) -> int:
    return _n_drawn(strip) * (SIDE + _GAP) - _GAP


def _title(strip: _Strip, font: _Font) -> list[str]:
    return _wrapped(f"{strip.n_images}: {strip.kind}", font, width=_breadth(strip))


def draw_image(
    sheet: Image.Image, path: Path, *, place: tuple[int, int], side: int, decoding: Decoding
) -> None:
    """Paste an image as it is read, or a frame with the reason why it cannot be.

    Args:
        sheet: what is drawn on.
        path: the image file.
        place: left and top of the square.
        side: its pixels.
        decoding: as in `decode`.
    """
    left, top = place
    try:
        read = decode(path, size=side, resample="bilinear", decoding=decoding)
    except ImageError as error:
        pen = ImageDraw.Draw(sheet)
        pen.rectangle((left, top, left + side - 1, top + side - 1), outline=_ALARM, width=2)
        font = font_of(13)
        reason = str(error).removeprefix(f"{path}: ")
        n_lines = (side - 16) // 16
        for number, line in enumerate(_wrapped(reason, font, width=side - 16)[:n_lines]):
            pen.text((left + 8, top + 8 + 16 * number), line, fill=_ALARM, font=font)
        return
    sheet.paste(Image.fromarray(read.pixels), place)


def font_of(size: int) -> ImageFont.FreeTypeFont:
    """A font with the letters of most languages: Pillow's own has plain Latin ones alone."""
    import matplotlib  # carries it; half a second, for those alone who draw

    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), size)


def _wrapped(text: str, font: _Font, width: int) -> list[str]:
    """The text in lines of at most so many pixels; a word alone may be longer."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def shortened(name: str) -> str:
    """The end of a long id, which tells more than its beginning."""
    return name if len(name) <= _SHOWN else f"...{name[-_SHOWN:]}"
