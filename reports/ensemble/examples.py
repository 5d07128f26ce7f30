"""Section of the report with examples: of each category an image decided well and one badly."""

from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from core.categories import CATEGORIES, UNKNOWN, Category
from core.errors import ConceptError
from core.storage.text import brief, code, plain
from reports.ensemble.judged import JudgedImages
from reports.pages.markdown import Section, photograph

Reader = Callable[[Path], npt.NDArray[np.uint8]]
"""Gives the pixels, (H, W) or (H, W, 3), of an image file; raises a `ConceptError`."""

LONGEST = 240
"""Pixels of a picture's longer side, at most."""

EXAMPLE = "report_example_"
"""What the names of the pictures begin with."""

_SHOWN = 30  # concepts of a kind: an image has at most a hundred

_SIGNS = {"right": "✓", "missed": "−", "invented": "+"}


def example_sections(
    judged: JudgedImages | None, *, names: Mapping[str, str], read: Reader | None = None
) -> Sequence[Section]:
    """The best and the worst image of each category; nothing where decisions were not kept.

    Args:
        judged: the scored images.
        names: names of concepts, where they are known.
        read: reads an image file; None leaves pictures out.
    """
    if judged is None or np.isnan(judged.f1).all():
        return []
    paragraphs = [
        "Of each category the image with the highest F1 (of equal ones that with the most right"
        " concepts) and the one with the lowest (of equal ones that with the most wrong ones),"
        f" decided without their fold: {_SIGNS['right']} right, {_SIGNS['missed']} missed,"
        f" {_SIGNS['invented']} invented. They are the ends, not the rule.",
        "**The pictures are images of the corpus: pass this page on only where they may be"
        " shown.** `report --no-images` writes it without them."
        if read
        else "Pictures were left out (`--no-images`).",
    ]
    pictures: dict[str, bytes] = {}
    for category in (*CATEGORIES, UNKNOWN):
        rows = _ends(judged, category)
        if not rows:
            continue
        paragraphs.append(f"### {_title(category)}")
        items = []
        for word, row in rows.items():
            own, heading = [], _heading(judged, row, word)
            if read:
                name = f"{EXAMPLE}{category.lower() or 'other'}_{word}"
                found = _thumbnail(Path(judged.images.paths[row]), read)
                if isinstance(found, bytes):
                    pictures[name] = found
                    own.append(photograph(name, f"{_title(category)}, {word} image"))
                else:
                    heading += f" (no picture: {plain(found)})"
            items.append(_item([*own, heading, _concepts(judged, row, names)]))
        paragraphs.append("\n\n".join(items))
    return [Section(heading="Examples", paragraphs=paragraphs, pictures=pictures)]


def _heading(judged: JudgedImages, row: int, word: str) -> str:
    image_id = code(brief(judged.images.image_ids[row]))
    return f"**{word.capitalize()}, F1 {judged.f1[row]:.3f}**: {image_id}"


def _item(parts: Sequence[str]) -> str:
    """Paragraphs as an item of a list."""
    lines = "\n\n".join(parts).split("\n")
    return "\n".join(
        f"{'  ' if number else '- '}{line}".rstrip() for number, line in enumerate(lines)
    )


def _ends(judged: JudgedImages, category: str) -> dict[str, int]:
    """Rows of the best and the worst image of a category; of a single one that alone."""
    rows = [
        row
        for row, own in enumerate(judged.images.categories)
        if own == category and not np.isnan(judged.f1[row])
    ]
    if not rows:
        return {}
    found = judged.outcome
    n_right, n_missed, n_invented = (
        np.diff(kind.indptr) for kind in (found.right, found.missed, found.invented)
    )
    n_wrong = n_missed + n_invented + judged.targets.n_outside
    ids, f1 = judged.images.image_ids, judged.f1
    best = min(rows, key=lambda row: (-f1[row], -n_right[row], ids[row]))
    worst = min(rows, key=lambda row: (f1[row], -n_wrong[row], ids[row]))
    return {"best": best, "worst": worst} if best != worst else {"best": best}


def _title(category: str) -> str:
    return f"{category} {Category(category).meaning}" if category else "No category"


def _thumbnail(path: Path, read: Reader) -> bytes | str:
    """A small JPEG, the same each time; or why there is none."""
    try:
        pixels = read(path)
    except ConceptError as error:
        return brief(str(error).replace(str(path), path.name))
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((LONGEST, LONGEST), Image.Resampling.BILINEAR)
    file = BytesIO()
    image.save(file, "JPEG", quality=85)
    return file.getvalue()


def _concepts(judged: JudgedImages, row: int, names: Mapping[str, str]) -> str:
    """A line each of right, missed and invented concepts, by name."""
    outcome = judged.outcome
    found = {
        "right": judged.cuis(outcome.right, row),
        "missed": [*judged.cuis(outcome.missed, row), *judged.outside(row)],
        "invented": judged.cuis(outcome.invented, row),
    }
    return "\n".join(
        f"- **{plain(_SIGNS[kind])} {kind}:** {_named(cuis, names)}" for kind, cuis in found.items()
    )


def _named(cuis: Sequence[str], names: Mapping[str, str]) -> str:
    shown = [plain(brief(names.get(cui) or cui)) for cui in cuis[:_SHOWN]]
    more = len(cuis) - len(shown)
    return ("; ".join(shown) or "none") + (f" and {more:,} more" if more else "")
