"""Images that a choice keeps and leaves out, drawn side by side."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from core.images import ImageTable
from core.runs.decoding import Decoding
from corpus.images.contact_sheet import draw_image, font_of, shortened
from corpus.sampling.candidates import Rows
from corpus.sampling.choose import Choice

SHEET = "sheet.png"

_ACROSS, _DOWN, _SIDE = 8, 3, 128  # images of each kind; pixels of an image

_CAPTION, _TITLE, _GAP = 18, 26, 4


def draw_sheet(table: ImageTable, choice: Choice, path: Path, *, decoding: Decoding) -> None:
    """Draw the first images that were chosen above the first that are left out.

    Args:
        table: the images among which was chosen, in their order.
        choice: of them.
        path: a PNG.
        decoding: as the corpus is read.
    """
    chosen = np.flatnonzero(choice.kept & ~choice.protected)
    left_out = np.flatnonzero(~choice.kept)
    bands = [
        (f"chosen: {len(chosen):,} images, the first ones", chosen[_by_rank(choice, chosen)]),
        (f"left out: {len(left_out):,} images", left_out[_by_rank(choice, left_out)]),
    ]
    high = _SIDE + _CAPTION + _GAP
    band_high = _TITLE + _DOWN * high
    sheet = Image.new("RGB", (_ACROSS * (_SIDE + _GAP) + _GAP, len(bands) * band_high), "white")
    pen, small, large = ImageDraw.Draw(sheet), font_of(10), font_of(14)
    for number, (title, rows) in enumerate(bands):
        top = number * band_high
        pen.text((_GAP, top + 4), title, fill="black", font=large)
        for place, row in enumerate(rows[: _ACROSS * _DOWN].tolist()):
            left = _GAP + place % _ACROSS * (_SIDE + _GAP)
            at = top + _TITLE + place // _ACROSS * high
            image = Path(table.paths[row])
            draw_image(sheet, image, place=(left, at), side=_SIDE, decoding=decoding)
            text = f"{table.categories[row]} {shortened(table.image_ids[row])}"
            pen.text((left, at + _SIDE + 1), text[:22], fill="black", font=small)
    sheet.save(path)


def _by_rank(choice: Choice, rows: Rows) -> Rows:
    return np.argsort(choice.rank[rows], kind="stable")
